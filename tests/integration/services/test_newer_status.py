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
from django_invoice_cancel.testing import ScriptedProvider
from tests.support.invoices import stored
from tests.support.logs import log_entries
from tests.support.newer import NEWER, newer_schema, set_newer_status
from tests.support.results import cancel_error

pytestmark = pytest.mark.django_db(transaction=True)

SCRIPTED = "django_invoice_cancel.testing.ScriptedProvider"


@pytest.fixture(autouse=True)
def any_status(transactional_db):
    with newer_schema():
        yield


@pytest.fixture
def account(settings):
    settings.INVOICE_CANCEL = {"PROVIDERS": {"shop": {"BACKEND": SCRIPTED}}, "CLAIM_TTL": 60}
    return ScriptedProvider.of("shop")


def make(count, newer=7):
    """Make invoices, of which one (by number) has a status that is not known."""
    invoices = [Invoice.objects.create(provider="shop", external_id=f"{number:02}") for number in range(count)]
    set_newer_status(invoices[newer])
    return Invoice.objects.order_by("external_id")


@pytest.fixture
def newer(account):
    """One invoice in a status that is not known."""
    return make(1, 0).get()


# -- one --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("is_stale", [True, False], ids=["a stale instance", "as it is read"])
def test_cancel_skips_it(account, is_stale):
    stale = Invoice.objects.create(provider="shop", external_id="1")
    set_newer_status(stale)
    result = cancel_error((stale if is_stale else stored(stale)).cancel).result
    assert result.outcome == "skipped"
    assert result.code == "newer_status"
    assert result.status == NEWER
    assert "newer version" in str(result.message)
    assert stored(stale).status == NEWER
    assert log_entries(stale) == []
    assert account.cancels == []


def test_reconcile_skips_it(account, newer):
    result = newer.reconcile()
    assert result.outcome == "skipped"
    assert result.code == "newer_status"
    assert result.status == NEWER
    assert stored(newer).status == NEWER
    assert log_entries(newer) == []
    assert account.lookups == []


@pytest.mark.parametrize("status", ["partially_paid", "paid", "overpaid"])
@pytest.mark.parametrize("form", ["status", "provider_status"])
def test_money_is_recorded(newer, status, form):
    assert newer.observe_status(**{form: status}) is True
    assert stored(newer).status == status
    assert log_entries(newer) == [(NEWER, status, "", "observed")]


def test_money_on_an_invoice_that_was_canceled_before_is_flagged(account):
    invoice = Invoice.objects.create(provider="shop", external_id="1")
    invoice.cancel()
    set_newer_status(invoice)
    Invoice.objects.observe_status("shop", "1", "paid")
    assert stored(invoice).status == "paid"
    assert stored(invoice).paid_after_cancel_at is not None


@pytest.mark.parametrize("status", ["canceled", "expired", "failed", "created"])
def test_any_other_status_is_ignored(newer, status):
    assert newer.observe_status(status) is False
    assert stored(newer).status == NEWER


def test_an_unknown_status_string_is_logged(newer):
    assert newer.observe_status(provider_status="odd") is False
    assert stored(newer).status == NEWER
    assert log_entries(newer) == [(NEWER, NEWER, "", "unknown_status")]


@pytest.mark.parametrize(
    ("answer", "status", "outcome"),
    [("canceled", NEWER, "canceled"), ("paid", "paid", "refused"), ("in_doubt", NEWER, "in_doubt")],
)
def test_an_answer_that_finds_the_row_in_it_is_recorded(account, answer, status, outcome):
    """The newer version wrote the row while the request was under way."""
    invoice = Invoice.objects.create(provider="shop", external_id="1")
    account.before_send = lambda external_id: set_newer_status(invoice)
    account.next_cancels(answer)
    with suppress(CancelError):
        invoice.cancel()
    assert stored(invoice).status == invoice.status == status
    assert log_entries(invoice)[-1][1:3] == (status, outcome)
    assert account.cancels == ["1"]


def test_resolve_refuses_it(newer):
    with pytest.raises(ResolveNotPossible) as caught:
        newer.resolve("canceled", actor="Ada", reason="seen")
    assert caught.value.code == "newer_status"
    assert stored(newer).status == NEWER


def test_it_is_not_requested_and_the_host_may_save_it(newer):
    assert newer.cancel_on_commit() is False
    newer.reference = "order-17"
    newer.save()
    assert stored(newer).status == NEWER
    assert stored(newer).reference == "order-17"
    assert newer.get_status_display() == NEWER


# -- many -------------------------------------------------------------------------------------------------------


def counts(results):
    results = list(results)
    return {code: sum(result.code == code for result in results) for code in {result.code for result in results}}


def test_it_stops_no_other_of_a_bulk_run(account):
    results = make(20).cancel().results
    assert counts(results) == {"canceled": 19, "newer_status": 1}
    assert len(account.cancels) == 19
    assert sorted(Invoice.objects.values_list("status", flat=True)) == ["canceled"] * 19 + [NEWER]


def test_it_stops_no_other_of_a_bulk_run_that_meets_it_after_the_selection(account):
    """The page of the selection was read before the newer version wrote the row."""
    invoices = make(20)
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


def test_it_stops_no_other_of_a_bulk_reconciliation(account):
    invoices = make(20)
    assert counts(reconcile_invoices(invoices)) == {"still_open": 19, "newer_status": 1}
    assert sorted(each for group in account.lookups for each in group) == [f"{n:02}" for n in range(20) if n != 7]


@pytest.mark.parametrize(("kind", "code"), [("cancel", "canceled"), ("check", "still_open")])
def test_it_stops_no_other_of_a_stored_operation(account, kind, code):
    operation = operations.start(make(20), operation=kind, actor="Ada")
    assert advance(operation.pk).is_finished
    codes = list(operation.items.values_list("code", flat=True))
    assert {each: codes.count(each) for each in set(codes)} == {code: 19, "newer_status": 1}


def test_it_stops_no_other_of_a_stored_decision(account):
    account.all_cancels("in_doubt")
    invoices = make(4, 2)
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


def test_the_commands_go_on(account):
    ids = list(make(20).values_list("external_id", flat=True))
    out, err = StringIO(), StringIO()
    with pytest.raises(CommandError, match="1 not tried") as caught:
        call_command("cancel_invoices", *ids, provider="shop", noinput=True, format="jsonl", stdout=out, stderr=err)
    assert caught.value.returncode == 4
    assert out.getvalue().count('"code": "newer_status"') == 1
    assert len(account.cancels) == 19
    call_command("reconcile_invoices", status="canceled", provider="shop", now=True, stdout=out, stderr=err)
    assert sum(len(group) for group in account.lookups) == 19


# -- the sweep --------------------------------------------------------------------------------------------------


def test_an_operation_that_fails_keeps_the_sweep_from_no_other(account, monkeypatch):
    """Whatever makes one operation fail on each slice."""
    invoices = make(4, 0)
    first, second = (operations.start(invoices.filter(external_id=each), actor="Ada") for each in ("01", "02"))

    def broken(operation_id, **options):
        if operation_id == first.pk:
            raise ValueError("a bug")
        return advance(operation_id, **options)

    monkeypatch.setattr(run_bulk_operations, "advance", broken)
    out, err = StringIO(), StringIO()
    with pytest.raises(CommandError, match="1 operation failed") as caught:
        call_command("run_bulk_operations", stdout=out, stderr=err)
    assert caught.value.returncode == 1
    assert f"{first.pk}: failed, ValueError" in err.getvalue()
    assert f"{second.pk}: 1 of 1, finished" in out.getvalue()
    assert account.cancels == ["02"]
