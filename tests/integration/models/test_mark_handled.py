"""A late payment is handled once, by a named user, with a note. A later payment must be handled again."""

import pytest
from django.contrib.auth.models import User

from django_invoice_cancel.exceptions import ResolveNotPossible
from django_invoice_cancel.models import Invoice
from tests.support.invoices import invoice_in_status, set_columns_and_refresh, stored
from tests.support.logs import log_changes
from tests.support.writes import observe_elsewhere, open_claim, record_answer, record_lookup

pytestmark = pytest.mark.django_db


def _by_late_record(invoice, status):
    """The refusal for a claim that was ended by another caller reports the payment."""
    row = stored(invoice)
    before = {"status": row.status, "attempt": row.attempt}
    set_columns_and_refresh(row, status="created", attempt=None)
    opened = open_claim(row)
    set_columns_and_refresh(row, **before)
    record_answer(opened, row, "refused", status)


SOURCES = {"webhook": observe_elsewhere, "lookup": record_lookup, "late record": _by_late_record}


@pytest.fixture
def late() -> Invoice:
    """An invoice that was canceled, then paid."""
    invoice = invoice_in_status()
    observe_elsewhere(invoice, "canceled")
    observe_elsewhere(invoice, "paid")
    return invoice


def test_handled_payment_leaves_the_list_and_is_logged_with_actor_and_note(late):
    ada = User.objects.create_user("ada")
    assert late.mark_handled(actor=ada, note="paid back") is True
    row = stored(late)
    assert row.status == "paid"
    assert row.paid_after_cancel_handled_by == ada
    assert row.paid_after_cancel_handled_at is not None
    assert late.paid_after_cancel_handled_at == row.paid_after_cancel_handled_at
    assert not Invoice.objects.paid_after_cancel().exists()
    sent_signals = row.transitions.last()
    assert sent_signals.code == "handled"
    assert sent_signals.trigger == "operator"
    assert sent_signals.reason == "paid back"
    assert sent_signals.actor == ada
    assert sent_signals.from_status == "paid"
    assert sent_signals.to_status == "paid"


def test_second_mark_changes_nothing(late):
    late.mark_handled(actor="ada", note="paid back")
    first = stored(late)
    assert late.mark_handled(actor="bob", note="me too") is False
    row = stored(late)
    assert row.paid_after_cancel_handled_at == first.paid_after_cancel_handled_at
    assert row.transitions.filter(code="handled").count() == 1


def test_second_mark_returns_false_if_the_first_covered_all_payments(late):
    observe_elsewhere(late, "overpaid")
    late.mark_handled(actor="ada", note="paid back")
    assert late.mark_handled(actor="bob", note="me too", seen="paid") is False
    assert stored(late).transitions.filter(code="handled").count() == 1


def test_stale_save_does_not_remove_the_mark(late):
    stale = stored(late)
    late.mark_handled(actor=User.objects.create_user("ada"), note="paid back")
    stale.save()
    row = stored(late)
    assert row.paid_after_cancel_handled_at is not None
    assert row.paid_after_cancel_handled_by.get_username() == "ada"


def test_payment_without_a_cancellation_cannot_be_marked():
    invoice = invoice_in_status()
    observe_elsewhere(invoice, "paid")
    with pytest.raises(ResolveNotPossible, match="was not paid after a cancellation") as refused:
        invoice.mark_handled(actor="ada", note="x")
    assert refused.value.code == "no_late_money"
    assert not stored(invoice).transitions.filter(code="handled").exists()


@pytest.mark.parametrize(
    ("actor", "note", "missing"),
    [(None, "paid back", "Pass actor"), ("", "paid back", "Pass actor"), ("ada", "  ", "Pass note")],
    ids=["no actor", "no name", "no note"],
)
def test_mark_needs_an_actor_and_a_note(late, actor, note, missing):
    with pytest.raises(ValueError, match=missing):
        late.mark_handled(actor=actor, note=note)
    assert stored(late).paid_after_cancel_handled_at is None


def test_fields_of_the_mark_cannot_be_written_by_the_host(late):
    with pytest.raises(ValueError, match="Only the methods"):
        Invoice.objects.filter(pk=late.pk).update(paid_after_cancel_handled_by=User.objects.create_user("ada"))
    assert stored(late).paid_after_cancel_handled_by is None


# -- more payments --------------------------------------------------------------------------------------------


@pytest.fixture
def handled() -> Invoice:
    """An invoice that was canceled, then partially paid, and marked as handled."""
    invoice = invoice_in_status()
    observe_elsewhere(invoice, "canceled")
    observe_elsewhere(invoice, "partially_paid")
    ada = User.objects.create_user("ada")
    invoice.mark_handled(actor=ada, note="paid back")
    return stored(invoice)


@pytest.mark.parametrize("money", ["paid", "overpaid"])
@pytest.mark.parametrize("source", SOURCES)
def test_further_payment_must_be_handled_again(
    handled, sent_signals, django_capture_on_commit_callbacks, source, money
):
    met_at = handled.paid_after_cancel_at
    with django_capture_on_commit_callbacks(execute=True):
        SOURCES[source](handled, money)
    row = stored(handled)
    assert row.status == money
    assert row.paid_after_cancel_at == met_at
    assert row.paid_after_cancel_handled_at is None
    assert row.paid_after_cancel_handled_by is None
    assert list(Invoice.objects.paid_after_cancel()) == [row]
    assert sent_signals[-2:] == [f"partially_paid > {money}", "paid_after_cancel"]
    assert sent_signals.count("paid_after_cancel") == 1
    *_, payment, flag = row.transitions.all()
    assert payment.from_status == "partially_paid"
    assert payment.to_status == money
    assert flag.code == "more_money"
    assert flag.from_status == money
    assert flag.to_status == money
    assert flag.trigger == payment.trigger


def test_each_further_payment_after_a_mark_sends_one_signal(handled, sent_signals, django_capture_on_commit_callbacks):
    with django_capture_on_commit_callbacks(execute=True):
        handled.observe_status("paid")
        assert handled.paid_after_cancel_handled_at is None
        assert handled.mark_handled(actor="bob", note="paid back too") is True
        assert not Invoice.objects.paid_after_cancel().exists()
        handled.observe_status("overpaid")
    assert sent_signals.count("paid_after_cancel") == 2
    codes = [row.code for row in stored(handled).transitions.all()]
    assert codes[-6:] == ["handled", "observed", "more_money", "handled", "observed", "more_money"]


def test_further_payment_before_a_mark_sends_no_second_signal(
    handled, sent_signals, django_capture_on_commit_callbacks
):
    with django_capture_on_commit_callbacks(execute=True):
        observe_elsewhere(handled, "paid")
        observe_elsewhere(handled, "overpaid")
    assert sent_signals.count("paid_after_cancel") == 1
    assert stored(handled).transitions.filter(code="more_money").count() == 1


@pytest.mark.parametrize("status", ["partially_paid", "canceled", "expired"])
@pytest.mark.parametrize("source", SOURCES)
def test_report_without_a_new_payment_keeps_the_mark(
    handled, sent_signals, django_capture_on_commit_callbacks, source, status
):
    with django_capture_on_commit_callbacks(execute=True):
        SOURCES[source](handled, status)
    row = stored(handled)
    assert row.paid_after_cancel_handled_at == handled.paid_after_cancel_handled_at is not None
    assert row.paid_after_cancel_handled_by.get_username() == "ada"
    assert "paid_after_cancel" not in sent_signals
    assert not row.transitions.filter(code="more_money").exists()


def test_mark_does_not_cover_a_payment_after_the_page_was_shown(late):
    observe_elsewhere(late, "overpaid")
    before = log_changes(late)
    with pytest.raises(ResolveNotPossible, match="has changed since you opened it") as refused:
        late.mark_handled(actor="ada", note="paid back", seen="paid")
    assert refused.value.code == "changed"
    assert stored(late).paid_after_cancel_handled_at is None
    assert log_changes(late) == before
    assert late.mark_handled(actor="ada", note="paid back", seen="overpaid") is True
