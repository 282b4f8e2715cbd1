"""Exceptions that belong to the caller: requests in flight are recorded, then the exception is raised again."""

import asyncio
import signal
from collections import Counter

import pytest

from django_invoice_cancel.exceptions import CancelInDoubt
from django_invoice_cancel.models import Invoice
from django_invoice_cancel.models.writes.answers import AnswerWriter
from django_invoice_cancel.signals import invoice_status_changed
from django_invoice_cancel.testing.scripted import ScriptedProvider

try:
    from celery.exceptions import SoftTimeLimitExceeded
except ImportError:  # without the dependency group celery: a class of the same name

    class SoftTimeLimitExceeded(Exception):
        __module__, __qualname__ = "billiard.exceptions", "SoftTimeLimitExceeded"


pytestmark = pytest.mark.django_db(transaction=True)


class OwnTimeLimit(Exception):
    """Raised by a signal handler of the project."""


class JobTimeout(Exception):
    """Stands for rq's, which is known by its name."""

    __module__, __qualname__ = "rq.timeouts", "BaseTimeoutException"


class Own(ScriptedProvider):
    """An adapter of a project: it may send without asking for the lease."""

    act, asked = None, None

    def cancel(self, external_id, *, lease):
        self.asked.append(external_id)
        self.act()


def by_signal(number, frame):
    raise OwnTimeLimit


def raise_by_signal(*args, **kwargs):
    before = signal.signal(signal.SIGUSR1, by_signal)
    try:
        signal.raise_signal(signal.SIGUSR1)
    except OwnTimeLimit as error:
        error.add_note("seen")
        raise
    finally:
        RESTORE.append(before)


RESTORE: list[object] = []


@pytest.fixture(autouse=True)
def _restore_handler():
    yield
    while RESTORE:
        signal.signal(signal.SIGUSR1, RESTORE.pop())


def raising(kind):
    def act(*args, **kwargs):
        raise kind

    return act


INTERRUPTIONS = [
    pytest.param(SoftTimeLimitExceeded, raising(SoftTimeLimitExceeded), id="celery"),
    pytest.param(JobTimeout, raising(JobTimeout), id="rq"),
    pytest.param(OwnTimeLimit, raise_by_signal, id="signal handler"),
    pytest.param(asyncio.CancelledError, raising(asyncio.CancelledError), id="canceled coroutine"),
    pytest.param(KeyboardInterrupt, raising(KeyboardInterrupt), id="ctrl-c"),
]


@pytest.fixture
def invoice(scripted_provider):
    return Invoice.objects.create(provider="firekassa", external_id="101")


def left(invoice):
    return Invoice.objects.get(pk=invoice.pk).status, list(
        invoice.transitions.order_by("id").values_list("code", flat=True)
    )


@pytest.mark.parametrize(("kind", "act"), INTERRUPTIONS)
def test_interruption_while_the_provider_is_asked_is_recorded_as_doubt_and_raised_again(
    scripted_provider, invoice, kind, act
):
    scripted_provider.next_cancels(act)
    with pytest.raises(kind):
        invoice.cancel()
    status, codes = left(invoice)
    assert status == "in_doubt"
    assert len(codes) == 2
    assert scripted_provider.cancel_count == 1


@pytest.mark.parametrize(("kind", "act"), INTERRUPTIONS)
def test_interruption_before_the_request_gives_the_claim_back_and_is_raised_again(
    scripted_provider, invoice, kind, act
):
    scripted_provider.before_send = act
    with pytest.raises(kind):
        invoice.cancel()
    assert left(invoice) == ("created", ["", "given_back"])
    assert scripted_provider.cancel_count == 0


@pytest.mark.parametrize(("kind", "act"), INTERRUPTIONS)
def test_interruption_of_an_adapter_of_its_own_is_doubt_although_no_lease_was_asked(
    settings, invoice, monkeypatch, kind, act
):
    monkeypatch.setattr(Own, "act", staticmethod(act))
    monkeypatch.setattr(Own, "asked", [])
    settings.INVOICE_CANCEL = {"PROVIDERS": {"firekassa": {"BACKEND": f"{__name__}.Own"}}}
    with pytest.raises(kind):
        invoice.cancel()
    assert left(invoice) == ("in_doubt", ["", "no_answer"])
    assert Own.asked == ["101"]


@pytest.mark.parametrize(("kind", "act"), INTERRUPTIONS)
def test_interruption_of_the_record_is_raised_again_and_keeps_the_answer(
    scripted_provider, invoice, monkeypatch, kind, act
):
    record, done = AnswerWriter.record, []

    def interrupted_once(self, *args, **kwargs):
        if not done:
            done.append(True)
            act()
        return record(self, *args, **kwargs)

    monkeypatch.setattr(AnswerWriter, "record", interrupted_once)
    with pytest.raises(kind):
        invoice.cancel()
    assert left(invoice) == ("canceled", ["", "canceled"])
    assert scripted_provider.cancel_count == 1


@pytest.mark.parametrize("when", ["canceling", "canceled"])
@pytest.mark.parametrize(("kind", "act"), INTERRUPTIONS)
def test_interruption_of_a_receiver_is_raised_again_and_leaves_no_claim(scripted_provider, invoice, kind, act, when):
    done = []

    def receiver(sender, new_status, **kwargs):
        if new_status == when and not done:
            done.append(new_status)
            act()

    invoice_status_changed.connect(receiver)
    try:
        with pytest.raises(kind):
            invoice.cancel()
    finally:
        invoice_status_changed.disconnect(receiver)
    sent = 0 if when == "canceling" else 1
    assert left(invoice) == (("canceled", ["", "canceled"]) if sent else ("created", ["", "given_back"]))
    assert scripted_provider.cancel_count == sent


@pytest.mark.parametrize(("kind", "act"), INTERRUPTIONS)
def test_interruption_of_a_receiver_in_a_bulk_run_finishes_the_group_first(scripted_provider, kind, act):
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


def test_bug_of_an_adapter_is_no_interruption(scripted_provider, invoice):
    scripted_provider.next_cancels(ZeroDivisionError)
    with pytest.raises(CancelInDoubt):
        invoice.cancel()
    assert left(invoice) == ("in_doubt", ["", "adapter_error"])
