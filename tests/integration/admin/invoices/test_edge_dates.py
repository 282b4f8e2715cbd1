"""Dates at the ends of the calendar, which other systems use for "never", are shown as stored in every time zone."""

from datetime import UTC, datetime

import pytest
from django.contrib import admin
from django.db.models import QuerySet
from django.urls import path
from django.utils import timezone

from django_invoice_cancel.admin import BulkOperationAdmin, InvoiceAdmin
from django_invoice_cancel.models import BulkOperation, Invoice
from django_invoice_cancel.testing import make_invoice
from tests.support.html import element_texts
from tests.support.invoice_pages import changelist_url, invoice_url
from tests.support.invoices import stored

pytestmark = [pytest.mark.django_db, pytest.mark.urls(__name__)]

ZONES = (
    "Pacific/Kiritimati",
    "Pacific/Pago_Pago",
    pytest.param("Europe/Berlin", marks=pytest.mark.slow),
    pytest.param("UTC", marks=pytest.mark.slow),
)
"""The ends of the calendar overflow in the first two zones, which are farthest from UTC."""
TIMES = {
    "last instant": datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC),
    "last day": datetime(9999, 12, 31, tzinfo=UTC),
    "first instant": datetime(1, 1, 1, tzinfo=UTC),
    "first day": datetime(1, 1, 1, 12, tzinfo=UTC),
}


class HostAdmin(InvoiceAdmin):
    """Lists every date, and lets none be changed."""

    list_display = (*InvoiceAdmin.list_display, "expires_at")
    readonly_fields = ("issued_at", "expires_at")


host = admin.AdminSite(name="host")
host.register(Invoice, HostAdmin)
host.register(BulkOperation, BulkOperationAdmin)
urlpatterns = [path("admin/", admin.site.urls), path("host/", host.urls)]


@pytest.fixture(params=ZONES)
def zone(request, settings):
    if not settings.USE_TZ:
        pytest.skip("without time zones, no time is converted")
    with timezone.override(request.param):
        yield request.param


def invoice_dated(date):
    """An invoice whose dates are at the end of the calendar, as they were before registering refused them."""
    invoice = make_invoice()
    QuerySet(Invoice).filter(pk=invoice.pk).update(issued_at=date, expires_at=date)
    return stored(invoice)


@pytest.mark.parametrize("site", ["admin", "host"])
def test_every_page_shows_an_edge_date_without_converting_it(zone, shop, client_with, site):
    dated = {name: invoice_dated(date) for name, date in TIMES.items()}
    viewer, editor = client_with("view"), client_with("view", "change", "cancel", "resolve")
    for client in (viewer, editor):
        shown = client.get(changelist_url(site=site))  # newest first
        dates = dict(zip(reversed(dated), element_texts(shown, "field-issued_at"), strict=True))
        for name, invoice in dated.items():
            assert ("9999" if invoice.issued_at.year == 9999 else "1,") in dates[name], name
            assert client.get(invoice_url(invoice, site=site)).status_code == 200, name
    assert viewer.get(changelist_url("?o=7", site=site)).status_code == 200
    for name, invoice in dated.items():
        for page in ("history", "cancel", "check", "resolve"):
            assert editor.get(invoice_url(invoice, page, site=site)).status_code == 200, f"{page} of {name}"
        assert stored(invoice).expires_at == invoice.expires_at, name


@pytest.fixture(params=TIMES.values(), ids=TIMES)
def dated(request, shop):
    return invoice_dated(request.param)


def test_edge_date_is_rejected_when_the_form_is_saved(zone, dated, client_with):
    client = client_with("view", "change")
    form = client.get(invoice_url(dated)).context["adminform"].form
    values = [form["issued_at"].value(), form["expires_at"].value()]
    assert {(value.year, value.month) for value in values} <= {(9999, 12), (1, 1)}
    data = {"reference": "new", "amount": "", "currency": "", "issued_at_0": "2026-01-02", "issued_at_1": "03:04:05"}
    refused = client.post(invoice_url(dated), {**data, "expires_at_0": "9999-12-31", "expires_at_1": "23:59:59"})
    assert refused.status_code == 200
    assert "If there is no time, leave it empty." in element_texts(refused, "errorlist")[0]
    assert client.post(invoice_url(dated), {**data, "expires_at_0": "", "expires_at_1": ""}).status_code == 302
    assert stored(dated).reference == "new"
    assert stored(dated).expires_at is None
