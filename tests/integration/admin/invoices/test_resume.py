"""Try now: the button beside each pause, who may use it, and what follows. The view itself sends nothing."""

from datetime import timedelta
from urllib.parse import urlencode

import pytest
import time_machine
from django.contrib import admin
from django.contrib.admin.models import LogEntry
from django.contrib.messages import get_messages
from django.urls import path, reverse

from django_invoice_cancel.admin import InvoiceAdmin
from django_invoice_cancel.domain.clock import utc_now
from django_invoice_cancel.models import Invoice, InvoiceTransition, ProviderState
from django_invoice_cancel.testing import make_invoice
from tests.support.clock import travel_forward
from tests.support.html import page_text
from tests.support.invoice_pages import changelist_url, invoice_url
from tests.support.invoices import stored
from tests.support.pauses import pause_provider

pytestmark = pytest.mark.django_db
NAMES = ("admin:invoice_cancel_invoice_resume",)


class ReferenceAdmin(InvoiceAdmin):
    """Decides about each row."""

    def has_view_permission(self, request, obj=None):
        return super().has_view_permission(request, obj) and (obj is None or obj.reference != "hidden")

    def has_cancel_permission(self, request, obj=None):
        return super().has_cancel_permission(request, obj) and (obj is None or obj.reference != "locked")


site = admin.AdminSite(name="rows")
site.register(Invoice, ReferenceAdmin)
urlpatterns = [path("admin/", admin.site.urls), path("rows/", site.urls)]


def resume_url(alias="shop", site="admin"):
    return reverse(f"{site}:invoice_cancel_invoice_resume", args=[alias])


def is_paused():
    return ProviderState.objects.get().is_paused


def message_of(response):
    [message] = get_messages(response.wsgi_request)
    return str(message)


# -- the button ---------------------------------------------------------------------------------------------------


def has_button(response):
    return f'action="{resume_url()}"' in response.content.decode()


@pytest.mark.parametrize("page", ["list", "change", "cancel"])
@pytest.mark.parametrize("may_cancel", [True, False])
def test_button_is_shown_beside_the_pause(shop, client_with, page, may_cancel):
    invoice = make_invoice()
    pause_provider("shop")
    client = client_with("view", *(["cancel"] if may_cancel else []))
    url = changelist_url() if page == "list" else invoice_url(invoice, page)
    response = client.get(url)
    if page == "cancel" and not may_cancel:
        assert response.status_code == 403
        return
    shows_pause = page == "list" or may_cancel
    assert ("is paused until" in page_text(response)) == shows_pause
    assert has_button(response) == may_cancel
    assert is_paused()
    assert shop.cancel_count == 0


def test_button_is_shown_on_the_page_that_checks_an_invoice(shop, operator):
    invoice = make_invoice("in_doubt")
    pause_provider("shop")
    assert has_button(operator.get(invoice_url(invoice, "check")))
    assert has_button(operator.get(invoice_url(invoice)))
    assert shop.lookup_count == 0
    assert stored(invoice).status == "in_doubt"


@pytest.mark.parametrize("state", ["canceled", "paid"])
def test_button_is_not_shown_for_an_invoice_that_does_not_wait(shop, operator, state):
    pause_provider("shop")
    assert not has_button(operator.get(invoice_url(make_invoice(state))))
    assert shop.cancel_count == 0


def test_pause_that_new_options_have_ended_is_not_shown(configure, operator):
    invoice = make_invoice()
    pause_provider("shop", options_digest="0123456789abcdef0123456789abcdef")
    for url in (changelist_url(), invoice_url(invoice)):
        response = operator.get(url)
        assert "is paused until" not in page_text(response)
        assert not has_button(response)
    assert operator.post(invoice_url(invoice, "cancel"), {"reason": "old"}).status_code == 302
    assert stored(invoice).status == "canceled"
    assert ProviderState.objects.get().pause_code == ""


@pytest.fixture(autouse=True)
def _account(shop):
    """Configure the account for all tests of this module."""


# -- the act ------------------------------------------------------------------------------------------------------


def test_post_ends_the_pause_and_the_next_call_is_the_probe(shop, operator):
    invoice = make_invoice()
    pause_provider("shop")
    shop.next_cancels("bad_credentials", "canceled")
    response = operator.post(resume_url(), {"next": invoice_url(invoice)})
    assert response.status_code == 302
    assert response["Location"] == invoice_url(invoice)
    assert message_of(response) == (
        "The pause of Scripted provider has ended. The next request is sent as a test, and its answer decides."
    )
    assert not is_paused()
    assert shop.cancel_count == 0
    operator.post(invoice_url(invoice, "cancel"), {"reason": "old"})
    assert is_paused()
    assert shop.cancel_count == 1
    assert stored(invoice).status == "created"
    with travel_forward(seconds=11):
        operator.post(resume_url())
        operator.post(invoice_url(invoice, "cancel"), {"reason": "old"})
    assert shop.cancel_count == 2
    assert stored(invoice).status == "canceled"
    assert ProviderState.objects.get().pause_code == ""


def test_act_is_logged_with_the_user(shop, operator, caplog):
    make_invoice()
    pause_provider("shop")
    operator.post(resume_url())
    entry = LogEntry.objects.get()
    assert entry.user == operator.user
    assert entry.object_repr == "shop"
    assert entry.object_id == "shop"
    assert entry.get_change_message().startswith("The pause of Scripted provider has ended.")
    assert f"was ended by {operator.user.get_username()}." in caplog.text
    assert shop.cancel_count == 0
    assert InvoiceTransition.objects.exclude(code="registered").count() == 0


def test_second_click_within_ten_seconds_names_the_time(shop, operator, client_with):
    make_invoice()
    pause_provider("shop")
    operator.post(resume_url())
    pause_provider("shop")
    response = client_with("view", "cancel").post(resume_url())
    assert message_of(response).startswith("The pause of Scripted provider was just ended. You can try again after ")
    assert is_paused()
    assert LogEntry.objects.count() == 1
    assert shop.cancel_count == 0


def test_provider_that_is_not_paused_is_reported_as_such(shop, operator):
    make_invoice()
    pause_provider("shop", seconds=0.0)
    assert message_of(operator.post(resume_url())) == "Scripted provider is not paused."
    assert "Scripted provider is not paused." in page_text(operator.get(resume_url()))
    assert LogEntry.objects.count() == 0
    assert shop.cancel_count == 0


def test_get_asks_and_changes_nothing(shop, operator):
    make_invoice()
    pause_provider("shop")
    response = operator.get(resume_url())
    assert response.status_code == 200
    assert "is paused until" in page_text(response)
    assert '<input type="submit" value="Try now">' in response.content.decode()
    assert is_paused()
    assert LogEntry.objects.count() == 0
    assert shop.cancel_count == 0


@time_machine.travel("2026-11-21 12:00:00Z", tick=False)
def test_retry_after_is_confirmed_with_its_time(shop, operator):
    invoice = make_invoice()
    pause_provider("shop", "rate_limited", 60, retry_after=60)
    state = ProviderState.objects.get()
    response = operator.post(resume_url(), {"next": invoice_url(invoice)})
    assert response.status_code == 200
    assert "asked for no requests before 13:01:00." in page_text(response)
    assert is_paused()
    seen = state.retry_after_at.isoformat()
    link = f'href="{resume_url()}?{urlencode({"next": invoice_url(invoice)})}"'
    assert link in operator.get(invoice_url(invoice)).content.decode()
    assert f'name="retry_after" value="{seen}"' in response.content.decode()
    response = operator.post(resume_url(), {"next": invoice_url(invoice), "retry_after": seen})
    assert response["Location"] == invoice_url(invoice)
    assert not is_paused()
    assert LogEntry.objects.count() == 1
    assert shop.cancel_count == 0


def test_later_retry_after_is_asked_again(shop, operator):
    """The user confirmed the time of a page that is out of date."""
    make_invoice()
    pause_provider("shop", "rate_limited", 60, retry_after=60)
    seen = ProviderState.objects.get().retry_after_at - timedelta(seconds=30)
    assert operator.post(resume_url(), {"retry_after": seen.isoformat()}).status_code == 200
    assert is_paused()
    assert shop.cancel_count == 0


@pytest.mark.parametrize("elsewhere", ["https://evil.example/", "//evil.example/", "javascript:alert(1)", ""])
def test_return_address_is_on_this_host(shop, operator, elsewhere):
    make_invoice()
    pause_provider("shop")
    assert operator.post(resume_url(), {"next": elsewhere})["Location"] == changelist_url()
    assert shop.cancel_count == 0
    assert not is_paused()


# -- permissions --------------------------------------------------------------------------------------------------

WHO = {
    "none": ((), {}, 403),
    "view": (("view",), {}, 403),
    "change": (("view", "change"), {}, 403),
    "cancel": (("view", "cancel"), {}, 200),
    "resolve": (("view", "resolve"), {}, 403),
    "cancel, blind": (("cancel",), {}, 403),
    "superuser": ((), {"is_superuser": True}, 200),
}


@pytest.mark.parametrize("who", WHO)
@pytest.mark.parametrize("method", ["get", "post"])
def test_only_users_who_may_cancel_may_end_a_pause(shop, client_with, who, method):
    actions, fields, expected = WHO[who]
    make_invoice()
    pause_provider("shop")
    response = getattr(client_with(*actions, **fields), method)(resume_url())
    assert response.status_code == (302 if method == "post" and expected == 200 else expected)
    assert is_paused() == (method == "get" or expected == 403)
    assert LogEntry.objects.count() == (method == "post" and expected == 200)
    assert shop.cancel_count == 0


@pytest.mark.urls("tests.integration.admin.invoices.test_resume")
@pytest.mark.parametrize("method", ["get", "post"])
@pytest.mark.parametrize(
    ("references", "expected"),
    [(["hidden"], 404), (["hidden", "locked"], 403), (["hidden", "locked", "own"], 200), ([], 200)],
    ids=["hidden", "locked", "own", "no invoices"],
)
def test_account_is_scoped_by_its_invoices(shop, operator, references, expected, method):
    for reference in references:
        make_invoice(reference=reference)
    pause_provider("shop")
    response = getattr(operator, method)(resume_url(site="rows"))
    assert response.status_code == (302 if method == "post" and expected == 200 else expected)
    assert is_paused() == (method == "get" or expected != 200)
    assert has_rows_button(operator) == (expected == 200 and method == "get")
    assert shop.cancel_count == 0


def has_rows_button(client):
    return f'action="{resume_url(site="rows")}"' in client.get(changelist_url(site="rows")).content.decode()


@pytest.mark.parametrize("alias", ["kiosk", "a/b", "a%00b"])
def test_unknown_account_is_not_found(shop, operator, alias):
    response = operator.post(resume_url("kiosk").replace("kiosk", alias))
    assert response.status_code == 404
    assert ProviderState.objects.count() == 0
    assert shop.cancel_count == 0


def test_anonymous_user_is_redirected_to_the_login(shop, client):
    make_invoice()
    pause_provider("shop")
    for response in (client.get(resume_url()), client.post(resume_url())):
        assert response.status_code == 302
        assert "/login/" in response["Location"]
    assert is_paused()
    assert shop.cancel_count == 0


def test_post_needs_a_csrf_token(shop, operator):
    make_invoice()
    pause_provider("shop")
    operator.handler.enforce_csrf_checks = True
    assert operator.post(resume_url()).status_code == 403
    assert is_paused()
    assert shop.cancel_count == 0


def test_probe_in_flight_is_described(shop, operator):
    invoice = make_invoice()
    pause_provider("shop")
    writer = Invoice.objects.all()._writer
    writer.resume("shop")
    writer.take_probe("shop", options_digest="")
    text = page_text(operator.get(invoice_url(invoice)))
    assert "One request is sent as a test now; the others wait for its answer." in text
    assert ProviderState.objects.get().probe_until > utc_now()
    assert shop.cancel_count == 0


@pytest.mark.parametrize("method", ["get", "post"])
def test_pause_of_an_account_without_invoices_also_needs_the_permission(shop, client_with, method):
    pause_provider("shop")
    client = client_with("view")
    assert getattr(client, method)(resume_url()).status_code == 403
    assert is_paused()
    assert LogEntry.objects.count() == 0
    assert shop.cancel_count == 0
