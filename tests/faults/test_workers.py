"""Four workers of each recipe process one operation: one request for each invoice, within the rate, to the end."""

import pytest

from .conftest import server_url
from .consistency import (
    cancel_times,
    count_item_outcomes,
    executed_each,
    inconsistent_logs,
    max_per_second,
    median_per_second,
    mismatches,
    requests_each,
)

COUNT = 1500
RATE = 30.0
"""Requests per second to both providers together. A slow machine must be able to send them."""


@pytest.mark.parametrize(
    ("recipe", "server"),
    [
        pytest.param("settings_celery", "postgres_server", id="celery-postgres"),
        pytest.param("settings_tasks", "mysql_server", id="database-workers-mariadb"),
    ],
)
def test_four_workers_request_each_invoice_once_and_keep_the_rate(redis, make_environment, recipe, server):
    """Each of both accounts has half of the rate."""
    options = {"rate": RATE / 2}
    environment = make_environment(server_url(server), recipe=recipe, options=options, EXAMPLE_REDIS_URL=redis.url)
    environment.register({"ordinary": COUNT})
    for _ in range(4):
        environment.start_worker()
    operation = environment.start_operation()
    seen = set()

    def is_finished() -> bool:
        operation.refresh_from_db()
        seen.add(operation.items.exclude(outcome="").count())
        return operation.progress == "finished"

    environment.wait(is_finished, what="the operation is finished")

    assert requests_each(environment.sandbox) == {1: COUNT}
    assert executed_each(environment.sandbox) == {1: COUNT}
    assert count_item_outcomes(operation) == {"canceled": COUNT}
    assert mismatches(environment.sandbox) == {}
    assert inconsistent_logs() == []
    assert len(seen) > 20  # the progress is updated during the run
    assert all(worker.poll() is None for worker in environment.workers)
    assert max_per_second(cancel_times(environment.sandbox)) <= 1.2 * RATE
    for provider in ("cryptocloud", "firekassa"):
        assert median_per_second(cancel_times(environment.sandbox, provider)) >= 0.9 * RATE / 2
