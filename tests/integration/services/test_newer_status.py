"""A row with a status of a newer version, after a rollback: skipped, shown unchanged, payments still recorded (P8)."""

from contextlib import suppress
from io import StringIO

import pytest
from django.core.management import call_command
from django.core.management.base import CommandError

from django_invoice_cancel import operations
from django_invoice_cancel.bulk import reconcile_invoices
from django_invoice_cancel.exceptions import CancelError, ResolveNotPossible
from django_invoice_cancel.management.commands import run_bulk_operations
from django_invoice_cancel.models import Invoice
from django_invoice_cancel.operations import advance
from django_invoice_cancel.signals import invoice_status_changed
from tests.support.invoices import stored
from tests.support.logs import log_entries
from tests.support.newer import NEWER, newer_schema, set_newer_status
from tests.support.results import cancel_error, count_codes

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def any_status(transactional_db):
    with newer_schema():
        yield


@pytest.fixture
def shop(scripted):
    return scripted(CLAIM_TTL=60)


def make_invoices(count, newer=7):
    """Store ``count`` invoices. The one with the number ``newer`` has an unknown status."""
    invoices = [Invoice.objects.create(provider="shop", external_id=f"{number:02}") for number in range(count)]
    set_newer_status(invoices[newer])
    return Invoice.objects.order_by("external_id")


@pytest.fixture
def newer_invoice(shop):
    """One invoice in a status that is not known."""
    return make_invoices(1, 0).get()


@pytest.mark.parametrize("is_stale", [True, False], ids=["a stale instance", "as it is read"])
def test_cancel_skips_an_invoice_with_a_newer_status(shop, is_stale):
    stale = Invoice.objects.create(provider="shop", external_id="1")
    set_newer_status(stale)
    result = cancel_error((stale if is_stale else stored(stale)).cancel).result
    assert result.outcome == "skipped"
    assert result.code == "newer_status"
    assert result.status == NEWER
    assert "newer version" in str(result.message)
    assert stored(stale).status == NEWER
    assert log_entries(stale) == []
    assert shop.cancels == []


def test_reconcile_skips_an_invoice_with_a_newer_status(shop, newer_invoice):
    result = newer_invoice.reconcile()
    assert result.outcome == "skipped"
    assert result.code == "newer_status"
    assert result.status == NEWER
    assert stored(newer_invoice).status == NEWER
    assert log_entries(newer_invoice) == []
    assert shop.lookups == []


@pytest.mark.parametrize("status", ["partially_paid", "paid", "overpaid"])
@pytest.mark.parametrize("form", ["status", "provider_status"])
def test_payment_is_recorded(newer_invoice, status, form):
    assert newer_invoice.observe_status(**{form: status}) is True
    assert stored(newer_invoice).status == status
    assert log_entries(newer_invoice) == [(NEWER, status, "", "observed")]


def test_payment_of_an_invoice_that_was_canceled_before_is_marked(shop):
    invoice = Invoice.objects.create(provider="shop", external_id="1")
    invoice.cancel()
    set_newer_status(invoice)
    Invoice.objects.observe_status("shop", "1", "paid")
    assert stored(invoice).status == "paid"
    assert stored(invoice).paid_after_cancel_at is not None


@pytest.mark.parametrize("status", ["canceled", "expired", "failed", "created"])
def test_any_other_status_is_ignored(newer_invoice, status):
    assert newer_invoice.observe_status(status) is False
    assert stored(newer_invoice).status == NEWER


def test_unknown_status_string_is_logged(newer_invoice):
    assert newer_invoice.observe_status(provider_status="odd") is False
    assert stored(newer_invoice).status == NEWER
    assert log_entries(newer_invoice) == [(NEWER, NEWER, "", "unknown_status")]


@pytest.mark.parametrize(
    ("answer", "status", "outcome"),
    [("canceled", NEWER, "canceled"), ("paid", "paid", "refused"), ("in_doubt", NEWER, "in_doubt")],
)
def test_answer_is_recorded_if_the_newer_version_wrote_the_row_during_the_request(shop, answer, status, outcome):
    """The newer version wrote the row while the request was under way."""
    invoice = Invoice.objects.create(provider="shop", external_id="1")
    shop.before_send = lambda external_id: set_newer_status(invoice)
    shop.next_cancels(answer)
    with suppress(CancelError):
        invoice.cancel()
    assert stored(invoice).status == invoice.status == status
    assert log_entries(invoice)[-1][1:3] == (status, outcome)
    assert shop.cancels == ["1"]


def test_resolve_refuses_an_invoice_with_a_newer_status(newer_invoice):
    with pytest.raises(ResolveNotPossible) as raised:
        newer_invoice.resolve("canceled", actor="Ada", reason="seen")
    assert raised.value.code == "newer_status"
    assert stored(newer_invoice).status == NEWER


def test_invoice_with_a_newer_status_can_be_saved_and_is_not_requested(newer_invoice):
    assert newer_invoice.cancel_on_commit() is False
    newer_invoice.reference = "order-17"
    newer_invoice.save()
    assert stored(newer_invoice).status == NEWER
    assert stored(newer_invoice).reference == "order-17"
    assert newer_invoice.get_status_display() == NEWER


def test_bulk_run_cancels_the_other_invoices(shop):
    results = make_invoices(20).cancel().results
    assert count_codes(results) == {"canceled": 19, "newer_status": 1}
    assert len(shop.cancels) == 19
    assert sorted(Invoice.objects.values_list("status", flat=True)) == ["canceled"] * 19 + [NEWER]


def test_bulk_run_skips_a_row_that_got_the_newer_status_after_the_selection(shop):
    """The page of the selection was read before the newer version wrote the row."""
    invoices = make_invoices(20)
    set_newer_status(Invoice.objects.get(external_id="07"), "created")

    def receive(**kwargs):
        set_newer_status(Invoice.objects.get(external_id="19"))

    invoice_status_changed.connect(receive)
    try:
        results = invoices.cancel().results
    finally:
        invoice_status_changed.disconnect(receive)
    assert len(results) == 20
    assert Invoice.objects.get(external_id="19").status == NEWER


def test_bulk_reconcile_looks_up_the_other_invoices(shop):
    invoices = make_invoices(20)
    assert count_codes(reconcile_invoices(invoices)) == {"still_open": 19, "newer_status": 1}
    assert sorted(each for group in shop.lookups for each in group) == [f"{n:02}" for n in range(20) if n != 7]


@pytest.mark.parametrize(("kind", "code"), [("cancel", "canceled"), ("check", "still_open")])
def test_operation_processes_the_other_invoices(shop, kind, code):
    operation = operations.start(make_invoices(20), operation=kind, actor="Ada")
    assert advance(operation.pk).is_finished
    codes = list(operation.items.values_list("code", flat=True))
    assert {each: codes.count(each) for each in set(codes)} == {code: 19, "newer_status": 1}


def test_operation_resolves_the_other_invoices(shop):
    shop.all_cancels("in_doubt")
    invoices = make_invoices(4, 2)
    for invoice in invoices:
        with suppress(CancelError):
            invoice.cancel()
    options = {"operation": "resolve", "decision": "canceled", "actor": "Ada", "reason": "seen"}
    operation = operations.start(invoices, **options)
    assert advance(operation.pk).is_finished
    assert sorted(operation.items.values_list("code", flat=True)) == [
        "newer_status",
        "resolved",
        "resolved",
        "resolved",
    ]


def test_commands_process_the_other_invoices(shop):
    ids = list(make_invoices(20).values_list("external_id", flat=True))
    out, err = StringIO(), StringIO()
    with pytest.raises(CommandError, match=r"unchanged: 1\.") as raised:
        call_command("cancel_invoices", *ids, provider="shop", noinput=True, format="jsonl", stdout=out, stderr=err)
    assert raised.value.returncode == 4
    assert out.getvalue().count('"code": "newer_status"') == 1
    assert len(shop.cancels) == 19
    call_command("reconcile_invoices", status="canceled", provider="shop", now=True, stdout=out, stderr=err)
    assert sum(len(group) for group in shop.lookups) == 19


def test_failing_operation_does_not_prevent_another_in_the_command(shop, monkeypatch):
    """Whatever makes one operation fail on each slice."""
    invoices = make_invoices(4, 0)
    first, second = (operations.start(invoices.filter(external_id=each), actor="Ada") for each in ("01", "02"))

    def broken(operation_id, **options):
        if operation_id == first.pk:
            raise ValueError("a bug")
        return advance(operation_id, **options)

    monkeypatch.setattr(run_bulk_operations, "advance", broken)
    out, err = StringIO(), StringIO()
    with pytest.raises(CommandError, match="1 operation failed") as raised:
        call_command("run_bulk_operations", stdout=out, stderr=err)
    assert raised.value.returncode == 1
    assert f"{first.pk}: failed with ValueError" in err.getvalue()
    assert f"{second.pk}: 1 of 1, finished" in out.getvalue()
    assert shop.cancels == ["02"]
