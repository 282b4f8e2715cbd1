"""Rows of a newer version of this app, after a rollback: every page shows them unchanged (P8)."""

import csv
import io

import pytest
from django.db.models import QuerySet

from django_invoice_cancel.models import BulkOperation, BulkOperationItem, Invoice, InvoiceTransition
from django_invoice_cancel.testing import make_invoice
from tests.support.html import element_texts
from tests.support.invoice_pages import changelist_url, invoice_url
from tests.support.invoices import stored
from tests.support.newer import NEWER, newer_schema, set_newer_status
from tests.support.operation_pages import click_run, operation_url

pytestmark = pytest.mark.django_db(transaction=True)

OPERATIONS = "/admin/invoice_cancel/bulkoperation/"


@pytest.fixture(autouse=True)
def any_status(transactional_db):
    with newer_schema():
        yield


@pytest.fixture
def superuser(client_with):
    """May do everything that is offered to anybody."""
    return client_with(is_superuser=True)


@pytest.fixture(params=["created", "in_doubt", "requested", "paid_after_cancel"])
def newer(request, shop):
    """An invoice with a history and with a status that this version does not know."""
    invoice = make_invoice(request.param)
    set_newer_status(invoice)
    return stored(invoice)


def buttons(response):
    return element_texts(response, "ic-buttons")


@pytest.mark.parametrize("query", ["", "?attention=any", f"?status__exact={NEWER}", "?status__exact=created", "?q=x"])
def test_list_shows_a_newer_status_unchanged(shop, superuser, newer, query):
    other = make_invoice()
    response = superuser.get(changelist_url(query))
    assert response.status_code == 200
    if not query:
        assert sorted(element_texts(response, "ic-status")) == ["Open", NEWER]
        assert {row.pk for row in response.context["cl"].result_list} == {newer.pk, other.pk}


def test_page_shows_a_newer_status_and_offers_no_action(shop, superuser, newer):
    response = superuser.get(invoice_url(newer))
    (sentence,) = element_texts(response, "ic-state")
    assert f"“{NEWER}”" in sentence
    assert "newer version" in sentence
    assert buttons(response) == []
    assert NEWER in element_texts(response, "field-state")[0]
    assert superuser.get(invoice_url(newer, "history")).status_code == 200


@pytest.mark.parametrize("name", ["cancel", "check", "resolve", "handled", "withdraw"])
def test_pages_of_a_newer_status_send_nothing(shop, superuser, newer, name):
    response = superuser.get(invoice_url(newer, name))
    assert element_texts(response, "ic-remark") == [
        "Its status was written by a newer version of this app. Use that version."
    ]
    assert "submit" not in element_texts(response, "ic-ask")[0]
    before = stored(newer)
    data = {"reason": "x", "note": "x", "decision": "canceled", "repeat": "yes", "attempt": newer.attempt or ""}
    assert superuser.post(invoice_url(newer, name), data).status_code in (200, 302)
    assert stored(newer).status == before.status == NEWER
    assert shop.cancel_count == 0
    assert shop.lookup_count == 0


def test_fields_of_the_host_can_be_edited(shop, superuser, newer):
    fields = {"reference": "order-9", "amount": "", "currency": "", "expires_at_0": "", "expires_at_1": ""}
    issued = {"issued_at_0": "2026-01-02", "issued_at_1": "03:04:05"}
    assert superuser.post(invoice_url(newer), {**fields, **issued}).status_code == 302
    assert stored(newer).reference == "order-9"
    assert stored(newer).status == NEWER


@pytest.mark.parametrize("kind", ["cancel", "check", "resolve"])
def test_operation_skips_a_newer_status_and_continues(shop, superuser, newer, kind):
    other = make_invoice("in_doubt" if kind == "resolve" else "created")
    data = {"action": f"{kind}_selected_invoices", "_selected_action": [newer.pk, other.pk]}
    superuser.post(changelist_url(), data)
    address = operation_url(BulkOperation.objects.get())
    shown = superuser.get(address)
    if kind != "check":
        preview = shown.context["preview"]
        assert preview.count == 1
        assert preview.left_out_count == 1
        superuser.post(f"{address}confirm/", {"reason": "x", "decision": "canceled"})
    click_run(superuser, BulkOperation.objects.get())
    report = superuser.get(address)
    assert BulkOperation.objects.get().progress == "finished"
    assert NEWER in element_texts(report, "bo-scroll")[0]
    (group,) = [each for each in report.context["groups"] if each.outcome == "skipped"]
    assert group.count == "1"
    assert group.step is None
    lines = list(csv.reader(io.StringIO(superuser.get(f"{address}report.csv").getvalue().decode("utf-8-sig"))))
    assert {line[1]: line[8] for line in lines}[newer.external_id] == NEWER
    assert stored(newer).status == NEWER
    sent = {"cancel": ([other.external_id], 0), "check": ([], 1), "resolve": ([], 0)}[kind]
    assert (shop.cancels, shop.lookup_count) == sent


# -- the log and the operations -------------------------------------------------------------------------------


NEWER_COLUMNS = (
    "from_status",
    "to_status",
    "outcome",
    "code",
    "trigger",
    "outcome code duration_ms",
    "to_status outcome",
)


@pytest.mark.parametrize("state", ["refused", "in_doubt", "canceled", "requested", "paid_after_cancel"])
def test_log_with_newer_values_is_shown(shop, superuser, state):
    for columns in NEWER_COLUMNS:
        invoice = make_invoice(state)
        values = {name: 40 if name == "duration_ms" else NEWER for name in columns.split()}
        last = InvoiceTransition.objects.filter(invoice=invoice).latest("id")
        QuerySet(InvoiceTransition).filter(pk=last.pk).update(**values)
        shown = superuser.get(invoice_url(invoice))
        assert shown.status_code == 200, columns
        if columns in ("trigger", "outcome code duration_ms"):
            assert NEWER in element_texts(shown, "ic-timeline")[0], columns
        pages = ("history", "cancel", "check", "resolve") if " " in columns else ("history",)
        for name in pages:
            assert superuser.get(invoice_url(invoice, name)).status_code == 200, f"{columns}: {name}"


@pytest.mark.parametrize("progress", ["draft", "running", "stopped", "finished", NEWER])
@pytest.mark.parametrize("operation", ["cancel", "check", "resolve", NEWER])
def test_operation_with_newer_values_is_shown_and_not_processed(shop, superuser, progress, operation):
    invoice = make_invoice()
    made = BulkOperation.objects.draft(Invoice.objects.all(), actor="Ada")
    BulkOperation.objects.update(operation=operation, progress=progress)
    BulkOperationItem.objects.create(operation=made, label="x", outcome=NEWER, code=NEWER)
    address = f"{OPERATIONS}{made.pk}/"
    assert superuser.get(OPERATIONS).status_code == 200
    assert superuser.get(f"{address}report.csv").getvalue()
    assert superuser.get(address).status_code == 200
    assert superuser.get(f"{address}?format=json").status_code == 200
    if NEWER in (operation, progress):
        for name in ("confirm", "run", "stop", "continue", "again"):
            assert superuser.post(f"{address}{name}/", {"reason": "x"}).status_code in (302, 403)
        assert stored(invoice).status == "created"
        made.refresh_from_db()
        assert made.operation == operation
        assert made.progress == progress
    assert shop.cancel_count == 0
    assert shop.lookup_count == 0
