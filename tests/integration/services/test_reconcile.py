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
    """Return a function that brings an invoice into doubt: the provider answered 500 and did nothing."""

    def make(provider="cryptocloud"):
        invoice = register("error_500_before", provider=provider)
        cancel_error(invoice.cancel)
        return stored(invoice)

    return make


LOOKED_UP = [
    # word, after minutes, outcome, code, status, step in the log, checks
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
    ("word", "minutes", "outcome", "code", "status", "step", "checks"),
    LOOKED_UP,
    ids=[f"{case[0]} after {case[1]} min" for case in LOOKED_UP],
)
def test_answer_of_a_lookup(sandbox, in_doubt, word, minutes, outcome, code, status, step, checks):
    invoice = in_doubt()
    if word is None:
        sandbox.script(invoice.external_id, ["not_found"], operation="lookup")
    else:
        sandbox.set_status(invoice.external_id, word)
    with travel_forward(minutes=minutes):
        found = invoice.reconcile(actor="night watch")
        now = utc_now()
    assert found.outcome == outcome
    assert found.code == code
    assert found.status == status
    assert found.is_recorded is True
    assert log_entries(invoice) == [*DOUBT, ("in_doubt", status, *step)]
    last = invoice.transitions.last()
    assert last.trigger == "reconcile"
    assert last.actor_label == "night watch"
    assert last.provider_message == (word or "")
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


def test_still_open_is_asked_once_more_after_the_doubt(sandbox, in_doubt):
    """A provider may be later than we thought: the lookup an hour afterwards still takes a cancellation in."""
    invoice = in_doubt()
    with travel_forward(minutes=16):
        assert invoice.reconcile().status == "created"
    sandbox.carry_out(invoice.external_id)
    with travel_forward(minutes=80):
        assert list(Invoice.objects.due_for_reconciling()) == [invoice]
        assert stored(invoice).reconcile().status == "canceled"
    assert stored(invoice).next_check_at is None
    found_out = ("created", "canceled", "already_canceled", "observed")
    assert status_and_log(invoice) == ("canceled", [*DOUBT, STILL_OPEN, found_out])
    assert sandbox.count("cancel") == 1
    assert sandbox.count("lookup") == 2


def test_back_off_grows_and_is_never_given_up(sandbox, in_doubt):
    invoice = in_doubt()
    sandbox.set_status(invoice.external_id, "on_hold")
    gaps = []
    for _ in range(8):
        with travel_forward(days=1):
            stored(invoice).reconcile()
            gaps.append(round((stored(invoice).next_check_at - utc_now()).total_seconds() / 60))
    assert gaps == [5, 15, 60, 360, 1440, 1440, 1440, 1440]
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
    """Not even the back-off moves on. It counts against the provider, as the lost answer before, or pauses it."""
    invoice = in_doubt()
    configure(deadline=0.8 if fault == "silent_before" else 10.0)
    sandbox.configure(retry_after_seconds=9)
    sandbox.script(invoice.external_id, [fault], operation="lookup")
    with travel_forward(minutes=16):
        found = invoice.reconcile()
        state = ProviderState.objects.get()
        found_state = (state.pause_code, round(state.seconds_left), state.failures)
        before, log = stored(invoice), log_entries(invoice)
        again = stored(invoice).reconcile()
    assert found.outcome == "in_doubt"
    assert found.code == code
    assert found.status == "in_doubt"
    assert before.status == "in_doubt"
    assert before.check_count == 0
    assert log == DOUBT
    assert found_state == (("", 0, 2) if pause is None else (code, pause, 1))
    if pause is None:
        assert ProviderState.objects.get().failures == 0
        assert status_and_log(invoice) == (again.status, [*DOUBT, STILL_OPEN])
    else:
        assert again.outcome == "skipped"
        assert again.code == "provider_paused"
        assert round(again.retry_after) == pause
        assert status_and_log(invoice) == ("in_doubt", DOUBT)
    assert sandbox.count("cancel") == 1
    assert sandbox.count("lookup") == (2 if pause is None else 1)


def test_unreachable_provider_teaches_nothing(sandbox, in_doubt):
    invoice = in_doubt()
    sandbox.configure(down="refuse")
    with travel_forward(minutes=16):
        found = invoice.reconcile()
    assert found.outcome == "in_doubt"
    assert found.code == "unreachable"
    assert stored(invoice).check_count == 0
    assert (*status_and_log(invoice), sandbox.count("cancel"), sandbox.count("lookup")) == ("in_doubt", DOUBT, 1, 0)


@pytest.mark.parametrize(("is_carried_out", "becomes"), [(True, "canceled"), (False, "in_doubt")])
def test_abandoned_claim_becomes_doubt_before_it_is_looked_up(sandbox, register, is_carried_out, becomes):
    invoice = register()
    invoice._writer.claim([invoice], AuditContext())
    if is_carried_out:
        sandbox.carry_out(invoice.external_id)
    with travel_forward(minutes=7):
        assert stored(invoice).reconcile().status == becomes
    assert [step[:2] for step in log_entries(invoice)] == [
        ("created", "canceling"),
        ("canceling", "in_doubt"),
        ("in_doubt", becomes),
    ]
    assert stored(invoice).status == becomes
    assert sandbox.count("cancel") == 0
    assert sandbox.count("lookup") == 1


@pytest.mark.parametrize("seconds", [0, 355])
def test_claim_of_somebody_else_is_left_alone(sandbox, register, seconds):
    """Also in the margin behind its end: the clocks of two machines differ."""
    invoice = register()
    invoice._writer.claim([stored(invoice)], AuditContext())
    with travel_forward(seconds=seconds):
        found = invoice.reconcile()
    assert found.outcome == "skipped"
    assert found.code == "in_progress"
    assert found.status == "canceling"
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
def test_lookup_of_an_open_invoice_takes_in_what_it_says(sandbox, register, behaviour, outcome, code, status, logged):
    """The button "Check with provider"."""
    invoice = register(behaviour)
    found = invoice.reconcile()
    assert found.outcome == outcome
    assert found.code == code
    assert found.status == status
    assert (*status_and_log(invoice), sandbox.count("lookup"), sandbox.count("cancel")) == (status, logged, 1, 0)


def test_money_on_a_canceled_invoice_is_found(sandbox, register):
    invoice = register()
    invoice.cancel()
    sandbox.pay(invoice.external_id)
    found = invoice.reconcile()
    assert found.outcome == "refused"
    assert found.code == "has_payment"
    assert stored(invoice).paid_after_cancel_at is not None
    assert status_and_log(invoice) == ("paid", [*CANCELED_LOG, ("canceled", "paid", "", "observed")])
    assert sandbox.count("cancel") == 1
    assert sandbox.count("lookup") == 1


def test_claim_during_the_lookup_is_said_to_be_under_way(sandbox, register, in_thread, transactional_db):
    """Somebody cancels while our lookup is out: "still open" says nothing about that."""
    invoice = register()
    with sandbox.hold(invoice.external_id, operation="lookup", when="after") as held:
        lookup = in_thread(stored(invoice).reconcile)
        held.wait_arrived()
        invoice._writer.claim([invoice], AuditContext())
    found = lookup.result()
    assert found.outcome == "skipped"
    assert found.code == "in_progress"
    assert found.status == "canceling"
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
def test_refused_in_a_transaction(sandbox, in_doubt, provider):
    invoice = in_doubt(provider)
    with transaction.atomic(), pytest.raises(CancelInTransaction):
        invoice.reconcile(resubmit=True)
    assert (*status_and_log(invoice), sandbox.count("lookup"), sandbox.count("cancel")) == ("in_doubt", DOUBT, 0, 1)


# -- without a lookup -----------------------------------------------------------------------------------------


def test_without_lookup_nothing_is_asked(sandbox, in_doubt):
    invoice = in_doubt("firekassa")
    with travel_forward(minutes=60):
        found = invoice.reconcile()
    assert found.outcome == "in_doubt"
    assert found.code == "no_lookup"
    assert found.status == "in_doubt"
    assert (*status_and_log(invoice), len(sandbox.requests)) == ("in_doubt", DOUBT, 1)


@pytest.mark.parametrize("minutes", [0, 14.9])
def test_repeat_waits_for_the_end_of_the_doubt_period(sandbox, in_doubt, minutes):
    invoice = in_doubt("firekassa")
    with travel_forward(minutes=minutes):
        found = invoice.reconcile(resubmit=True)
    assert found.outcome == "in_doubt"
    assert found.code == "doubt_period"
    assert (*status_and_log(invoice), sandbox.count("cancel")) == ("in_doubt", DOUBT, 1)


def test_repeat_that_is_confirmed_is_canceled(sandbox, in_doubt):
    invoice = in_doubt("firekassa")
    with travel_forward(minutes=16):
        found = invoice.reconcile(resubmit=True)
    assert found.ok is True
    assert found.outcome == "canceled"
    assert found.status == "canceled"
    repeated = [("in_doubt", "canceling", "", ""), ("canceling", "canceled", "canceled", "canceled")]
    assert status_and_log(invoice) == ("canceled", DOUBT + repeated)
    assert sandbox.count("cancel") == 2
    assert sandbox.executed(invoice.external_id) == 1


def test_repeat_that_is_refused_stays_in_doubt_for_a_person(sandbox, register):
    """The first cancel was carried out; the provider refuses the second, and that proves nothing."""
    invoice = register("error_500_after", provider="firekassa")
    cancel_error(invoice.cancel)
    with travel_forward(minutes=16):
        found = stored(invoice).reconcile(resubmit=True)
    assert found.outcome == "refused"
    assert found.code == "provider_refused"
    assert found.status == "in_doubt"
    assert status_and_log(invoice) == ("in_doubt", DOUBT + REFUSED_AGAIN)
    assert sandbox.count("cancel") == 2
    assert sandbox.executed(invoice.external_id) == 1


def test_three_repeats_for_one_doubt_and_no_more(sandbox, register):
    invoice = register("error_500_after", provider="firekassa")
    cancel_error(invoice.cancel)
    for hours in range(1, 6):
        with travel_forward(hours=hours):
            stored(invoice).reconcile(resubmit=True)
    assert stored(invoice).status == "in_doubt"
    assert sandbox.count("cancel") == 4
    with travel_forward(hours=9):
        found = stored(invoice).reconcile(resubmit=True)
    assert found.outcome == "in_doubt"
    assert found.code == "too_many_repeats"
    assert sandbox.count("cancel") == 4
    assert status_and_log(invoice) == ("in_doubt", DOUBT + REFUSED_AGAIN * 3)


def test_a_new_doubt_has_its_own_repeats(sandbox, register):
    invoice = register("error_500_after", provider="firekassa")
    cancel_error(invoice.cancel)
    for hours in range(1, 5):
        with travel_forward(hours=hours):
            stored(invoice).reconcile(resubmit=True)
    with travel_forward(hours=6):
        stored(invoice).resolve("created", actor="ada", reason="seen open in the cabinet")
        sandbox.script(invoice.external_id, ["error_500_before"])
        cancel_error(stored(invoice).cancel)
    with travel_forward(hours=8):
        stored(invoice).reconcile(resubmit=True)
    reopened = ("in_doubt", "created", "", "resolved")
    assert status_and_log(invoice) == ("in_doubt", [*DOUBT, *REFUSED_AGAIN * 3, reopened, *DOUBT, *REFUSED_AGAIN])
    assert sandbox.count("cancel") == 6


def test_resubmit_is_ignored_where_there_is_a_lookup(sandbox, in_doubt):
    invoice = in_doubt("cryptocloud")
    with travel_forward(minutes=16):
        found = invoice.reconcile(resubmit=True)
    assert found.outcome == "not_processed"
    assert found.code == "still_open"
    assert sandbox.count("cancel") == 1
    assert sandbox.count("lookup") == 1
    assert status_and_log(invoice) == ("created", [*DOUBT, STILL_OPEN])


def test_resubmit_repeats_only_what_is_in_doubt(sandbox, register):
    for status in ("created", "canceled", "paid", "expired"):
        invoice = register(provider="firekassa")
        if status != "created":
            invoice.observe_status(status)
        with travel_forward(days=1):
            invoice.reconcile(resubmit=True)
        assert invoice.status == status
    assert sandbox.requests == []


def test_repeat_obeys_a_pause(sandbox, in_doubt):
    invoice = in_doubt("firekassa")
    with travel_forward(minutes=16):
        invoice._writer.pause("firekassa", "bad_credentials", 60)
        found = invoice.reconcile(resubmit=True)
    assert found.outcome == "skipped"
    assert found.code == "provider_paused"
    assert found.status == "in_doubt"
    assert sandbox.count("cancel") == 1
    assert status_and_log(invoice) == ("in_doubt", DOUBT)
