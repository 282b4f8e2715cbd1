"""Pages show stored times in local time, with and without ``USE_TZ``."""

from datetime import UTC, datetime

import pytest
import time_machine
from django.contrib import admin
from django.contrib.auth.models import User
from django.db.models import QuerySet
from django.test import Client, override_settings
from django.urls import path, reverse

from django_invoice_cancel import operations
from django_invoice_cancel.admin import InvoiceAdmin
from django_invoice_cancel.models import Invoice
from django_invoice_cancel.testing import make_invoice
from tests.support.html import element_texts, page_text
from tests.support.invoice_pages import invoice_url

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("use_tz")]

IN_SUMMER = datetime(2026, 7, 1, 21, 30, tzinfo=UTC)
LOCALLY = "July 1, 2026, 11:30 p.m."


class WithTimes(InvoiceAdmin):
    list_display = ("external_id", "status_changed_at", "claim_expires_at", "created_at")
    readonly_fields = ("status_changed_at",)


site = admin.AdminSite(name="admin")
site.register(Invoice, WithTimes)
urlpatterns = [path("admin/", site.urls)]


@pytest.fixture
def staff(settings):
    settings.TIME_ZONE = "Europe/Berlin"
    client = Client()
    with time_machine.travel(IN_SUMMER.timestamp(), tick=False):
        client.force_login(User.objects.create_superuser("ada"))
        yield client


def test_page_of_an_invoice(shop, staff):
    invoice = make_invoice("in_doubt")
    QuerySet(Invoice).update(next_check_at=None)
    response = staff.get(invoice_url(invoice))
    for name in ("status_changed_at", "claim_expires_at", "created_at"):
        [field] = element_texts(response, f"field-{name}")
        assert LOCALLY in field, name
    [empty] = element_texts(response, "field-next_check_at")
    assert empty.endswith("-")
    [event, _claim] = element_texts(response, "ic-event")
    assert event.startswith("23:30")


def test_columns_that_a_host_adds_to_the_list(shop, staff):
    make_invoice()
    with override_settings(ROOT_URLCONF=__name__):
        response = staff.get(reverse("admin:invoice_cancel_invoice_changelist"))
        assert element_texts(response, "field-status_changed_at") == [LOCALLY]
        assert element_texts(response, "field-created_at") == [LOCALLY]
        assert element_texts(response, "field-claim_expires_at") == ["-"]
        assert "status changed" in element_texts(response, "column-status_changed_at")[0].lower()
        assert staff.get(reverse("admin:invoice_cancel_invoice_changelist") + "?o=-2").status_code == 200


def test_fields_that_a_host_adds_to_the_page(shop, staff):
    invoice = make_invoice()
    with override_settings(ROOT_URLCONF=__name__):
        response = staff.get(invoice_url(invoice))
    assert [LOCALLY in text for text in element_texts(response, "field-status_changed_at")] == [True]


def test_list_and_the_page_of_an_operation(shop, staff):
    make_invoice()
    operation = operations.start(Invoice.objects.all(), actor="ada")
    listed = staff.get(reverse("admin:invoice_cancel_bulkoperation_changelist"))
    assert element_texts(listed, "field-created_at") == [LOCALLY]
    shown = staff.get(reverse("admin:invoice_cancel_bulkoperation_operation", args=[operation.pk]))
    assert f"Started by ada, {LOCALLY}" in page_text(shown)
