"""The example shop: the effect of its button at the provider, in the log and on the order, and what its pages show."""

import re

import pytest
import requests

from .conftest import CODES

pytestmark = pytest.mark.slow  # the example runs in a process of its own

CANCELED_ON_COMMIT = [
    ("created", "created", "on_commit", "requested"),
    ("created", "canceling", "on_commit", ""),
    ("canceling", "canceled", "on_commit", "canceled"),
]
NOTHING_CHANGED = "Nothing was changed. The current state of the order is shown below."
NUMBERS = "SELECT number FROM shop_order AS o JOIN auth_user AS u ON o.customer_id = u.id WHERE username = ?"


def shown(page):
    """Return the state that the page of an order shows."""
    return re.search(r'<div class="notice \w+" data-state="(\w+)"', page)[1]


def with_code(shop, behaviour):
    """Return (order number, invoice id) of the customer's order with a behaviour of the sandbox."""
    sql = (
        "SELECT number, cryptocloud_uuid || firekassa_invoice_id FROM shop_order AS o JOIN auth_user AS u "
        "ON o.customer_id = u.id WHERE username = 'customer' AND number < '600' AND "
        "cryptocloud_uuid || firekassa_invoice_id LIKE ?"
    )
    return next(row for row in shop.rows(sql, f"%{CODES[behaviour]}"))


# -- the outcomes of the button -----------------------------------------------------------------------------------


@pytest.mark.parametrize(("provider", "word"), [("cryptocloud", "canceled"), ("firekassa", "cancel")])
def test_button_registers_the_invoice_and_cancels_it_after_the_commit(shop, provider, word):
    number, external_id = shop.take(provider, "ordinary", status=None)

    page = shop.press_cancel(number)

    assert shown(page) == "canceled"
    assert "The order is canceled. Please do not pay" in page
    assert "Cancel order" not in page
    assert shop.order_state(number) == "canceled"
    assert shop.history(number) == CANCELED_ON_COMMIT
    assert shop.truth(external_id) == word
    assert shop.cancels(external_id) == 1


def test_second_click_sends_no_request(shop):
    number, external_id = shop.take("cryptocloud", "ordinary", status=None)
    shop.press_cancel(number)

    page = shop.press_cancel(number)

    assert NOTHING_CHANGED in page
    assert shown(page) == "canceled"
    assert shop.history(number) == CANCELED_ON_COMMIT
    assert shop.cancels(external_id) == 1


def test_reason_of_the_customer_is_logged_under_their_name(shop):
    number, external_id = with_code(shop, "ordinary")

    shop.press_cancel(number, reason="ordered twice\0" * 50)

    sql = (
        "SELECT DISTINCT actor_label, reason FROM invoice_cancel_invoicetransition AS t "
        "JOIN invoice_cancel_invoice AS i ON t.invoice_id = i.id WHERE reference = ?"
    )
    ((actor, reason),) = shop.rows(sql, number)
    assert actor == "customer"
    assert reason.startswith("ordered twice")
    assert shop.cancels(external_id) == 1


def test_paid_invoice_makes_the_order_paid(shop):
    number, external_id = shop.take("firekassa", "paid", status=None)

    page = shop.press_cancel(number)

    assert shown(page) == "paid"
    assert "We received your payment, so the order cannot be canceled here." in page
    assert shop.order_state(number) == "paid"
    assert shop.history(number)[-1] == ("canceling", "paid", "on_commit", "has_payment")
    assert shop.cancels(external_id) == 1


def test_lost_response_leaves_the_order_open_and_is_not_repeated(shop):
    number, external_id = shop.take("cryptocloud", "silent_after", status=None)
    page = shop.press_cancel(number)
    assert shown(page) == "checking"
    assert "We are checking it" in page
    assert "Cancel order" not in page

    again = shop.press_cancel(number)

    assert NOTHING_CHANGED not in page
    assert NOTHING_CHANGED in again
    assert shown(again) == "checking"
    assert shop.order_state(number) == "open"
    assert shop.status(number) == "in_doubt"
    assert shop.history(number)[-1] == ("canceling", "in_doubt", "on_commit", "no_answer")
    assert shop.truth(external_id) == "canceled"
    assert shop.cancels(external_id) == 1


def test_refusal_is_shown_and_can_be_repeated(shop):
    number, external_id = with_code(shop, "echo")

    page = shop.press_cancel(number)

    assert shown(page) == "refused"
    assert "The payment provider refused to cancel the order, so it is still open." in page
    assert "Cancel order" in page
    assert shop.order_state(number) == "open"
    assert shop.history(number)[-1] == ("canceling", "created", "on_commit", "provider_refused")
    assert shop.cancels(external_id) == 1


def test_id_that_the_provider_does_not_know_is_shown(shop):
    number, external_id = with_code(shop, "not_found")

    page = shop.press_cancel(number)

    assert shown(page) == "unknown"
    assert "the payment provider does not know its invoice" in page
    assert "Cancel order" not in page
    assert shop.order_state(number) == "open"
    assert shop.history(number)[-1] == ("canceling", "created", "on_commit", "not_found")
    assert shop.cancels(external_id) == 1


def test_id_of_another_form_is_shown_and_changes_nothing(shop):
    sql = "SELECT number FROM shop_order WHERE firekassa_invoice_id = 'see the e-mail'"
    ((number,),) = shop.rows(sql)

    cancels = shop.cancels()

    page = shop.press_cancel(number)

    assert '<p class="notice error" role="alert">The order cannot be canceled online.' in page
    assert shown(page) == "open"
    assert shop.order_state(number) == "open"
    assert shop.history(number) == []
    assert shop.cancels() == cancels


def test_order_without_invoice_is_canceled_without_a_provider(shop):
    (number,) = shop.rows("SELECT number FROM shop_order WHERE cryptocloud_uuid || firekassa_invoice_id = ''")[0]

    page = shop.press_cancel(number)

    assert shown(page) == "canceled"
    assert shop.order_state(number) == "canceled"
    assert shop.history(number) == []


def test_all_invoices_of_an_order_are_canceled(shop):
    sql = "SELECT number, cryptocloud_uuid, firekassa_invoice_id FROM shop_order WHERE cryptocloud_uuid <> ''"
    ((number, *external_ids),) = shop.rows(f"{sql} AND firekassa_invoice_id <> ''")

    page = shop.press_cancel(number)

    assert shown(page) == "canceled"
    assert shop.order_state(number) == "canceled"
    assert shop.rows("SELECT status FROM invoice_cancel_invoice WHERE reference = ?", number) == [("canceled",)] * 2
    assert [shop.cancels(external_id) for external_id in external_ids] == [1, 1]


# -- requests that the view refuses -------------------------------------------------------------------------------


def test_request_without_csrf_token_is_refused(shop):
    number, external_id = shop.take("cryptocloud", "not_found", status=None)

    response = shop.browser.post(f"{shop.url}/orders/{number}/cancel/", data={"reason": "forged"})

    assert response.status_code == 403
    assert shop.history(number) == []
    assert shop.cancels(external_id) == 0


@pytest.mark.parametrize("method", ["get", "head", "put", "delete"])
@pytest.mark.parametrize("is_logged_in", [True, False], ids=["customer", "anonymous"])
def test_order_is_canceled_by_post_only(shop, method, is_logged_in):
    number, external_id = shop.take("cryptocloud", "silent_after", status=None)
    shop.taken.remove(number)
    browser = shop.browser_of(number) if is_logged_in else requests.Session()
    headers = {"X-CSRFToken": shop.browser_of(number).cookies["csrftoken"]}
    cookies = {"csrftoken": headers["X-CSRFToken"]}
    address = f"{shop.url}/orders/{number}/cancel/"

    response = browser.request(method, address, headers=headers, cookies=cookies, allow_redirects=False)

    assert response.status_code == 405
    assert shop.history(number) == []
    assert shop.cancels(external_id) == 0


def test_order_of_another_customer_is_not_found(shop):
    number, external_id = shop.take("cryptocloud", "paid", status=None)
    shop.taken.remove(number)
    other = shop.browsers["customer"]
    form = {"csrfmiddlewaretoken": other.cookies["csrftoken"]}

    page = other.get(f"{shop.url}/orders/{number}/")
    canceled = other.post(f"{shop.url}/orders/{number}/cancel/", data=form, allow_redirects=False)

    assert page.status_code == 404
    assert canceled.status_code == 404
    assert shop.history(number) == []
    assert shop.cancels(external_id) == 0


def test_staff_cannot_cancel_the_order_of_a_customer_in_the_shop(shop):
    number, external_id = with_code(shop, "partially_paid")
    form = {"csrfmiddlewaretoken": shop.browser.cookies["csrftoken"]}

    response = shop.browser.post(f"{shop.url}/orders/{number}/cancel/", data=form, allow_redirects=False)

    assert response.status_code == 404
    assert shop.cancels(external_id) == 0


@pytest.mark.parametrize("path", ["/", "/orders/1001/"])
def test_anonymous_visitor_is_sent_to_the_login(shop, path):
    response = requests.get(f"{shop.url}{path}", allow_redirects=False, timeout=10)

    assert response.status_code == 302
    assert response.headers["Location"] == f"/login/?next={path}"


def test_button_after_a_lost_session_leads_to_the_order_after_the_login(shop):
    """And not to the view, which would answer 405."""
    number, external_id = with_code(shop, "expired")
    browser = requests.Session()
    token = shop.csrf_token(browser.get(f"{shop.url}/login/").text)
    form = {"csrfmiddlewaretoken": token}

    response = browser.post(f"{shop.url}/orders/{number}/cancel/", data=form, allow_redirects=False)

    assert response.status_code == 302
    assert response.headers["Location"] == f"/login/?next=/orders/{number}/"
    assert shop.cancels(external_id) == 0


# -- the pages ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("username", ["demo", "customer"])
def test_list_shows_every_order_of_the_customer_only(shop, username):
    page = shop.browsers[username].get(f"{shop.url}/").text

    numbers = [row[0] for row in shop.rows(NUMBERS, username)]
    assert sorted(re.findall(r'<a href="/orders/(\d+)/">', page)) == sorted(numbers)
    assert {"open", "canceled", "checking", "paid", "partially_paid", "expired", "failed", "refund_due"} <= set(
        re.findall(r'<span class="status \w+" data-state="(\w+)">', page)
    )


@pytest.mark.parametrize(
    ("behaviour", "label", "sentence"),
    [
        ("partially_paid", "Partially paid", "We received a part of the total, so the order cannot be canceled here."),
        ("expired", "Expired", "The order has expired, because the time to pay is over."),
        ("failed", "Payment failed", "The payment failed, and nothing is left to cancel."),
        ("reset_after", "Cancellation is being checked", "The cancellation was requested, but"),
        ("paid_before_answer", "Canceled, refund due", "A refund is due: we return your money"),
    ],
)
def test_page_explains_the_state_of_the_order(shop, behaviour, label, sentence):
    number, _ = with_code(shop, behaviour)

    page = shop.page(number)

    assert f"<h2>{label}</h2>" in page
    assert sentence in page
    assert "Cancel order" not in page


@pytest.mark.parametrize("behaviour", ["partially_paid", "expired", "failed"])
def test_order_that_is_no_longer_open_is_not_canceled(shop, behaviour):
    number, external_id = with_code(shop, behaviour)

    page = shop.press_cancel(number)

    assert NOTHING_CHANGED in page
    assert shown(page) == behaviour
    assert shop.order_state(number) == behaviour
    assert shop.cancels(external_id) == 0


def test_canceled_order_stays_canceled_when_money_arrives_late(shop, postback):
    number, external_id = shop.take("cryptocloud", "ordinary", status="canceled")
    cancels = shop.cancels(external_id)

    shop.webhook(json=postback(external_id))

    assert shop.order_state(number) == "canceled"
    assert shop.is_refund_due(number) is True
    assert shown(shop.page(number)) == "refund_due"
    assert shop.status(number) == "paid"
    assert shop.cancels(external_id) == cancels


def test_staff_record_the_refund_in_the_admin(shop, postback):
    number, external_id = shop.take("cryptocloud", "ordinary", status="canceled")
    shop.webhook(json=postback(external_id))
    cancels = shop.cancels(external_id)
    address = f"{shop.url}/admin/shop/order/"
    ((pk,),) = shop.rows("SELECT id FROM shop_order WHERE number = ?", number)
    form = {"csrfmiddlewaretoken": shop.browser.cookies["csrftoken"], "action": "record_refund", "_selected_action": pk}

    response = shop.browser.post(address, data=form)

    assert response.status_code == 200
    assert shop.order_state(number) == "canceled"
    assert shop.is_refund_due(number) is False
    assert shop.history(number)[-1] == ("paid", "paid", "operator", "handled")
    assert shown(shop.page(number)) == "canceled"
    assert shop.cancels(external_id) == cancels


@pytest.mark.parametrize("path", ["/admin/", "/admin/shop/order/", "/static/shop/shop.css"])
def test_other_page_opens(shop, path):
    assert shop.browser.get(f"{shop.url}{path}", allow_redirects=False).status_code == 200


# -- languages ----------------------------------------------------------------------------------------------------


IN_EVERY_LANGUAGE = re.compile(r"[\u0400-\u04ff]|CryptoCloud|FireKassa|^[\d,]+ [A-Z]{3}$|^English$|@shop.example$")


def test_pages_are_russian_for_a_russian_browser(shop):
    russian = {"Accept-Language": "ru"}
    pages = [shop.page(row[0], language="ru") for row in shop.rows(NUMBERS, "customer")]
    pages.append(shop.browsers["customer"].get(f"{shop.url}/", headers=russian).text)
    pages.append(requests.get(f"{shop.url}/login/", headers=russian, timeout=10).text)
    texts = {text.strip() for page in pages for text in re.findall(r">([^<>]+)<", page)}
    data = {"customer", *(row[0] for row in shop.rows("SELECT title FROM shop_order"))}

    english = {text for text in texts - data if re.search("[a-zA-Z]", text) and not IN_EVERY_LANGUAGE.search(text)}
    assert english == set()
    assert all('<html lang="ru">' in page for page in pages)


def test_choice_of_the_language_wins_over_the_browser(shop):
    session = requests.Session()
    session.headers["Accept-Language"] = "en"
    token = shop.csrf_token(session.get(f"{shop.url}/login/?next=/orders/1001/").text)

    form = {"csrfmiddlewaretoken": token, "language": "ru", "next": "/login/?next=/orders/1001/"}
    response = session.post(f"{shop.url}/language/setlang/", data=form)

    assert response.url == f"{shop.url}/login/?next=/orders/1001/"
    assert '<html lang="ru">' in response.text
    assert '<input type="hidden" name="next" value="/orders/1001/">' in response.text
