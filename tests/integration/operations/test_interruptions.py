"""Time limits and interrupts are raised again after the requests in flight are recorded."""

import asyncio
import signal
from collections import Counter

import pytest

from django_invoice_cancel.exceptions import CancelInDoubt
from django_invoice_cancel.models import Invoice
from django_invoice_cancel.models.writes.answers import AnswerWriter
from django_invoice_cancel.signals import invoice_status_changed
from django_invoice_cancel.testing.scripted import ScriptedProvider
from tests.support.invoices import stored

try:
    from celery.exceptions import SoftTimeLimitExceeded
except ImportError:  # without the dependency group celery: a class of the same name

    class SoftTimeLimitExceeded(Exception):
        __module__, __qualname__ = "billiard.exceptions", "SoftTimeLimitExceeded"


pytestmark = pytest.mark.django_db(transaction=True)


class ProjectTimeLimit(Exception):
    """Raised by a signal handler of the project."""


class JobTimeout(Exception):
    """Stands for rq's exception, which the package recognizes by its name."""

    __module__, __qualname__ = "rq.timeouts", "BaseTimeoutException"


class ProjectProvider(ScriptedProvider):
    """An adapter of a project that sends without a check of the lease."""

    act, calls = None, None

    def cancel(self, external_id, *, lease):
        self.calls.append(external_id)
        self.act()


def raise_time_limit(number, frame):
    raise ProjectTimeLimit


def raise_by_signal(*args, **kwargs):
    before = signal.signal(signal.SIGUSR1, raise_time_limit)
    try:
        signal.raise_signal(signal.SIGUSR1)
    except ProjectTimeLimit as error:
        error.add_note("seen")
        raise
    finally:
        HANDLERS_BEFORE.append(before)


HANDLERS_BEFORE: list[object] = []


@pytest.fixture(autouse=True)
def _restore_handler():
    yield
    while HANDLERS_BEFORE:
        signal.signal(signal.SIGUSR1, HANDLERS_BEFORE.pop())


def raising(kind):
    def act(*args, **kwargs):
        raise kind

    return act


INTERRUPTIONS = [
    pytest.param(SoftTimeLimitExceeded, raising(SoftTimeLimitExceeded), id="celery"),
    pytest.param(JobTimeout, raising(JobTimeout), id="rq"),
    pytest.param(ProjectTimeLimit, raise_by_signal, id="signal handler"),
    pytest.param(asyncio.CancelledError, raising(asyncio.CancelledError), id="canceled coroutine"),
    pytest.param(KeyboardInterrupt, raising(KeyboardInterrupt), id="ctrl-c"),
]


@pytest.fixture
def invoice(scripted_provider):
    return Invoice.objects.create(provider="firekassa", external_id="101")


def status_and_codes(invoice):
    return stored(invoice).status, list(invoice.transitions.order_by("id").values_list("code", flat=True))


@pytest.mark.parametrize(("kind", "act"), INTERRUPTIONS)
def test_interrupted_request_is_in_doubt_and_the_exception_is_raised_again(scripted_provider, invoice, kind, act):
    scripted_provider.next_cancels(act)
    with pytest.raises(kind):
        invoice.cancel()
    status, codes = status_and_codes(invoice)
    assert status == "in_doubt"
    assert len(codes) == 2
    assert scripted_provider.cancel_count == 1


@pytest.mark.parametrize(("kind", "act"), INTERRUPTIONS)
def test_interruption_before_the_request_releases_the_claim(scripted_provider, invoice, kind, act):
    scripted_provider.before_send = act
    with pytest.raises(kind):
        invoice.cancel()
    assert status_and_codes(invoice) == ("created", ["", "given_back"])
    assert scripted_provider.cancel_count == 0


@pytest.mark.parametrize(("kind", "act"), INTERRUPTIONS)
def test_interrupted_adapter_that_ignores_its_lease_is_in_doubt(settings, invoice, monkeypatch, kind, act):
    monkeypatch.setattr(ProjectProvider, "act", staticmethod(act))
    monkeypatch.setattr(ProjectProvider, "calls", [])
    settings.INVOICE_CANCEL = {"PROVIDERS": {"firekassa": {"BACKEND": f"{__name__}.ProjectProvider"}}}
    with pytest.raises(kind):
        invoice.cancel()
    assert status_and_codes(invoice) == ("in_doubt", ["", "no_answer"])
    assert ProjectProvider.calls == ["101"]


@pytest.mark.parametrize(("kind", "act"), INTERRUPTIONS)
def test_interrupted_record_keeps_the_answer(scripted_provider, invoice, monkeypatch, kind, act):
    record, done = AnswerWriter.record, []

    def interrupted_once(self, *args, **kwargs):
        if not done:
            done.append(True)
            act()
        return record(self, *args, **kwargs)

    monkeypatch.setattr(AnswerWriter, "record", interrupted_once)
    with pytest.raises(kind):
        invoice.cancel()
    assert status_and_codes(invoice) == ("canceled", ["", "canceled"])
    assert scripted_provider.cancel_count == 1


@pytest.mark.parametrize("status", ["canceling", "canceled"])
@pytest.mark.parametrize(("kind", "act"), INTERRUPTIONS)
def test_interrupted_receiver_leaves_no_open_claim(scripted_provider, invoice, kind, act, status):
    done = []

    def receiver(sender, new_status, **kwargs):
        if new_status == status and not done:
            done.append(new_status)
            act()

    invoice_status_changed.connect(receiver)
    try:
        with pytest.raises(kind):
            invoice.cancel()
    finally:
        invoice_status_changed.disconnect(receiver)
    sent = 0 if status == "canceling" else 1
    assert status_and_codes(invoice) == (("canceled", ["", "canceled"]) if sent else ("created", ["", "given_back"]))
    assert scripted_provider.cancel_count == sent


@pytest.mark.parametrize(("kind", "act"), INTERRUPTIONS)
def test_interrupted_receiver_in_a_bulk_run_leaves_no_open_claims(scripted_provider, kind, act):
    Invoice.objects.bulk_create([Invoice(provider="firekassa", external_id=str(each)) for each in range(101, 121)])
    seen = Counter()

    def receiver(sender, new_status, **kwargs):
        seen[new_status] += 1
        if seen["canceled"] == 1 and new_status == "canceled":
            act()

    invoice_status_changed.connect(receiver)
    try:
        with pytest.raises(kind):
            Invoice.objects.all().cancel()
    finally:
        invoice_status_changed.disconnect(receiver)
    sent = scripted_provider.cancel_count
    assert Invoice.objects.filter(status="canceled").count() == sent == seen["canceled"]
    assert not Invoice.objects.filter(status="canceling").exists()


def test_error_of_an_adapter_is_in_doubt_and_not_raised(scripted_provider, invoice):
    scripted_provider.next_cancels(ZeroDivisionError)
    with pytest.raises(CancelInDoubt):
        invoice.cancel()
    assert status_and_codes(invoice) == ("in_doubt", ["", "adapter_error"])
