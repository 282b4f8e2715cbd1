"""Try now in a real browser. Every test ends with the requests that reached the providers."""

import pytest

from django_invoice_cancel.models import BulkOperation, Invoice, ProviderState
from django_invoice_cancel.testing.sandbox import invoice_id
from tests.browser.window import expect
from tests.support.invoices import count_statuses
from tests.support.pauses import pause_provider

pytestmark = [
    pytest.mark.browser,
    pytest.mark.parametrize("locale", ["en-US", "ru-RU"], ids=["English", "Russian"]),
]
TRY_NOW = "form[action*='/resume/'] button"


@pytest.fixture
def window(open_window, locale):
    return open_window(locale=locale)


def test_button_of_an_invoice_ends_the_pause_and_sends_nothing(window, sandbox):
    invoice = Invoice.objects.create(provider="firekassa", external_id=invoice_id("firekassa", 1))
    pause_provider("firekassa")
    window.open_invoice(invoice.pk)
    expect(window.offer("cancel")).to_have_count(0)

    window.page.locator(TRY_NOW).click()

    expect(window.page.locator(".messagelist li.success")).to_have_count(1)
    expect(window.offer("cancel")).to_have_count(1)
    assert sandbox.count("cancel") == 0
    window.offer("cancel").click()
    window.answer(reason="old")
    window.expect_status("canceled")
    assert sandbox.count("cancel") == 1
    assert ProviderState.objects.get().pause_code == ""


def test_retry_after_is_asked_on_a_page_that_leads_back(window, sandbox):
    invoice = Invoice.objects.create(provider="firekassa", external_id=invoice_id("firekassa", 1))
    pause_provider("firekassa", "rate_limited", 90, retry_after=90)
    window.open_list()
    window.page.locator(".ic-trouble a").click()
    expect(window.page.locator(".ic-ask .ic-amber")).to_have_count(2)

    window.page.locator(".ic-ask input[type=submit]").click()

    expect(window.page.locator(".messagelist li.success")).to_have_count(1)
    expect(window.page.locator(".ic-trouble")).to_have_count(0)
    expect(window.page.locator("#result_list")).to_be_visible()
    assert sandbox.count("cancel") == 0
    assert Invoice.objects.get(pk=invoice.pk).status == "created"


def test_operation_goes_on_after_try_now(window, sandbox, invoices):
    invoices(5, "firekassa")
    window.open_list()
    window.select_page()
    window.act("cancel_selected_invoices")
    pause_provider("firekassa")
    window.confirm(reason="old")
    expect(window.page.locator(TRY_NOW)).to_be_visible()
    assert sandbox.count("cancel") == 0

    window.page.locator(TRY_NOW).click()

    expect(window.page.locator("#bulk-operation[data-state^=finished]")).to_be_visible()
    assert BulkOperation.objects.get().progress == "finished"
    assert count_statuses() == {"canceled": 5}
    assert sandbox.count("cancel") == 5
