"""The promises P1 and P3 to P6 for one invoice: the requests at the provider are counted, the rows are read."""

import threading

import pytest

from django_invoice_cancel.exceptions import CancelInDoubt, CancelNotPossible, CancelRefused
from django_invoice_cancel.models import Invoice
from django_invoice_cancel.signals import invoice_paid_after_cancel
from tests.support.clock import travel_forward
from tests.support.invoices import stored
from tests.support.logs import CANCELED_LOG, log_entries, status_and_log
from tests.support.results import cancel_error

pytestmark = pytest.mark.django_db(transaction=True)
BOTH = pytest.mark.parametrize("provider", ["firekassa", "cryptocloud"])


@pytest.fixture
def flagged():
    """The invoices that were signalled as paid after a cancel."""
    seen = []

    def receive(sender, invoice, transition, **kwargs):
        seen.append((invoice.pk, invoice.status, transition.to_status))

    invoice_paid_after_cancel.connect(receive)
    yield seen
    invoice_paid_after_cancel.disconnect(receive)


# -- P1 -------------------------------------------------------------------------------------------------------


@BOTH
def test_intent_is_committed_before_request_arrives(sandbox, register, in_thread, provider):
    """Read over another connection, while the provider holds the request and has done nothing yet."""
    invoice = register(provider=provider)
    with sandbox.hold(invoice.external_id) as held:
        cancel = in_thread(invoice.cancel, actor="till 3", reason="changed their mind")
        held.wait_arrived()
        claimed = stored(invoice)
        audit = claimed.transitions.get()
        executed = sandbox.executed(invoice.external_id)
    cancel.result()
    assert claimed.status == "canceling"
    assert executed == 0
    assert audit.to_status == "canceling"
    assert audit.actor_label == "till 3"
    assert audit.trigger == "api"
    assert audit.reason == "changed their mind"
    assert audit.attempt == claimed.attempt
    assert log_entries(invoice) == CANCELED_LOG
    assert sandbox.count("cancel") == 1


# -- P3 -------------------------------------------------------------------------------------------------------


@BOTH
def test_many_threads_send_one_request(sandbox, register, in_thread, provider):
    invoice = register(provider=provider)
    barrier = threading.Barrier(16)

    def race():
        own = Invoice.objects.get(pk=invoice.pk)
        barrier.wait(30)
        try:
            return own.cancel().code
        except CancelNotPossible as error:
            return error.result.code

    with sandbox.hold(invoice.external_id) as held:
        racers = [in_thread(race) for _ in range(16)]
        held.wait_arrived()
        held.release()
    codes = sorted(racer.result() for racer in racers)
    assert codes.count("canceled") == 1
    assert set(codes) <= {"canceled", "in_progress", "already_canceled"}
    assert sandbox.count("cancel", invoice.external_id) == 1
    assert status_and_log(invoice) == ("canceled", CANCELED_LOG)


def test_second_cancel_while_the_first_waits_sends_nothing(sandbox, register, in_thread):
    invoice = register()
    with sandbox.hold(invoice.external_id) as held:
        first = in_thread(invoice.cancel)
        held.wait_arrived()
        second = cancel_error(stored(invoice).cancel)
    assert type(second) is CancelNotPossible
    assert second.result.code == "in_progress"
    assert second.result.status == "canceling"
    assert first.result().ok
    assert sandbox.count("cancel") == 1
    assert status_and_log(invoice) == ("canceled", CANCELED_LOG)


# -- P4 -------------------------------------------------------------------------------------------------------

FAULTS = [
    pytest.param("silent_after", "no_answer", True, id="no answer, carried out"),
    pytest.param("silent_before", "no_answer", False, id="no answer, not carried out"),
    pytest.param("reset_after", "no_answer", True, id="reset, carried out"),
    pytest.param("reset_before", "no_answer", False, id="reset, not carried out"),
    pytest.param("close_after", "no_answer", True, id="closed"),
    pytest.param("cut_headers", "unreadable_answer", True, id="cut headers"),
    pytest.param("cut_body", "unreadable_answer", True, id="cut body"),
    pytest.param("error_500_after", "provider_error", True, id="500, carried out"),
    pytest.param("error_500_before", "provider_error", False, id="500, not carried out"),
    pytest.param("unavailable", "provider_error", False, id="503"),
    pytest.param("garbage", "unreadable_answer", True, id="no JSON"),
    pytest.param("html", "unreadable_answer", False, id="a web page"),
    pytest.param("redirect", "redirected", False, id="redirect"),
    pytest.param("drip", "unreadable_answer", True, id="a byte at a time"),
]


@BOTH
@pytest.mark.parametrize(("fault", "code", "is_executed"), FAULTS)
def test_lost_answer_is_doubt_until_reconcile_finds_out(
    sandbox, register, settings, with_firekassa_lookup, provider, fault, code, is_executed
):
    for account in settings.INVOICE_CANCEL["PROVIDERS"].values():
        # A drip must get as far as the body, also on a loaded machine.
        account["OPTIONS"]["deadline"] = {"drip": 2.5}.get(fault, 0.8 if fault.startswith("silent") else 10.0)
    invoice = register(fault, provider=provider)
    first, second = cancel_error(invoice.cancel), cancel_error(stored(invoice).cancel)
    assert type(first) is CancelInDoubt
    assert first.result.code == code
    assert first.result.status == "in_doubt"
    assert type(second) is CancelNotPossible
    assert second.result.code == "in_doubt"
    assert second.result.status == "in_doubt"
    assert sandbox.count("cancel") == 1

    with travel_forward(minutes=16):
        found = stored(invoice).reconcile()
    expected = ("already_canceled", "canceled") if is_executed else ("not_processed", "created")
    assert (found.outcome, found.status) == expected
    assert sandbox.count("cancel") == 1
    assert sandbox.count("lookup") == 1
    assert sandbox.count("elsewhere") == 0
    assert sandbox.executed(invoice.external_id) == is_executed
    assert [step[:2] for step in log_entries(invoice)] == [
        ("created", "canceling"),
        ("canceling", "in_doubt"),
        ("in_doubt", expected[1]),
    ]
    assert stored(invoice).status == expected[1]


# -- P5 -------------------------------------------------------------------------------------------------------


@BOTH
def test_canceled_is_written_only_when_the_answer_is_here(sandbox, register, in_thread, provider):
    """The provider has carried it out and has not said so yet: for us it is under way."""
    invoice = register(provider=provider)
    with sandbox.hold(invoice.external_id, when="after") as held:
        cancel = in_thread(invoice.cancel)
        held.wait_arrived()
        assert sandbox.executed(invoice.external_id) == 1
        assert stored(invoice).status == "canceling"
        assert stored(invoice).status_confirmed_at is None
    assert cancel.result().status == "canceled"
    assert stored(invoice).status_confirmed_at is not None
    assert log_entries(invoice) == CANCELED_LOG
    assert sandbox.count("cancel") == 1


# -- P6 -------------------------------------------------------------------------------------------------------


@BOTH
def test_payment_before_the_cancel_is_kept_and_nothing_is_sent(sandbox, register, flagged, provider):
    invoice = register(provider=provider)
    Invoice.objects.get(pk=invoice.pk).observe_status("paid")
    refused = cancel_error(invoice.cancel)
    assert type(refused) is CancelNotPossible
    assert refused.result.code == "has_payment"
    assert invoice.status == "paid"
    assert stored(invoice).status == "paid"
    assert stored(invoice).paid_after_cancel_at is None
    assert flagged == []
    assert log_entries(invoice) == [("created", "paid", "", "observed")]
    assert sandbox.count("cancel") == 0


@BOTH
@pytest.mark.parametrize("money", ["partially_paid", "paid", "overpaid"])
def test_payment_during_the_cancel_wins_and_is_flagged(sandbox, register, in_thread, flagged, provider, money):
    """The webhook comes while the provider holds our request, and the provider then confirms the cancel."""
    invoice = register(provider=provider)
    with sandbox.hold(invoice.external_id) as held:
        cancel = in_thread(cancel_error, invoice.cancel)
        held.wait_arrived()
        stored(invoice).observe_status(money)
    refused = cancel.result()
    assert type(refused) is CancelRefused
    assert refused.result.code == "has_payment"
    assert refused.result.status == money
    assert stored(invoice).status == money
    assert stored(invoice).paid_after_cancel_at is not None
    assert flagged == [(invoice.pk, money, money)]
    assert log_entries(invoice) == [
        ("created", "canceling", "", ""),
        ("canceling", money, "", "observed"),
        (money, money, "canceled", "canceled"),
    ]
    assert sandbox.count("cancel") == 1


@BOTH
def test_payment_after_the_cancel_is_kept_and_flagged(sandbox, register, flagged, provider):
    invoice = register(provider=provider)
    invoice.cancel()
    assert invoice.observe_status("paid")
    assert stored(invoice).status == "paid"
    assert stored(invoice).paid_after_cancel_at is not None
    assert flagged == [(invoice.pk, "paid", "paid")]
    assert log_entries(invoice) == [*CANCELED_LOG, ("canceled", "paid", "", "observed")]
    assert cancel_error(invoice.cancel).result.code == "has_payment"
    assert sandbox.count("cancel") == 1


def test_money_only_grows(sandbox, register, flagged):
    invoice = register()
    for status, changed in (("paid", True), ("partially_paid", False), ("overpaid", True), ("paid", False)):
        assert invoice.observe_status(status) is changed
    assert stored(invoice).status == "overpaid"
    assert flagged == []


def test_refusal_that_names_money_is_taken_in(sandbox, register, flagged):
    """CryptoCloud says no, and its lookup says why: nobody had told us of the payment."""
    invoice = register("paid")
    refused = cancel_error(invoice.cancel)
    assert type(refused) is CancelRefused
    assert refused.result.code == "has_payment"
    assert refused.result.status == "paid"
    assert stored(invoice).status == "paid"
    assert flagged == []
    assert sandbox.count("cancel") == 1
    assert sandbox.count("lookup") == 1
    assert log_entries(invoice)[-1] == ("canceling", "paid", "refused", "has_payment")
