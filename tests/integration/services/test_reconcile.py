"""Reconcile: every answer of a lookup, with the resulting row, log and backoff; and repeats without a lookup."""

from datetime import timedelta

import pytest
from django.db import transaction

from django_invoice_cancel.domain.audit import AuditContext
from django_invoice_cancel.domain.clock import utc_now
from django_invoice_cancel.exceptions import CancelInTransaction
from django_invoice_cancel.models import Invoice, ProviderState
from tests.support.clock import travel_forward
from tests.support.invoices import stored
from tests.support.logs import CANCELED_LOG, log_entries, status_and_log
from tests.support.results import cancel_error

pytestmark = pytest.mark.django_db
DOUBT = [("created", "canceling", "", ""), ("canceling", "in_doubt", "in_doubt", "provider_error")]
STILL_OPEN = ("in_doubt", "created", "not_processed", "still_open")
REFUSED_AGAIN = [("in_doubt", "canceling", "", ""), ("canceling", "in_doubt", "refused", "provider_refused")]


@pytest.fixture
def in_doubt(sandbox, register):
    """Return a function that stores an invoice in doubt: the provider answered 500 and did not cancel it."""

    def make(provider="cryptocloud"):
        invoice = register("error_500_before", provider=provider)
        cancel_error(invoice.cancel)
        return stored(invoice)

    return make


LOOKUPS = [
    # status string, after minutes, outcome, code, status, log entry, checks
    ("canceled", 0, "already_canceled", "already_canceled", "canceled", ("already_canceled", "observed"), 0),
    ("partial", 0, "refused", "has_payment", "partially_paid", ("", "observed"), 0),
    ("paid", 0, "refused", "has_payment", "paid", ("", "observed"), 0),
    ("overpaid", 0, "refused", "has_payment", "overpaid", ("", "observed"), 0),
    ("created", 0, "in_doubt", "still_open", "in_doubt", ("", "still_open"), 1),
    ("created", 16, "not_processed", "still_open", "created", ("not_processed", "still_open"), 0),
    ("on_hold", 16, "in_doubt", "unknown_status", "in_doubt", ("", "unknown_status"), 1),
    (None, 16, "in_doubt", "not_found", "in_doubt", ("", "not_found"), 1),
]


@pytest.mark.parametrize(
    ("status_string", "minutes", "outcome", "code", "status", "entry", "checks"),
    LOOKUPS,
    ids=[f"{case[0]} after {case[1]} min" for case in LOOKUPS],
)
def test_answer_of_a_lookup_is_stored(sandbox, in_doubt, status_string, minutes, outcome, code, status, entry, checks):
    invoice = in_doubt()
    if status_string is None:
        sandbox.script(invoice.external_id, ["not_found"], operation="lookup")
    else:
        sandbox.set_status(invoice.external_id, status_string)
    with travel_forward(minutes=minutes):
        result = invoice.reconcile(actor="cron job")
        now = utc_now()
    assert result.outcome == outcome
    assert result.code == code
    assert result.status == status
    assert result.is_recorded is True
    assert log_entries(invoice) == [*DOUBT, ("in_doubt", status, *entry)]
    last = invoice.transitions.last()
    assert last.trigger == "reconcile"
    assert last.actor_label == "cron job"
    assert last.provider_message == (status_string or "")
    saved = stored(invoice)
    assert saved.status == status
    assert saved.check_count == checks
    if status == "in_doubt":
        assert now < saved.next_check_at <= now + timedelta(minutes=15, seconds=2)
    elif status == "created":
        assert timedelta(minutes=59) < saved.next_check_at - now <= timedelta(hours=1)
    else:
        assert saved.next_check_at is None
    assert invoice.status == status
    assert invoice.next_check_at == saved.next_check_at
    assert invoice.check_count == checks
    assert sandbox.count("cancel") == 1
    assert sandbox.count("lookup") == 1


def test_reopened_invoice_is_looked_up_once_more(sandbox, in_doubt):
    """A provider may cancel late. The lookup an hour later stores that."""
    invoice = in_doubt()
    with travel_forward(minutes=16):
        assert invoice.reconcile().status == "created"
    sandbox.carry_out(invoice.external_id)
    with travel_forward(minutes=80):
        assert list(Invoice.objects.due_for_reconciling()) == [invoice]
        assert stored(invoice).reconcile().status == "canceled"
    assert stored(invoice).next_check_at is None
    observed = ("created", "canceled", "already_canceled", "observed")
    assert status_and_log(invoice) == ("canceled", [*DOUBT, STILL_OPEN, observed])
    assert sandbox.count("cancel") == 1
    assert sandbox.count("lookup") == 2


def test_lookup_intervals_grow_to_a_day_and_do_not_end(sandbox, in_doubt):
    invoice = in_doubt()
    sandbox.set_status(invoice.external_id, "on_hold")
    minutes = []
    for _ in range(8):
        with travel_forward(days=1):
            stored(invoice).reconcile()
            minutes.append(round((stored(invoice).next_check_at - utc_now()).total_seconds() / 60))
    assert minutes == [5, 15, 60, 360, 1440, 1440, 1440, 1440]
    assert status_and_log(invoice) == ("in_doubt", DOUBT + [("in_doubt", "in_doubt", "", "unknown_status")] * 8)
    assert sandbox.count("cancel") == 1
    assert sandbox.count("lookup") == 8


NO_ANSWER = [
    ("silent_before", "no_answer", None),
    ("error_500_before", "provider_error", None),
    ("html", "unreadable_answer", None),
    ("reset_before", "no_answer", None),
    ("rate_limited", "rate_limited", 9.0),
    ("bad_credentials", "bad_credentials", 300.0),
    ("forbidden", "bad_credentials", 300.0),
]


@pytest.mark.parametrize(("fault", "code", "pause"), NO_ANSWER, ids=[case[0] for case in NO_ANSWER])
def test_lookup_without_a_usable_response_is_no_answer(sandbox, in_doubt, configure, fault, code, pause):
    """The backoff does not change. The failure is counted, or the provider is paused."""
    invoice = in_doubt()
    configure(deadline=0.8 if fault == "silent_before" else 10.0)
    sandbox.configure(retry_after_seconds=9)
    sandbox.script(invoice.external_id, [fault], operation="lookup")
    with travel_forward(minutes=16):
        result = invoice.reconcile()
        state = ProviderState.objects.get()
        found_state = (state.pause_code, round(state.seconds_left), state.failures)
        before, log = stored(invoice), log_entries(invoice)
        second = stored(invoice).reconcile()
    assert result.outcome == "in_doubt"
    assert result.code == code
    assert result.status == "in_doubt"
    assert before.status == "in_doubt"
    assert before.check_count == 0
    assert log == DOUBT
    assert found_state == (("", 0, 2) if pause is None else (code, pause, 1))
    if pause is None:
        assert ProviderState.objects.get().failures == 0
        assert status_and_log(invoice) == (second.status, [*DOUBT, STILL_OPEN])
    else:
        assert second.outcome == "skipped"
        assert second.code == "provider_paused"
        assert round(second.retry_after) == pause
        assert status_and_log(invoice) == ("in_doubt", DOUBT)
    assert sandbox.count("cancel") == 1
    assert sandbox.count("lookup") == (2 if pause is None else 1)


def test_unreachable_provider_changes_nothing(sandbox, in_doubt):
    invoice = in_doubt()
    sandbox.configure(down="refuse")
    with travel_forward(minutes=16):
        result = invoice.reconcile()
    assert result.outcome == "in_doubt"
    assert result.code == "unreachable"
    assert stored(invoice).check_count == 0
    assert status_and_log(invoice) == ("in_doubt", DOUBT)
    assert sandbox.count("cancel") == 1
    assert sandbox.count("lookup") == 0


@pytest.mark.parametrize(("is_carried_out", "final_status"), [(True, "canceled"), (False, "in_doubt")])
def test_abandoned_claim_is_in_doubt_before_its_lookup(sandbox, register, is_carried_out, final_status):
    invoice = register()
    invoice._writer.claim([invoice], AuditContext())
    if is_carried_out:
        sandbox.carry_out(invoice.external_id)
    with travel_forward(minutes=7):
        assert stored(invoice).reconcile().status == final_status
    assert [entry[:2] for entry in log_entries(invoice)] == [
        ("created", "canceling"),
        ("canceling", "in_doubt"),
        ("in_doubt", final_status),
    ]
    assert stored(invoice).status == final_status
    assert sandbox.count("cancel") == 0
    assert sandbox.count("lookup") == 1


@pytest.mark.parametrize("seconds", [0, 355])
def test_claim_of_another_process_is_not_changed(sandbox, register, seconds):
    """Also within the tolerance after its end, because clocks differ."""
    invoice = register()
    invoice._writer.claim([stored(invoice)], AuditContext())
    with travel_forward(seconds=seconds):
        result = invoice.reconcile()
    assert result.outcome == "skipped"
    assert result.code == "in_progress"
    assert result.status == "canceling"
    assert stored(invoice).status == "canceling"
    assert log_entries(invoice) == [("created", "canceling", "", "")]
    assert sandbox.requests == []


@pytest.mark.parametrize(
    ("behaviour", "outcome", "code", "status", "logged"),
    [
        ("ordinary", "not_processed", "still_open", "created", []),
        ("paid", "refused", "has_payment", "paid", [("created", "paid", "", "observed")]),
        (
            "already_canceled",
            "already_canceled",
            "already_canceled",
            "canceled",
            [("created", "canceled", "already_canceled", "observed")],
        ),
        ("odd_status", "skipped", "unknown_status", "created", [("created", "created", "", "unknown_status")]),
        ("not_found", "skipped", "not_found", "created", [("created", "created", "", "not_found")]),
    ],
)
def test_lookup_of_an_open_invoice_stores_the_status(sandbox, register, behaviour, outcome, code, status, logged):
    invoice = register(behaviour)
    result = invoice.reconcile()
    assert result.outcome == outcome
    assert result.code == code
    assert result.status == status
    assert status_and_log(invoice) == (status, logged)
    assert sandbox.count("lookup") == 1
    assert sandbox.count("cancel") == 0


def test_lookup_finds_a_payment_of_a_canceled_invoice(sandbox, register):
    invoice = register()
    invoice.cancel()
    sandbox.pay(invoice.external_id)
    result = invoice.reconcile()
    assert result.outcome == "refused"
    assert result.code == "has_payment"
    assert stored(invoice).paid_after_cancel_at is not None
    assert status_and_log(invoice) == ("paid", [*CANCELED_LOG, ("canceled", "paid", "", "observed")])
    assert sandbox.count("cancel") == 1
    assert sandbox.count("lookup") == 1


def test_claim_during_the_lookup_is_reported_as_in_progress(sandbox, register, in_thread, transactional_db):
    """The answer "still open" does not concern a cancellation that began during the lookup."""
    invoice = register()
    with sandbox.hold(invoice.external_id, operation="lookup", when="after") as held:
        lookup = in_thread(stored(invoice).reconcile)
        held.wait_arrived()
        invoice._writer.claim([invoice], AuditContext())
    result = lookup.result()
    assert result.outcome == "skipped"
    assert result.code == "in_progress"
    assert result.status == "canceling"
    assert status_and_log(invoice) == ("canceling", [("created", "canceling", "", "")])
    assert sandbox.count("cancel") == 0
    assert sandbox.count("lookup") == 1


def test_deleted_invoice_is_not_registered(sandbox, register):
    invoice = register()
    Invoice.objects.all().delete()
    assert invoice.reconcile().outcome == "skipped"
    assert sandbox.requests == []


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("provider", ["firekassa", "cryptocloud"])
def test_reconcile_is_refused_in_a_transaction(sandbox, in_doubt, provider):
    invoice = in_doubt(provider)
    with transaction.atomic(), pytest.raises(CancelInTransaction):
        invoice.reconcile(resubmit=True)
    assert status_and_log(invoice) == ("in_doubt", DOUBT)
    assert sandbox.count("lookup") == 0
    assert sandbox.count("cancel") == 1


def test_nothing_is_sent_to_a_provider_without_lookup(sandbox, in_doubt):
    invoice = in_doubt("firekassa")
    with travel_forward(minutes=60):
        result = invoice.reconcile()
    assert result.outcome == "in_doubt"
    assert result.code == "no_lookup"
    assert result.status == "in_doubt"
    assert status_and_log(invoice) == ("in_doubt", DOUBT)
    assert len(sandbox.requests) == 1


@pytest.mark.parametrize("minutes", [0, 14.9])
def test_request_is_repeated_only_after_the_doubt_period(sandbox, in_doubt, minutes):
    invoice = in_doubt("firekassa")
    with travel_forward(minutes=minutes):
        result = invoice.reconcile(resubmit=True)
    assert result.outcome == "in_doubt"
    assert result.code == "doubt_period"
    assert status_and_log(invoice) == ("in_doubt", DOUBT)
    assert sandbox.count("cancel") == 1


def test_confirmed_repeat_cancels_the_invoice(sandbox, in_doubt):
    invoice = in_doubt("firekassa")
    with travel_forward(minutes=16):
        result = invoice.reconcile(resubmit=True)
    assert result.ok is True
    assert result.outcome == "canceled"
    assert result.status == "canceled"
    repeated = [("in_doubt", "canceling", "", ""), ("canceling", "canceled", "canceled", "canceled")]
    assert status_and_log(invoice) == ("canceled", DOUBT + repeated)
    assert sandbox.count("cancel") == 2
    assert sandbox.executed(invoice.external_id) == 1


def test_refused_repeat_leaves_the_invoice_in_doubt(sandbox, register):
    """The first request was processed. The refusal of the second proves nothing."""
    invoice = register("error_500_after", provider="firekassa")
    cancel_error(invoice.cancel)
    with travel_forward(minutes=16):
        result = stored(invoice).reconcile(resubmit=True)
    assert result.outcome == "refused"
    assert result.code == "provider_refused"
    assert result.status == "in_doubt"
    assert status_and_log(invoice) == ("in_doubt", DOUBT + REFUSED_AGAIN)
    assert sandbox.count("cancel") == 2
    assert sandbox.executed(invoice.external_id) == 1


def test_doubt_allows_three_repeats(sandbox, register):
    invoice = register("error_500_after", provider="firekassa")
    cancel_error(invoice.cancel)
    for hours in range(1, 6):
        with travel_forward(hours=hours):
            stored(invoice).reconcile(resubmit=True)
    assert stored(invoice).status == "in_doubt"
    assert sandbox.count("cancel") == 4
    with travel_forward(hours=9):
        result = stored(invoice).reconcile(resubmit=True)
    assert result.outcome == "in_doubt"
    assert result.code == "too_many_repeats"
    assert sandbox.count("cancel") == 4
    assert status_and_log(invoice) == ("in_doubt", DOUBT + REFUSED_AGAIN * 3)


def test_new_doubt_allows_repeats_again(sandbox, register):
    invoice = register("error_500_after", provider="firekassa")
    cancel_error(invoice.cancel)
    for hours in range(1, 5):
        with travel_forward(hours=hours):
            stored(invoice).reconcile(resubmit=True)
    with travel_forward(hours=6):
        stored(invoice).resolve("created", actor="ada", reason="seen open in the dashboard")
        sandbox.script(invoice.external_id, ["error_500_before"])
        cancel_error(stored(invoice).cancel)
    with travel_forward(hours=8):
        stored(invoice).reconcile(resubmit=True)
    reopened = ("in_doubt", "created", "", "resolved")
    assert status_and_log(invoice) == ("in_doubt", [*DOUBT, *REFUSED_AGAIN * 3, reopened, *DOUBT, *REFUSED_AGAIN])
    assert sandbox.count("cancel") == 6


def test_resubmit_is_ignored_for_a_provider_with_lookup(sandbox, in_doubt):
    invoice = in_doubt("cryptocloud")
    with travel_forward(minutes=16):
        result = invoice.reconcile(resubmit=True)
    assert result.outcome == "not_processed"
    assert result.code == "still_open"
    assert sandbox.count("cancel") == 1
    assert sandbox.count("lookup") == 1
    assert status_and_log(invoice) == ("created", [*DOUBT, STILL_OPEN])


def test_resubmit_sends_nothing_for_an_invoice_that_is_not_in_doubt(sandbox, register):
    for status in ("created", "canceled", "paid", "expired"):
        invoice = register(provider="firekassa")
        if status != "created":
            invoice.observe_status(status)
        with travel_forward(days=1):
            invoice.reconcile(resubmit=True)
        assert invoice.status == status
    assert sandbox.requests == []


def test_paused_provider_gets_no_repeat(sandbox, in_doubt):
    invoice = in_doubt("firekassa")
    with travel_forward(minutes=16):
        invoice._writer.pause("firekassa", "bad_credentials", 60)
        result = invoice.reconcile(resubmit=True)
    assert result.outcome == "skipped"
    assert result.code == "provider_paused"
    assert result.status == "in_doubt"
    assert sandbox.count("cancel") == 1
    assert status_and_log(invoice) == ("in_doubt", DOUBT)
