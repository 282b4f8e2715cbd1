"""``"SEND": False`` rejects every cancel request, writes nothing for it, and does not affect lookups and decisions."""

from contextlib import suppress
from datetime import timedelta
from io import StringIO

import pytest
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command
from django.db import transaction
from django.test import Client
from django.urls import reverse

from django_invoice_cancel import operations
from django_invoice_cancel.bulk import cancel_invoices
from django_invoice_cancel.exceptions import CancelNotPossible
from django_invoice_cancel.models import BulkOperation, BulkOperationItem, Invoice, InvoiceTransition, ProviderState
from django_invoice_cancel.operations import Advance, advance
from django_invoice_cancel.operations.pauses import DISABLED_SECONDS
from django_invoice_cancel.testing import ScriptedProvider, make_invoice

pytestmark = pytest.mark.django_db(transaction=True)

NOTE = "tests.integration.tasks.conftest.note"
STORED = (Invoice, InvoiceTransition, ProviderState, BulkOperation, BulkOperationItem)
SENTENCE = "The setting SEND disables cancel requests"


@pytest.fixture
def stock(scripted_provider, dispatch):  # in this order: the settings are restored in the reverse one
    """Configure a provider that has no lookup and takes repeats, and one with a lookup; return a factory of invoices.

    The factory makes an invoice, and then sending is disabled.
    """
    backend = "django_invoice_cancel.testing.ScriptedProvider"
    options = {"supports_lookup": False, "is_repeat_harmless": True, "rate": 1000}
    providers = {
        "firekassa": {"BACKEND": backend, "OPTIONS": options},
        "cryptocloud": {"BACKEND": backend, "OPTIONS": {"rate": 1000}},
    }
    dispatch(NOTE, PROVIDERS=providers)

    def make(status="created", provider="firekassa", age=timedelta(days=1)):
        dispatch(NOTE, SEND=True)
        invoice = make_invoice(status, provider=provider, age=age)
        dispatch(NOTE, SEND=False)
        return invoice

    return make


def stored_rows():
    return [list(model.objects.order_by("pk").values()) for model in STORED]


def start(stock, count):
    for _ in range(count):
        stock()
    return operations.start(Invoice.objects.all())


def sent():
    return sum(ScriptedProvider.of(alias).cancel_count for alias in ("firekassa", "cryptocloud"))


def manage(*arguments):
    out = StringIO()
    try:
        call_command(*arguments, stdout=out, stderr=out)
    except CommandError as error:
        return error.returncode, out.getvalue() + str(error)
    return 0, out.getvalue()


def cancel_one(invoice):
    with pytest.raises(CancelNotPossible) as raised:
        invoice.cancel()
    return [raised.value.result]


def reconcile_with_repeat(invoice):
    return [invoice.reconcile(resubmit=True)]


ENTRIES = {
    "cancel": ("created", cancel_one),
    "query-set": ("created", lambda invoice: Invoice.objects.all().cancel().results),
    "bulk-with-rate": ("created", lambda invoice: list(cancel_invoices(Invoice.objects.all(), rate=5, concurrency=2))),
    "repeat": ("in_doubt", reconcile_with_repeat),
}


@pytest.mark.parametrize(("status", "entry"), ENTRIES.values(), ids=ENTRIES)
def test_request_is_rejected_and_nothing_is_written(stock, status, entry):
    invoice = stock(status)
    before = stored_rows()
    results = entry(invoice)
    assert [(result.outcome, result.code, result.status) for result in results] == [
        ("skipped", "sending_disabled", status)
    ]
    assert stored_rows() == before
    assert sent() == 0


COMMANDS = {
    "cancel": (("cancel_invoices", "--all", "--noinput"), 4),
    "requested": (("cancel_invoices", "--requested", "--noinput"), 4),
    "cron": (("reconcile_invoices", "--provider", "firekassa"), 0),
    "cron-of-many": (("reconcile_invoices", "-v", "0"), 0),
}


@pytest.mark.parametrize(("command", "code"), COMMANDS.values(), ids=COMMANDS)
def test_command_sends_nothing_and_keeps_requests(stock, command, code):
    stock("requested")
    before = stored_rows()[:2]
    assert manage(*command)[0] == code
    assert stored_rows()[:2] == before
    assert sent() == 0


def test_repeats_of_a_command_are_refused(stock):
    stock("in_doubt")
    before = Invoice.objects.values("status", "attempt").get()
    code, text = manage("reconcile_invoices", "--resubmit", "--provider", "firekassa")
    assert code == 4
    assert SENTENCE in text
    assert Invoice.objects.values("status", "attempt").get() == before
    assert sent() == 0


def test_request_on_commit_is_stored_and_carried_out_once_sending_is_allowed(stock, dispatch):
    invoice = stock("created", "cryptocloud")
    with transaction.atomic():
        assert invoice.cancel_on_commit(actor="Ada")
    assert list(Invoice.objects.requested()) == [invoice]
    assert sent() == 0
    dispatch(None, SEND=True)
    assert manage("cancel_invoices", "--requested", "--noinput")[0] == 0
    assert Invoice.objects.get().status == "canceled"
    assert sent() == 1


def test_dry_run_reports_what_the_run_does(stock):
    invoice = stock("created")
    text = manage("cancel_invoices", "--all", "--dry-run", "--format", "jsonl")[1]
    assert '"code": "sending_disabled"' in text
    assert invoice.external_id in text


def test_items_of_an_operation_stay_untried_without_spinning(stock, dispatched):
    operation = start(stock, 3)
    BulkOperation.objects.update(started_at=operation.started_at - timedelta(hours=1))
    del dispatched[:]
    before = stored_rows()[:3]
    assert advance(operation.pk) == Advance(has_more=True, wait_seconds=DISABLED_SECONDS)
    assert manage("run_bulk_operations", "--dispatch") == (0, "")
    code, text = manage("run_bulk_operations")
    assert code == 4
    assert "INVOICE_CANCEL['SEND']" in text
    assert stored_rows()[:3] == before
    assert sent() == 0
    assert dispatched == []


def test_operation_continues_when_sending_is_allowed(stock, dispatch):
    operation = start(stock, 3)
    advance(operation.pk)
    dispatch(None, SEND=True)
    while advance(operation.pk).has_more:
        pass
    assert set(Invoice.objects.values_list("status", flat=True)) == {"canceled"}
    assert sent() == 3


def test_operation_that_checks_ends_without_a_repeat(stock):
    invoice = stock("in_doubt")
    attempt = invoice.attempt
    operation = operations.start(Invoice.objects.all(), operation="check")
    assert advance(operation.pk).is_finished
    assert list(operation.items.values_list("outcome", "code")) == [("skipped", "sending_disabled")]
    invoice.refresh_from_db()
    assert invoice.status == "in_doubt"
    assert invoice.attempt == attempt
    assert sent() == 0


def test_lookups_payments_and_decisions_work_while_sending_is_disabled(stock):
    canceled = stock("in_doubt", "cryptocloud")
    ScriptedProvider.of("cryptocloud").set_status(canceled.external_id, "canceled")
    assert canceled.reconcile().outcome == "already_canceled"
    paid = stock("created")
    assert paid.observe_status("paid")
    decided = stock("in_doubt")
    decided.resolve("expired", actor="Ada", reason="seen")
    assert [invoice.status for invoice in (canceled, paid, decided)] == ["canceled", "paid", "expired"]
    assert sent() == 0


@pytest.mark.parametrize("value", ["False", 0, None, "no"])
def test_value_of_the_wrong_type_sends_nothing(stock, dispatch, value):
    """A value from an environment variable is a string: ``"False"`` must not mean True."""
    invoice = stock()
    dispatch(None, SEND=value)
    with suppress(CancelNotPossible):
        invoice.cancel()
    dispatch(None, SEND=True)
    assert Invoice.objects.get().status == "created"
    assert sent() == 0


# -- the admin ----------------------------------------------------------------------------------------------------


@pytest.fixture
def browser():
    client = Client()
    client.force_login(User.objects.create_superuser("ada"))
    return client


def shown(browser, name, *arguments):
    return browser.get(reverse(f"admin:{name}", args=arguments)).content.decode()


def test_admin_reports_it_above_the_list_and_on_the_pages(stock, browser):
    invoice = stock()
    assert SENTENCE in shown(browser, "invoice_cancel_invoice_changelist")
    assert SENTENCE in shown(browser, "invoice_cancel_invoice_cancel", invoice.pk)
    draft = BulkOperation.objects.draft(Invoice.objects.all(), actor=User.objects.get())
    assert SENTENCE in shown(browser, "invoice_cancel_bulkoperation_operation", draft.pk)


def test_page_of_an_operation_waits_and_processes_nothing(stock, dispatch, browser):
    operation = start(stock, 2)
    dispatch(None)
    page = reverse("admin:invoice_cancel_bulkoperation_operation", args=[operation.pk])
    before = stored_rows()
    assert SENTENCE in browser.get(page).content.decode()
    answer = browser.post(page.rstrip("/") + "/run/", headers={"Accept": "application/json"})
    assert answer.status_code == 200
    assert answer.json()["wait_seconds"] == DISABLED_SECONDS
    assert answer.json()["done"] == 0
    assert stored_rows() == before
    assert sent() == 0


def test_admin_reports_nothing_if_sending_is_allowed(stock, dispatch, browser):
    stock("in_doubt", "cryptocloud")
    dispatch(None, SEND=True)
    assert SENTENCE not in shown(browser, "invoice_cancel_invoice_changelist")
