"""The database restarts during a run: no row is wrong, and the remaining work is done afterwards."""

import pytest

from django_invoice_cancel.models import Invoice

from .reading import broken_logs, disagreements, executed_each, item_outcomes, requests_each, untrue_items
from .services import Postgres

COUNT = 3000
LATER = 3600.0


@pytest.fixture
def postgres():
    with Postgres() as cluster:
        yield cluster


def test_database_restarts_under_four_workers(postgres, redis, make_world):
    """Once as an administrator does it, once as a crash; what was in flight then is in doubt at worst."""
    world = make_world(postgres.url, recipe="settings_celery", EXAMPLE_REDIS_URL=redis.url)
    world.register({"ordinary": COUNT})
    for _ in range(4):
        world.start_worker()
    operation = world.start_operation()

    for mode, reached in (("fast", 500), ("immediate", 1200)):
        world.wait(lambda at=reached: world.sent() >= at, seconds=60, what=f"{reached} requests")
        world.close_connection()
        postgres.stop(mode)
        postgres.start()
        world.manage("run_bulk_operations", "--dispatch", str(operation.pk))  # the tasks that it met have failed
    world.wait_idle(seconds=5)
    world.end_workers()

    world.manage("run_bulk_operations", later_by=LATER)
    world.manage("reconcile_invoices", later_by=2 * LATER, codes=(0, 3, 4))

    operation.refresh_from_db()
    assert operation.progress == "finished"
    assert disagreements(world.sandbox) == {}
    assert broken_logs() == []
    assert untrue_items(operation) == []
    assert not Invoice.objects.filter(status__in=["canceling", "in_doubt"]).exists()
    assert set(requests_each(world.sandbox)) == {1}
    assert set(executed_each(world.sandbox)) == {1}
    assert set(item_outcomes(operation)) <= {"canceled", "in_doubt"}


def test_run_by_hand_ends_with_an_error_and_goes_on_when_called_again(postgres, make_world):
    world = make_world(postgres.url, recipe="settings_tasks")
    world.register({"ordinary": 1000})
    operation = world.start_operation()
    working = world.start("manage.py", "run_bulk_operations", str(operation.pk))

    world.wait(lambda: world.sent() >= 200, seconds=60, what="200 requests")
    world.close_connection()
    postgres.stop("fast")
    code = working.wait(60)
    errors = world.errors.read_text()
    postgres.start()

    assert code == 1
    assert "OperationalError" in errors
    world.manage("run_bulk_operations", later_by=LATER)
    world.manage("reconcile_invoices", later_by=2 * LATER, codes=(0, 3, 4))
    operation.refresh_from_db()
    assert operation.progress == "finished"
    assert disagreements(world.sandbox) == {}
    assert broken_logs() == []
    assert untrue_items(operation) == []
    assert set(requests_each(world.sandbox)) == {1}
    assert set(executed_each(world.sandbox)) == {1}
