"""The admin of a child class whose form has the fields that the class adds."""

import pytest
from django.contrib import admin
from django.contrib.auth.models import User
from django.urls import path, reverse

from django_invoice_cancel.admin import InvoiceAdmin
from django_invoice_cancel.models import Invoice
from tests.apps.child_models.models import GiftInvoice

pytestmark = [pytest.mark.django_db, pytest.mark.urls("tests.integration.child_models.test_own_fields")]


class GiftAdmin(InvoiceAdmin):
    """Shows the fields that its class and the class above add."""

    fields = ("provider", "external_id", "shop", "message")


site = admin.AdminSite(name="gifts")
site.register(GiftInvoice, GiftAdmin)
urlpatterns = [path("admin/", site.urls)]

VALUES = {"provider": "shop", "external_id": "A-17", "shop": "north", "message": "for you"}


@pytest.fixture
def browser(client):
    client.force_login(User.objects.create_superuser("ada"))
    return client


def test_add_form_has_the_fields_of_the_class(account, browser):
    """Those of the class itself and of the child that it inherits from."""
    answer = browser.post(reverse("admin:child_models_giftinvoice_add"), VALUES)
    assert answer.status_code == 302
    assert answer.get("location") == reverse("admin:child_models_giftinvoice_changelist")
    gift = GiftInvoice.objects.get()
    assert gift.external_id == "A-17"
    assert gift.shop == "north"
    assert gift.message == "for you"
    assert gift.status == "created"
    assert account.cancel_count == 0
    assert Invoice.objects.count() == 1


def test_add_form_does_not_make_a_registered_invoice_a_child(account, browser):
    Invoice.objects.register(provider="shop", external_id="A-17")
    assert browser.post(reverse("admin:child_models_giftinvoice_add"), VALUES).status_code == 200
    assert account.cancel_count == 0
    assert Invoice.objects.count() == 1
    assert GiftInvoice.objects.count() == 0
