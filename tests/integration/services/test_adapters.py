"""A third-party adapter: whatever it does, the call ends with one correct result and shows none of its secrets."""

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


class Anybody(Provider):
    """Answers with what the test put on the class."""

    verbose_name = "Anybody's Pay"
    secret_options = frozenset({"password"})
    id_form = "digits"
    id_pattern = re.compile("[0-9]+")
    supports_lookup = True
    asked = 0
    answer = None

    def __init__(self, alias, *, password, **common):
        super().__init__(alias, **common)
        self.password = password

    def cancel(self, external_id, *, lease):
        type(self).asked += 1
        return self.answer(external_id) if callable(self.answer) else self.answer

    def lookup(self, external_ids):
        type(self).asked += 1
        return self.answer(external_ids) if callable(self.answer) else self.answer


@pytest.fixture
def anybody(settings, monkeypatch):
    """Return a function that sets the adapter's answer and registers an invoice with it."""
    entry = {"BACKEND": f"{__name__}.Anybody", "OPTIONS": {"password": CANARY}}
    settings.INVOICE_CANCEL = {"PROVIDERS": {"anybody": entry}}

    def invoice(answer):
        monkeypatch.setattr(Anybody, "asked", 0)
        answers(answer)
        return Invoice.objects.create(provider="anybody", external_id="17")

    def answers(answer):
        monkeypatch.setattr(Anybody, "answer", staticmethod(answer) if callable(answer) else answer)

    invoice.answers = answers
    return invoice


def raises(error):
    def answer(asked):
        raise error

    return answer


def of(reply):
    return lambda asked: dict.fromkeys(asked, reply)


NONSENSE = [
    pytest.param(None, id="None"),
    pytest.param(True, id="True"),
    pytest.param("canceled", id="a string"),
    pytest.param(LookupReply(Status.CANCELED, "observed", is_answer=True), id="a reply to another question"),
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


@pytest.mark.parametrize("nonsense", NONSENSE)
def test_nonsense_to_a_cancel_is_doubt(anybody, caplog, nonsense):
    invoice = anybody(nonsense)
    error = cancel_error(invoice.cancel)
    assert type(error) is CancelInDoubt
    assert error.result.code == "adapter_error"
    assert error.result.status == "in_doubt"
    assert error.result.provider_message.endswith(("Error", "StopIteration"))
    assert log_entries(invoice)[-1] == ("canceling", "in_doubt", "in_doubt", "adapter_error")
    assert "Traceback (most recent call last)" in caplog.text
    assert "The adapter of anybody failed" in caplog.text
    assert CANARY not in caplog.text
    assert stored(invoice).status == "in_doubt"
    assert Anybody.asked == 1


@pytest.mark.parametrize(
    "nonsense",
    [
        pytest.param(None, id="None"),
        pytest.param(of(None), id="None for each"),
        pytest.param(of("canceled"), id="a string for each"),
        pytest.param(of(LookupReply("canceled", "observed", is_answer=True)), id="a status that is a string"),
        pytest.param(of(LookupReply(None, "no_answer", is_answer=False, retry_after=-3)), id="a negative pause"),
        pytest.param(raises(RuntimeError(f"bad password {CANARY}")), id="RuntimeError"),
    ],
)
def test_nonsense_to_a_lookup_leaves_the_doubt(anybody, caplog, nonsense):
    invoice = anybody(ProviderReply(Outcome.IN_DOUBT, "no_answer"))
    cancel_error(invoice.cancel)
    anybody.answers(nonsense)
    with travel_forward(minutes=16):
        found = invoice.reconcile()
    assert found.outcome == "in_doubt"
    assert found.code == "adapter_error"
    assert found.status == "in_doubt"
    assert (*status_and_log(invoice), stored(invoice).check_count) == ("in_doubt", LOST, 0)
    assert "The adapter of anybody failed" in caplog.text
    assert CANARY not in caplog.text
    assert Anybody.asked == 2


def test_lookup_that_leaves_an_invoice_out_is_no_answer(anybody):
    invoice = anybody(ProviderReply(Outcome.IN_DOUBT, "no_answer"))
    cancel_error(invoice.cancel)
    anybody.answers({})
    with travel_forward(minutes=16):
        found = invoice.reconcile()
    assert found.outcome == "in_doubt"
    assert found.code == "no_answer"
    assert stored(invoice).check_count == 0
    assert (*status_and_log(invoice), Anybody.asked) == ("in_doubt", LOST, 2)


def test_own_code_of_an_adapter_comes_through(anybody):
    """A code that is none of ours has the sentence of its outcome."""
    invoice = anybody(ProviderReply(Outcome.REFUSED, "card_network_down", provider_message="try Monday"))
    error = cancel_error(invoice.cancel)
    assert type(error) is CancelRefused
    assert error.result.code == "card_network_down"
    assert str(error.result.message) == "Anybody's Pay refused to cancel it."
    assert error.result.provider_message == "try Monday"
    assert log_entries(invoice)[-1] == ("canceling", "created", "refused", "card_network_down")
    assert Anybody.asked == 1


@pytest.mark.parametrize(
    ("status", "outcome", "code", "becomes"),
    [
        (Status.CREATED, "in_doubt", "contradictory_answer", "in_doubt"),
        (Status.CANCELING, "in_doubt", "contradictory_answer", "in_doubt"),
        (Status.IN_DOUBT, "in_doubt", "contradictory_answer", "in_doubt"),
        (Status.CANCELED, "already_canceled", "already_canceled", "canceled"),
        (Status.EXPIRED, "refused", "no", "expired"),
        (Status.PAID, "refused", "has_payment", "paid"),
    ],
)
def test_refusal_that_names_a_status(anybody, status, outcome, code, becomes):
    invoice = anybody(ProviderReply(Outcome.REFUSED, "no", status=status))
    try:
        told = invoice.cancel()
    except (CancelInDoubt, CancelRefused) as error:
        told = error.result
    assert told.outcome == outcome
    assert told.code == code
    assert told.status == becomes
    assert stored(invoice).status == becomes
    assert log_entries(invoice)[-1][:3] == ("canceling", becomes, outcome)
    assert Anybody.asked == 1


@pytest.mark.parametrize("money", [Status.PARTIALLY_PAID, Status.PAID, Status.OVERPAID])
@pytest.mark.parametrize(
    ("outcome", "code", "is_flagged"),
    [
        ("canceled", "canceled", True),
        ("already_canceled", "already_canceled", True),
        ("refused", "not_found", False),
        ("not_processed", "unreachable", False),
        ("in_doubt", "no_answer", False),
    ],
)
def test_money_named_in_any_reply_is_taken_in(anybody, money, outcome, code, is_flagged):
    """A reply that names both a confirmation and money is flagged like a payment after a cancellation."""
    invoice = anybody(ProviderReply(Outcome(outcome), code, status=money))
    error = cancel_error(invoice.cancel)
    assert type(error) is CancelRefused
    assert error.result.code == "has_payment"
    assert error.result.status == money
    assert status_and_log(invoice) == (money, [CANCELED_LOG[0], ("canceling", money, outcome, code)])
    assert (stored(invoice).paid_after_cancel_at is not None) is is_flagged
    assert cancel_error(stored(invoice).cancel).result.code == "has_payment"
    assert Anybody.asked == 1


@pytest.mark.parametrize("outcome", ["canceled", "refused", "not_processed", "in_doubt"])
def test_money_named_in_a_reply_of_a_bulk_run_is_taken_in_and_not_asked_for_again(anybody, outcome):
    anybody(ProviderReply(Outcome(outcome), "code", status=Status.PAID))
    results = cancel_invoices(Invoice.objects.all())
    assert [(each.outcome, each.code, each.status) for each in results] == [("refused", "has_payment", "paid")]
    assert set(Invoice.objects.values_list("status", flat=True)) == {"paid"}
    assert Anybody.asked == 1


@pytest.mark.parametrize("outcome", ["canceled", "refused", "not_processed", "in_doubt"])
def test_money_named_in_the_reply_to_a_repeat_is_taken_in(anybody, monkeypatch, outcome):
    """An adapter without lookup: the repeat is the only request that can learn of the payment."""
    monkeypatch.setattr(Anybody, "supports_lookup", False)
    monkeypatch.setattr(Anybody, "is_repeat_harmless", True)
    invoice = anybody(ProviderReply(Outcome.IN_DOUBT, "no_answer"))
    cancel_error(invoice.cancel)
    anybody.answers(ProviderReply(Outcome(outcome), "code", status=Status.PAID))
    with travel_forward(minutes=16):
        found = stored(invoice).reconcile(resubmit=True)
    assert found.code == "has_payment"
    assert found.status == "paid"
    assert stored(invoice).status == "paid"
    assert Anybody.asked == 2


@pytest.mark.parametrize("outcome", ["canceled", "refused", "not_processed", "in_doubt"])
def test_money_named_in_a_late_reply_is_taken_in(anybody, outcome):
    """Another process took the abandoned claim over before the answer came."""

    def slow(external_id):
        with travel_forward(minutes=10):
            Invoice.objects.get().reconcile()
        anybody.answers(of(LookupReply(None, "no_answer", is_answer=False)))
        return ProviderReply(Outcome(outcome), "code", status=Status.PAID)

    invoice = anybody(slow)
    anybody.answers(lambda asked: slow(asked) if isinstance(asked, str) else {})
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
def test_confirmation_that_names_another_status_is_doubt(anybody, outcome, status):
    invoice = anybody(ProviderReply(Outcome(outcome), "code", status=status))
    error = cancel_error(invoice.cancel)
    assert type(error) is CancelInDoubt
    assert error.result.code == "contradictory_answer"
    assert status_and_log(invoice) == (
        "in_doubt",
        [CANCELED_LOG[0], ("canceling", "in_doubt", "in_doubt", "contradictory_answer")],
    )
    assert Anybody.asked == 1


@pytest.mark.parametrize("outcome", ["canceled", "already_canceled"])
def test_confirmation_that_names_canceled_is_one(anybody, outcome):
    invoice = anybody(ProviderReply(Outcome(outcome), "code", status=Status.CANCELED))
    assert invoice.cancel().ok
    assert status_and_log(invoice) == ("canceled", [CANCELED_LOG[0], ("canceling", "canceled", outcome, "code")])
    assert Anybody.asked == 1


@pytest.mark.parametrize("outcome", ["not_processed", "in_doubt"])
@pytest.mark.parametrize("status", [Status.CREATED, Status.CANCELED, Status.EXPIRED, Status.FAILED], ids=str)
def test_other_status_beside_an_answer_that_proves_nothing_proves_nothing(anybody, outcome, status):
    invoice = anybody(ProviderReply(Outcome(outcome), "code", status=status))
    error = cancel_error(invoice.cancel)
    is_contradictory = outcome == "not_processed" and status != "created"
    assert error.result.code == ("contradictory_answer" if is_contradictory else "code")
    assert stored(invoice).status == ("in_doubt" if is_contradictory or outcome == "in_doubt" else "created")
    assert Anybody.asked == 1


@pytest.mark.parametrize("code", ["no_answer", "not_found", "unreadable_answer"])
def test_money_named_in_any_reply_to_a_lookup_is_taken_in(anybody, code):
    invoice = anybody(ProviderReply(Outcome.IN_DOUBT, "no_answer"))
    cancel_error(invoice.cancel)
    anybody.answers(of(LookupReply(Status.PAID, code, is_answer=False)))
    with travel_forward(minutes=16):
        assert stored(invoice).reconcile().code == "has_payment"
    assert stored(invoice).status == "paid"
    assert Anybody.asked == 2


@pytest.mark.parametrize("status", [Status.CANCELED, Status.CREATED, Status.EXPIRED, Status.IN_DOUBT, Status.CANCELING])
def test_lookup_that_is_no_answer_names_no_other_status(anybody, status):
    invoice = anybody(ProviderReply(Outcome.IN_DOUBT, "no_answer"))
    cancel_error(invoice.cancel)
    anybody.answers(of(LookupReply(status, "no_answer", is_answer=False)))
    with travel_forward(minutes=16):
        assert stored(invoice).reconcile().status == "in_doubt"
    assert (*status_and_log(invoice), Anybody.asked) == ("in_doubt", LOST, 2)


@pytest.mark.parametrize("status", [Status.IN_DOUBT, Status.CANCELING], ids=str)
def test_lookup_that_names_a_status_of_ours_alone_is_no_answer(anybody, status):
    invoice = anybody(ProviderReply(Outcome.IN_DOUBT, "no_answer"))
    cancel_error(invoice.cancel)
    anybody.answers(of(LookupReply(status, "observed", is_answer=True)))
    with travel_forward(minutes=16):
        found = stored(invoice).reconcile()
    assert found.outcome == "in_doubt"
    assert found.code == "contradictory_answer"
    assert (*status_and_log(invoice), Anybody.asked) == ("in_doubt", LOST, 2)


def test_words_of_an_adapter_are_masked_and_cut_for_it(anybody):
    """Also what PostgreSQL does not take is made harmless, or the answer could not be recorded."""
    invoice = anybody(
        ProviderReply(Outcome.IN_DOUBT, "no_answer", provider_message=f"\x00\ud800 {CANARY} " + "x" * 999)
    )
    error = cancel_error(invoice.cancel)
    assert error.result.provider_message == "\ufffd\ufffd *** " + "x" * 493
    assert invoice.transitions.last().provider_message == error.result.provider_message
    assert type(error) is CancelInDoubt
    assert (*status_and_log(invoice), Anybody.asked) == ("in_doubt", LOST, 1)


def test_adapter_that_cannot_be_made_is_misconfigured(anybody, monkeypatch):
    def broken(self, alias, *, password):
        raise KeyError(password.reveal())

    invoice = anybody(None)
    monkeypatch.setattr(Anybody, "__init__", broken)
    error = cancel_error(invoice.cancel)
    assert type(error) is CancelNotPossible
    assert error.result.code == "misconfigured"
    assert str(error.result.message) == "It cannot be asked for: Provider 'anybody' cannot be made: KeyError: '***'"
    assert (*status_and_log(invoice), Anybody.asked) == ("created", [], 0)


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
def test_interruption_by_the_caller_is_raised_again_once_the_doubt_is_recorded(anybody, kind):
    """The time limit of a task is no bug of the adapter; the task must end, and the request may have been sent."""
    error = kind()
    invoice = anybody(raises(error))
    with pytest.raises(kind) as caught:
        invoice.cancel()
    assert caught.value is error
    assert status_and_log(invoice) == ("in_doubt", LOST)
    assert Anybody.asked == 1
    anybody.answers(raises(kind()))
    with travel_forward(minutes=16), pytest.raises(kind):
        stored(invoice).reconcile()
    assert (*status_and_log(invoice), Anybody.asked) == ("in_doubt", LOST, 2)


def test_what_a_signal_handler_raises_is_raised_again_once_the_doubt_is_recorded(anybody):
    handler_is = signal.getsignal(signal.SIGALRM)

    def ring(external_id):
        signal.raise_signal(signal.SIGALRM)

    def on_alarm(*_):
        raise Alarm

    invoice = anybody(ring)
    signal.signal(signal.SIGALRM, on_alarm)
    try:
        with pytest.raises(Alarm):
            invoice.cancel()
    finally:
        signal.signal(signal.SIGALRM, handler_is)
    assert status_and_log(invoice) == ("in_doubt", LOST)
    assert Anybody.asked == 1


@pytest.mark.parametrize("crash", [KeyboardInterrupt, SystemExit])
def test_interrupt_within_an_adapter_is_raised_again_once_the_doubt_is_recorded(anybody, crash):
    """The request may have been sent, also if the adapter asked for no lease."""
    error = crash()
    invoice = anybody(raises(error))
    with pytest.raises(crash) as caught:
        invoice.cancel()
    assert caught.value is error
    assert status_and_log(invoice) == ("in_doubt", LOST)
    anybody.answers(of(LookupReply(Status.CANCELED, "observed", is_answer=True)))
    with travel_forward(minutes=7):
        assert stored(invoice).reconcile().status == "canceled"
    assert status_and_log(invoice) == ("canceled", [*LOST, ("in_doubt", "canceled", "already_canceled", "observed")])
    assert Anybody.asked == 2
