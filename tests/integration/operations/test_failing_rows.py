"""F8: an operation makes progress while the database rejects a row, and processes that row when it is free again."""

import pytest
from django.db import OperationalError, connection, connections
from django.db.backends.signals import connection_created

from django_invoice_cancel.models.writes.answers import AnswerWriter
from tests.support.invoices import set_columns, statuses_by_id
from tests.support.logs import log_codes_by_id
from tests.support.operations import advance_slice, item_outcomes, stored_progress

pytestmark = pytest.mark.django_db(transaction=True)

SHORT_LOCK_TIMEOUT = {"postgresql": "SET lock_timeout = '200ms'", "mysql": "SET innodb_lock_wait_timeout = 1"}
LOCKS = {
    "invoice": "SELECT id FROM invoice_cancel_invoice WHERE id = %s FOR UPDATE",
    "item": "SELECT id FROM invoice_cancel_bulkoperationitem WHERE id = %s FOR UPDATE",
}


def be_impatient(connection, **kwargs):
    with connection.cursor() as cursor:
        cursor.execute(SHORT_LOCK_TIMEOUT[connection.vendor])


@pytest.fixture
def locked():
    """Return a function that locks a row by another transaction, and gives this connection little patience."""
    if connection.vendor not in SHORT_LOCK_TIMEOUT:
        pytest.skip("SQLite locks no rows")
    connection_created.connect(be_impatient)
    other = connections["default"].copy()

    def lock(table, key):
        if table == "item" and connection.vendor == "mysql":
            pytest.skip("MariaDB reads the items of a small table by another index, and waits for all of them")
        connection.close()  # the next one has the time-out, as all that replace it
        other.set_autocommit(False)
        with other.cursor() as cursor:
            cursor.execute(LOCKS[table], [key])
        return other

    yield lock
    connection_created.disconnect(be_impatient)
    other.close()
    connection.close()


@pytest.mark.parametrize("table", ["invoice", "item"])
def test_operation_goes_on_around_a_locked_row_and_does_it_later(scripted_provider, invoices, started, locked, table):
    made = invoices(60)
    operation = started()
    key = made[6].pk if table == "invoice" else operation.items.get(invoice_id=made[6].pk).pk
    other = locked(table, key)
    left = advance_slice(operation.pk)
    assert left.has_more is True
    assert left.is_finished is False
    assert stored_progress(operation) == "running"
    done = item_outcomes(operation)
    assert done.pop("107") == ""
    assert set(done.values()) == {"canceled canceled"}
    assert scripted_provider.cancel_count == 59
    stuck = advance_slice(operation.pk)
    assert stuck.has_more
    assert stuck.wait_seconds >= 1.0
    other.rollback()
    assert advance_slice(operation.pk).is_finished
    assert set(item_outcomes(operation).values()) == {"canceled canceled"}
    assert set(statuses_by_id().values()) == {"canceled"}
    assert scripted_provider.cancel_count == 60
    assert set(log_codes_by_id().values()) == {"claim canceled"}


def test_item_that_is_locked_while_its_answer_is_recorded_costs_no_answer(
    scripted_provider, invoices, started, locked, monkeypatch
):
    """The invoice is recorded. The item keeps its lease, and its outcome is read from the log when that is over."""
    made = invoices(3)
    operation = started()
    scripted_provider.next_cancels("refused", external_id="102")
    key = operation.items.get(invoice_id=made[1].pk).pk
    record, others = AnswerWriter.record, []

    def lock_and_record(self, answers, **options):
        if not others:
            others.append(locked("item", key))
        return record(self, answers, **options)

    monkeypatch.setattr(AnswerWriter, "record", lock_and_record)
    assert advance_slice(operation.pk).has_more
    assert statuses_by_id() == {"101": "canceled", "102": "created", "103": "canceled"}
    assert item_outcomes(operation) == {"101": "canceled canceled", "102": "", "103": "canceled canceled"}
    others[0].rollback()
    operation.items.left().update(leased_until=operation.created_at)
    assert advance_slice(operation.pk).is_finished
    assert item_outcomes(operation)["102"] == "refused provider_refused"
    assert scripted_provider.cancel_count == 3
    assert log_codes_by_id()["102"] == "claim provider_refused"


@pytest.mark.parametrize(
    ("kind", "decision"), [("check", {}), ("resolve", {"decision": "canceled", "trigger": "operator"})]
)
def test_check_and_resolve_go_on_around_a_row_that_the_database_refuses(
    scripted_provider, invoices, started, kind, decision
):
    made = invoices(5)
    for invoice in made:
        set_columns(invoice, status="in_doubt", next_check_at=invoice.created_at)
    operation = started(kind, **decision)
    key = made[2].pk

    def fail(execute, sql, params, many, context):
        if sql.startswith("UPDATE") and "_invoice" in sql and "item" not in sql and str(key) in map(str, params):
            raise OperationalError("canceling statement due to lock timeout")
        return execute(sql, params, many, context)

    with connection.execute_wrapper(fail):
        assert advance_slice(operation.pk).has_more
    assert [name for name, outcome in item_outcomes(operation).items() if not outcome] == ["103"]
    assert advance_slice(operation.pk).is_finished
    assert all(item_outcomes(operation).values())
    assert scripted_provider.cancel_count == 0
