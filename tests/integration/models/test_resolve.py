"""Resolve and request: decisions of a named user about the state that was shown, with a reason (rule 10)."""

from uuid import uuid4

import pytest
from django.contrib.auth.models import AnonymousUser, User
from django.db import transaction

from django_invoice_cancel.domain.audit import AuditContext
from django_invoice_cancel.domain.clock import utc_now
from django_invoice_cancel.exceptions import ResolveNotPossible
from tests.support.invoices import invoice_in_status, set_columns_and_refresh, stored
from tests.support.logs import log_changes, status_history
from tests.support.writes import CLERK, NOON, observe_elsewhere, open_claim, record_answer, record_lookup, seconds

pytestmark = pytest.mark.django_db

PERIOD = 900


def resolve(invoice, status, *, actor="Ada", reason="seen in the dashboard"):
    invoice.resolve(status, actor=actor, reason=reason)


@pytest.fixture
def lost(clock):
    """An invoice whose answer was lost at noon."""
    invoice = invoice_in_status()
    record_answer(open_claim(invoice), invoice, "in_doubt")
    return invoice


@pytest.mark.parametrize("status", ["canceled", "expired", "failed", "partially_paid", "paid", "overpaid"])
def test_doubt_can_be_resolved_at_once(lost, status):
    resolve(lost, status)
    row, last = stored(lost), lost.transitions.last()
    assert row.status == status
    assert row.next_check_at is None
    assert row.status_confirmed_at is None
    assert last.from_status == "in_doubt"
    assert last.to_status == status
    assert last.code == "resolved"
    assert last.actor_label == "Ada"
    assert last.trigger == "operator"
    assert last.reason == "seen in the dashboard"


def test_doubt_can_be_resolved_as_open_only_after_the_doubt_period(clock, lost):
    clock.shift(PERIOD - 1)
    with pytest.raises(ResolveNotPossible) as caught:
        resolve(lost, "created")
    assert caught.value.code == "doubt_period"
    assert stored(lost).status == "in_doubt"
    assert len(log_changes(lost)) == 2
    assert "may still carry out the lost request. Wait." in str(caught.value)
    clock.shift(1)
    resolve(lost, "created")
    row = stored(lost)
    assert row.status == "created"
    assert row.next_check_at == NOON + seconds(PERIOD + 3600)


def test_invoice_resolved_as_open_is_looked_up_once_more(clock, lost):
    clock.shift(PERIOD)
    resolve(lost, "created")
    record_lookup(lost, "canceled")
    assert stored(lost).status == "canceled"
    assert status_history(lost)[-1] == "created > canceled"


@pytest.mark.parametrize(
    "status", ["created", "canceling", "canceled", "partially_paid", "paid", "overpaid", "expired", "failed"]
)
def test_invoice_that_is_not_in_doubt_cannot_be_resolved(status):
    invoice = invoice_in_status(status, claim_expires_at=utc_now())
    with pytest.raises(ResolveNotPossible) as caught:
        resolve(invoice, "canceled")
    assert caught.value.code == "not_in_doubt"
    assert stored(invoice).status == status
    assert log_changes(invoice) == []


def test_abandoned_claim_can_be_resolved(clock, limits):
    limits(CLAIM_TTL=100)
    invoice = invoice_in_status()
    open_claim(invoice)
    clock.shift(160)
    with pytest.raises(ResolveNotPossible):
        resolve(invoice, "canceled")
    clock.shift(0.001)
    resolve(invoice, "canceled")
    assert status_history(invoice) == ["created > canceling", "canceling > in_doubt", "in_doubt > canceled"]
    assert stored(invoice).claim_expires_at == NOON + seconds(100)


def test_abandoned_claim_can_be_resolved_as_open_only_after_its_doubt_period(clock, limits):
    limits(CLAIM_TTL=100)
    invoice = invoice_in_status()
    open_claim(invoice)
    clock.shift(999)
    with pytest.raises(ResolveNotPossible) as caught:
        resolve(invoice, "created")
    assert caught.value.code == "doubt_period"
    assert stored(invoice).status == "canceling"
    assert len(log_changes(invoice)) == 1
    clock.shift(1)
    resolve(invoice, "created")
    assert stored(invoice).status == "created"


def test_decision_applies_to_the_attempt_on_the_page(lost):
    page = stored(lost)
    set_columns_and_refresh(stored(lost), attempt=uuid4())
    with pytest.raises(ResolveNotPossible) as caught:
        resolve(page, "canceled")
    assert caught.value.code == "changed"
    assert stored(lost).status == "in_doubt"
    assert len(log_changes(lost)) == 2


def test_deleted_invoice_cannot_be_resolved(lost):
    ghost = stored(lost)
    ghost.pk = 10**9
    with pytest.raises(ResolveNotPossible) as caught:
        resolve(ghost, "canceled")
    assert caught.value.code == "changed"


@pytest.mark.parametrize("status", ["in_doubt", "canceling", "void", "Canceled"])
def test_impossible_decision_is_an_error(lost, status):
    with pytest.raises(ValueError, match=status):
        resolve(lost, status)
    assert stored(lost).status == "in_doubt"
    assert len(log_changes(lost)) == 2


@pytest.mark.parametrize("actor", [None, "", AnonymousUser()], ids=["none", "empty", "anonymous"])
def test_decision_needs_an_actor(lost, actor):
    with pytest.raises(ValueError, match="Pass actor"):
        resolve(lost, "canceled", actor=actor)
    assert stored(lost).status == "in_doubt"
    assert len(log_changes(lost)) == 2


@pytest.mark.parametrize("reason", ["", "  \n"])
def test_decision_needs_a_reason(lost, reason):
    with pytest.raises(ValueError, match="Pass reason"):
        resolve(lost, "canceled", reason=reason)
    assert stored(lost).status == "in_doubt"
    assert len(log_changes(lost)) == 2


def test_resolve_works_inside_a_transaction(lost):
    ada = User.objects.create_user("ada")
    with transaction.atomic():
        resolve(lost, "canceled", actor=ada)
    assert lost.transitions.last().actor == ada


def test_payment_overrides_a_decision_to_cancel(lost):
    resolve(lost, "canceled")
    observe_elsewhere(lost, "paid")
    assert stored(lost).status == "paid"
    assert stored(lost).paid_after_cancel_at == NOON
    assert status_history(lost)[-2:] == ["in_doubt > canceled", "canceled > paid"]


# -- request ----------------------------------------------------------------------------------------------------


def request(invoice):
    return invoice._writer.request_cancel(invoice, AuditContext("clerk", "on_commit"))


def test_request_is_stored_with_a_log_row_of_its_user(clock):
    invoice = invoice_in_status()
    assert request(invoice) is True
    assert stored(invoice).cancel_requested_at == invoice.cancel_requested_at == NOON
    assert log_changes(invoice) == [("created", "created", "requested")]
    assert invoice.transitions.get().actor_label == "clerk"


def test_request_joins_the_callers_transaction():
    invoice = invoice_in_status()
    with transaction.atomic():
        request(invoice)
        transaction.set_rollback(True)
    assert stored(invoice).cancel_requested_at is None
    assert log_changes(invoice) == []


@pytest.mark.parametrize(
    "status", ["canceling", "in_doubt", "canceled", "partially_paid", "paid", "overpaid", "expired", "failed"]
)
def test_request_for_an_invoice_that_is_not_open_is_not_stored(status):
    invoice = invoice_in_status()
    set_columns_and_refresh(stored(invoice), status=status)
    assert request(invoice) is False
    assert stored(invoice).cancel_requested_at is None
    assert log_changes(invoice) == []
    assert invoice.status == status


def test_unsaved_edit_of_the_instance_stores_no_request():
    invoice = invoice_in_status()
    invoice.external_id = "INV-OTHER"
    assert request(invoice) is False
    assert log_changes(invoice) == []


@pytest.mark.parametrize(
    "method",
    [
        pytest.param(lambda invoice: observe_elsewhere(invoice, "paid"), id="money"),
        pytest.param(lambda invoice: observe_elsewhere(invoice, "expired"), id="closing"),
    ],
)
def test_request_is_cleared_by_later_changes(method):
    invoice = invoice_in_status()
    request(invoice)
    method(invoice)
    assert stored(invoice).cancel_requested_at is None


def test_history_contains_the_rows_that_changed_the_status():
    """Rows that change nothing have from = to and stand beside it (rule 13)."""
    invoice = invoice_in_status()
    request(invoice)
    opened = open_claim(invoice)
    observe_elsewhere(invoice, "paid")
    record_answer(opened, invoice, "not_processed")
    invoice.observe_status(provider_status="strange")
    assert log_changes(invoice) == [
        ("created", "created", "requested"),
        ("created", "canceling", ""),
        ("canceling", "paid", "observed"),
        ("paid", "paid", "not_processed"),
        ("paid", "paid", "unknown_status"),
    ]
    assert status_history(invoice) == ["created > canceling", "canceling > paid"]
    assert invoice._writer.claim([invoice], CLERK).invoices == []
