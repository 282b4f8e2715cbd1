"""The guarantees P1 and P3 to P6 for one invoice: the requests at the provider, the row and its log."""

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
each_provider = pytest.mark.parametrize("provider", ["firekassa", "cryptocloud"])


@pytest.fixture
def signaled():
    """Collect the signals of payments after a cancellation."""
    seen = []

    def receive(sender, invoice, transition, **kwargs):
        seen.append((invoice.pk, invoice.status, transition.to_status))

    invoice_paid_after_cancel.connect(receive)
    yield seen
    invoice_paid_after_cancel.disconnect(receive)


@each_provider
def test_claim_is_committed_before_the_request_arrives(sandbox, register, in_thread, provider):
    """The provider holds the request. The test reads the row over another connection."""
    invoice = register(provider=provider)
    with sandbox.hold(invoice.external_id) as held:
        cancel = in_thread(invoice.cancel, actor="till 3", reason="changed their mind")
        held.wait_arrived()
        claimed = stored(invoice)
        entry = claimed.transitions.get()
        executed = sandbox.executed(invoice.external_id)
    cancel.result()
    assert claimed.status == "canceling"
    assert executed == 0
    assert entry.to_status == "canceling"
    assert entry.actor_label == "till 3"
    assert entry.trigger == "api"
    assert entry.reason == "changed their mind"
    assert entry.attempt == claimed.attempt
    assert log_entries(invoice) == CANCELED_LOG
    assert sandbox.count("cancel") == 1


@each_provider
def test_concurrent_cancellations_send_one_request(sandbox, register, in_thread, provider):
    invoice = register(provider=provider)
    barrier = threading.Barrier(16)

    def cancel_own_instance():
        own = Invoice.objects.get(pk=invoice.pk)
        barrier.wait(30)
        try:
            return own.cancel().code
        except CancelNotPossible as error:
            return error.result.code

    with sandbox.hold(invoice.external_id) as held:
        callers = [in_thread(cancel_own_instance) for _ in range(16)]
        held.wait_arrived()
        held.release()
    codes = sorted(caller.result() for caller in callers)
    assert codes.count("canceled") == 1
    assert set(codes) <= {"canceled", "in_progress", "already_canceled"}
    assert sandbox.count("cancel", invoice.external_id) == 1
    assert status_and_log(invoice) == ("canceled", CANCELED_LOG)


def test_second_cancellation_during_the_first_sends_nothing(sandbox, register, in_thread):
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


FAULTS = [
    pytest.param("silent_after", "no_answer", True, id="no answer, carried out", marks=pytest.mark.slow),
    pytest.param("silent_before", "no_answer", False, id="no answer, not carried out", marks=pytest.mark.slow),
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
    pytest.param("drip", "unreadable_answer", True, id="a byte at a time", marks=pytest.mark.slow),
]


@each_provider
@pytest.mark.parametrize(("fault", "code", "is_executed"), FAULTS)
def test_lost_answer_leaves_invoice_in_doubt_until_a_lookup(
    sandbox, register, settings, with_firekassa_lookup, provider, fault, code, is_executed
):
    for account in settings.INVOICE_CANCEL["PROVIDERS"].values():
        # The dripped answer must reach its body before the deadline, also on a loaded machine.
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
    outcome, status = ("already_canceled", "canceled") if is_executed else ("not_processed", "created")
    assert found.outcome == outcome
    assert found.status == status
    assert sandbox.count("cancel") == 1
    assert sandbox.count("lookup") == 1
    assert sandbox.count("elsewhere") == 0
    assert sandbox.executed(invoice.external_id) == is_executed
    assert [step[:2] for step in log_entries(invoice)] == [
        ("created", "canceling"),
        ("canceling", "in_doubt"),
        ("in_doubt", status),
    ]
    assert stored(invoice).status == status


@each_provider
def test_canceled_is_stored_only_after_the_answer(sandbox, register, in_thread, provider):
    """The provider has canceled the invoice and has not answered yet."""
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


@each_provider
def test_paid_invoice_is_not_requested(sandbox, register, signaled, provider):
    invoice = register(provider=provider)
    Invoice.objects.get(pk=invoice.pk).observe_status("paid")
    refused = cancel_error(invoice.cancel)
    assert type(refused) is CancelNotPossible
    assert refused.result.code == "has_payment"
    assert invoice.status == "paid"
    assert stored(invoice).status == "paid"
    assert stored(invoice).paid_after_cancel_at is None
    assert signaled == []
    assert log_entries(invoice) == [("created", "paid", "", "observed")]
    assert sandbox.count("cancel") == 0


@each_provider
@pytest.mark.parametrize("status", ["partially_paid", "paid", "overpaid"])
def test_payment_during_the_cancellation_is_kept_and_signaled(sandbox, register, in_thread, signaled, provider, status):
    """The webhook arrives before the provider confirms the cancellation."""
    invoice = register(provider=provider)
    with sandbox.hold(invoice.external_id) as held:
        cancel = in_thread(cancel_error, invoice.cancel)
        held.wait_arrived()
        stored(invoice).observe_status(status)
    refused = cancel.result()
    assert type(refused) is CancelRefused
    assert refused.result.code == "has_payment"
    assert refused.result.status == status
    assert stored(invoice).status == status
    assert stored(invoice).paid_after_cancel_at is not None
    assert signaled == [(invoice.pk, status, status)]
    assert log_entries(invoice) == [
        ("created", "canceling", "", ""),
        ("canceling", status, "", "observed"),
        (status, status, "canceled", "canceled"),
    ]
    assert sandbox.count("cancel") == 1


@each_provider
def test_payment_after_the_cancellation_is_kept_and_signaled(sandbox, register, signaled, provider):
    invoice = register(provider=provider)
    invoice.cancel()
    assert invoice.observe_status("paid")
    assert stored(invoice).status == "paid"
    assert stored(invoice).paid_after_cancel_at is not None
    assert signaled == [(invoice.pk, "paid", "paid")]
    assert log_entries(invoice) == [*CANCELED_LOG, ("canceled", "paid", "", "observed")]
    assert cancel_error(invoice.cancel).result.code == "has_payment"
    assert sandbox.count("cancel") == 1


def test_paid_status_never_decreases(sandbox, register, signaled):
    invoice = register()
    for status, changed in (("paid", True), ("partially_paid", False), ("overpaid", True), ("paid", False)):
        assert invoice.observe_status(status) is changed
    assert stored(invoice).status == "overpaid"
    assert signaled == []


def test_payment_that_the_provider_reports_with_a_refusal_is_stored(sandbox, register, signaled):
    """CryptoCloud's refusal gives no reason; the lookup after it does. No webhook had arrived."""
    invoice = register("paid")
    refused = cancel_error(invoice.cancel)
    assert type(refused) is CancelRefused
    assert refused.result.code == "has_payment"
    assert refused.result.status == "paid"
    assert stored(invoice).status == "paid"
    assert signaled == []
    assert sandbox.count("cancel") == 1
    assert sandbox.count("lookup") == 1
    assert log_entries(invoice)[-1] == ("canceling", "paid", "refused", "has_payment")
