"""The provider answered, but our write fails: the caller gets the provider's answer, and the row is repaired later."""

import pytest
from django.db import DataError, OperationalError

from django_invoice_cancel.exceptions import OutcomeNotRecorded
from django_invoice_cancel.models.writes.rows import RowWriter
from tests.support.clock import travel_forward
from tests.support.invoices import stored
from tests.support.logs import CANCELED_LOG, log_entries, status_and_log
from tests.support.results import cancel_error

pytestmark = pytest.mark.django_db


@pytest.fixture
def fail_log_writes(monkeypatch):
    """Return a function that makes writes of the log fail, from number ``at`` on, ``times`` times."""
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    calls = []

    def fail(error, *, at, times=10**6):
        append = RowWriter.append

        def broken(self, entries):
            calls.append(entries)
            if at <= len(calls) < at + times:
                raise error
            append(self, entries)

        monkeypatch.setattr(RowWriter, "append", broken)
        return calls

    return fail


@pytest.mark.parametrize(
    ("error", "tries"), [(OperationalError("deadlock"), 3), (DataError("too long"), 1), (RuntimeError("a bug"), 1)]
)
@pytest.mark.parametrize("behaviour", ["ordinary", "error_500_after"])
def test_answer_that_cannot_be_recorded_is_returned_and_reconciled_later(
    sandbox, register, fail_log_writes, caplog, monkeypatch, error, tries, behaviour
):
    invoice = register(behaviour)
    calls = fail_log_writes(error, at=2)
    raised = cancel_error(invoice.cancel)
    assert type(raised) is OutcomeNotRecorded
    answer = {"ordinary": ("canceled", 200), "error_500_after": ("in_doubt", 500)}[behaviour]
    assert [raised.result.outcome, raised.result.http_status] == [*answer]
    assert raised.result.is_recorded is False
    assert len(calls) == 1 + tries
    assert invoice.status == "canceling"
    assert stored(invoice).status == "canceling"
    assert invoice.attempt == stored(invoice).attempt
    assert "ERROR" in {record.levelname for record in caplog.records if record.name == "django_invoice_cancel"}
    assert log_entries(invoice) == CANCELED_LOG[:1]

    monkeypatch.undo()
    with travel_forward(minutes=22):
        result = stored(invoice).reconcile()
    assert result.outcome == "already_canceled"
    assert result.status == "canceled"
    assert log_entries(invoice) == [
        ("created", "canceling", "", ""),
        ("canceling", "in_doubt", "in_doubt", "abandoned"),
        ("in_doubt", "canceled", "already_canceled", "observed"),
    ]
    assert stored(invoice).status == "canceled"
    assert sandbox.count("cancel") == 1
    assert sandbox.executed(invoice.external_id) == 1


@pytest.mark.parametrize("times", [1, 2])
def test_claim_is_retried(sandbox, register, fail_log_writes, times):
    invoice = register()
    fail_log_writes(OperationalError("deadlock"), at=1, times=times)
    assert invoice.cancel().ok
    assert status_and_log(invoice) == ("canceled", CANCELED_LOG)
    assert sandbox.count("cancel") == 1


def test_failed_claim_sends_nothing(sandbox, register, fail_log_writes):
    invoice = register()
    fail_log_writes(OperationalError("disk full"), at=1)
    with pytest.raises(OperationalError):
        invoice.cancel()
    assert invoice.status == "created"
    assert invoice.attempt is None
    assert stored(invoice).status == "created"
    assert log_entries(invoice) == []
    assert sandbox.requests == []


@pytest.mark.parametrize("times", [1, 2])
def test_record_is_retried_and_written_once(sandbox, register, fail_log_writes, times):
    invoice = register()
    fail_log_writes(OperationalError("deadlock"), at=2, times=times)
    assert invoice.cancel().is_recorded
    assert invoice.status == "canceled"
    assert status_and_log(invoice) == ("canceled", CANCELED_LOG)
    assert sandbox.count("cancel") == 1


def test_outcome_is_recorded_if_the_pause_cannot_be_written(sandbox, register, monkeypatch, caplog):
    """Only the pause is missing, and that is logged."""
    invoice = register("rate_limited")

    def broken(self, alias, code, seconds, **options):
        raise OperationalError("disk full")

    monkeypatch.setattr("django_invoice_cancel.models.writes.provider_state.ProviderStateWriter.pause", broken)
    raised = cancel_error(invoice.cancel)
    assert raised.result.code == "rate_limited"
    assert raised.result.is_recorded is True
    assert "The state of provider cryptocloud was not written." in caplog.text
    answered = ("canceling", "created", "not_processed", "rate_limited")
    assert status_and_log(invoice) == ("created", [CANCELED_LOG[0], answered])
    assert sandbox.count("cancel") == 1
