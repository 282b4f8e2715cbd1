"""Each page of an invoice leads back to the list with its filter, and from one invoice in doubt to the next one."""

import re
from datetime import timedelta
from urllib.parse import quote

import pytest
from django.urls import reverse

from django_invoice_cancel.admin import InvoiceAdmin
from django_invoice_cancel.models import Invoice
from django_invoice_cancel.testing import make_invoice
from tests.support.html import link_addresses, shown_messages
from tests.support.invoice_pages import FORM_DATA, PAGES, changelist_url, invoice_url
from tests.support.invoices import count_statuses

pytestmark = pytest.mark.django_db

FILTER = "attention=any&provider=shop"
KEPT = "?_changelist_filters=" + quote(FILTER, safe="")
HOUR = timedelta(hours=1)
STORIES = {
    "cancel": "created",
    "check": "in_doubt",
    "resolve": "in_doubt",
    "handled": "paid_after_cancel",
    "withdraw": "requested",
}


def next_in_doubt(response):
    """Return the address in the message after an action, or None."""
    _level, text = shown_messages(response)[-1]
    return text.partition('<a href="')[2].partition('"')[0] or None


def breadcrumbs(response):
    """Return the addresses of the breadcrumbs."""
    page = response.content.decode().partition('class="breadcrumbs"')[2]
    return [link.replace("&amp;", "&") for link in re.findall(r'href="([^"]*)"', re.split("</div>|</ol>", page)[0])]


def resolve(client, invoice, query=""):
    data = {"decision": "canceled", "reason": "seen there", "attempt": invoice.attempt}
    return client.post(invoice_url(invoice, "resolve") + query, data)


@pytest.mark.parametrize("page", ["change", "history", *PAGES])
def test_breadcrumb_leads_to_the_filtered_list(shop, operator, page):
    invoice = make_invoice(STORIES.get(page, "created"))
    response = operator.get(invoice_url(invoice, page) + KEPT)
    links = breadcrumbs(response)
    assert links[2] == changelist_url(f"?{FILTER}")
    assert links[3:] == ([] if page == "change" else [invoice_url(invoice) + KEPT])
    assert shop.cancel_count == 0
    assert shop.lookup_count == 0


@pytest.mark.parametrize("page", PAGES)
def test_buttons_and_the_result_keep_the_filter(shop, operator, page):
    invoice = make_invoice(STORIES[page])
    address = invoice_url(invoice, page) + KEPT
    assert f'"{address}"' in operator.get(invoice_url(invoice) + KEPT).content.decode()
    response = operator.post(address, {**FORM_DATA[page], "attempt": invoice.attempt or "", "seen": invoice.status})
    assert response.headers["Location"] == invoice_url(invoice) + KEPT
    assert shop.cancel_count == (1 if page == "cancel" else 0)
    assert shop.lookup_count == (1 if page == "check" else 0)


def test_without_a_filter_the_addresses_have_none(shop, operator):
    invoice = make_invoice()
    assert invoice_url(invoice, "cancel") in link_addresses(operator.get(invoice_url(invoice)))
    assert invoice_url(invoice) in link_addresses(operator.get(invoice_url(invoice, "cancel")))
    assert shop.cancel_count == 0


@pytest.mark.parametrize(
    "forged", ["https://evil.test/", "//evil.test/", "javascript:alert(1)", "a=1&next=//evil.test", '"><script>']
)
def test_forged_filter_stays_within_the_list(shop, operator, forged):
    invoice = make_invoice()
    query = "?_changelist_filters=" + quote(forged, safe="")
    shown = operator.get(invoice_url(invoice, "cancel") + query)
    links = [*breadcrumbs(shown), *re.findall(r'cancel-link" href="([^"]*)"', shown.content.decode())]
    assert [link for link in links if not link.startswith("/admin/")] == []
    assert "evil.test/" not in "".join(link.partition("?")[0] for link in links)
    response = operator.post(invoice_url(invoice, "cancel") + query, {"reason": "old"})
    assert response.headers["Location"].startswith(invoice_url(invoice))
    assert shop.cancel_count == 1
    assert count_statuses() == {"canceled": 1}


# -- next in doubt --------------------------------------------------------------------------------------------


def test_resolving_leads_to_the_oldest_doubt_with_the_filter(shop, operator):
    make_invoice("created")
    newest, oldest, first = (make_invoice("in_doubt", age=age) for age in (HOUR, 3 * HOUR, 2 * HOUR))
    response = resolve(operator, first, KEPT)
    assert next_in_doubt(response) == invoice_url(oldest) + KEPT
    assert next_in_doubt(resolve(operator, oldest, KEPT)) == invoice_url(newest) + KEPT
    assert next_in_doubt(resolve(operator, newest, KEPT)) is None
    assert shop.cancel_count == 0
    assert shop.lookup_count == 0
    assert count_statuses() == {"created": 1, "canceled": 3}


def test_next_in_doubt_fulfils_the_filter(settings, operator):
    scripted = {"BACKEND": "django_invoice_cancel.testing.ScriptedProvider"}
    settings.INVOICE_CANCEL = {"PROVIDERS": {"shop": scripted, "kiosk": scripted}}
    make_invoice("in_doubt", provider="kiosk", age=3 * HOUR)
    first, second = (make_invoice("in_doubt", provider="shop", age=age) for age in (2 * HOUR, HOUR))
    query = "?_changelist_filters=" + quote("provider=shop&p=9", safe="")
    assert next_in_doubt(resolve(operator, first, query)) == invoice_url(second) + query
    assert next_in_doubt(resolve(operator, second, query)) is None
    assert count_statuses() == {"in_doubt": 1, "canceled": 2}


def test_next_in_doubt_ignores_an_invalid_filter(shop, operator):
    first, second = (make_invoice("in_doubt", age=age) for age in (2 * HOUR, HOUR))
    query = "?_changelist_filters=" + quote("nonsense=1", safe="")
    assert next_in_doubt(resolve(operator, first, query)) == invoice_url(second) + query
    assert shop.lookup_count == 0


def test_next_in_doubt_is_one_that_the_user_may_see_and_resolve(shop, operator, monkeypatch):
    first, hidden, denied, allowed = (
        make_invoice("in_doubt", reference=name, age=age * HOUR)
        for name, age in (("first", 5), ("hidden", 4), ("denied", 3), ("allowed", 2))
    )
    monkeypatch.setattr(
        InvoiceAdmin, "get_queryset", lambda self, request: Invoice.objects.exclude(reference=hidden.reference)
    )
    monkeypatch.setattr(
        InvoiceAdmin,
        "has_resolve_permission",
        lambda self, request, obj=None: obj is None or obj.reference != denied.reference,
    )
    assert next_in_doubt(resolve(operator, first)) == invoice_url(allowed)
    assert next_in_doubt(resolve(operator, allowed)) is None
    assert count_statuses() == {"in_doubt": 2, "canceled": 2}


def test_checking_visits_each_doubt_once(shop, operator):
    """An invoice that is still in doubt leads to the next younger one, not back to the oldest one."""
    oldest, middle, youngest = (make_invoice("in_doubt", age=age * HOUR) for age in (3, 2, 1))
    shop.all_lookups(TimeoutError)
    assert next_in_doubt(operator.post(invoice_url(oldest, "check"))) == invoice_url(middle)
    assert next_in_doubt(operator.post(invoice_url(middle, "check"))) == invoice_url(youngest)
    assert next_in_doubt(operator.post(invoice_url(youngest, "check"))) is None
    assert shop.cancel_count == 0
    assert shop.lookup_count == 3
    assert count_statuses() == {"in_doubt": 3}


def test_canceling_an_open_invoice_offers_no_doubt(shop, operator):
    make_invoice("in_doubt")
    assert next_in_doubt(operator.post(invoice_url(make_invoice(), "cancel"), {"reason": "old"})) is None
    assert shop.cancel_count == 1


def test_irreversible_buttons_look_so(shop, operator):
    invoice = make_invoice()
    shown = operator.get(invoice_url(invoice)).content.decode()
    assert f'<a class="button ic-button ic-irreversible" href="{invoice_url(invoice, "cancel")}"' in shown
    page = operator.get(reverse("admin:invoice_cancel_invoice_cancel", args=[invoice.pk])).content.decode()
    assert 'class="ic-irreversible"' in page
    doubt = make_invoice("in_doubt")
    assert "ic-irreversible" not in operator.get(invoice_url(doubt)).content.decode()
    assert "ic-irreversible" not in operator.get(invoice_url(doubt, "resolve")).content.decode()
    assert shop.cancel_count == 0
