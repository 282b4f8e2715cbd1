"""Permissions of single invoices, and forged requests. Without permission nothing is written or sent."""

import pytest

from django_invoice_cancel.admin import InvoiceAdmin
from django_invoice_cancel.testing import make_invoice
from tests.support.invoice_pages import FORM_DATA, count_both_logs, invoice_url

pytestmark = pytest.mark.django_db

BEFORE = {
    "cancel": "created",
    "check": "created",
    "resolve": "in_doubt",
    "handled": "paid_after_cancel",
    "withdraw": "requested",
}


@pytest.mark.parametrize("name", FORM_DATA)
def test_post_needs_a_csrf_token(shop, operator, name):
    invoice = make_invoice(BEFORE[name])
    before = count_both_logs()
    operator.handler.enforce_csrf_checks = True
    response = operator.post(invoice_url(invoice, name), {**FORM_DATA[name], "attempt": invoice.attempt or ""})
    assert response.status_code == 403
    assert count_both_logs() == before
    assert shop.cancel_count == 0
    assert shop.lookup_count == 0


@pytest.mark.parametrize("name", ["change", *FORM_DATA])
def test_each_form_contains_a_csrf_token(shop, operator, name):
    body = operator.get(invoice_url(make_invoice(BEFORE.get(name, "in_doubt")), name)).content.decode()
    assert body.count('method="post"') == body.count('name="csrfmiddlewaretoken"') >= 2


@pytest.mark.parametrize("name", FORM_DATA)
@pytest.mark.parametrize("method", ["get", "post"])
def test_permission_method_decides_for_each_invoice(shop, operator, monkeypatch, name, method):
    """A host says: not this one. The other one still goes."""
    barred, other = make_invoice(BEFORE[name]), make_invoice(BEFORE[name])

    def permits(self, request, obj=None):
        return obj is None or obj.pk != barred.pk

    monkeypatch.setattr(InvoiceAdmin, "has_cancel_permission", permits)
    monkeypatch.setattr(InvoiceAdmin, "has_resolve_permission", permits)
    before = count_both_logs()
    data = {**FORM_DATA[name], "attempt": barred.attempt or ""}
    assert getattr(operator, method)(invoice_url(barred, name), data).status_code == 403
    assert count_both_logs() == before
    assert shop.cancel_count == 0
    assert shop.lookup_count == 0
    assert operator.get(invoice_url(other, name)).status_code == 200
