"""Permissions: every URL by GET and POST for every kind of user. Without permission nothing is written or sent."""

import pytest

from django_invoice_cancel.admin import InvoiceAdmin
from django_invoice_cancel.testing import make_invoice
from tests.support.invoice_pages import changelist_url, count_both_logs, invoice_url
from tests.support.invoices import stored

pytestmark = pytest.mark.django_db

WHO = {
    "none": ((), {}),
    "view": (("view",), {}),
    "change": (("view", "change"), {}),
    "cancel": (("view", "cancel"), {}),
    "resolve": (("view", "resolve"), {}),
    "cancel, blind": (("cancel",), {}),
    "superuser": ((), {"is_superuser": True}),
}
MAY = {
    "view": {"change", "history"},
    "change": {"change", "history"},
    "cancel": {"change", "history", "cancel", "check", "withdraw"},
    "resolve": {"change", "history", "resolve", "handled"},
    "superuser": {"change", "history", "cancel", "check", "resolve", "handled", "withdraw"},
}
ANSWERS = {
    "cancel": {"reason": "old"},
    "check": {},
    "resolve": {"decision": "canceled", "reason": "seen"},
    "handled": {"note": "paid back"},
    "withdraw": {"reason": "a mistake"},
}
BEFORE = {
    "cancel": "created",
    "check": "created",
    "resolve": "in_doubt",
    "handled": "paid_after_cancel",
    "withdraw": "requested",
}


@pytest.mark.parametrize("who", WHO)
@pytest.mark.parametrize("name", ["change", "history", *ANSWERS])
def test_page_is_shown_to_users_with_permission(shop, client_with, who, name):
    actions, fields = WHO[who]
    client, invoice = client_with(*actions, **fields), make_invoice(BEFORE.get(name, "created"))
    before = count_both_logs()
    status = client.get(invoice_url(invoice, name)).status_code
    assert status == (200 if name in MAY.get(who, ()) else 403)
    assert count_both_logs() == before
    assert shop.cancel_count == 0
    assert shop.lookup_count == 0


@pytest.mark.parametrize("who", WHO)
@pytest.mark.parametrize("name", ANSWERS)
def test_action_is_performed_for_users_with_permission(shop, client_with, who, name):
    actions, fields = WHO[who]
    client, invoice = client_with(*actions, **fields), make_invoice(BEFORE[name])
    before, status = count_both_logs(), invoice.status
    response = client.post(invoice_url(invoice, name), {**ANSWERS[name], "attempt": invoice.attempt or ""})
    asked = shop.cancel_count + shop.lookup_count
    if name in MAY.get(who, ()):
        assert response.status_code == 302
        assert count_both_logs()[1] == before[1] + 1
        assert asked == (name in ("cancel", "check"))
    else:
        assert response.status_code == 403
        assert count_both_logs() == before
        assert asked == 0
        assert stored(invoice).status == status


@pytest.mark.parametrize("who", WHO)
def test_list_is_shown_to_users_with_permission(shop, client_with, who):
    actions, fields = WHO[who]
    status = client_with(*actions, **fields).get(changelist_url()).status_code
    assert status == (200 if who in MAY else 403)


@pytest.mark.parametrize("name", ANSWERS)
def test_anonymous_user_is_redirected_to_the_login(shop, client, name):
    invoice = make_invoice(BEFORE[name])
    before = count_both_logs()
    response = client.post(invoice_url(invoice, name), ANSWERS[name])
    assert response.status_code == 302
    assert "/login/" in response["Location"]
    assert count_both_logs() == before
    assert shop.cancel_count == 0
    assert shop.lookup_count == 0


@pytest.mark.parametrize("name", ANSWERS)
def test_post_needs_a_csrf_token(shop, operator, name):
    invoice = make_invoice(BEFORE[name])
    before = count_both_logs()
    operator.handler.enforce_csrf_checks = True
    response = operator.post(invoice_url(invoice, name), {**ANSWERS[name], "attempt": invoice.attempt or ""})
    assert response.status_code == 403
    assert count_both_logs() == before
    assert shop.cancel_count == 0
    assert shop.lookup_count == 0


@pytest.mark.parametrize("name", ["change", *ANSWERS])
def test_each_form_contains_a_csrf_token(shop, operator, name):
    body = operator.get(invoice_url(make_invoice(BEFORE.get(name, "in_doubt")), name)).content.decode()
    assert body.count('method="post"') == body.count('name="csrfmiddlewaretoken"') >= 2


@pytest.mark.parametrize("name", ANSWERS)
@pytest.mark.parametrize("method", ["get", "post"])
def test_permission_method_decides_for_each_invoice(shop, operator, monkeypatch, name, method):
    """A host says: not this one. The other one still goes."""
    barred, other = make_invoice(BEFORE[name]), make_invoice(BEFORE[name])

    def permits(self, request, obj=None):
        return obj is None or obj.pk != barred.pk

    monkeypatch.setattr(InvoiceAdmin, "has_cancel_permission", permits)
    monkeypatch.setattr(InvoiceAdmin, "has_resolve_permission", permits)
    before = count_both_logs()
    data = {**ANSWERS[name], "attempt": barred.attempt or ""}
    assert getattr(operator, method)(invoice_url(barred, name), data).status_code == 403
    assert count_both_logs() == before
    assert shop.cancel_count == 0
    assert shop.lookup_count == 0
    assert operator.get(invoice_url(other, name)).status_code == 200


@pytest.mark.parametrize("name", ["change", *ANSWERS])
@pytest.mark.parametrize("method", ["get", "post"])
def test_invoice_outside_of_the_hosts_query_set_is_not_found(shop, client_with, monkeypatch, name, method):
    client, invoice = client_with("view", "change", "cancel", "resolve"), make_invoice(BEFORE.get(name, "created"))
    full = InvoiceAdmin.get_queryset
    monkeypatch.setattr(InvoiceAdmin, "get_queryset", lambda self, request: full(self, request).exclude(pk=invoice.pk))
    before = count_both_logs()
    response = getattr(client, method)(invoice_url(invoice, name), ANSWERS.get(name, {}))
    assert response.status_code == (302 if name == "change" else 404)
    assert count_both_logs() == before
    assert shop.cancel_count == 0
    assert shop.lookup_count == 0
