"""Claim, release, abandon: one winner, the correct row, a limited time (rules 1, 3, 4, 6)."""

import threading
from uuid import uuid4

import pytest
from django.db import transaction

from django_invoice_cancel.domain.statuses import Status
from django_invoice_cancel.exceptions import CancelInTransaction, IllegalMove
from django_invoice_cancel.models import Invoice, ProviderState
from tests.support.invoices import invoice_in_status, set_columns_and_refresh, stored
from tests.support.logs import log_changes, status_history
from tests.support.writes import CLERK, NOON, RECONCILE, open_claim, record_answer, seconds

pytestmark = pytest.mark.django_db


def test_claim_writes_attempt_and_expiry_and_one_row(clock, limits):
    limits(CLAIM_TTL=100)
    invoice = invoice_in_status(cancel_requested_at=NOON, cancel_try_at=NOON, cancel_try_count=3)
    opened = open_claim(invoice)
    row = stored(invoice)
    assert opened.invoices == [invoice]
    assert row.status == "canceling"
    assert row.attempt == opened.attempt
    assert row.claim_expires_at == NOON + seconds(100)
    assert row.status_changed_at == NOON
    assert row.cancel_requested_at == NOON
    assert row.cancel_try_at == NOON
    assert row.cancel_try_count == 3
    assert log_changes(invoice) == [("created", "canceling", "")]
    assert invoice.transitions.get().attempt == opened.attempt


def test_lease_ends_no_later_than_the_claim_in_the_row(limits):
    limits(CLAIM_TTL=100)
    invoice = invoice_in_status()
    opened = open_claim(invoice)
    assert opened.opened_at + opened.ttl <= stored(invoice).claim_expires_at.timestamp()


def test_second_claim_loses():
    invoice = invoice_in_status()
    first, second = stored(invoice), stored(invoice)
    winner, loser = open_claim(first), open_claim(second)
    assert winner.invoices == [first]
    assert loser.invoices == []
    assert stored(invoice).status == "canceling"
    assert stored(invoice).attempt == winner.attempt
    assert log_changes(invoice) == [("created", "canceling", "")]


@pytest.mark.django_db(transaction=True)
def test_of_many_threads_that_claim_at_once_one_wins(in_thread):
    invoice, barrier = invoice_in_status(), threading.Barrier(6, timeout=20)

    def claim_at_the_same_time():
        own = stored(invoice)
        barrier.wait()
        return open_claim(own)

    claims = [in_thread(claim_at_the_same_time) for _ in range(6)]
    [winner] = [each.result() for each in claims if each.result().invoices]
    assert stored(invoice).status == "canceling"
    assert stored(invoice).attempt == winner.attempt
    assert status_history(invoice) == ["created > canceling"]


@pytest.mark.parametrize(
    "status", ["canceling", "in_doubt", "canceled", "partially_paid", "paid", "overpaid", "expired", "failed"]
)
def test_only_what_is_open_is_claimed(status):
    """The instance in memory may be stale: the row decides."""
    invoice = invoice_in_status()
    set_columns_and_refresh(stored(invoice), status=status)
    assert open_claim(invoice).invoices == []
    assert stored(invoice).status == status
    assert log_changes(invoice) == []


@pytest.mark.parametrize("before", [status for status in Status if status not in ("created", "in_doubt")])
def test_claim_from_a_status_that_has_none_is_a_bug(before):
    with pytest.raises(IllegalMove):
        open_claim(invoice_in_status(before), before=before)


@pytest.mark.parametrize("edit", [{"provider": "firekassa"}, {"external_id": "INV-2"}, {"pk": 10**9}], ids=str)
def test_unsaved_edit_of_the_instance_claims_nothing(edit):
    """The request is built from the instance in memory, which must match the registered row."""
    invoice = invoice_in_status(external_id="INV-1")
    invoice_in_status(external_id="INV-2")
    edited = stored(invoice)
    for name, value in edit.items():
        setattr(edited, name, value)
    assert open_claim(edited).invoices == []
    assert set(Invoice.objects.values_list("status", flat=True)) == {"created"}


def test_doubt_is_claimed_again_only_with_the_attempt_that_was_looked_up():
    invoice = invoice_in_status("in_doubt", attempt=uuid4())
    stale = stored(invoice)
    set_columns_and_refresh(stored(invoice), attempt=uuid4())
    assert open_claim(stale, before=Status.IN_DOUBT).invoices == []
    fresh = stored(invoice)
    assert open_claim(fresh, before=Status.IN_DOUBT).invoices == [fresh]
    assert stored(invoice).status == "canceling"
    assert status_history(invoice) == ["in_doubt > canceling"]


def test_group_is_claimed_as_far_as_it_can_be():
    group = [invoice_in_status(), invoice_in_status(), invoice_in_status(), invoice_in_status()]
    observed = stored(group[1])
    observed.observe_status("paid")
    set_columns_and_refresh(stored(group[2]), status="in_doubt")
    opened = group[0]._writer.claim(group, CLERK)
    assert opened.invoices == [group[0], group[3]]
    assert [stored(each).status for each in group] == ["canceling", "paid", "in_doubt", "canceling"]
    assert [len(log_changes(each)) for each in group] == [1, 1, 0, 1]
    assert [each.status for each in group] == ["canceling", "created", "created", "canceling"]
    assert {stored(each).attempt for each in opened.invoices} == {opened.attempt}


def test_row_that_is_twice_in_a_group_is_won_once():
    invoice = invoice_in_status()
    assert len(invoice._writer.claim([invoice, stored(invoice)], CLERK).invoices) == 1
    assert len(log_changes(invoice)) == 1


def test_paused_provider_is_not_claimed_for(clock):
    invoice = invoice_in_status()
    ProviderState.objects.create(alias="cryptocloud", paused_until=NOON + seconds(1))
    assert open_claim(invoice).invoices == []
    assert open_claim(invoice_in_status(provider="firekassa", external_id="1")).invoices != []
    clock.shift(1)
    assert open_claim(invoice).invoices == [invoice]
    assert stored(invoice).status == "canceling"
    assert log_changes(invoice) == [("created", "canceling", "")]


def test_no_claim_inside_a_transaction():
    invoice = invoice_in_status()
    with transaction.atomic(), pytest.raises(CancelInTransaction, match="cancel_on_commit"):
        open_claim(invoice)
    assert invoice.status == "created"
    assert log_changes(invoice) == []


# -- give back --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("before", ["created", "in_doubt"])
def test_what_was_not_sent_is_given_back(before):
    invoice = invoice_in_status(before)
    opened = open_claim(invoice, before=Status(before))
    invoice._writer.give_back(opened, [invoice])
    assert stored(invoice).status == before
    assert invoice.status == before
    assert log_changes(invoice) == [(before, "canceling", ""), ("canceling", before, "not_processed")]


def test_only_an_own_claim_is_given_back():
    invoice = invoice_in_status()
    opened = open_claim(invoice)
    set_columns_and_refresh(stored(invoice), attempt=uuid4())
    invoice._writer.give_back(opened, [invoice])
    assert stored(invoice).status == "canceling"
    assert len(log_changes(invoice)) == 1


# -- return to the earlier status (rule 6) ------------------------------------------------------------------------


@pytest.mark.parametrize("before", ["created", "in_doubt"])
@pytest.mark.parametrize("outcome", ["refused", "not_processed"])
def test_reply_without_a_status_restores_the_status_before_the_claim(before, outcome):
    """A refusal after a doubt stays in doubt: the lost request may have been what closed the invoice."""
    invoice = invoice_in_status(before)
    record_answer(open_claim(invoice, before=Status(before)), invoice, outcome)
    row = stored(invoice)
    assert row.status == before
    assert row.last_outcome == outcome
    assert log_changes(invoice)[-1] == ("canceling", before, outcome)


def test_refused_repeat_is_in_doubt_again(clock):
    invoice = invoice_in_status("in_doubt", check_count=4, next_check_at=NOON)
    opened = open_claim(invoice, before=Status.IN_DOUBT)
    clock.shift(5)
    record_answer(opened, invoice, "refused")
    row = stored(invoice)
    assert row.claim_expires_at == NOON + seconds(5)
    assert row.next_check_at == NOON + seconds(65)
    assert row.check_count == 0
    assert row.status == "in_doubt"
    assert log_changes(invoice)[-1] == ("canceling", "in_doubt", "refused")


# -- abandoned (rule 4) -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("late", "expected"), [(0, "canceling"), (60, "canceling"), (60.001, "in_doubt"), (3600, "in_doubt")]
)
def test_claim_is_abandoned_a_minute_past_its_end(clock, limits, late, expected):
    limits(CLAIM_TTL=100)
    invoice = invoice_in_status()
    open_claim(invoice)
    clock.shift(100 + late)
    moved = invoice._writer.mark_abandoned([invoice], RECONCILE)
    assert stored(invoice).status == expected
    assert bool(moved) == (expected == "in_doubt")
    assert len(log_changes(invoice)) == (2 if moved else 1)


def test_abandoned_claim_keeps_its_attempt_and_its_last_instant(clock, limits):
    limits(CLAIM_TTL=100)
    invoice = invoice_in_status()
    opened = open_claim(invoice)
    clock.shift(1000)
    other = stored(invoice)
    assert other._writer.mark_abandoned([other], RECONCILE) == [other]
    row = stored(invoice)
    assert row.attempt == opened.attempt
    assert row.claim_expires_at == NOON + seconds(100)
    assert row.next_check_at == NOON + seconds(1000)
    assert row.last_outcome == "in_doubt"
    assert log_changes(invoice)[-1] == ("canceling", "in_doubt", "in_doubt")
    assert invoice.transitions.last().attempt == opened.attempt


def test_new_claim_is_not_abandoned_for_an_old_one(clock, limits):
    """The instance in memory holds the claim that ran out; the row holds a newer one."""
    limits(CLAIM_TTL=100)
    invoice = invoice_in_status()
    open_claim(invoice)
    stale = stored(invoice)
    set_columns_and_refresh(stored(invoice), attempt=uuid4())
    clock.shift(1000)
    assert stale._writer.mark_abandoned([stale], RECONCILE) == []
    set_columns_and_refresh(stored(invoice), attempt=stale.attempt, claim_expires_at=NOON + seconds(1000))
    assert stale._writer.mark_abandoned([stale], RECONCILE) == []
    assert stored(invoice).status == "canceling"
    assert log_changes(invoice) == [("created", "canceling", "")]
