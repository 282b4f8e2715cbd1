"""The change URL of an operation, as the admin's log and bookmarks contain it."""

import uuid

import pytest
from django.contrib import admin
from django.urls import reverse

from django_invoice_cancel import operations
from django_invoice_cancel.models import BulkOperation, Invoice
from django_invoice_cancel.testing import make_invoice
from tests.support.operation_pages import operation_url
from tests.support.users import client_of, user_with

pytestmark = pytest.mark.django_db


@pytest.fixture
def stored_operation(scripted_provider):
    make_invoice(provider="firekassa")
    return operations.start(Invoice.objects.all(), operation="cancel", actor="Ada")


def change_url(key):
    return reverse("admin:invoice_cancel_bulkoperation_change", args=[key])


def test_change_url_redirects_to_the_page_of_the_operation(stored_operation):
    client = client_of(user_with("view_invoice", "cancel_invoice"))
    response = client.get(change_url(stored_operation.pk))
    assert response.status_code == 302
    assert response.headers["Location"] == operation_url(stored_operation)


@pytest.mark.parametrize("codenames", [[], ["view_invoice"], ["cancel_invoice"]], ids=["none", "view", "cancel"])
def test_response_without_permission_does_not_reveal_whether_an_operation_exists(
    scripted_provider, stored_operation, codenames
):
    client = client_of(user_with(*codenames))
    existing = client.get(change_url(stored_operation.pk))
    missing = client.get(change_url(uuid.uuid4()))
    assert existing.status_code == missing.status_code
    assert existing.status_code in (403, 404)
    assert stored_operation.items.filter(outcome="").count() == 1
    assert scripted_provider.cancel_count == 0


def test_denied_operation_looks_like_a_missing_one(stored_operation, monkeypatch):
    model_admin = admin.site.get_model_admin(BulkOperation)
    permits = model_admin.has_view_permission
    monkeypatch.setattr(model_admin, "has_view_permission", lambda request, obj=None: permits(request) and obj is None)
    client = client_of(user_with("view_invoice", "cancel_invoice"))
    assert client.get(change_url(stored_operation.pk)).status_code == 404
    assert client.get(change_url(uuid.uuid4())).status_code == 404
