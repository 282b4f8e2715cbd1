"""The pages work for 3 and for 100,000 invoices: complete selections, a constant number of queries, small forms."""

import re

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from django_invoice_cancel.models import BulkOperation, Invoice
from tests.support.html import page_text
from tests.support.invoices import set_columns
from tests.support.operation_pages import operation_url, run_slice

pytestmark = pytest.mark.django_db(transaction=True)
STATES = ("created", "in_doubt", "paid", "expired", "canceled")


def queries(call):
    with CaptureQueriesContext(
        connection,
    ) as captured:
        call()
    return len(captured)


def test_all_of_1200_are_canceled(scripted_provider, operator_client, invoices, choose):
    draft = choose(operator_client, invoices(1_200))
    assert "Cancel 1,200 invoices?" in page_text(operator_client.get(operation_url(draft)))
    operator_client.post(operation_url(draft, "confirm"), {"reason": "too old"})
    while run_slice(operator_client, draft)["state"].startswith("running"):
        pass
    assert "1,200 canceled." in page_text(operator_client.get(operation_url(draft)))
    assert Invoice.objects.filter(status="canceled").count() == 1_200
    assert scripted_provider.cancel_count == 1_200


@pytest.mark.parametrize("step", ["select", "confirm", "progress", "poll", "report", "list"])
def test_queries_do_not_grow_with_the_invoices(scripted_provider, operator_client, invoices, choose, step):
    few, many = (queries(prepared(step, number, operator_client, invoices, choose)) for number in (5, 300))
    assert few == many


def prepared(step, number, operator_client, invoices, choose):
    """Return the call that is counted, after all that comes before it, for so many invoices of each kind."""
    Invoice.objects.all()
    chosen = invoices(number)
    for index, invoice in enumerate(chosen):
        set_columns(invoice, status=STATES[index % len(STATES)])
    if step == "select":
        return lambda: choose(operator_client, chosen)
    draft = choose(operator_client, chosen)
    if step == "confirm":
        return lambda: operator_client.get(operation_url(draft))
    draft.confirm()
    if step == "progress":
        return lambda: operator_client.get(operation_url(draft))
    if step == "poll":
        return lambda: operator_client.get(operation_url(draft) + "?format=json")
    run_slice(operator_client, draft)
    if step == "list":
        for _each in range(number // 20):
            BulkOperation.objects.draft(Invoice.objects.filter(pk=chosen[0].pk), actor="Ada")
        return lambda: operator_client.get(reverse("admin:invoice_cancel_bulkoperation_changelist"))
    return lambda: operator_client.get(operation_url(draft))


def test_no_form_lists_the_invoices(scripted_provider, operator_client, invoices, choose):
    draft = choose(operator_client, invoices(300))
    shown = operator_client.get(operation_url(draft)).content.decode()
    assert len(re.findall(r"<(?:input|textarea|select)\b", shown)) < 20
    operator_client.post(operation_url(draft, "confirm"), {"reason": "x"})
    assert (
        len(re.findall(r"<(?:input|textarea|select)\b", operator_client.get(operation_url(draft)).content.decode()))
        < 20
    )


def test_pages_have_nothing_inline(scripted_provider, operator_client, invoices, choose):
    """A strict Content-Security-Policy: no script, style or handler but in files."""
    draft = choose(operator_client, [*invoices(2)])
    pages = [operator_client.get(operation_url(draft)).content.decode()]
    operator_client.post(operation_url(draft, "confirm"), {"reason": "x"})
    pages.append(operator_client.get(operation_url(draft)).content.decode())
    run_slice(operator_client, draft)
    pages.append(operator_client.get(operation_url(draft)).content.decode())
    for shown in pages:
        own = shown[shown.index('class="bulk-operation"') :]
        assert not re.search(r"<script(?![^>]*\bsrc=)|<style|\sstyle=|\son\w+=", own)
    assert "invoice_cancel/bulk_operation.js" not in pages[0]
    assert "invoice_cancel/bulk_operation.js" in pages[1]
    assert "invoice_cancel/bulk_operation.js" in pages[2]
