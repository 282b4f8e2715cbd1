"""An invoice that is closed here and open at the provider is stored, listed and resolved by a user (rules 9, 10)."""

from datetime import timedelta

import pytest

from django_invoice_cancel.domain.claims import Seen
from django_invoice_cancel.exceptions import ResolveNotPossible
from django_invoice_cancel.models import Invoice
from tests.support.invoices import invoice_in_status, set_columns_and_refresh, stored
from tests.support.logs import log_changes, status_history
from tests.support.writes import (
    NOON,
    RECONCILE,
    lookup_reply,
    observe_elsewhere,
    open_claim,
    record_answer,
    record_lookup,
    seconds,
)

pytestmark = pytest.mark.django_db

PERIOD = 900
CLOSED = ("canceled", "expired", "failed")
each_closed = pytest.mark.parametrize("status", CLOSED)


@pytest.fixture
def contradicted(clock, request):
    """An invoice that was closed at noon and that a lookup reported as open after the doubt period."""
    invoice = invoice_in_status()
    observe_elsewhere(invoice, getattr(request, "param", "canceled"))
    clock.shift(PERIOD)
    record_lookup(invoice, "created")
    return stored(invoice)


every_contradicted = pytest.mark.parametrize("contradicted", CLOSED, indirect=True)


@each_closed
@pytest.mark.parametrize(("after", "is_contradiction"), [(0, False), (899.9, False), (900, True), (10**6, True)])
def test_open_counts_as_a_contradiction_once_the_doubt_period_of_the_last_change_is_over(
    clock, status, after, is_contradiction
):
    invoice = invoice_in_status()
    observe_elsewhere(invoice, status)
    confirmed = stored(invoice).status_confirmed_at
    clock.shift(after)
    record_lookup(invoice, "created")
    row = stored(invoice)
    assert row.status == status
    assert row.status_confirmed_at == confirmed
    assert row.contradicted_at == (NOON + seconds(after) if is_contradiction else None)
    assert log_changes(invoice)[1:] == [(status, status, "contradictory_answer")]
    assert list(Invoice.objects.needing_attention()) == list(Invoice.objects.contradicted())
    assert Invoice.objects.contradicted().exists() is is_contradiction


def test_lookup_that_began_before_the_end_of_the_doubt_period_is_only_logged(clock):
    invoice = invoice_in_status()
    observe_elsewhere(invoice, "canceled")
    clock.shift(PERIOD - 1)
    other = stored(invoice)
    seen = Seen.now(other)
    clock.shift(600)
    other._writer.record_lookup(seen, lookup_reply("created"), RECONCILE)
    assert stored(invoice).contradicted_at is None
    assert log_changes(invoice)[-1][2] == "contradictory_answer"


def test_lookup_that_began_before_the_invoice_was_closed_is_only_logged(clock):
    invoice = invoice_in_status()
    other = stored(invoice)
    seen = Seen.now(other)
    clock.shift(10 * PERIOD)
    observe_elsewhere(invoice, "expired")
    other._writer.record_lookup(seen, lookup_reply("created"), RECONCILE)
    assert stored(invoice).status == "expired"
    assert stored(invoice).contradicted_at is None


def test_first_contradiction_keeps_its_time(clock, contradicted):
    clock.shift(60)
    record_lookup(contradicted, "created")
    assert stored(contradicted).contradicted_at == NOON + seconds(PERIOD)
    assert [step[2] for step in log_changes(contradicted)[1:]] == ["contradictory_answer"] * 2


@pytest.mark.slow
@every_contradicted
@pytest.mark.parametrize("agreeing", CLOSED)
def test_later_lookup_that_reports_the_invoice_as_closed_clears_a_contradiction(clock, contradicted, agreeing):
    before = contradicted.status
    clock.shift(1)
    record_lookup(contradicted, agreeing)
    row = stored(contradicted)
    assert row.status == before
    assert row.contradicted_at is None
    assert row.status_confirmed_at == NOON + seconds(PERIOD + 1)


def test_lookup_that_began_before_the_contradiction_does_not_clear_it(clock):
    invoice = invoice_in_status()
    observe_elsewhere(invoice, "canceled")
    clock.shift(PERIOD)
    other = stored(invoice)
    seen = Seen.now(other)
    clock.shift(1)
    record_lookup(invoice, "created")
    other._writer.record_lookup(seen, lookup_reply("canceled"), RECONCILE)
    assert stored(invoice).contradicted_at == NOON + seconds(PERIOD + 1)


@pytest.mark.parametrize("reply", [{"code": "not_found"}, {"code": "unknown_status"}, {"is_answer": False}], ids=str)
def test_lookup_without_a_status_does_not_clear_a_contradiction(clock, contradicted, reply):
    clock.shift(1)
    record_lookup(contradicted, None, **reply)
    assert stored(contradicted).contradicted_at == NOON + seconds(PERIOD)


def test_webhook_that_reports_the_invoice_as_closed_does_not_clear_a_contradiction(clock, contradicted):
    """It may have been under way for longer than the lookup."""
    clock.shift(1)
    observe_elsewhere(contradicted, "canceled")
    assert stored(contradicted).contradicted_at == NOON + seconds(PERIOD)


@every_contradicted
@pytest.mark.parametrize("learn", [observe_elsewhere, record_lookup], ids=["webhook", "lookup"])
def test_payment_clears_a_contradiction(contradicted, learn):
    was_canceled = contradicted.status == "canceled"
    learn(contradicted, "paid")
    row = stored(contradicted)
    assert row.status == "paid"
    assert row.contradicted_at is None
    assert (row.paid_after_cancel_at is not None) is was_canceled


@pytest.mark.parametrize("status", ["partially_paid", "paid", "overpaid"])
def test_open_does_not_contradict_a_payment(clock, status):
    invoice = invoice_in_status()
    observe_elsewhere(invoice, status)
    clock.shift(PERIOD)
    record_lookup(invoice, "created")
    assert stored(invoice).status == status
    assert stored(invoice).contradicted_at is None


@each_closed
def test_closing_time_of_a_wrong_clock_counts_from_the_first_lookup(clock, status):
    """Its doubt period would not be over for as long as that clock was ahead."""
    invoice = invoice_in_status()
    observe_elsewhere(invoice, status)
    set_columns_and_refresh(invoice, status_changed_at=NOON + timedelta(days=400))
    record_lookup(stored(invoice), "created")
    assert stored(invoice).contradicted_at is None
    assert stored(invoice).status_changed_at == NOON
    clock.shift(PERIOD)
    record_lookup(stored(invoice), "created")
    row = stored(invoice)
    assert row.status == status
    assert row.contradicted_at == NOON + seconds(PERIOD)
    assert log_changes(invoice)[1:] == [(status, status, "contradictory_answer")] * 2


def test_contradiction_that_a_wrong_clock_wrote_is_cleared_by_a_later_lookup(clock, contradicted):
    set_columns_and_refresh(contradicted, contradicted_at=NOON + timedelta(days=400))
    clock.shift(1)
    record_lookup(stored(contradicted), "canceled")
    assert stored(contradicted).status == "canceled"
    assert stored(contradicted).contradicted_at is None


# -- a person decides -------------------------------------------------------------------------------------------

DECISIONS = ["created", "canceled", "expired", "failed", "partially_paid", "paid", "overpaid"]


def resolve(invoice, status):
    invoice.resolve(status, actor="Ada", reason="seen in the dashboard")


@every_contradicted
@pytest.mark.parametrize("decision", DECISIONS)
def test_contradiction_can_be_resolved_to_every_status(contradicted, decision):
    before = contradicted.status
    resolve(contradicted, decision)
    row, last = stored(contradicted), contradicted.transitions.last()
    assert row.status == decision
    assert row.contradicted_at is None
    assert contradicted.contradicted_at is None
    assert last.from_status == before
    assert last.to_status == decision
    assert last.code == "resolved"
    assert last.actor_label == "Ada"


def test_reopened_invoice_can_be_canceled_and_is_looked_up_once_more(contradicted):
    resolve(contradicted, "created")
    row = stored(contradicted)
    assert row.next_check_at == NOON + seconds(PERIOD + 3600)
    assert row.last_outcome == "not_processed"
    assert list(Invoice.objects.cancelable()) == [contradicted]
    assert open_claim(row).invoices == [row]


def test_payment_of_a_reopened_invoice_is_flagged(clock):
    """The log still holds the confirmed cancellation (rule 8)."""
    invoice = invoice_in_status()
    record_answer(open_claim(invoice), invoice, "canceled")
    clock.shift(PERIOD)
    record_lookup(invoice, "created")
    resolve(invoice, "created")
    observe_elsewhere(invoice, "paid")
    assert stored(invoice).paid_after_cancel_at == NOON + seconds(PERIOD)
    assert status_history(invoice)[-2:] == ["canceled > created", "created > paid"]


def test_cleared_contradiction_cannot_be_resolved(clock, contradicted):
    page = stored(contradicted)
    clock.shift(1)
    record_lookup(contradicted, "canceled")
    with pytest.raises(ResolveNotPossible) as caught:
        resolve(page, "created")
    assert caught.value.code == "not_in_doubt"
    assert stored(contradicted).status == "canceled"


# -- a refused invoice ------------------------------------------------------------------------------------------


@pytest.fixture(params=["provider_refused", "not_found"])
def refused(request):
    """An invoice that its provider, which has no lookup, refused to cancel."""
    invoice = invoice_in_status(provider="firekassa", external_id="511727028")
    record_answer(open_claim(invoice), invoice, "refused", code=request.param)
    return stored(invoice)


@pytest.mark.parametrize("decision", DECISIONS[1:])
def test_refused_invoice_at_a_provider_without_lookup_can_be_resolved(refused, decision):
    resolve(refused, decision)
    row, last = stored(refused), refused.transitions.last()
    assert row.status == decision
    assert last.from_status == "created"
    assert last.code == "resolved"


def test_refused_invoice_cannot_be_resolved_as_open(refused):
    with pytest.raises(ResolveNotPossible, match="already open") as caught:
        resolve(refused, "created")
    assert caught.value.code == "not_in_doubt"
    assert stored(refused).status == "created"
    assert len(log_changes(refused)) == 2


def test_refused_invoice_at_a_provider_with_lookup_cannot_be_resolved():
    invoice = invoice_in_status()
    record_answer(open_claim(invoice), invoice, "refused", code="provider_refused")
    with pytest.raises(ResolveNotPossible) as caught:
        resolve(invoice, "canceled")
    assert caught.value.code == "not_in_doubt"
    assert stored(invoice).status == "created"


def test_refused_invoice_that_was_claimed_again_cannot_be_resolved(refused):
    page = stored(refused)
    open_claim(stored(refused))
    with pytest.raises(ResolveNotPossible) as caught:
        resolve(page, "canceled")
    assert caught.value.code == "changed"
    assert stored(refused).status == "canceling"


def test_open_invoice_that_was_never_refused_cannot_be_resolved(refused):
    set_columns_and_refresh(refused, last_outcome="not_processed")
    with pytest.raises(ResolveNotPossible):
        resolve(refused, "canceled")
    assert stored(refused).status == "created"
