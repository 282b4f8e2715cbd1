"""The example's webhook: its check of signatures, and the effect of its one new line."""

import pytest

pytestmark = pytest.mark.slow  # the example runs in a process of its own

FORGERIES = {
    "signed with another key": {"key": "not-the-secret"},
    "without a signature": {"algorithm": "none"},
    "of another algorithm": {"algorithm": "HS512"},
    "expired": {"valid": -60},
    "valid for too long": {"valid": 3600},
}


@pytest.mark.parametrize("form", ["json", "data"])
def test_payment_reaches_the_invoice_and_the_order(shop, postback, form):
    number, external_id = shop.take("cryptocloud", "ordinary", status="created")

    response = shop.webhook(**{form: postback(external_id)})

    assert response.status_code == 200
    assert response.json() == {"message": "Postback received"}
    assert shop.order_state(number) == "paid"
    assert shop.history(number) == [("created", "paid", "webhook", "observed")]


def test_payment_of_an_unregistered_invoice_is_recorded(shop, postback):
    number, external_id = shop.take("cryptocloud", "paid", status=None)

    response = shop.webhook(json=postback(external_id))

    assert response.status_code == 200
    assert shop.order_state(number) == "paid"
    assert shop.history(number) == [("created", "paid", "webhook", "observed")]


@pytest.mark.parametrize("forgery", FORGERIES.values(), ids=FORGERIES)
def test_forged_postback_changes_nothing(shop, postback, forgery):
    number, external_id = shop.rows(
        "SELECT number, cryptocloud_uuid FROM shop_order JOIN invoice_cancel_invoice ON reference = number "
        "WHERE provider = 'cryptocloud' AND status = 'expired'"
    )[0]
    before = shop.order_state(number), shop.history(number)

    response = shop.webhook(json=postback(external_id, **forgery))

    assert response.status_code == 403
    assert (shop.order_state(number), shop.history(number)) == before


@pytest.mark.parametrize("token", ["", "a.b", "a.b.c", "..", "W10.W10.W10"], ids=repr)
def test_invalid_jwt_is_refused(shop, postback, token):
    response = shop.webhook(json=postback("INV-NOBODY") | {"token": token})

    assert response.status_code == 403
    assert response.json() == {"message": "The token is not a JWT."}


@pytest.mark.parametrize("body", [b"", b"[]", b"\xff", b"null"], ids=repr)
def test_invalid_postback_is_refused(shop, body):
    headers = {"Content-Type": "application/json"}

    response = shop.webhook(data=body, headers=headers)

    assert response.status_code == 403
