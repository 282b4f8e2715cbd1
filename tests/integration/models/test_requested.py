"""A requested cancellation: the columns that store it, the events that clear it (rule 13), and its withdrawal."""

from datetime import timedelta

import pytest
from django.contrib.auth.models import User
from django.db import transaction

from django_invoice_cancel.domain.audit import AuditContext
from django_invoice_cancel.domain.statuses import Status
from django_invoice_cancel.models import Invoice
from tests.support.invoices import invoice_in_status, set_columns_and_refresh, stored
from tests.support.logs import log_changes, status_history
from tests.support.writes import (
    CLERK,
    NOON,
    RECONCILE,
    answer_of,
    observe_elsewhere,
    open_claim,
    record_answer,
    record_lookup,
    seconds,
)

pytestmark = pytest.mark.django_db

NONE = (None, None, 0)
MINUTE = timedelta(minutes=1)


def request(invoice, actor="clerk", reason="the customer called"):
    return invoice._writer.request_cancel(invoice, AuditContext(actor, "on_commit", reason))


def columns(invoice):
    return invoice.cancel_requested_at, invoice.cancel_try_at, invoice.cancel_try_count


def kept(invoice):
    """Return the columns of the row; the instance in memory carries the same."""
    assert columns(invoice) == columns(stored(invoice))
    return columns(stored(invoice))


@pytest.fixture
def requested(clock):
    """An open invoice whose cancellation was requested at noon and tried twice since."""
    invoice = invoice_in_status()
    request(invoice)
    set_columns_and_refresh(invoice, cancel_try_at=NOON + 5 * MINUTE, cancel_try_count=2)
    return invoice


KEPT = (NOON, NOON + 5 * MINUTE, 2)


# -- the request ------------------------------------------------------------------------------------------------


def test_request_is_due_after_a_minute(clock):
    invoice = invoice_in_status()
    assert request(invoice) is True
    assert kept(invoice) == (NOON, NOON + MINUTE, 0)
    assert log_changes(invoice) == [("created", "created", "requested")]


def test_repeated_request_keeps_the_time_of_the_first_and_its_back_off_and_logs_a_row(clock, requested):
    clock.shift(90)
    assert request(requested, "Ada", "again") is True
    assert kept(requested) == KEPT
    assert log_changes(requested) == [("created", "created", "requested")] * 2
    assert list(requested.transitions.values_list("actor_label", "reason")) == [
        ("clerk", "the customer called"),
        ("Ada", "again"),
    ]


def test_request_after_a_withdrawal_begins_again(clock, requested):
    requested.withdraw(actor="clerk")
    clock.shift(90)
    request(requested)
    assert kept(requested) == (NOON + seconds(90), NOON + seconds(150), 0)


# -- events that keep it ----------------------------------------------------------------------------------------


def give_back(invoice):
    opened = open_claim(invoice)
    invoice._writer.give_back(opened, [invoice])


def abandon(invoice):
    open_claim(invoice)
    set_columns_and_refresh(invoice, claim_expires_at=NOON - 2 * MINUTE)
    invoice._writer.mark_abandoned([invoice], RECONCILE)


def lose(invoice):
    record_answer(open_claim(invoice), invoice, "in_doubt")


def still_open(invoice):
    lose(invoice)
    set_columns_and_refresh(invoice, claim_expires_at=NOON - timedelta(hours=1))
    record_lookup(invoice, "created")
    invoice.refresh_from_db()


def resolve_to_created(invoice):
    lose(invoice)
    set_columns_and_refresh(invoice, claim_expires_at=NOON - timedelta(hours=1))
    invoice.resolve("created", actor="Ada", reason="seen in the dashboard")


def repeat(outcome, **more):
    def act(invoice):
        lose(invoice)
        record_answer(open_claim(invoice, before=Status.IN_DOUBT), invoice, outcome, **more)

    return act


def late_refusal(invoice):
    """A refusal that arrives after the claim was abandoned: a row of the log only."""
    opened = open_claim(invoice)
    set_columns_and_refresh(invoice, claim_expires_at=NOON - 2 * MINUTE)
    invoice._writer.mark_abandoned([invoice], RECONCILE)
    record_answer(opened, invoice, "refused")


def observe_unknown(invoice):
    invoice.observe_status(provider_status="frozen")


KEEPING = {
    "a claim": (open_claim, "canceling"),
    "a claim and its return": (give_back, "created"),
    "an abandoned claim": (abandon, "in_doubt"),
    "certainly nothing happened": (
        lambda i: record_answer(open_claim(i), i, "not_processed", code="unreachable"),
        "created",
    ),
    "too many requests": (lambda i: record_answer(open_claim(i), i, "not_processed", code="rate_limited"), "created"),
    "rejected credentials": (
        lambda i: record_answer(open_claim(i), i, "not_processed", code="bad_credentials"),
        "created",
    ),
    "an unknown invoice": (lambda i: record_answer(open_claim(i), i, "refused", code="not_found"), "created"),
    "a lost answer": (lose, "in_doubt"),
    "still open after the doubt": (still_open, "created"),
    "a decision that it is open": (resolve_to_created, "created"),
    "a refused repeat": (repeat("refused"), "in_doubt"),
    "a refused repeat of an unknown invoice": (repeat("refused", code="not_found"), "in_doubt"),
    "a repeat that was not processed": (repeat("not_processed"), "in_doubt"),
    "a late refusal": (late_refusal, "in_doubt"),
    "an unknown status": (observe_unknown, "created"),
}


@pytest.mark.parametrize("event", KEEPING)
def test_request_survives(requested, event):
    act, status = KEEPING[event]
    act(requested)
    assert requested.status == status
    assert kept(requested) == KEPT


# -- events that clear it ---------------------------------------------------------------------------------------


def late_confirmation(invoice):
    opened = open_claim(invoice)
    set_columns_and_refresh(invoice, claim_expires_at=NOON - 2 * MINUTE)
    invoice._writer.mark_abandoned([invoice], RECONCILE)
    record_answer(opened, invoice, "canceled")


def raced_refusal(invoice):
    """A refusal of a group that another process has touched: it is written row by row."""
    other = invoice_in_status()
    opened = invoice._writer.claim([invoice, other], CLERK)
    observe_elsewhere(other, "paid")
    invoice._writer.record([answer_of(opened, invoice, "refused"), answer_of(opened, other, "refused")])


def settle(status):
    def act(invoice):
        lose(invoice)
        invoice.resolve(status, actor="Ada", reason="seen in the dashboard")

    return act


CLEARING = {
    "a confirmation": (lambda i: record_answer(open_claim(i), i, "canceled"), "canceled"),
    "it was canceled before": (lambda i: record_answer(open_claim(i), i, "already_canceled", "canceled"), "canceled"),
    "a late confirmation": (late_confirmation, "canceled"),
    "a refusal": (lambda i: record_answer(open_claim(i), i, "refused"), "created"),
    "a refusal written row by row": (raced_refusal, "created"),
    "a refusal that names money": (lambda i: record_answer(open_claim(i), i, "refused", "paid"), "paid"),
    "a refusal that names its end": (lambda i: record_answer(open_claim(i), i, "refused", "expired"), "expired"),
    **{f"a webhook: {s}": (lambda i, s=s: i.observe_status(s), s) for s in ("canceled", "paid", "expired", "failed")},
    **{
        f"a lookup: {s}": (lambda i, s=s: (lose(i), record_lookup(i, s)), s) for s in ("canceled", "overpaid", "failed")
    },
    **{f"a decision: {s}": (settle(s), s) for s in ("canceled", "expired", "failed", "partially_paid")},
}


@pytest.mark.parametrize("event", CLEARING)
def test_request_is_cleared_by(requested, event):
    act, status = CLEARING[event]
    act(requested)
    assert stored(requested).status == status
    assert columns(stored(requested)) == NONE
    assert not Invoice.objects.requested().exists()


# -- withdrawal -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("act", "status", "is_settled"),
    [
        pytest.param(lambda invoice: None, "created", True, id="open"),
        pytest.param(open_claim, "canceling", False, id="being canceled"),
        pytest.param(lose, "in_doubt", False, id="in doubt"),
        pytest.param(abandon, "in_doubt", False, id="abandoned"),
        pytest.param(still_open, "created", True, id="open after a doubt"),
    ],
)
def test_withdrawal_clears_the_request_and_returns_whether_a_cancellation_may_still_succeed(
    requested, act, status, is_settled
):
    act(requested)
    before = log_changes(requested)
    assert requested.withdraw(actor="Ada", reason="the customer paid") is is_settled
    assert requested.status == status
    assert kept(requested) == NONE
    assert log_changes(requested) == [*before, (status, status, "withdrawn")]
    last = requested.transitions.last()
    assert last.actor_label == "Ada"
    assert last.reason == "the customer paid"
    assert last.trigger == "api"


@pytest.mark.parametrize("status", ["created", "canceled", "paid", "expired", "failed"])
def test_withdrawal_without_a_request_changes_nothing(status):
    invoice = invoice_in_status(status)
    assert invoice.withdraw(actor="Ada") is True
    assert stored(invoice).status == status
    assert log_changes(invoice) == []


def test_second_withdrawal_logs_nothing(requested):
    assert [requested.withdraw(), requested.withdraw()] == [True, True]
    assert log_changes(requested) == [("created", "created", "requested"), ("created", "created", "withdrawn")]


def test_withdrawal_joins_the_callers_transaction(requested):
    with transaction.atomic():
        requested.withdraw(actor="Ada")
        transaction.set_rollback(True)
    assert columns(stored(requested)) == KEPT
    assert log_changes(requested) == [("created", "created", "requested")]


def test_withdrawal_needs_no_reason_if_requests_do(limits, requested):
    limits(REQUIRE_REASON=True)
    assert requested.withdraw() is True


def test_stale_instance_withdraws_the_stored_request(requested):
    page = stored(requested)
    open_claim(stored(requested))
    assert page.withdraw(actor="Ada") is False
    assert page.status == "canceling"
    assert kept(page) == NONE


def test_claim_released_after_a_withdrawal_does_not_restore_the_request(requested):
    [opened] = requested._writer.claim_requested([requested], is_try=True)
    stored(requested).withdraw(actor="Ada")
    requested._writer.give_back(opened, [requested])
    assert requested.status == "created"
    assert kept(requested) == NONE


# -- claims for requests ----------------------------------------------------------------------------------------


BACK_OFF = [1, 5, 15, 60, 360, 1440, 1440, 1440]


def test_requests_are_retried_after_the_documented_intervals(clock):
    invoice = invoice_in_status()
    request(invoice)
    waits = []
    for _ in BACK_OFF:
        now = invoice.cancel_try_at
        clock.move_to(now.timestamp())
        [opened] = invoice._writer.claim_requested([invoice], is_try=True)
        record_answer(opened, invoice, "not_processed")
        waits.append((kept(invoice)[1] - now) / MINUTE)
    assert waits == BACK_OFF
    assert kept(invoice)[2] == len(BACK_OFF)


def test_doubt_does_not_reset_the_backoff(clock, requested):
    [opened] = requested._writer.claim_requested([requested], is_try=True)
    record_answer(opened, requested, "in_doubt")
    assert kept(requested) == (NOON, NOON + 15 * MINUTE, 3)


def test_released_claim_does_not_count_as_a_try(requested):
    [opened] = requested._writer.claim_requested([requested], is_try=True)
    assert kept(requested) == (NOON, NOON + 15 * MINUTE, 3)
    requested._writer.give_back(opened, [requested])
    assert requested.status == "created"
    assert kept(requested) == KEPT


def test_paused_provider_does_not_count_as_a_try(requested):
    requested._writer.pause("cryptocloud", "rate_limited", 60)
    claims = list(requested._writer.claim_requested([requested], is_try=True, unless_paused=True))
    assert [opened.invoices for opened in claims] == [[]]
    assert requested.status == "created"
    assert kept(requested) == KEPT


def test_withdrawn_request_is_not_claimed(requested):
    page = stored(requested)
    requested.withdraw()
    for is_try in (True, False):
        assert [opened.invoices for opened in page._writer.claim_requested([page], is_try=is_try)] == [[]]
    assert stored(requested).status == "created"
    assert status_history(requested) == []


def test_one_of_two_processes_claims_the_same_due_request(requested):
    one, other = stored(requested), stored(requested)
    [opened] = one._writer.claim_requested([one], is_try=True)
    record_answer(opened, one, "not_processed")
    assert [opened.invoices for opened in other._writer.claim_requested([other], is_try=True)] == [[]]
    assert status_history(requested) == ["created > canceling", "canceling > created"]


def test_requests_are_claimed_in_groups_by_their_user(clock):
    ada, bob = User.objects.create_user("ada"), User.objects.create_user("bob")
    asked = [(ada, "x"), (bob, "x"), (ada, "y"), ("ada", "x"), (None, ""), (ada, "x")]
    invoices = [invoice_in_status() for _ in asked]
    for invoice, (actor, reason) in zip(invoices, asked, strict=True):
        request(invoice, "someone before", "an earlier reason")
        request(invoice, actor, reason)
    bob_key = bob.pk
    bob.delete()
    claims = list(invoices[0]._writer.claim_requested(invoices, is_try=True))
    assert sorted(len(opened.invoices) for opened in claims) == [1, 1, 1, 1, 2]
    rows = [invoice.transitions.get(to_status="canceling") for invoice in invoices]
    assert rows[1].actor is None  # deleted
    assert [(row.actor_id, row.actor_label, row.reason, row.trigger) for row in rows] == [
        (ada.pk, "ada", "x", "on_commit"),
        (bob_key, "bob", "x", "on_commit"),
        (ada.pk, "ada", "y", "on_commit"),
        (None, "ada", "x", "on_commit"),
        (None, "", "", "on_commit"),
        (ada.pk, "ada", "x", "on_commit"),
    ]


def test_renamed_user_is_logged_under_the_name_of_the_request(clock):
    ada = User.objects.create_user("ada")
    invoice = invoice_in_status()
    request(invoice, ada)
    User.objects.filter(pk=ada.pk).update(username="countess")
    list(invoice._writer.claim_requested([invoice], is_try=True))
    row = invoice.transitions.get(to_status="canceling")
    assert row.actor_id == ada.pk
    assert row.actor_label == "ada"


def test_request_that_cannot_be_sent_is_postponed(requested):
    requested._writer.postpone_request(requested)
    assert requested.status == "created"
    assert kept(requested) == (NOON, NOON + 15 * MINUTE, 3)
    assert log_changes(requested) == [("created", "created", "requested")]


def test_changed_request_is_not_postponed(requested):
    page = stored(requested)
    requested.withdraw()
    page._writer.postpone_request(page)
    assert columns(stored(requested)) == NONE
