"""The database restarts during an operation. No row is wrong, and the remaining invoices are processed afterwards."""

import pytest

from django_invoice_cancel.models import Invoice

from .consistency import (
    count_item_outcomes,
    executed_each,
    inconsistent_logs,
    items_contradicting_log,
    mismatches,
    requests_each,
)
from .environment import HANG_SECONDS
from .servers import Postgres

COUNT = 3000
LATER_SECONDS = 3600.0


@pytest.fixture
def postgres():
    with Postgres() as cluster:
        yield cluster


def test_operation_is_completed_after_two_restarts_of_the_database(postgres, redis, make_environment):
    """One clean restart and one crash. At worst, the invoices in flight are in doubt."""
    environment = make_environment(postgres.url, recipe="settings_celery", EXAMPLE_REDIS_URL=redis.url)
    environment.register({"ordinary": COUNT})
    for _ in range(4):
        environment.start_worker()
    operation = environment.start_operation()

    for mode, reached in (("fast", 500), ("immediate", 1200)):
        environment.wait(lambda at=reached: environment.sent() >= at, what=f"{reached} requests")
        environment.close_connection()
        postgres.stop(mode)
        postgres.start()
        environment.manage("run_bulk_operations", "--dispatch", str(operation.pk))  # the running tasks have failed
    environment.wait_idle(seconds=5)
    environment.end_workers()

    environment.manage("run_bulk_operations", seconds_later=LATER_SECONDS)
    environment.manage("reconcile_invoices", seconds_later=2 * LATER_SECONDS, codes=(0, 3, 4))

    operation.refresh_from_db()
    assert operation.progress == "finished"
    assert mismatches(environment.sandbox) == {}
    assert inconsistent_logs() == []
    assert items_contradicting_log(operation) == []
    assert not Invoice.objects.filter(status__in=["canceling", "in_doubt"]).exists()
    assert set(requests_each(environment.sandbox)) == {1}
    assert set(executed_each(environment.sandbox)) == {1}
    assert set(count_item_outcomes(operation)) <= {"canceled", "in_doubt"}


def test_command_without_a_database_ends_with_an_error_and_continues_in_the_next_run(postgres, make_environment):
    environment = make_environment(postgres.url, recipe="settings_tasks")
    environment.register({"ordinary": 1000})
    operation = environment.start_operation()
    working = environment.start("manage.py", "run_bulk_operations", str(operation.pk))

    environment.wait(lambda: environment.sent() >= 200, what="200 requests")
    environment.close_connection()
    postgres.stop("fast")
    code = working.wait(HANG_SECONDS)
    errors = environment.errors.read_text()
    postgres.start()

    assert code == 1
    assert "OperationalError" in errors
    environment.manage("run_bulk_operations", seconds_later=LATER_SECONDS)
    environment.manage("reconcile_invoices", seconds_later=2 * LATER_SECONDS, codes=(0, 3, 4))
    operation.refresh_from_db()
    assert operation.progress == "finished"
    assert mismatches(environment.sandbox) == {}
    assert inconsistent_logs() == []
    assert items_contradicting_log(operation) == []
    assert set(requests_each(environment.sandbox)) == {1}
    assert set(executed_each(environment.sandbox)) == {1}
