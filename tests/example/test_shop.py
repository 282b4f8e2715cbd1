"""The example shop: the effect of its button at the provider, in the log and on the order."""

import re

import pytest
import requests

pytestmark = pytest.mark.slow  # the example runs in a process of its own

CANCELED_ON_COMMIT = [
    ("created", "created", "on_commit", "requested"),
    ("created", "canceling", "on_commit", ""),
    ("canceling", "canceled", "on_commit", "canceled"),
]


@pytest.mark.parametrize(("provider", "word"), [("cryptocloud", "canceled"), ("firekassa", "cancel")])
def test_button_registers_the_invoice_and_cancels_it_after_the_commit(shop, provider, word):
    number, external_id = shop.take(provider, "ordinary", status=None)

    page = shop.press_cancel(number)

    assert '<span class="status canceled">Canceled</span>' in page
    assert shop.order_state(number) == "canceled"
    assert shop.history(number) == CANCELED_ON_COMMIT
    assert shop.truth(external_id) == word
    assert shop.cancels(external_id) == 1


def test_second_click_sends_no_request(shop):
    number, external_id = shop.take("cryptocloud", "ordinary", status=None)
    shop.press_cancel(number)

    page = shop.press_cancel(number)

    assert "The order cannot be canceled, because it is canceled." in page
    assert shop.history(number) == CANCELED_ON_COMMIT
    assert shop.cancels(external_id) == 1


def test_paid_invoice_makes_the_order_paid(shop):
    number, external_id = shop.take("firekassa", "paid", status=None)

    page = shop.press_cancel(number)

    assert '<span class="status paid">Paid</span>' in page
    assert shop.order_state(number) == "paid"
    assert shop.history(number)[-1] == ("canceling", "paid", "on_commit", "has_payment")
    assert shop.cancels(external_id) == 1


def test_lost_response_leaves_the_order_open_and_is_not_repeated(shop):
    number, external_id = shop.take("cryptocloud", "silent_after", status=None)
    page = shop.press_cancel(number)
    assert "got no usable answer" in page
    assert "Cancel order" not in page

    again = shop.press_cancel(number)

    assert "The invoice cannot be canceled now: In doubt." in again
    assert shop.order_state(number) == "open"
    assert shop.status(number) == "in_doubt"
    assert shop.history(number)[-1] == ("canceling", "in_doubt", "on_commit", "no_answer")
    assert shop.truth(external_id) == "canceled"
    assert shop.cancels(external_id) == 1


def test_order_without_invoice_is_canceled_without_a_provider(shop):
    (number,) = shop.rows("SELECT number FROM shop_order WHERE cryptocloud_uuid || firekassa_invoice_id = ''")[0]

    page = shop.press_cancel(number)

    assert "None: paid in cash." in page
    assert shop.order_state(number) == "canceled"
    assert shop.history(number) == []


def test_request_without_csrf_token_is_refused(shop):
    number, external_id = shop.take("cryptocloud", "not_found", status=None)

    response = shop.browser.post(f"{shop.url}/orders/{number}/cancel/", data={"reason": "forged"})

    assert response.status_code == 403
    assert shop.history(number) == []
    assert shop.cancels(external_id) == 0


@pytest.mark.parametrize("path", ["/", "/orders/1001/"])
def test_anonymous_visitor_is_sent_to_the_login(shop, path):
    response = requests.get(f"{shop.url}{path}", allow_redirects=False, timeout=10)

    assert response.status_code == 302
    assert response.headers["Location"] == f"/admin/login/?next={path}"


def test_list_shows_every_order_with_its_invoice(shop):
    page = shop.browser.get(f"{shop.url}/").text

    numbers = [row[0] for row in shop.rows("SELECT number FROM shop_order")]
    assert sorted(re.findall(r'<a href="/orders/(\d+)/">', page)) == sorted(numbers)
    assert {"created", "canceled", "in_doubt", "paid", "partially_paid", "overpaid", "expired", "failed"} <= set(
        re.findall(r'<span class="status (\w+)">', page)
    )


def test_samples_contain_a_payment_after_a_cancellation(shop):
    flagged = "SELECT reference FROM invoice_cancel_invoice WHERE paid_after_cancel_at IS NOT NULL"
    number = shop.rows(flagged)[0][0]

    assert "A payment was received after the cancellation." in shop.page(number)
    assert shop.order_state(number) == "late_money"


@pytest.mark.parametrize("path", ["/admin/", "/admin/shop/order/", "/static/shop/shop.css"])
def test_other_page_opens(shop, path):
    assert shop.browser.get(f"{shop.url}{path}", allow_redirects=False).status_code == 200
