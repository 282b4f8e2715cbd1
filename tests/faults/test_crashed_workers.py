"""Workers and the broker crash during an operation. Then provider and database agree, and no request is repeated."""

import os
import random
import signal
import sys

from django_invoice_cancel.models import Invoice

from .conftest import server_url
from .consistency import (
    count_item_outcomes,
    executed_each,
    inconsistent_logs,
    items_contradicting_log,
    mismatches,
    requests_each,
)

COUNT = 5000
BEHAVIOURS = {"paid": 200, "already_canceled": 50, "reset_after": 25, "reset_before": 25}
WINDOW = 2 * 16 + 50
"""The highest number of invoices of one provider that one worker has claimed and not yet recorded."""
LATER_SECONDS = 3600.0
"""Leases, claims and the doubt period have expired."""


def test_operation_is_completed_after_two_workers_and_the_broker_crash(redis, make_environment, record_property):
    seed = random.SystemRandom().randrange(10_000)
    record_property("seed", seed)
    sys.stderr.write(f"seed {seed}\n")
    rng = random.Random(seed)  # noqa: S311 - times, not secrets
    environment = make_environment(server_url("postgres_server"), recipe="settings_celery", EXAMPLE_REDIS_URL=redis.url)
    environment.register({**BEHAVIOURS, "ordinary": COUNT - sum(BEHAVIOURS.values())})
    workers = [environment.start_worker() for _ in range(4)]
    operation = environment.start_operation()

    for worker in rng.sample(workers, 2):
        reached = environment.sent() + rng.randrange(200, 800)
        environment.wait(lambda at=reached: environment.sent() >= at, what=f"{reached} requests")
        os.kill(worker.pid, signal.SIGKILL)
    reached = environment.sent() + rng.randrange(100, 500)
    environment.wait(lambda: environment.sent() >= reached, what=f"{reached} requests")
    redis.kill()
    redis.start()
    environment.wait_idle(seconds=5)
    environment.end_workers()
    claimed_by_crashed_workers = Invoice.objects.filter(status="canceling").count()
    assert claimed_by_crashed_workers <= 2 * 2 * WINDOW

    environment.manage("run_bulk_operations", seconds_later=LATER_SECONDS)
    environment.manage("reconcile_invoices", seconds_later=2 * LATER_SECONDS, codes=(0, 3, 4))

    operation.refresh_from_db()
    assert operation.progress == "finished"
    assert operation.items.filter(outcome="").count() == 0
    assert mismatches(environment.sandbox) == {}
    assert inconsistent_logs() == []
    assert items_contradicting_log(operation) == []
    assert not Invoice.objects.filter(status__in=["canceling", "in_doubt"]).exists()
    assert set(executed_each(environment.sandbox)) == {1}
    assert set(requests_each(environment.sandbox)) == {1}
    outcomes = count_item_outcomes(operation)
    doubtful = BEHAVIOURS["reset_after"] + BEHAVIOURS["reset_before"]
    assert outcomes["in_doubt"] <= doubtful + claimed_by_crashed_workers
    assert sum(outcomes.values()) == COUNT
    assert set(outcomes) == {"canceled", "already_canceled", "refused", "in_doubt"}
