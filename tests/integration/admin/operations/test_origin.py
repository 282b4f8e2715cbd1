"""An operation leads back to the list in which its invoices were selected, with its filter, and names the filter."""

from pathlib import Path
from urllib.parse import quote

import django
import pytest
from django.contrib.admin import site as default_site
from django.db.models import QuerySet
from django.urls import reverse
from django.utils import timezone

from django_invoice_cancel.admin.operations.origin import origin_admin, origin_url
from django_invoice_cancel.models import BulkOperation, BulkOperationItem, Invoice
from django_invoice_cancel.testing import make_invoice
from tests.integration.admin.operations import custom_site
from tests.support.html import element_texts, link_addresses, page_text
from tests.support.invoices import count_statuses
from tests.support.operation_pages import operation_url, run_slice

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.urls("tests.integration.admin.operations.custom_site"),
]

TEMPLATES = Path(__file__).parent / "templates"
INVOICES = "admin:invoice_cancel_invoice_changelist"
ORDERS = "shop_admin:invoice_cancel_bulkoperationitem_changelist"
FILTER = "status__exact=created&issued_from=2026-11-16&issued_to=2026-11-22&q=order"


@pytest.fixture
def select(operator_client):
    """Return a function that runs an action in a list with a filter, and returns the latest operation."""

    def run(rows, query="", address=INVOICES, client=operator_client):
        data = {"action": "cancel_selected_invoices", "_selected_action": [row.pk for row in rows]}
        assert client.post(f"{reverse(address)}?{query}", data).status_code == 302
        return BulkOperation.objects.latest("created_at")

    return run


def invoice(**fields):
    when = timezone.make_aware(timezone.datetime(2026, 11, 18, 12))
    when = when if timezone.is_aware(timezone.now()) else timezone.make_naive(when)
    return make_invoice(provider="firekassa", reference="order-1", **{"issued_at": when, **fields})


def breadcrumbs(response):
    page = response.content.decode().partition('class="breadcrumbs"')[2]
    end = "</ol>" if django.VERSION >= (6, 1) else "</div>"
    return [link for link in page.partition(end)[0].replace("&amp;", "&").split('"') if link.startswith("/")]


def way_back(response):
    [address] = [
        link.partition('"')[0].replace("&amp;", "&")
        for link in response.content.decode().split('cancel-link" href="')[1:]
    ]
    return address


def confirm(client, draft):
    response = client.post(operation_url(draft, "confirm"), {"reason": "old"})
    draft.refresh_from_db()
    return response


def test_confirmation_names_the_filter_and_the_dates(scripted_provider, operator_client, select):
    draft = select([invoice()], FILTER)
    response = operator_client.get(operation_url(draft))
    assert element_texts(response, "bo-who") == [
        "Filter of the list: “order”; status: Open; issued: 16\N{EN DASH}22 Nov 2026",
        "Issued: 18 Nov 2026",
    ]
    assert scripted_provider.cancel_count == 0


def test_confirmation_without_a_filter_names_the_dates_only(scripted_provider, operator_client, select):
    draft = select([invoice()], "p=1&o=-3")
    assert element_texts(operator_client.get(operation_url(draft)), "bo-who") == ["Issued: 18 Nov 2026"]
    assert scripted_provider.cancel_count == 0


def test_no_leads_back_to_the_list_with_its_filter(scripted_provider, operator_client, select):
    response = operator_client.get(operation_url(select([invoice()], FILTER)))
    list_url = f"{reverse(INVOICES)}?{FILTER}"
    assert way_back(response) == list_url
    assert breadcrumbs(response)[-1] == list_url
    assert scripted_provider.cancel_count == 0
    assert count_statuses() == {"created": 1}


def test_nothing_to_do_leads_back_as_well(scripted_provider, operator_client, select):
    draft = select([make_invoice("paid", provider="firekassa")], "status__exact=paid")
    response = operator_client.get(operation_url(draft))
    assert way_back(response) == f"{reverse(INVOICES)}?status__exact=paid"
    assert scripted_provider.cancel_count == 0


def test_report_leads_back_and_its_invoices_keep_the_filter(scripted_provider, operator_client, select):
    chosen = invoice()
    draft = select([chosen], FILTER)
    confirm(operator_client, draft)
    run_slice(operator_client, draft)
    links = link_addresses(operator_client.get(operation_url(draft)))
    assert f"{reverse(INVOICES)}?{FILTER}" in links
    change = reverse("admin:invoice_cancel_invoice_change", args=[chosen.pk])
    assert f"{change}?_changelist_filters={quote(FILTER, safe='')}" in links
    assert scripted_provider.cancel_count == 1
    assert count_statuses() == {"canceled": 1}


def test_list_that_became_shorter_keeps_its_filter(scripted_provider, operator_client, select, monkeypatch):
    """After a cancellation, the page on which the invoices were selected may no longer exist."""
    draft = select([invoice()], "status__exact=created&p=1")
    assert "p=1" in way_back(operator_client.get(operation_url(draft)))
    confirm(operator_client, draft)
    links = link_addresses(operator_client.get(operation_url(draft)))
    assert f"{reverse(INVOICES)}?status__exact=created" in links
    monkeypatch.setattr(custom_site.InvoiceAdmin, "list_per_page", 1)
    make_invoice(provider="firekassa", reference="order-2")
    behind = operator_client.get(f"{reverse(INVOICES)}?status__exact=created&p=7")
    assert behind.status_code == 200
    assert [row.reference for row in behind.context["cl"].result_list] == ["order-1"]
    assert scripted_provider.cancel_count == 0


def test_selection_of_orders_leads_back_to_the_orders(scripted_provider, operator_client, invoices, select, settings):
    settings.TEMPLATES = [settings.TEMPLATES[0] | {"DIRS": [TEMPLATES]}]
    earlier = BulkOperation.objects.draft(Invoice.objects.filter(pk__in=[row.pk for row in invoices(1)]))
    query = f"operation__id__exact={earlier.pk}"
    draft = select(BulkOperationItem.objects.filter(operation=earlier), query, ORDERS)
    response = operator_client.get(operation_url(draft, site="shop_admin"))
    assert f"{reverse(ORDERS)}?{query}" in link_addresses(response)
    assert breadcrumbs(response)[-1] == f"{reverse(ORDERS)}?{query}"
    assert f"operation__id__exact = {earlier.pk}" in page_text(response)
    elsewhere = operator_client.get(operation_url(draft))
    assert way_back(elsewhere) == reverse(INVOICES)
    assert scripted_provider.cancel_count == 0


@pytest.mark.parametrize("unknown", ["", "shop.order", "nonsense", "auth.user", "https://evil.test/"])
def test_list_that_the_user_may_not_open_is_replaced_by_the_invoices(
    scripted_provider, operator_client, select, unknown
):
    draft = select([invoice()], FILTER)
    QuerySet(BulkOperation).update(selected_in=unknown)
    assert way_back(operator_client.get(operation_url(draft))) == reverse(INVOICES)
    assert scripted_provider.cancel_count == 0


@pytest.mark.parametrize("forged", ["//evil.test/", "next=//evil.test/", '"><script>', "@evil.test"])
def test_stored_query_never_leads_to_another_host(scripted_provider, operator_client, select, rf, operator, forged):
    draft = select([invoice()], FILTER)
    QuerySet(BulkOperation).update(selected_query=forged)
    draft.refresh_from_db()
    request = rf.get("/")
    request.user = operator
    url = origin_url(origin_admin(default_site, request, draft), draft)
    assert url.startswith(f"{reverse(INVOICES)}?")
    assert not set('"<>@') & set(url)
    assert way_back(operator_client.get(operation_url(draft))) == url
    assert scripted_provider.cancel_count == 0


def test_follow_up_leads_back_to_the_report(scripted_provider, supervisor_client, select):
    """The confirmation of a next step returns to the report; its own report leads to the list and to the first one."""
    chosen = invoice()
    scripted_provider.next_cancels("not_processed", external_id=chosen.external_id)
    first = select([chosen], FILTER, client=supervisor_client)
    confirm(supervisor_client, first)
    run_slice(supervisor_client, first)
    group = {"outcome": "not_processed", "code": first.items.get().code, "provider": "firekassa"}
    assert supervisor_client.post(operation_url(first, "again"), group).status_code == 302
    draft = BulkOperation.objects.latest("created_at")
    assert draft.continues == first
    assert way_back(supervisor_client.get(operation_url(draft))) == operation_url(first)
    confirm(supervisor_client, draft)
    response = supervisor_client.get(operation_url(draft))
    assert "Follows: Cancellation of 1 invoice · Back to the list: Invoices" in element_texts(response, "bo-who")
    assert f"{reverse(INVOICES)}?{FILTER}" in link_addresses(response)
    assert scripted_provider.cancel_count == 1


def test_filter_is_hidden_from_users_who_do_not_see_every_invoice(
    scripted_provider, operator_client, select, monkeypatch
):
    hidden = invoice(external_id="7")
    draft = select([invoice(), hidden], FILTER)
    monkeypatch.setattr(
        custom_site.InvoiceAdmin, "get_queryset", lambda self, request: Invoice.objects.exclude(pk=hidden.pk)
    )
    assert "Filter of the list" not in page_text(operator_client.get(operation_url(draft)))
    assert scripted_provider.cancel_count == 0


def test_list_of_operations_is_where_its_filter_leads_back_to(scripted_provider, operator_client, select):
    draft = select([invoice()])
    confirm(operator_client, draft)
    listing = reverse("admin:invoice_cancel_bulkoperation_changelist")
    [address] = [
        link
        for link in link_addresses(operator_client.get(f"{listing}?progress__exact=running"))
        if link.startswith(operation_url(draft))
    ]
    assert breadcrumbs(operator_client.get(address))[-1] == f"{listing}?progress__exact=running"
    assert scripted_provider.cancel_count == 0


def test_draft_is_called_a_draft(scripted_provider, operator_client, select):
    draft = select([invoice()])
    response = operator_client.get(reverse("admin:invoice_cancel_bulkoperation_changelist"))
    assert element_texts(response, "field-state") == ["Draft"]
    assert element_texts(response, "field-name") == ["Cancellation of 1 invoice"]
    assert str(draft) == "Cancellation of 1 invoice"
    assert scripted_provider.cancel_count == 0
