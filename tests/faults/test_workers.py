"""Four workers of each recipe process one operation: one request for each invoice, within the rate, to the end."""

import pytest

from .conftest import server_url
from .reading import (
    broken_logs,
    busiest_second,
    disagreements,
    executed_each,
    item_outcomes,
    per_second,
    requests_each,
)

COUNT = 5000
RATE = 100.0


@pytest.mark.parametrize(
    ("recipe", "server"),
    [
        pytest.param("settings_celery", "postgres_server", id="celery-postgres"),
        pytest.param("settings_tasks", "mysql_server", id="database-workers-mariadb"),
    ],
)
def test_four_workers_request_each_invoice_once_and_keep_the_rate(redis, make_world, recipe, server):
    """CryptoCloud's and FireKassa's accounts have half of the rate each: together they may take all of it."""
    options = {"rate": RATE / 2}
    world = make_world(server_url(server), recipe=recipe, options=options, EXAMPLE_REDIS_URL=redis.url)
    world.register({"ordinary": COUNT})
    for _ in range(4):
        world.start_worker()
    operation = world.start_operation()

    seen = set()

    def is_finished() -> bool:
        operation.refresh_from_db()
        seen.add(operation.items.exclude(outcome="").count())
        return operation.progress == "finished"

    world.wait(is_finished, seconds=COUNT / RATE * 2 + 30, what="the operation is finished")

    assert requests_each(world.sandbox) == {1: COUNT}
    assert executed_each(world.sandbox) == {1: COUNT}
    assert item_outcomes(operation) == {"canceled": COUNT}
    assert disagreements(world.sandbox) == {}
    assert broken_logs() == []
    assert len(seen) > 20  # progress was to be seen all the while
    assert all(worker.poll() is None for worker in world.workers)
    assert busiest_second(world.sandbox) <= 1.2 * RATE
    assert per_second(world.sandbox) >= 0.9 * RATE
