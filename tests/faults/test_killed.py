"""Machines that crash during a run: afterwards provider and database agree, and nothing was done twice."""

import os
import random
import signal
import sys

from django_invoice_cancel.models import Invoice

from .conftest import server_url
from .reading import broken_logs, disagreements, executed_each, item_outcomes, requests_each, untrue_items

COUNT = 5000
BEHAVIOURS = {"paid": 200, "already_canceled": 50, "reset_after": 25, "reset_before": 25}
WINDOW = 2 * 16 + 50
"""The most that one worker has claimed and not yet recorded of one provider."""
LATER = 3600.0
"""Leases, claims and the doubt period are over."""


def test_two_of_four_workers_and_the_broker_die_and_every_invoice_is_known(redis, make_world, record_property):
    seed = random.SystemRandom().randrange(10_000)
    record_property("seed", seed)
    sys.stderr.write(f"seed {seed}\n")
    dice = random.Random(seed)  # noqa: S311 - moments, not secrets
    world = make_world(server_url("postgres_server"), recipe="settings_celery", EXAMPLE_REDIS_URL=redis.url)
    world.register({**BEHAVIOURS, "ordinary": COUNT - sum(BEHAVIOURS.values())})
    workers = [world.start_worker() for _ in range(4)]
    operation = world.start_operation()

    for worker in dice.sample(workers, 2):
        reached = world.sent() + dice.randrange(200, 800)
        world.wait(lambda at=reached: world.sent() >= at, seconds=60, what=f"{reached} requests")
        os.kill(worker.pid, signal.SIGKILL)
    reached = world.sent() + dice.randrange(100, 500)
    world.wait(lambda: world.sent() >= reached, seconds=60, what=f"{reached} requests")
    redis.kill()
    redis.start()
    world.wait_idle(seconds=5)
    world.end_workers()
    left_by_the_dead = Invoice.objects.filter(status="canceling").count()
    assert left_by_the_dead <= 2 * 2 * WINDOW

    world.manage("run_bulk_operations", later_by=LATER)
    world.manage("reconcile_invoices", later_by=2 * LATER, codes=(0, 3, 4))

    operation.refresh_from_db()
    assert operation.progress == "finished"
    assert operation.items.filter(outcome="").count() == 0
    assert disagreements(world.sandbox) == {}
    assert broken_logs() == []
    assert untrue_items(operation) == []
    assert not Invoice.objects.filter(status__in=["canceling", "in_doubt"]).exists()
    assert set(executed_each(world.sandbox)) == {1}
    assert set(requests_each(world.sandbox)) == {1}
    outcomes = item_outcomes(operation)
    doubtful = BEHAVIOURS["reset_after"] + BEHAVIOURS["reset_before"]
    assert outcomes["in_doubt"] <= doubtful + left_by_the_dead
    assert sum(outcomes.values()) == COUNT
    assert set(outcomes) == {"canceled", "already_canceled", "refused", "in_doubt"}
