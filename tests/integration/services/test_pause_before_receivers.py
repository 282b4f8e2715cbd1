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

PATIENCE = 100
"""A receiver that is never stopped gives up after so many calls: the test then fails by its count of requests."""


def limited(retry_after):
    return ProviderReply(Outcome.NOT_PROCESSED, Code.RATE_LIMITED, http_status=429, retry_after=retry_after)


TROUBLE = {
    # answer to every request, the requests that reach the provider
    "429 with Retry-After 90": (limited(90.0), 1),
    "429 with Retry-After 30": (limited(30.0), 1),
    "429 with Retry-After 1": (limited(1.0), 1),
    "429 with Retry-After 0": (limited(0.0), 1),
    "429 without Retry-After": (limited(None), 1),
    "rejected credentials": ("bad_credentials", 1),
    "unreachable": ("not_processed", 5),
}
each_trouble = pytest.mark.parametrize(("answer", "requests"), TROUBLE.values(), ids=TROUBLE)


@pytest.fixture
def again():
    """A receiver that cancels again whatever returned to ``created``; yields the codes of its results."""
    codes = []

    def cancel_again(sender, invoice, new_status, **kwargs):
        if new_status == "created" and len(codes) < PATIENCE:
            codes.append("")
            number = len(codes) - 1
            try:
                codes[number] = Invoice.objects.get(pk=invoice.pk).cancel().code
            except CancelError as error:
                codes[number] = error.result.code

    invoice_status_changed.connect(cancel_again)
    yield codes
    invoice_status_changed.disconnect(cancel_again)


def single():
    cancel_error(Invoice.objects.get().cancel)


def on_commit():
    with transaction.atomic():
        Invoice.objects.get().cancel_on_commit(reason="changed their mind")


def in_bulk():
    list(cancel_invoices(Invoice.objects.all()))


def operation():
    advance(operations.start(Invoice.objects.all(), actor="Ada").pk)


ENTRY_POINTS = {"cancel": single, "cancel_on_commit": on_commit, "bulk": in_bulk, "operation": operation}


WAITED_FOR = ("429 with Retry-After 30", "429 with Retry-After 1", "429 with Retry-After 0", "429 without Retry-After")
"""Pauses of up to a minute, which a bulk run waits for."""
CASES = [
    pytest.param(entry_point, *TROUBLE[name], id=f"{entry_point}, {name}")
    for entry_point in ENTRY_POINTS
    for name in TROUBLE
    if entry_point in ("cancel", "cancel_on_commit") or name not in WAITED_FOR
]


@pytest.mark.parametrize(("entry_point", "answer", "requests"), CASES)
def test_receiver_that_cancels_again_sends_no_further_request(shop, again, entry_point, answer, requests):
    make_invoice()
    shop.all_cancels(answer)
    ENTRY_POINTS[entry_point]()
    assert shop.cancel_count == requests
    assert again[-1] == "provider_paused"
    assert Invoice.objects.get().status == "created"
    assert ProviderState.objects.get().is_paused is True


def test_forty_invoices_of_a_run_meet_the_pause(scripted, again):
    shop = scripted(concurrency=8)
    for _number in range(40):
        make_invoice()
    shop.all_cancels(limited(90.0))
    in_bulk()
    assert shop.cancel_count <= 1 + 8
    assert set(again) == {"provider_paused"}
    assert set(Invoice.objects.values_list("status", flat=True)) == {"created"}


@each_trouble
def test_repeat_of_a_request_in_doubt_pauses_before_its_record(scripted, answer, requests):
    """The record of a repeat returns to ``in_doubt``; its receiver cancels another invoice."""
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
    assert (codes, shop.cancel_count) == (["provider_paused"], 1) if is_paused_at_once else (["unreachable"], 2)
    assert Invoice.objects.get(pk=other.pk).status == "created"


@pytest.mark.parametrize("run", ["single", "bulk", "command"])
def test_refused_lookup_pauses_cancellations_too(scripted, run):
    """One lookup is answered, one asks for fewer requests."""
    shop = scripted(lookup_group_size=1, concurrency=1)
    first, second, other = make_invoice("in_doubt"), make_invoice("in_doubt"), make_invoice()
    shop.all_lookups("canceled", external_id=first.external_id)
    shop.all_lookups(LookupReply(None, Code.RATE_LIMITED, is_answer=False, retry_after=90.0), second.external_id)
    runs = {
        "single": lambda: [invoice.reconcile() for invoice in (second, first)],
        "bulk": lambda: list(reconcile_invoices(Invoice.objects.filter(pk__in=[first.pk, second.pk]).order_by("-pk"))),
        "command": lambda: call_command("reconcile_invoices", verbosity=0),
    }
    with travel_forward(minutes=2):
        with pytest.raises(CommandError) if run == "command" else nullcontext():
            runs[run]()
        assert cancel_error(other.cancel).result.code == "provider_paused"
    assert shop.cancel_count == 0
