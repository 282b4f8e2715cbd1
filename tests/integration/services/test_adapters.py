"""Any behaviour of a third-party adapter ends with one correct result that shows no secret."""

import asyncio
import concurrent.futures
import re
import signal

import pytest

from django_invoice_cancel.bulk import cancel_invoices
from django_invoice_cancel.domain.outcomes import LookupReply, Outcome, ProviderReply
from django_invoice_cancel.domain.statuses import Status
from django_invoice_cancel.exceptions import CancelInDoubt, CancelNotPossible, CancelRefused
from django_invoice_cancel.models import Invoice
from django_invoice_cancel.providers.base import Provider
from tests.support.clock import travel_forward
from tests.support.invoices import stored
from tests.support.logs import CANCELED_LOG, log_entries, status_and_log
from tests.support.results import cancel_error

pytestmark = pytest.mark.django_db
CANARY = "canary/1f+9c=e"
LOST = [CANCELED_LOG[0], ("canceling", "in_doubt", "in_doubt", "no_answer")]


class ThirdPartyProvider(Provider):
    """Returns the reply that the test sets on the class, and counts the calls."""

    verbose_name = "Third-Party Pay"
    secret_options = frozenset({"password"})
    id_form = "digits"
    id_pattern = re.compile("[0-9]+")
    supports_lookup = True
    calls = 0
    answer = None

    def __init__(self, alias, *, password, **common):
        super().__init__(alias, **common)
        self.password = password

    def cancel(self, external_id, *, lease):
        type(self).calls += 1
        return self.answer(external_id) if callable(self.answer) else self.answer

    def lookup(self, external_ids):
        type(self).calls += 1
        return self.answer(external_ids) if callable(self.answer) else self.answer


@pytest.fixture
def registered_with(settings, monkeypatch):
    """Return a function that sets the adapter's answer and registers an invoice with it."""
    entry = {"BACKEND": f"{__name__}.ThirdPartyProvider", "OPTIONS": {"password": CANARY}}
    settings.INVOICE_CANCEL = {"PROVIDERS": {"third-party": entry}}

    def invoice(answer):
        monkeypatch.setattr(ThirdPartyProvider, "calls", 0)
        answers(answer)
        return Invoice.objects.create(provider="third-party", external_id="17")

    def answers(answer):
        monkeypatch.setattr(ThirdPartyProvider, "answer", staticmethod(answer) if callable(answer) else answer)

    invoice.answers = answers
    return invoice


def raises(error):
    def answer(calls):
        raise error

    return answer


def for_each(reply):
    return lambda calls: dict.fromkeys(calls, reply)


INVALID_REPLIES = [
    pytest.param(None, id="None"),
    pytest.param(True, id="True"),
    pytest.param("canceled", id="a string"),
    pytest.param(LookupReply(Status.CANCELED, "observed", is_answer=True), id="a reply to a lookup"),
    pytest.param(ProviderReply(Outcome.CANCELED, ""), id="no code"),
    pytest.param(ProviderReply(Outcome.CANCELED, 7), id="a code that is a number"),
    pytest.param(ProviderReply(Outcome.CANCELED, "x" * 33), id="a code too long for its column"),
    pytest.param(ProviderReply(Outcome.REFUSED, "no", status="paid"), id="a status that is a string"),
    pytest.param(ProviderReply(Outcome.CANCELED, "ok", http_status=99999), id="an HTTP status too large"),
    pytest.param(ProviderReply(Outcome.CANCELED, "ok", http_status="200"), id="an HTTP status that is a string"),
    pytest.param(ProviderReply(Outcome.NOT_PROCESSED, "rate_limited", retry_after=-1.0), id="a negative pause"),
    pytest.param(ProviderReply(Outcome.NOT_PROCESSED, "rate_limited", retry_after=float("nan")), id="a pause of nan"),
    pytest.param(ProviderReply(Outcome.NOT_PROCESSED, "rate_limited", retry_after=1e12), id="a pause without end"),
    pytest.param(raises(RuntimeError(f"bad password {CANARY}")), id="RuntimeError"),
    pytest.param(raises(StopIteration()), id="StopIteration"),
    pytest.param(raises(ValueError(CANARY)), id="ValueError"),
]


@pytest.mark.parametrize("reply", INVALID_REPLIES)
def test_invalid_reply_to_a_cancel_is_a_doubt(registered_with, caplog, reply):
    invoice = registered_with(reply)
    error = cancel_error(invoice.cancel)
    assert type(error) is CancelInDoubt
    assert error.result.code == "adapter_error"
    assert error.result.status == "in_doubt"
    assert error.result.provider_message.endswith(("Error", "StopIteration"))
    assert log_entries(invoice)[-1] == ("canceling", "in_doubt", "in_doubt", "adapter_error")
    assert "Traceback (most recent call last)" in caplog.text
    assert "The adapter of third-party failed" in caplog.text
    assert CANARY not in caplog.text
    assert stored(invoice).status == "in_doubt"
    assert ThirdPartyProvider.calls == 1


@pytest.mark.parametrize(
    "reply",
    [
        pytest.param(None, id="None"),
        pytest.param(for_each(None), id="None for each"),
        pytest.param(for_each("canceled"), id="a string for each"),
        pytest.param(for_each(LookupReply("canceled", "observed", is_answer=True)), id="a status that is a string"),
        pytest.param(for_each(LookupReply(None, "no_answer", is_answer=False, retry_after=-3)), id="a negative pause"),
        pytest.param(raises(RuntimeError(f"bad password {CANARY}")), id="RuntimeError"),
    ],
)
def test_invalid_reply_to_a_lookup_leaves_the_doubt(registered_with, caplog, reply):
    invoice = registered_with(ProviderReply(Outcome.IN_DOUBT, "no_answer"))
    cancel_error(invoice.cancel)
    registered_with.answers(reply)
    with travel_forward(minutes=16):
        found = invoice.reconcile()
    assert found.outcome == "in_doubt"
    assert found.code == "adapter_error"
    assert found.status == "in_doubt"
    assert status_and_log(invoice) == ("in_doubt", LOST)
    assert stored(invoice).check_count == 0
    assert "The adapter of third-party failed" in caplog.text
    assert CANARY not in caplog.text
    assert ThirdPartyProvider.calls == 2


def test_lookup_without_a_reply_for_the_invoice_is_no_answer(registered_with):
    invoice = registered_with(ProviderReply(Outcome.IN_DOUBT, "no_answer"))
    cancel_error(invoice.cancel)
    registered_with.answers({})
    with travel_forward(minutes=16):
        found = invoice.reconcile()
    assert found.outcome == "in_doubt"
    assert found.code == "no_answer"
    assert stored(invoice).check_count == 0
    assert status_and_log(invoice) == ("in_doubt", LOST)
    assert ThirdPartyProvider.calls == 2


def test_code_of_an_adapter_is_logged_and_returned(registered_with):
    """The message of an unknown code is that of its outcome."""
    invoice = registered_with(ProviderReply(Outcome.REFUSED, "card_network_down", provider_message="try Monday"))
    error = cancel_error(invoice.cancel)
    assert type(error) is CancelRefused
    assert error.result.code == "card_network_down"
    assert str(error.result.message) == "Third-Party Pay refused to cancel it."
    assert error.result.provider_message == "try Monday"
    assert log_entries(invoice)[-1] == ("canceling", "created", "refused", "card_network_down")
    assert ThirdPartyProvider.calls == 1


@pytest.mark.parametrize(
    ("status", "outcome", "code", "final_status"),
    [
        (Status.CREATED, "in_doubt", "contradictory_answer", "in_doubt"),
        (Status.CANCELING, "in_doubt", "contradictory_answer", "in_doubt"),
        (Status.IN_DOUBT, "in_doubt", "contradictory_answer", "in_doubt"),
        (Status.CANCELED, "already_canceled", "already_canceled", "canceled"),
        (Status.EXPIRED, "refused", "no", "expired"),
        (Status.PAID, "refused", "has_payment", "paid"),
    ],
)
def test_status_in_a_refusal_is_stored_if_it_is_possible(registered_with, status, outcome, code, final_status):
    invoice = registered_with(ProviderReply(Outcome.REFUSED, "no", status=status))
    try:
        result = invoice.cancel()
    except (CancelInDoubt, CancelRefused) as error:
        result = error.result
    assert result.outcome == outcome
    assert result.code == code
    assert result.status == final_status
    assert stored(invoice).status == final_status
    assert log_entries(invoice)[-1][:3] == ("canceling", final_status, outcome)
    assert ThirdPartyProvider.calls == 1


@pytest.mark.parametrize("paid_status", [Status.PARTIALLY_PAID, Status.PAID, Status.OVERPAID])
@pytest.mark.parametrize(
    ("outcome", "code", "is_marked"),
    [
        ("canceled", "canceled", True),
        ("already_canceled", "already_canceled", True),
        ("refused", "not_found", False),
        ("not_processed", "unreachable", False),
        ("in_doubt", "no_answer", False),
    ],
)
def test_payment_in_any_reply_is_stored(registered_with, paid_status, outcome, code, is_marked):
    """A confirmation with a paid status is marked like a payment after a cancellation."""
    invoice = registered_with(ProviderReply(Outcome(outcome), code, status=paid_status))
    error = cancel_error(invoice.cancel)
    assert type(error) is CancelRefused
    assert error.result.code == "has_payment"
    assert error.result.status == paid_status
    assert status_and_log(invoice) == (paid_status, [CANCELED_LOG[0], ("canceling", paid_status, outcome, code)])
    assert (stored(invoice).paid_after_cancel_at is not None) is is_marked
    assert cancel_error(stored(invoice).cancel).result.code == "has_payment"
    assert ThirdPartyProvider.calls == 1


@pytest.mark.parametrize("outcome", ["canceled", "refused", "not_processed", "in_doubt"])
def test_payment_in_a_reply_of_a_bulk_run_is_stored_and_ends_the_attempts(registered_with, outcome):
    registered_with(ProviderReply(Outcome(outcome), "code", status=Status.PAID))
    results = cancel_invoices(Invoice.objects.all())
    assert [(each.outcome, each.code, each.status) for each in results] == [("refused", "has_payment", "paid")]
    assert set(Invoice.objects.values_list("status", flat=True)) == {"paid"}
    assert ThirdPartyProvider.calls == 1


@pytest.mark.parametrize("outcome", ["canceled", "refused", "not_processed", "in_doubt"])
def test_payment_in_the_reply_to_a_repeated_request_is_stored(registered_with, monkeypatch, outcome):
    """Without a lookup, only the repeated request can return the payment."""
    monkeypatch.setattr(ThirdPartyProvider, "supports_lookup", False)
    monkeypatch.setattr(ThirdPartyProvider, "is_repeat_harmless", True)
    invoice = registered_with(ProviderReply(Outcome.IN_DOUBT, "no_answer"))
    cancel_error(invoice.cancel)
    registered_with.answers(ProviderReply(Outcome(outcome), "code", status=Status.PAID))
    with travel_forward(minutes=16):
        found = stored(invoice).reconcile(resubmit=True)
    assert found.code == "has_payment"
    assert found.status == "paid"
    assert stored(invoice).status == "paid"
    assert ThirdPartyProvider.calls == 2


@pytest.mark.parametrize("outcome", ["canceled", "refused", "not_processed", "in_doubt"])
def test_payment_in_a_late_reply_is_stored(registered_with, outcome):
    """Another process resolved the abandoned claim before the answer arrived."""

    def slow(external_id):
        with travel_forward(minutes=10):
            Invoice.objects.get().reconcile()
        registered_with.answers(for_each(LookupReply(None, "no_answer", is_answer=False)))
        return ProviderReply(Outcome(outcome), "code", status=Status.PAID)

    invoice = registered_with(slow)
    registered_with.answers(lambda calls: slow(calls) if isinstance(calls, str) else {})
    error = cancel_error(invoice.cancel)
    assert error.result.code == "has_payment"
    assert error.result.status == "paid"
    assert stored(invoice).status == "paid"
    assert [step[:2] for step in log_entries(invoice)] == [
        ("created", "canceling"),
        ("canceling", "in_doubt"),
        ("in_doubt", "paid"),
    ]


@pytest.mark.parametrize("outcome", ["canceled", "already_canceled"])
@pytest.mark.parametrize(
    "status", [Status.CREATED, Status.CANCELING, Status.IN_DOUBT, Status.EXPIRED, Status.FAILED], ids=str
)
def test_confirmation_with_another_status_is_a_doubt(registered_with, outcome, status):
    invoice = registered_with(ProviderReply(Outcome(outcome), "code", status=status))
    error = cancel_error(invoice.cancel)
    assert type(error) is CancelInDoubt
    assert error.result.code == "contradictory_answer"
    assert status_and_log(invoice) == (
        "in_doubt",
        [CANCELED_LOG[0], ("canceling", "in_doubt", "in_doubt", "contradictory_answer")],
    )
    assert ThirdPartyProvider.calls == 1


@pytest.mark.parametrize("outcome", ["canceled", "already_canceled"])
def test_confirmation_with_the_status_canceled_is_a_confirmation(registered_with, outcome):
    invoice = registered_with(ProviderReply(Outcome(outcome), "code", status=Status.CANCELED))
    assert invoice.cancel().ok
    assert status_and_log(invoice) == ("canceled", [CANCELED_LOG[0], ("canceling", "canceled", outcome, "code")])
    assert ThirdPartyProvider.calls == 1


@pytest.mark.parametrize("outcome", ["not_processed", "in_doubt"])
@pytest.mark.parametrize("status", [Status.CREATED, Status.CANCELED, Status.EXPIRED, Status.FAILED], ids=str)
def test_status_in_a_reply_that_proves_nothing_is_not_stored(registered_with, outcome, status):
    invoice = registered_with(ProviderReply(Outcome(outcome), "code", status=status))
    error = cancel_error(invoice.cancel)
    is_contradictory = outcome == "not_processed" and status != "created"
    assert error.result.code == ("contradictory_answer" if is_contradictory else "code")
    assert stored(invoice).status == ("in_doubt" if is_contradictory or outcome == "in_doubt" else "created")
    assert ThirdPartyProvider.calls == 1


@pytest.mark.parametrize("code", ["no_answer", "not_found", "unreadable_answer"])
def test_payment_in_any_reply_to_a_lookup_is_stored(registered_with, code):
    invoice = registered_with(ProviderReply(Outcome.IN_DOUBT, "no_answer"))
    cancel_error(invoice.cancel)
    registered_with.answers(for_each(LookupReply(Status.PAID, code, is_answer=False)))
    with travel_forward(minutes=16):
        assert stored(invoice).reconcile().code == "has_payment"
    assert stored(invoice).status == "paid"
    assert ThirdPartyProvider.calls == 2


@pytest.mark.parametrize("status", [Status.CANCELED, Status.CREATED, Status.EXPIRED, Status.IN_DOUBT, Status.CANCELING])
def test_other_status_in_a_lookup_without_an_answer_is_not_stored(registered_with, status):
    invoice = registered_with(ProviderReply(Outcome.IN_DOUBT, "no_answer"))
    cancel_error(invoice.cancel)
    registered_with.answers(for_each(LookupReply(status, "no_answer", is_answer=False)))
    with travel_forward(minutes=16):
        assert stored(invoice).reconcile().status == "in_doubt"
    assert status_and_log(invoice) == ("in_doubt", LOST)
    assert ThirdPartyProvider.calls == 2


@pytest.mark.parametrize("status", [Status.IN_DOUBT, Status.CANCELING], ids=str)
def test_internal_status_in_a_lookup_is_a_contradiction(registered_with, status):
    invoice = registered_with(ProviderReply(Outcome.IN_DOUBT, "no_answer"))
    cancel_error(invoice.cancel)
    registered_with.answers(for_each(LookupReply(status, "observed", is_answer=True)))
    with travel_forward(minutes=16):
        found = stored(invoice).reconcile()
    assert found.outcome == "in_doubt"
    assert found.code == "contradictory_answer"
    assert status_and_log(invoice) == ("in_doubt", LOST)
    assert ThirdPartyProvider.calls == 2


def test_message_of_an_adapter_is_masked_and_truncated(registered_with):
    """Characters that PostgreSQL refuses are replaced, or the answer could not be recorded."""
    invoice = registered_with(
        ProviderReply(Outcome.IN_DOUBT, "no_answer", provider_message=f"\x00\ud800 {CANARY} " + "x" * 999)
    )
    error = cancel_error(invoice.cancel)
    assert error.result.provider_message == "\ufffd\ufffd *** " + "x" * 493
    assert invoice.transitions.last().provider_message == error.result.provider_message
    assert type(error) is CancelInDoubt
    assert status_and_log(invoice) == ("in_doubt", LOST)
    assert ThirdPartyProvider.calls == 1


def test_adapter_that_cannot_be_built_is_misconfigured(registered_with, monkeypatch):
    def broken(self, alias, *, password):
        raise KeyError(password.reveal())

    invoice = registered_with(None)
    monkeypatch.setattr(ThirdPartyProvider, "__init__", broken)
    error = cancel_error(invoice.cancel)
    assert type(error) is CancelNotPossible
    assert error.result.code == "misconfigured"
    assert (
        str(error.result.message)
        == "No request can be sent for it: Provider 'third-party' cannot be created: KeyError: '***'"
    )
    assert status_and_log(invoice) == ("created", [])
    assert ThirdPartyProvider.calls == 0


class Alarm(Exception):
    """Raised by a signal handler: the deadline of a job."""


def named_class(path, *bases):
    module, _, name = path.rpartition(".")
    return type(name, bases or (Exception,), {"__module__": module})


INTERRUPTIONS = [
    named_class("billiard.exceptions.SoftTimeLimitExceeded"),
    named_class("rq.timeouts.JobTimeoutException", named_class("rq.timeouts.BaseTimeoutException")),
    named_class("gevent.timeout.Timeout", BaseException),
    asyncio.CancelledError,
    concurrent.futures.CancelledError,
]


@pytest.mark.parametrize("kind", INTERRUPTIONS, ids=lambda kind: kind.__name__)
def test_time_limit_is_reraised_after_the_doubt_is_recorded(registered_with, kind):
    """The task must end, and its request may have been sent."""
    error = kind()
    invoice = registered_with(raises(error))
    with pytest.raises(kind) as raised:
        invoice.cancel()
    assert raised.value is error
    assert status_and_log(invoice) == ("in_doubt", LOST)
    assert ThirdPartyProvider.calls == 1
    registered_with.answers(raises(kind()))
    with travel_forward(minutes=16), pytest.raises(kind):
        stored(invoice).reconcile()
    assert status_and_log(invoice) == ("in_doubt", LOST)
    assert ThirdPartyProvider.calls == 2


def test_exception_of_a_signal_handler_is_reraised_after_the_doubt_is_recorded(registered_with):
    handler_before = signal.getsignal(signal.SIGALRM)

    def raise_alarm(external_id):
        signal.raise_signal(signal.SIGALRM)

    def on_alarm(*_):
        raise Alarm

    invoice = registered_with(raise_alarm)
    signal.signal(signal.SIGALRM, on_alarm)
    try:
        with pytest.raises(Alarm):
            invoice.cancel()
    finally:
        signal.signal(signal.SIGALRM, handler_before)
    assert status_and_log(invoice) == ("in_doubt", LOST)
    assert ThirdPartyProvider.calls == 1


@pytest.mark.parametrize("crash", [KeyboardInterrupt, SystemExit])
def test_interrupt_in_an_adapter_is_reraised_after_the_doubt_is_recorded(registered_with, crash):
    """The request may have been sent, also if the adapter did not check the lease."""
    error = crash()
    invoice = registered_with(raises(error))
    with pytest.raises(crash) as raised:
        invoice.cancel()
    assert raised.value is error
    assert status_and_log(invoice) == ("in_doubt", LOST)
    registered_with.answers(for_each(LookupReply(Status.CANCELED, "observed", is_answer=True)))
    with travel_forward(minutes=7):
        assert stored(invoice).reconcile().status == "canceled"
    assert status_and_log(invoice) == ("canceled", [*LOST, ("in_doubt", "canceled", "already_canceled", "observed")])
    assert ThirdPartyProvider.calls == 2
