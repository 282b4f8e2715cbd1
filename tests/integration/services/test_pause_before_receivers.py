"""A receiver that cancels again is stopped by the pause, which is written before receivers run (P9)."""

from contextlib import nullcontext

import pytest
from django.core.management import CommandError, call_command
from django.db import transaction

from django_invoice_cancel import operations
from django_invoice_cancel.bulk import cancel_invoices, reconcile_invoices
from django_invoice_cancel.domain.outcomes import Code, LookupReply, Outcome, ProviderReply
from django_invoice_cancel.exceptions import CancelError
from django_invoice_cancel.models import Invoice, ProviderState
from django_invoice_cancel.operations import advance
from django_invoice_cancel.signals import invoice_status_changed
from django_invoice_cancel.testing import make_invoice
from tests.support.clock import travel_forward
from tests.support.results import cancel_error

pytestmark = pytest.mark.django_db(transaction=True)

MAX_CALLS = 100
"""Limits the receiver if no pause stops it. The test then fails by the number of requests."""


def limited(retry_after):
    return ProviderReply(Outcome.NOT_PROCESSED, Code.RATE_LIMITED, http_status=429, retry_after=retry_after)


ANSWERS = {
    # answer to every request, the requests that reach the provider
    "429 with Retry-After 90": (limited(90.0), 1),
    "429 with Retry-After 30": (limited(30.0), 1),
    "429 with Retry-After 1": (limited(1.0), 1),
    "429 with Retry-After 0": (limited(0.0), 1),
    "429 without Retry-After": (limited(None), 1),
    "rejected credentials": ("bad_credentials", 1),
    "unreachable": ("not_processed", 5),
}
each_answer = pytest.mark.parametrize(("answer", "requests"), ANSWERS.values(), ids=ANSWERS)


@pytest.fixture
def receiver_codes():
    """Connect a receiver that cancels each invoice that returns to ``created``. Yield the codes of its results."""
    codes = []

    def receive(sender, invoice, new_status, **kwargs):
        if new_status == "created" and len(codes) < MAX_CALLS:
            codes.append("")
            number = len(codes) - 1
            try:
                codes[number] = Invoice.objects.get(pk=invoice.pk).cancel().code
            except CancelError as error:
                codes[number] = error.result.code

    invoice_status_changed.connect(receive)
    yield codes
    invoice_status_changed.disconnect(receive)


def cancel_one():
    cancel_error(Invoice.objects.get().cancel)


def on_commit():
    with transaction.atomic():
        Invoice.objects.get().cancel_on_commit(reason="changed their mind")


def in_bulk():
    list(cancel_invoices(Invoice.objects.all()))


def operation():
    advance(operations.start(Invoice.objects.all(), actor="Ada").pk)


ENTRY_POINTS = {"cancel": cancel_one, "cancel_on_commit": on_commit, "bulk": in_bulk, "operation": operation}


SHORT_PAUSES = (*(f"429 with Retry-After {seconds}" for seconds in (30, 1, 0)), "429 without Retry-After")
"""A bulk run waits for the end of these pauses."""
CASES = [
    pytest.param(entry_point, *ANSWERS[name], id=f"{entry_point}, {name}")
    for entry_point in ENTRY_POINTS
    for name in ANSWERS
    if entry_point in ("cancel", "cancel_on_commit") or name not in SHORT_PAUSES
]


@pytest.mark.parametrize(("entry_point", "answer", "requests"), CASES)
def test_receiver_that_cancels_again_sends_no_further_request(shop, receiver_codes, entry_point, answer, requests):
    make_invoice()
    shop.all_cancels(answer)
    ENTRY_POINTS[entry_point]()
    assert shop.cancel_count == requests
    assert receiver_codes[-1] == "provider_paused"
    assert Invoice.objects.get().status == "created"
    assert ProviderState.objects.get().is_paused is True


def test_pause_stops_the_receivers_of_a_bulk_run(scripted, receiver_codes):
    shop = scripted(concurrency=8)
    for _number in range(40):
        make_invoice()
    shop.all_cancels(limited(90.0))
    in_bulk()
    assert shop.cancel_count <= 1 + 8
    assert set(receiver_codes) == {"provider_paused"}
    assert set(Invoice.objects.values_list("status", flat=True)) == {"created"}


@each_answer
def test_repeated_request_writes_its_pause_before_receivers_run(scripted, answer, requests):
    """The invoice returns to ``in_doubt``; the receiver then cancels another invoice."""
    shop = scripted(supports_lookup=False, is_repeat_harmless=True)
    doubtful, other = make_invoice("in_doubt"), make_invoice()
    shop.all_cancels(answer)
    codes = []

    def cancel_other(sender, invoice, old_status, **kwargs):
        if invoice.pk == doubtful.pk and old_status == "canceling":
            codes.append(cancel_error(Invoice.objects.get(pk=other.pk).cancel).result.code)

    invoice_status_changed.connect(cancel_other)
    try:
        with travel_forward(minutes=20):
            doubtful.reconcile(resubmit=True)
    finally:
        invoice_status_changed.disconnect(cancel_other)
    is_paused_at_once = requests == 1
    assert codes == (["provider_paused"] if is_paused_at_once else ["unreachable"])
    assert shop.cancel_count == (1 if is_paused_at_once else 2)
    assert Invoice.objects.get(pk=other.pk).status == "created"


@pytest.mark.parametrize("run", ["single", "bulk", "command"])
def test_rejected_lookup_pauses_cancellations(scripted, run):
    """One lookup is answered, the other gets a 429."""
    shop = scripted(lookup_group_size=1, concurrency=1)
    first, second, other = make_invoice("in_doubt"), make_invoice("in_doubt"), make_invoice()
    shop.all_lookups("canceled", external_id=first.external_id)
    shop.all_lookups(LookupReply(None, Code.RATE_LIMITED, is_answer=False, retry_after=90.0), second.external_id)
    callers = {
        "single": lambda: [invoice.reconcile() for invoice in (second, first)],
        "bulk": lambda: list(reconcile_invoices(Invoice.objects.filter(pk__in=[first.pk, second.pk]).order_by("-pk"))),
        "command": lambda: call_command("reconcile_invoices", verbosity=0),
    }
    with travel_forward(minutes=2):
        with pytest.raises(CommandError) if run == "command" else nullcontext():
            callers[run]()
        assert cancel_error(other.cancel).result.code == "provider_paused"
    assert shop.cancel_count == 0
