"""A payment and a cancellation of the same invoice are flagged and signalled once, in either order (rule 8)."""

import pytest
from django.db import transaction

from django_invoice_cancel.models import Invoice
from tests.support.invoices import invoice_in_status, set_columns_and_refresh, stored
from tests.support.logs import log_changes
from tests.support.writes import NOON, OPERATOR, observe_elsewhere, open_claim, record_answer, record_lookup, seconds

pytestmark = pytest.mark.django_db


def _by_record(invoice, status):
    set_columns_and_refresh(invoice, status="created", attempt=None)
    opened = open_claim(invoice)
    record_answer(opened, invoice, *_reply(status))


def _by_late_record(invoice, status):
    """The reply to a claim arrives after the status was changed by another caller."""
    before = stored(invoice).status
    set_columns_and_refresh(invoice, status="created", attempt=None)
    opened = open_claim(invoice)
    set_columns_and_refresh(stored(invoice), status=before)
    record_answer(opened, invoice, *_reply(status))


def _by_late_record_of_another_attempt(invoice, status):
    """Likewise, and by then another claim's attempt stands on the row."""
    before = stored(invoice).status
    set_columns_and_refresh(invoice, status="created", attempt=None)
    opened = open_claim(invoice)
    set_columns_and_refresh(stored(invoice), status=before, attempt="00000000-0000-4000-8000-000000000000")
    record_answer(opened, invoice, *_reply(status))


def _by_resolve(invoice, status):
    set_columns_and_refresh(invoice, status="in_doubt")
    invoice._writer.resolve(invoice, status, OPERATOR)


def _reply(status):
    return ("canceled",) if status == "canceled" else ("refused", status)


OBSERVERS = {"observe": observe_elsewhere, "lookup": record_lookup}
RECORDERS = {"late record": _by_late_record, "late record of another attempt": _by_late_record_of_another_attempt}
ANY_STATUS = OBSERVERS | RECORDERS
FROM_OWN_STATUS = {"record": _by_record, "resolve": _by_resolve}


@pytest.mark.parametrize(
    "money",
    [
        "partially_paid",
        *(pytest.param(money, marks=pytest.mark.slow, id=money) for money in ("paid", "overpaid")),
    ],
)
@pytest.mark.parametrize("second", ANY_STATUS)
@pytest.mark.parametrize("first", ANY_STATUS | FROM_OWN_STATUS)
@pytest.mark.parametrize("order", ["cancel, then money", "money, then cancel"])
def test_payment_and_cancellation_of_one_invoice_in_every_order(
    clock, sent_signals, django_capture_on_commit_callbacks, order, first, second, money
):
    invoice = invoice_in_status()
    statuses = ("canceled", money) if order == "cancel, then money" else (money, "canceled")
    by = ANY_STATUS | FROM_OWN_STATUS
    with django_capture_on_commit_callbacks(execute=True):
        by[first](invoice, statuses[0])
        assert stored(invoice).paid_after_cancel_at is None
        clock.shift(5)
        by[second](stored(invoice), statuses[1])
    row = stored(invoice)
    assert row.status == money
    assert row.paid_after_cancel_at == NOON + seconds(5)
    assert log_changes(invoice)[-1][1] == money
    assert sent_signals.count("paid_after_cancel") == 1
    assert list(Invoice.objects.paid_after_cancel()) == [invoice]


@pytest.mark.parametrize("money", ["paid", "overpaid"])
@pytest.mark.parametrize("first", ["record", "resolve"])
def test_logged_cancellation_counts_after_the_invoice_was_reopened(
    sent_signals, django_capture_on_commit_callbacks, first, money
):
    """A late answer of another attempt was only logged; then a method that leaves "canceling" reports the payment."""
    invoice = invoice_in_status()
    with django_capture_on_commit_callbacks(execute=True):
        set_columns_and_refresh(invoice, status="expired")
        observe_elsewhere(invoice, "canceled")
        assert log_changes(invoice) == [("expired", "expired", "already_canceled")]
        FROM_OWN_STATUS[first](stored(invoice), money)
    assert stored(invoice).paid_after_cancel_at is not None
    assert sent_signals.count("paid_after_cancel") == 1


@pytest.mark.parametrize("again", ANY_STATUS)
@pytest.mark.parametrize("status", ["canceled", "overpaid"])
def test_flagged_invoice_is_not_flagged_again(clock, sent_signals, django_capture_on_commit_callbacks, again, status):
    invoice = invoice_in_status()
    with django_capture_on_commit_callbacks(execute=True):
        observe_elsewhere(invoice, "canceled")
        observe_elsewhere(invoice, "paid")
        clock.shift(5)
        ANY_STATUS[again](stored(invoice), status)
    assert stored(invoice).paid_after_cancel_at == NOON
    assert sent_signals.count("paid_after_cancel") == 1


@pytest.mark.parametrize("status", ["created", "in_doubt", "expired", "failed", "paid"])
@pytest.mark.parametrize("by", ANY_STATUS)
def test_payment_without_a_cancellation_is_not_flagged(sent_signals, django_capture_on_commit_callbacks, by, status):
    invoice = invoice_in_status(status)
    with django_capture_on_commit_callbacks(execute=True):
        ANY_STATUS[by](invoice, "overpaid")
    assert stored(invoice).status == "overpaid"
    assert stored(invoice).paid_after_cancel_at is None
    assert "paid_after_cancel" not in sent_signals


@pytest.mark.parametrize("outcome", ["refused", "not_processed", "in_doubt"])
def test_payment_after_a_refused_cancellation_is_not_flagged(outcome):
    invoice = invoice_in_status()
    record_answer(open_claim(invoice), invoice, outcome)
    observe_elsewhere(invoice, "paid")
    assert stored(invoice).status == "paid"
    assert stored(invoice).paid_after_cancel_at is None
    assert log_changes(invoice)[-1][1:] == ("paid", "observed")


def test_repeated_report_of_a_cancellation_of_a_paid_invoice_is_one_row():
    invoice = invoice_in_status()
    observe_elsewhere(invoice, "paid")
    for _ in range(3):
        observe_elsewhere(invoice, "canceled")
    assert log_changes(invoice) == [("created", "paid", "observed"), ("paid", "paid", "already_canceled")]


def test_each_change_of_status_sends_one_signal_in_order(sent_signals, django_capture_on_commit_callbacks):
    invoice = invoice_in_status()
    with django_capture_on_commit_callbacks(execute=True):
        opened = open_claim(invoice)
        observe_elsewhere(invoice, "paid")
        record_answer(opened, invoice, "canceled")
        observe_elsewhere(invoice, "overpaid")
        observe_elsewhere(invoice, "paid")
    assert sent_signals == ["created > canceling", "canceling > paid", "paid_after_cancel", "paid > overpaid"]
    assert stored(invoice).status == "overpaid"
    assert [step[1] for step in log_changes(invoice)] == ["canceling", "paid", "paid", "overpaid"]


def test_rolled_back_change_sends_no_signal(sent_signals, django_capture_on_commit_callbacks):
    invoice = invoice_in_status("canceled")
    with django_capture_on_commit_callbacks(execute=True), transaction.atomic():
        observe_elsewhere(invoice, "paid")
        transaction.set_rollback(True)
    assert sent_signals == []
    assert stored(invoice).status == "canceled"
    assert log_changes(invoice) == []
