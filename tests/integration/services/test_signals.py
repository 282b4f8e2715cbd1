"""Signals are sent after the commit and do not change the result. The log file has one line for each attempt."""

import logging

import pytest
from django.db import connection, transaction

from django_invoice_cancel.models import Invoice
from django_invoice_cancel.signals import invoice_paid_after_cancel, invoice_status_changed
from tests.support.database import rolled_back
from tests.support.invoices import stored
from tests.support.logs import CANCELED_LOG, log_entries, status_and_log
from tests.support.results import cancel_error

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def changes():
    """Collect the arguments of the receivers, and the stored status at that time."""
    seen = []

    def changed(sender, invoice, transition, old_status, new_status, **kwargs):
        in_row = Invoice.objects.get(pk=invoice.pk).status
        in_memory = invoice.status
        seen.append((sender, transition.pk, old_status, new_status, in_memory, in_row, connection.in_atomic_block))

    invoice_status_changed.connect(changed)
    yield seen
    invoice_status_changed.disconnect(changed)


def test_cancellation_sends_two_signals_after_their_commits(sandbox, register, changes):
    invoice = register()
    invoice.cancel()
    first, second = invoice.transitions.order_by("id").values_list("pk", flat=True)
    assert changes == [
        (Invoice, first, "created", "canceling", "canceling", "canceling", False),
        (Invoice, second, "canceling", "canceled", "canceled", "canceled", False),
    ]
    assert sandbox.count("cancel") == 1


def test_signal_of_an_observation_is_sent_after_the_callers_commit(sandbox, register, changes):
    invoice = register()
    with transaction.atomic():
        invoice.observe_status("paid")
        assert changes == []
    assert [change[2:] for change in changes] == [("created", "paid", "paid", "paid", False)]


def test_rolled_back_observation_sends_no_signal(sandbox, register, changes):
    invoice = register()
    with rolled_back():
        invoice.observe_status("paid")
    assert changes == []
    assert status_and_log(invoice) == ("created", [])
    assert sandbox.requests == []


def test_log_row_without_a_change_sends_no_signal(sandbox, register, changes):
    invoice = register()
    invoice.observe_status(provider_status="on_hold")
    assert len(log_entries(invoice)) == 1
    assert changes == []


@pytest.mark.parametrize("signal", [invoice_status_changed, invoice_paid_after_cancel])
def test_exception_of_a_receiver_is_logged_and_changes_nothing(sandbox, register, caplog, signal):
    def broken(**kwargs):
        raise ZeroDivisionError("a receiver's own bug")

    signal.connect(broken)
    try:
        invoice = register()
        assert invoice.cancel().ok
        assert invoice.observe_status("paid")
    finally:
        signal.disconnect(broken)
    assert status_and_log(invoice) == ("paid", [*CANCELED_LOG, ("canceled", "paid", "", "observed")])
    assert stored(invoice).paid_after_cancel_at is not None
    assert "a receiver's own bug" in caplog.text
    assert sandbox.count("cancel") == 1


def test_late_payment_sends_one_signal(sandbox, register):
    received = []

    def receive(sender, invoice, transition, **kwargs):
        received.append((sender, invoice.pk, transition.to_status, invoice.paid_after_cancel_at is not None))

    invoice_paid_after_cancel.connect(receive)
    try:
        invoice = register()
        invoice.cancel()
        invoice.observe_status("partially_paid")
        invoice.observe_status("paid")
    finally:
        invoice_paid_after_cancel.disconnect(receive)
    assert received == [(Invoice, invoice.pk, "partially_paid", True)]
    assert stored(invoice).status == "paid"
    assert [step[1] for step in log_entries(invoice)] == ["canceling", "canceled", "partially_paid", "paid"]
    assert sandbox.count("cancel") == 1


LOGGED = [
    ("ordinary", "INFO", "canceled", "canceled", "canceled"),
    ("paid", "INFO", "refused", "has_payment", "paid"),
    ("rate_limited", "INFO", "not_processed", "rate_limited", "created"),
    ("error_500_before", "WARNING", "in_doubt", "provider_error", "in_doubt"),
]


@pytest.mark.parametrize(("behaviour", "level", "outcome", "code", "status"), LOGGED, ids=[line[0] for line in LOGGED])
def test_attempt_is_logged_in_one_line(sandbox, register, caplog, behaviour, level, outcome, code, status):
    caplog.set_level(logging.DEBUG, "django_invoice_cancel")
    invoice = register(behaviour)
    result = invoice.cancel() if outcome == "canceled" else cancel_error(invoice.cancel).result
    lines = [record for record in caplog.records if not record.getMessage().startswith("cryptocloud is paused")]
    line = lines[0]
    assert len(lines) == 1
    assert len(caplog.records) - len(lines) == int(code == "rate_limited")
    assert line.name == "django_invoice_cancel"
    assert line.levelname == level
    assert line.getMessage() == f"cryptocloud {invoice.external_id}: {outcome} ({code}) in {result.duration_ms} ms"
    names = ("provider", "external_id", "invoice_id", "attempt", "outcome", "code", "duration_ms")
    assert {name: getattr(line, name) for name in names} == {
        "provider": "cryptocloud",
        "external_id": invoice.external_id,
        "invoice_id": invoice.pk,
        "attempt": result.attempt,
        "outcome": outcome,
        "code": code,
        "duration_ms": result.duration_ms,
    }
    assert status_and_log(invoice) == (status, [CANCELED_LOG[0], ("canceling", status, outcome, code)])
    assert sandbox.count("cancel") == 1


def test_skipped_cancellation_is_logged_at_debug_level_without_duration(sandbox, register, caplog):
    caplog.set_level(logging.DEBUG, "django_invoice_cancel")
    invoice = register()
    invoice.observe_status("paid")
    cancel_error(invoice.cancel)
    (line,) = caplog.records
    expected = f"cryptocloud {invoice.external_id}: skipped (has_payment)"
    assert line.levelname == "DEBUG"
    assert line.getMessage() == expected
    assert line.duration_ms is None
    assert sandbox.count("cancel") == 0


def test_outcome_that_cannot_be_recorded_is_logged_as_error(sandbox, register, caplog, monkeypatch):
    def broken(self, answers, on_recorded=None):
        raise RuntimeError("the disk is full")

    monkeypatch.setattr("django_invoice_cancel.models.writes.answers.AnswerWriter.record", broken)
    invoice = register()
    cancel_error(invoice.cancel)
    assert [(line.levelname, line.exc_info is not None) for line in caplog.records] == [
        ("ERROR", True),
        ("ERROR", False),
    ]
    assert caplog.records[1].outcome == "canceled"
    assert caplog.records[1].code == "canceled"
    assert status_and_log(invoice) == ("canceling", CANCELED_LOG[:1])
    assert sandbox.count("cancel") == 1
