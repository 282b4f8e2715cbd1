"""The buttons on an invoice's page in a real browser. Every test ends with the requests that reached the providers."""

import pytest

from django_invoice_cancel.testing import make_invoice
from django_invoice_cancel.testing.sandbox import invoice_id
from tests.browser.window import expect

pytestmark = [
    pytest.mark.browser,
    pytest.mark.parametrize("locale", ["en-US", "ru-RU"], ids=["English", "Russian"]),
]


@pytest.fixture
def window(open_window, locale):
    return open_window(locale=locale)


def made(status, provider):
    return make_invoice(status, provider=provider, external_id=invoice_id(provider, 1), amount="100.00", currency="USD")


def test_cancel_asks_for_confirmation_and_shows_its_result(window, sandbox):
    invoice = made("created", "firekassa")
    window.open_invoice(invoice.pk)
    window.offer("cancel").click()
    assert sandbox.count("cancel") == 0

    window.answer(reason="ordered twice")

    window.expect_status("canceled")
    expect(window.page.locator(".messagelist li.success")).to_have_count(1)
    expect(window.page.locator(".ic-timeline li").first).to_contain_text("ordered twice")
    assert sandbox.count("cancel", invoice.external_id) == 1


def test_check_resolves_the_doubt_at_once_if_the_provider_supports_lookups(window, sandbox):
    invoice = made("in_doubt", "cryptocloud")
    sandbox.set_status(invoice.external_id, "canceled")
    window.open_invoice(invoice.pk)
    window.expect_status("in_doubt")
    expect(window.offer("cancel")).to_have_count(0)

    window.offer("check").click()

    window.expect_status("canceled")
    assert sandbox.count("cancel") == 0
    assert sandbox.count("lookup", invoice.external_id) == 1


def test_check_asks_for_confirmation_before_it_repeats_a_request(window, sandbox):
    invoice = made("in_doubt", "firekassa")
    window.open_invoice(invoice.pk)
    window.offer("check").click()
    assert sandbox.count("cancel") == 0

    window.answer()

    window.expect_status("canceled")
    assert sandbox.count("cancel", invoice.external_id) == 1


def test_resolve_records_a_decision_without_a_request(window, sandbox):
    invoice = made("in_doubt", "firekassa")
    window.open_invoice(invoice.pk)
    window.offer("resolve").click()
    window.answer(decision="paid")
    expect(window.page.locator(".ic-field.errors")).to_have_count(1)

    window.answer(decision="paid", reason="the dashboard shows the payment")

    window.expect_status("paid")
    expect(window.page.locator(".ic-timeline li").first).to_contain_text("the dashboard shows the payment")
    assert sandbox.summary()["totals"] == {}


def test_payment_after_a_cancellation_is_marked_as_handled_with_a_note(window, sandbox):
    invoice = made("paid_after_cancel", "cryptocloud")
    window.open_list()
    window.page.locator(".ic-attention .ic-items a").click()
    window.page.locator("#result_list tbody th a").click()
    window.offer("handled").click()

    window.answer(note="delivered all the same")

    expect(window.page.locator(".messagelist li.success")).to_have_count(1)
    expect(window.offer("handled")).to_have_count(0)
    invoice.refresh_from_db()
    assert invoice.status == "paid"
    assert invoice.paid_after_cancel_handled_at is not None
    assert sandbox.summary()["totals"] == {}


def test_refused_invoice_is_given_the_status_that_the_dashboard_shows(window, sandbox):
    invoice = made("refused", "firekassa")
    window.open_invoice(invoice.pk)
    window.offer("resolve").click()
    expect(window.page.locator("[name=decision][value=created]")).to_have_count(0)
    window.page.locator("[name=decision][value=paid]").check()

    window.answer(reason="seen in the dashboard")

    window.expect_status("paid")
    assert sandbox.count("cancel") == 0
    assert sandbox.count("lookup") == 0


def test_row_of_a_requested_cancellation_leads_to_cancel_now(window, sandbox):
    invoice = made("requested", "firekassa")
    window.open_list("?attention=requested")
    link = window.page.locator(f".field-request_actions a[href*='/{invoice.pk}/cancel/']")
    expect(link).to_be_in_viewport()
    link.click()
    assert sandbox.count("cancel") == 0

    window.answer(reason="the customer called")

    window.expect_status("canceled")
    assert sandbox.count("cancel", invoice.external_id) == 1
