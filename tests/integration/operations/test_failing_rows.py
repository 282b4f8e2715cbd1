"""F8: an operation continues if the database refuses to write a row, and processes that row later."""

import pytest
from django.db import OperationalError, connection, connections
from django.db.backends.signals import connection_created

from django_invoice_cancel.models.writes.answers import AnswerWriter
from tests.support.database import SHORT_LOCK_TIMEOUT, set_short_lock_timeout
from tests.support.invoices import set_columns, statuses_by_id
from tests.support.logs import log_codes_by_id
from tests.support.operations import advance_slice, item_outcomes, stored_progress

pytestmark = pytest.mark.django_db(transaction=True)

LOCKS = {
    "invoice": "SELECT id FROM invoice_cancel_invoice WHERE id = %s FOR UPDATE",
    "item": "SELECT id FROM invoice_cancel_bulkoperationitem WHERE id = %s FOR UPDATE",
}


@pytest.fixture
def locked():
    """Return a function that locks a row in another transaction. New connections get a short lock timeout."""
    if connection.vendor not in SHORT_LOCK_TIMEOUT:
        pytest.skip("SQLite locks no rows")
    connection_created.connect(set_short_lock_timeout)
    other = connections["default"].copy()

    def lock(table, key):
        if table == "item" and connection.vendor == "mysql":
            pytest.skip("MariaDB reads the items of a small table by another index, and waits for all of them")
        connection.close()  # the next connection has the timeout
        other.set_autocommit(False)
        with other.cursor() as cursor:
            cursor.execute(LOCKS[table], [key])
        return other

    yield lock
    connection_created.disconnect(set_short_lock_timeout)
    other.close()
    connection.close()


def writes_refused(invoice):
    """Let the database refuse each UPDATE of this invoice, as after a lock time-out."""

    def fail(execute, sql, params, many, context):
        if sql.startswith("UPDATE") and "_invoice" in sql and "item" not in sql and str(invoice.pk) in map(str, params):
            raise OperationalError("canceling statement due to lock timeout")
        return execute(sql, params, many, context)

    return connection.execute_wrapper(fail)


def test_cancellation_skips_a_row_that_cannot_be_claimed(scripted_provider, invoices, started):
    rows = invoices(5)
    operation = started()
    with writes_refused(rows[2]):
        assert advance_slice(operation.pk).has_more
    assert [name for name, outcome in item_outcomes(operation).items() if not outcome] == ["103"]
    assert scripted_provider.cancel_count == 4
    assert advance_slice(operation.pk).is_finished
    assert set(item_outcomes(operation).values()) == {"canceled canceled"}
    assert scripted_provider.cancel_count == 5
    assert set(log_codes_by_id().values()) == {"claim canceled"}


@pytest.mark.parametrize("table", ["invoice", "item"])
def test_operation_skips_a_locked_row_and_processes_it_later(scripted_provider, invoices, started, locked, table):
    rows = invoices(60)
    operation = started()
    key = rows[6].pk if table == "invoice" else operation.items.get(invoice_id=rows[6].pk).pk
    other = locked(table, key)
    progress = advance_slice(operation.pk)
    assert progress.has_more is True
    assert progress.is_finished is False
    assert stored_progress(operation) == "running"
    outcomes = item_outcomes(operation)
    assert outcomes.pop("107") == ""
    assert set(outcomes.values()) == {"canceled canceled"}
    assert scripted_provider.cancel_count == 59
    second = advance_slice(operation.pk)
    assert second.has_more
    assert second.wait_seconds >= 1.0
    other.rollback()
    assert advance_slice(operation.pk).is_finished
    assert set(item_outcomes(operation).values()) == {"canceled canceled"}
    assert set(statuses_by_id().values()) == {"canceled"}
    assert scripted_provider.cancel_count == 60
    assert set(log_codes_by_id().values()) == {"claim canceled"}


def test_answer_is_recorded_if_its_item_is_locked(scripted_provider, invoices, started, locked, monkeypatch):
    """The item keeps its lease, and its outcome is read from the log after that."""
    rows = invoices(3)
    operation = started()
    scripted_provider.next_cancels("refused", external_id="102")
    key = operation.items.get(invoice_id=rows[1].pk).pk
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
def test_check_and_resolve_skip_a_row_that_cannot_be_written(scripted_provider, invoices, started, kind, decision):
    rows = invoices(5)
    for invoice in rows:
        set_columns(invoice, status="in_doubt", next_check_at=invoice.created_at)
    operation = started(kind, **decision)
    with writes_refused(rows[2]):
        assert advance_slice(operation.pk).has_more
    assert [name for name, outcome in item_outcomes(operation).items() if not outcome] == ["103"]
    assert advance_slice(operation.pk).is_finished
    assert all(item_outcomes(operation).values())
    assert scripted_provider.cancel_count == 0
