"""Lookups: "still open" is accepted after a delay, all other answers at once; backoff; shared work (rule 7)."""

from uuid import uuid4

import pytest

from django_invoice_cancel.domain.claims import Seen
from django_invoice_cancel.models import ProviderState
from tests.support.invoices import invoice_in_status, set_columns_and_refresh, stored
from tests.support.logs import log_changes, status_history
from tests.support.writes import (
    CLERK,
    NOON,
    OPERATOR,
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


@pytest.fixture
def lost(clock):
    """An invoice whose answer was lost at noon."""
    invoice = invoice_in_status()
    record_answer(open_claim(invoice), invoice, "in_doubt")
    return invoice


@pytest.mark.parametrize(
    ("after", "expected"), [(0, "in_doubt"), (899.9, "in_doubt"), (900, "created"), (86400, "created")]
)
def test_still_open_counts_once_the_doubt_period_is_over(clock, lost, after, expected):
    clock.shift(after)
    record_lookup(lost, "created")
    row = stored(lost)
    assert row.status == expected
    assert row.status_confirmed_at == NOON + seconds(after)
    assert log_changes(lost)[2:] == [("in_doubt", expected, "not_processed" if expected == "created" else "still_open")]


def test_doubt_period_is_a_setting(clock, limits, lost):
    limits(DOUBT_PERIOD=10)
    clock.shift(10)
    record_lookup(lost, "created")
    assert stored(lost).status == "created"
    assert status_history(lost)[-1] == "in_doubt > created"


def test_still_open_counts_only_if_the_lookup_began_after_the_doubt_period(clock, lost):
    other = stored(lost)
    clock.shift(899)
    seen = Seen.now(other)
    clock.shift(60)
    other._writer.record_lookup(seen, lookup_reply("created"), RECONCILE)
    assert stored(lost).status == "in_doubt"
    assert log_changes(lost)[-1] == ("in_doubt", "in_doubt", "still_open")


def test_doubt_period_of_an_abandoned_claim_begins_at_the_end_of_its_lease(clock, limits):
    limits(CLAIM_TTL=100)
    invoice = invoice_in_status()
    open_claim(invoice)
    clock.shift(200)
    invoice._writer.mark_abandoned([invoice], RECONCILE)
    clock.shift(799)
    record_lookup(invoice, "created")
    assert stored(invoice).status == "in_doubt"
    clock.shift(1)
    record_lookup(invoice, "created")
    assert stored(invoice).status == "created"
    assert status_history(invoice) == ["created > canceling", "canceling > in_doubt", "in_doubt > created"]


@pytest.mark.parametrize("status", ["canceled", "partially_paid", "paid", "overpaid", "expired", "failed"])
def test_every_other_status_counts_at_once(lost, status):
    record_lookup(lost, status)
    row = stored(lost)
    assert row.status == status
    assert row.next_check_at is None
    assert status_history(lost)[-1] == f"in_doubt > {status}"


def test_invoice_that_leaves_doubt_as_open_is_looked_up_once_more(clock, lost):
    clock.shift(PERIOD)
    record_lookup(lost, "created")
    row = stored(lost)
    assert row.next_check_at == NOON + seconds(PERIOD + 3600)
    assert row.check_count == 0
    assert log_changes(lost)[-1] == ("in_doubt", "created", "not_processed")
    clock.shift(3600)
    record_lookup(lost, "created")
    row = stored(lost)
    assert row.status == "created"
    assert row.next_check_at is None


def test_early_lookup_does_not_replace_the_additional_lookup(clock, lost):
    clock.shift(PERIOD)
    record_lookup(lost, "created")
    clock.shift(60)
    record_lookup(lost, "created")
    row = stored(lost)
    assert row.status == "created"
    assert row.next_check_at == NOON + seconds(PERIOD + 3600)
    assert log_changes(lost)[2:] == [("in_doubt", "created", "not_processed")]


def test_open_invoice_that_was_never_in_doubt_needs_no_additional_lookup():
    invoice = invoice_in_status()
    record_lookup(invoice, "created")
    assert stored(invoice).next_check_at is None


def test_additional_lookup_finds_a_very_late_cancellation(clock, lost):
    clock.shift(PERIOD)
    record_lookup(lost, "created")
    clock.shift(3600)
    record_lookup(lost, "canceled")
    assert stored(lost).status == "canceled"
    assert status_history(lost)[-2:] == ["in_doubt > created", "created > canceled"]


def test_inconclusive_additional_lookup_is_repeated_at_growing_intervals(clock):
    """Not once a minute for ever."""
    invoice = invoice_in_status("created", attempt=uuid4(), claim_expires_at=NOON - seconds(3600), next_check_at=NOON)
    waits = []
    for _ in range(4):
        record_lookup(invoice, None, code="not_found")
        waits.append((stored(invoice).next_check_at - NOON).total_seconds() / 60)
    assert waits == [5, 15, 60, 360]


def test_open_invoice_is_not_looked_up_a_second_time(clock):
    invoice = invoice_in_status()
    record_lookup(invoice, None, code="not_found")
    assert stored(invoice).next_check_at is None
    assert stored(invoice).check_count == 0


# -- against what was seen --------------------------------------------------------------------------------------


def _claimed_again(invoice):
    set_columns_and_refresh(invoice, attempt=uuid4())


def _decided_by_hand(invoice):
    invoice.resolve("expired", actor="Ada", reason="seen")


def _paid(invoice):
    observe_elsewhere(invoice, "paid")


def _being_repeated(invoice):
    open_claim(invoice, before="in_doubt")


@pytest.mark.parametrize(
    ("concurrent_change", "expected", "last"),
    [
        (_claimed_again, "in_doubt", ("canceling", "in_doubt", "in_doubt")),
        (_decided_by_hand, "expired", ("expired", "expired", "contradictory_answer")),
        (_paid, "paid", ("in_doubt", "paid", "observed")),
        (_being_repeated, "canceling", ("in_doubt", "canceling", "")),
    ],
)
def test_still_open_applies_only_to_the_state_before_the_lookup(clock, lost, concurrent_change, expected, last):
    clock.shift(PERIOD)
    other = stored(lost)
    seen = Seen.now(other)
    concurrent_change(stored(lost))
    other._writer.record_lookup(seen, lookup_reply("created"), RECONCILE)
    assert stored(lost).status == expected
    assert log_changes(lost)[-1] == last


def test_lookup_does_not_end_a_doubt_that_began_after_it(clock, lost):
    """Resolved as open, and in doubt again by a late answer of the same attempt, while the lookup was in flight."""
    clock.shift(PERIOD)
    other = stored(lost)
    seen = Seen.now(other)
    set_columns_and_refresh(stored(lost), claim_expires_at=NOON + seconds(PERIOD))
    other._writer.record_lookup(seen, lookup_reply("created"), RECONCILE)
    assert stored(lost).status == "in_doubt"
    assert log_changes(lost)[-1] == ("in_doubt", "in_doubt", "still_open")


@pytest.mark.parametrize("status", ["paid", "canceled"])
def test_new_status_counts_despite_concurrent_changes(lost, status):
    other = stored(lost)
    seen = Seen.now(other)
    _claimed_again(stored(lost))
    other._writer.record_lookup(seen, lookup_reply(status), RECONCILE)
    assert stored(lost).status == status
    assert status_history(lost)[-1] == f"in_doubt > {status}"


@pytest.mark.parametrize("status", ["canceled", "expired"])
def test_still_open_for_a_closed_invoice_is_only_logged(clock, status):
    invoice = invoice_in_status(status)
    record_lookup(invoice, "created")
    assert stored(invoice).status == status
    assert log_changes(invoice) == [(status, status, "contradictory_answer")]


# -- the back-off -----------------------------------------------------------------------------------------------


def test_backoff_grows_to_a_day_and_never_ends(clock, limits):
    limits(DOUBT_PERIOD=1)
    invoice = invoice_in_status()
    record_answer(open_claim(invoice), invoice, "in_doubt")
    waits = [(stored(invoice).next_check_at - NOON).total_seconds() / 60]
    clock.shift(5)
    for _ in range(8):
        record_lookup(invoice, None, code="not_found")
        waits.append((stored(invoice).next_check_at - NOON - seconds(5)).total_seconds() / 60)
    assert waits == [1, 5, 15, 60, 360, 1440, 1440, 1440, 1440]
    assert stored(invoice).status == "in_doubt"
    assert log_changes(invoice)[2:] == [("in_doubt", "in_doubt", "not_found")] * 8


def test_check_is_due_when_still_open_begins_to_count(clock, lost):
    clock.shift(300)
    for _ in range(2):
        record_lookup(lost, "created")
    assert stored(lost).next_check_at == NOON + seconds(PERIOD + 1)
    assert stored(lost).status == "in_doubt"
    assert log_changes(lost)[2:] == [("in_doubt", "in_doubt", "still_open")] * 2


@pytest.mark.parametrize(
    ("code", "retry_after", "wait"),
    [("no_answer", None, 300), ("unreachable", None, 300), ("rate_limited", 9.0, 9)],
    ids=["no answer", "unreachable", "rate limited"],
)
def test_unanswered_lookup_does_not_advance_the_backoff(clock, lost, code, retry_after, wait):
    before = vars(stored(lost)) | {"_state": None}
    clock.shift(PERIOD)
    record_lookup(lost, None, is_answer=False, code=code, retry_after=retry_after)
    due = NOON + seconds(PERIOD + wait)
    assert vars(stored(lost)) | {"_state": None} == before | {"next_check_at": due}
    assert len(log_changes(lost)) == 2


@pytest.mark.parametrize(
    "act",
    [
        lambda invoice: observe_elsewhere(invoice, "paid"),
        lambda invoice: set_columns_and_refresh(stored(invoice), attempt=uuid4()),
    ],
    ids=["paid", "claimed again"],
)
def test_unanswered_lookup_does_not_overwrite_concurrent_changes(clock, lost, act):
    seen = Seen.now(stored(lost))
    act(lost)
    before = stored(lost).next_check_at
    lost._writer.record_lookup(seen, lookup_reply(None, is_answer=False), RECONCILE)
    assert stored(lost).next_check_at == before


def test_unanswered_lookup_does_not_bring_a_later_check_forward(clock, lost):
    set_columns_and_refresh(lost, next_check_at=NOON + seconds(3600))
    record_lookup(lost, None, is_answer=False)
    assert stored(lost).next_check_at == NOON + seconds(3600)


@pytest.mark.parametrize("code", ["not_found", "unknown_status"])
def test_answer_without_a_status_is_logged_and_stays_in_doubt(clock, lost, code):
    clock.shift(PERIOD)
    record_lookup(lost, None, code=code, word="strange")
    row = lost.transitions.last()
    assert stored(lost).status == "in_doubt"
    assert stored(lost).check_count == 1
    assert row.from_status == "in_doubt"
    assert row.to_status == "in_doubt"
    assert row.code == code
    assert row.provider_message == "strange"
    assert stored(lost).status_confirmed_at is None


def test_one_of_two_reconcilers_looks_up_an_invoice(clock, lost):
    clock.shift(61)
    both = [[stored(lost)], [stored(lost)]]
    won = [lost._writer.book_check(group) for group in both]
    assert [len(each) for each in won] == [1, 0]
    assert stored(lost).next_check_at == won[0][0].next_check_at == NOON + seconds(121)
    assert stored(lost).status == "in_doubt"
    assert len(log_changes(lost)) == 2


def test_two_reconcilers_share_a_group(clock):
    invoices = [invoice_in_status("in_doubt", next_check_at=NOON) for _ in range(4)]
    writer = invoices[0]._writer
    first, second = [stored(each) for each in invoices], [stored(each) for each in invoices]
    clock.shift(1)
    assert writer.book_check(first[:3]) == invoices[:3]
    assert writer.book_check(second) == invoices[3:]
    assert [(stored(each).status, log_changes(each)) for each in invoices] == [("in_doubt", [])] * 4


def test_check_is_not_scheduled_for_an_invoice_that_changed(clock, lost):
    stale = stored(lost)
    set_columns_and_refresh(stored(lost), status="canceling")
    assert lost._writer.book_check([stale]) == []
    assert stored(lost).status == "canceling"
    assert len(log_changes(lost)) == 2


def test_scheduling_a_check_does_not_advance_the_backoff(clock, lost):
    clock.shift(61)
    lost._writer.book_check([lost])
    assert stored(lost).check_count == 0
    assert stored(lost).next_check_at == NOON + seconds(121)
    assert stored(lost).status == "in_doubt"
    assert len(log_changes(lost)) == 2


def test_heartbeat_is_the_time_of_the_last_reconciliation(clock, lost):
    for expected in (NOON, NOON + seconds(60)):
        lost._writer.touch_heartbeat("cryptocloud")
        assert ProviderState.objects.get().last_reconcile_at == expected
        clock.shift(60)


def test_repeats_are_counted_for_the_doubt_that_the_invoice_is_in(clock, lost):
    counts = [lost._writer.count_repeats(lost)]
    for _ in range(2):
        record_answer(open_claim(lost, before="in_doubt"), lost, "in_doubt")
        counts.append(lost._writer.count_repeats(lost))
    clock.shift(PERIOD)
    lost._writer.resolve(lost, "created", OPERATOR)
    record_answer(lost._writer.claim([lost], CLERK), lost, "in_doubt")
    counts.append(lost._writer.count_repeats(lost))
    assert counts == [0, 1, 2, 0]
    assert stored(lost).status == "in_doubt"
    assert status_history(lost)[-3:] == ["in_doubt > created", "created > canceling", "canceling > in_doubt"]


# -- pauses -----------------------------------------------------------------------------------------------------


def test_pause_never_shortens_another(clock):
    writer = invoice_in_status()._writer
    assert writer.paused("cryptocloud") is None
    writer.pause("cryptocloud", "bad_credentials", 300)
    writer.pause("cryptocloud", "rate_limited", 60)
    state = writer.paused("cryptocloud")
    assert state.pause_code == "bad_credentials"
    assert state.seconds_left == 300
    assert state.is_paused is True
    writer.pause("cryptocloud", "rate_limited", 400)
    assert writer.paused("cryptocloud").paused_until == NOON + seconds(400)
    clock.shift(400)
    assert writer.paused("cryptocloud") is None
    assert ProviderState.objects.get().is_paused is False
    assert str(state) == "cryptocloud"
