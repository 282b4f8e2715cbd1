"""The bodies of the two dialects match the documentation and recorded exchanges."""

import hashlib
import hmac
import json
from datetime import UTC, datetime

import pytest

from django_invoice_cancel.testing.sandbox import ProviderSandbox

from .client import TOKENS, ask, cancel, cancel_bytes, lookup, lookup_bytes, post_bytes, request_bytes

UNAUTHORIZED = {
    "firekassa": (401, b'{"message":"Unauthenticated."}'),
    "cryptocloud": (400, b'{"status":"error","result":{"authorization":"Unauthorized request."}}'),
}


@pytest.mark.parametrize(
    "header",
    ["", "sandbox-firekassa-token", "Bearer wrong", "Token wrong", "Basic c2FuZGJveA=="],
    ids=["none", "no scheme", "Bearer", "Token", "Basic"],
)
@pytest.mark.parametrize("make", [cancel_bytes, lookup_bytes], ids=["cancel", "lookup"])
def test_wrong_credentials_change_nothing(sandbox, dialect, make, header):
    external_id = sandbox.new_id(dialect)
    received = ask(sandbox, make(dialect, external_id, Authorization=header))
    status, body = UNAUTHORIZED[dialect]
    assert received.status == status
    assert received.body == body
    assert sandbox.executed(external_id) == 0
    assert len(sandbox.requests) == 1


def test_credentials_of_the_other_provider_are_wrong(sandbox):
    received = cancel(sandbox, "firekassa", "511727000", Authorization=TOKENS["cryptocloud"])
    assert received.status == 401
    assert sandbox.executed("511727000") == 0
    assert sandbox.count("cancel") == 1


# -- FireKassa ------------------------------------------------------------------------------------------------


def test_firekassa_creates_looks_up_and_cancels(sandbox):
    order = {"order_id": "17", "amount": "120.0", "currency": "UAH", "payment_methods": ["card"]}
    created = ask(sandbox, post_bytes("firekassa", "/api/v2/invoices", order))
    assert created.status == 201
    assert isinstance(created.json["id"], str)
    assert created.json["id"].isdecimal()
    assert created.json["payment_url"].endswith(created.json["id"])
    transaction = ask(sandbox, lookup_bytes("firekassa", created.json["id"])).json
    chosen = {key: transaction[key] for key in ("id", "order_id", "amount", "currency", "status", "action")}
    assert chosen == {
        "id": created.json["id"],
        "order_id": "17",
        "amount": "120.00",
        "currency": "UAH",
        "status": "process",
        "action": "deposit",
    }
    assert cancel(sandbox, "firekassa", created.json["id"]).body == b"{}"
    assert lookup(sandbox, "firekassa", created.json["id"]) == "cancel"
    assert [one.operation for one in sandbox.requests] == ["create", "lookup", "cancel", "lookup"]


def test_firekassa_transaction_has_the_recorded_keys(sandbox):
    recorded = (
        '{"id":"507122561","created_at":"2023-04-19T17:29:00+03:00","updated_at":"2023-04-19T18:29:03+03:00",'
        '"action":"deposit","method":"wallet-card","payment_id":"332529680","order_id":"123","account":"12345",'
        '"amount":"5000.00","payment_amount":"0.00","commission":"25.00","comment":null,"status":"expired",'
        '"payment_url":null,"payment_code":null,"payment_error_code":null,"payment_error":null,"currency":"RUB"}'
    )
    answered = ask(sandbox, lookup_bytes("firekassa", "507122505")).json
    assert list(answered) == list(json.loads(recorded))
    assert answered["status"] == "expired"
    assert answered["payment_amount"] == "0.00"
    assert answered["currency"] == "RUB"
    assert datetime.fromisoformat(answered["created_at"]).utcoffset().total_seconds() == 3 * 3600


@pytest.mark.parametrize(
    ("order", "message", "problem"),
    [
        ({"order_id": "17", "amount": "99.99"}, "The given data was invalid", "Min amount is 100.00"),
        ({"order_id": "17", "amount": "NaN"}, "The given data was invalid", "Min amount is 100.00"),
        ({"order_id": "17", "amount": "much"}, "Validation failed", "The amount field is required."),
        ({"amount": "120.0"}, "Validation failed", "The amount field is required."),
        (["120.0"], "Validation failed", "The amount field is required."),
    ],
    ids=["too little", "no number", "no amount", "no order", "no object"],
)
def test_firekassa_refuses_a_wrong_order(sandbox, order, message, problem):
    received = ask(sandbox, post_bytes("firekassa", "/api/v2/invoices", order))
    assert received.status == 422
    assert received.json == {"message": message, "errors": {"amount": [problem]}}
    assert sandbox.truths() == {}
    assert sandbox.count("create") == 1


@pytest.mark.parametrize("external_id", ["12345678901234567890", "%2E%2E", "INV-89UX0900", "5%2F1", "%0A"])
def test_firekassa_returns_not_found_for_an_invalid_id(sandbox, external_id):
    received = cancel(sandbox, "firekassa", external_id)
    assert received.status == 404
    assert received.body == b'{"error":"Transaction not exists"}'
    assert sandbox.count("cancel") == 1
    assert sandbox.truths() == {}


def test_firekassa_reads_a_quoted_id(sandbox):
    assert cancel(sandbox, "firekassa", "%35117270%30%30").status == 200
    assert sandbox.executed("511727000") == sandbox.count("cancel", "511727000") == 1


def test_firekassa_refuses_a_wrong_signature():
    with ProviderSandbox(sign_token="sandbox-sign-token") as sandbox:
        message = b"/api/v2/invoices/511727000/cancel"
        right = hmac.new(b"sandbox-sign-token", message, hashlib.sha512).hexdigest()
        assert cancel(sandbox, "firekassa", "511727000").status == 403
        assert cancel(sandbox, "firekassa", "511727000", Signature="0" * 128).status == 403
        assert sandbox.executed("511727000") == 0
        assert cancel(sandbox, "firekassa", "511727000", Signature=right).status == 200
        assert sandbox.executed("511727000") == 1
        assert sandbox.count("cancel") == 3
        assert cancel(sandbox, "cryptocloud", "INV-89UX0900").status == 200
        assert sandbox.count("cancel") == 4


def test_firekassa_signature_covers_the_body():
    with ProviderSandbox(sign_token="sandbox-sign-token") as sandbox:
        body = b'{"order_id":"17","amount":"120.0"}'
        right = hmac.new(b"sandbox-sign-token", b"/api/v2/invoices" + body, hashlib.sha512).hexdigest()
        headers = {"Authorization": TOKENS["firekassa"], "Signature": right}
        changed = body.replace(b"120", b"125")
        assert ask(sandbox, request_bytes("POST", "/api/v2/invoices", body, **headers)).status == 201
        assert ask(sandbox, request_bytes("POST", "/api/v2/invoices", changed, **headers)).status == 403
        assert sandbox.count("create") == 2
        assert len(sandbox.truths()) == 1


def test_firekassa_confirms_a_repeat_only_if_configured(sandbox):
    assert [cancel(sandbox, "firekassa", "511727000").status for _ in range(2)] == [200, 422]
    sandbox.configure(repeat_is_ok=True)
    assert cancel(sandbox, "firekassa", "511727000").body == b"{}"
    assert cancel(sandbox, "firekassa", "511727001").status == 422
    assert sandbox.executed("511727000") == 1
    assert sandbox.count("cancel", "511727000") == 3


# -- CryptoCloud ----------------------------------------------------------------------------------------------


def test_cryptocloud_creates_looks_up_and_cancels(sandbox):
    order = {"shop_id": "shop", "amount": 100.2, "currency": "EUR", "order_id": "17"}
    created = ask(sandbox, post_bytes("cryptocloud", "/v2/invoice/create?locale=en", order))
    invoice = created.json["result"]
    assert created.status == 200
    assert created.json["status"] == "success"
    assert invoice["status"] == "created"
    assert invoice["amount"] == 100.2
    assert invoice["fiat_currency"] == "EUR"
    assert len(invoice["uuid"]) == len("INV-89UX09KA")
    info = ask(sandbox, lookup_bytes("cryptocloud", invoice["uuid"])).json["result"][0]
    assert info["status"] == "created"
    assert info["order_id"] == "17"
    assert info["received"] == 0
    assert cancel(sandbox, "cryptocloud", invoice["uuid"]).body == b'{"status":"success","result":["ok"]}'
    assert lookup(sandbox, "cryptocloud", invoice["uuid"]) == "canceled"


def test_cryptocloud_info_has_the_documented_keys(sandbox):
    info = ask(sandbox, lookup_bytes("cryptocloud", "INV-89UX0903")).json["result"][0]
    documented = (
        "uuid address expiry_date side_commission side_commission_cc amount amount_usd received received_usd "
        "fee fee_usd service_fee service_fee_usd status order_id currency project test_mode"
    )
    assert set(info) == set(documented.split())
    assert info["status"] == "overpaid"
    assert info["received"] == 150.0
    assert info["order_id"] == "None"


@pytest.mark.parametrize("asked", ["INV-89UX0900", "89UX0900", "inv-89ux0900"])
def test_cryptocloud_takes_both_forms_of_an_id_and_answers_with_the_prefix(sandbox, asked):
    info = ask(sandbox, lookup_bytes("cryptocloud", asked)).json["result"][0]
    assert info["uuid"] == "INV-89UX0900"
    assert cancel(sandbox, "cryptocloud", asked).status == 200
    assert sandbox.executed("INV-89UX0900") == sandbox.count("cancel", "INV-89UX0900") == 1


@pytest.mark.parametrize(
    "body", [b"{}", b'{"uuid":""}', b'{"uuid":null}', b'{"uuid":17}', b"", b"[]", b"\xff", b"uuid=INV-89UX0900"]
)
def test_cryptocloud_requires_a_uuid(sandbox, body):
    received = ask(
        sandbox, request_bytes("POST", "/v2/invoice/merchant/canceled", body, Authorization=TOKENS["cryptocloud"])
    )
    assert received.status == 400
    assert received.body == b'{"status":"error","result":{"validate_error":"uuid is required"}}'
    assert sandbox.count("cancel") == 1


def test_cryptocloud_info_omits_unknown_invoices(sandbox):
    uuids = ["INV-89UX0900", "INV-89UX0909", "no/id", "INV-89UX0901"]
    received = ask(sandbox, post_bytes("cryptocloud", "/v2/invoice/merchant/info", {"uuids": uuids}))
    assert [one["uuid"] for one in received.json["result"]] == ["INV-89UX0900", "INV-89UX0901"]
    assert sandbox.requests[0].external_ids == ("INV-89UX0900", "INV-89UX0909", "INV-89UX0901")
    assert sandbox.count("lookup") == 1
    assert sandbox.count("lookup", "INV-89UX0901") == 1


@pytest.mark.parametrize(
    ("uuids", "status", "result"),
    [
        ([f"INV-{number:06}00" for number in range(101)], 400, {"validate_error": "Max 100 uuids"}),
        ("INV-89UX0900", 400, {"validate_error": "uuids is required"}),
        (None, 400, {"validate_error": "uuids is required"}),
        ([17], 400, {"validate_error": "uuids is required"}),
        ([], 200, []),
    ],
    ids=["101", "a string", "none", "a number", "empty"],
)
def test_cryptocloud_info_takes_a_list_of_at_most_a_hundred(sandbox, uuids, status, result):
    received = ask(sandbox, post_bytes("cryptocloud", "/v2/invoice/merchant/info", {"uuids": uuids}))
    assert received.status == status
    assert received.json["result"] == result


def test_cryptocloud_info_answers_a_hundred(sandbox):
    uuids = [sandbox.new_id("cryptocloud") for _ in range(100)]
    received = ask(sandbox, post_bytes("cryptocloud", "/v2/invoice/merchant/info", {"uuids": uuids}))
    assert [one["uuid"] for one in received.json["result"]] == uuids


def test_cryptocloud_lists_by_day_and_page(sandbox):
    for number in range(3):
        order = {"shop_id": "shop", "amount": 10, "order_id": str(number)}
        ask(sandbox, post_bytes("cryptocloud", "/v2/invoice/create", order))
    cancel(sandbox, "firekassa", "511727000")
    today = datetime.now(UTC).strftime("%d.%m.%Y")

    def listed(**question):
        return ask(sandbox, post_bytes("cryptocloud", "/v2/invoice/merchant/list", question)).json

    page = listed(start="01.01.2020", end="31.12.2099", offset=1, limit=1)
    assert page["all_count"] == 3
    assert [one["order_id"] for one in page["result"]] == ["1"]
    assert len(listed(start="01.01.2020", end="31.12.2099")["result"]) == 3
    assert listed(start="01.01.2020", end="02.01.2020")["all_count"] == 0
    assert set(listed(start=today, end="soon")["result"]) == {"start", "end"}


@pytest.mark.parametrize(
    ("order", "key"),
    [({"amount": 10}, "shop_id"), ({"shop_id": "s"}, "amount"), ({"shop_id": "s", "amount": -1}, "amount")],
    ids=["no shop", "no amount", "negative"],
)
def test_cryptocloud_refuses_a_wrong_order(sandbox, order, key):
    received = ask(sandbox, post_bytes("cryptocloud", "/v2/invoice/create", order))
    assert received.status == 400
    assert list(received.json["result"]) == [key]
    assert sandbox.truths() == {}


# -- addresses ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/", 404),
        ("POST", "/invoice/merchant/canceled", 404),
        ("POST", "/v2/invoice/merchant/cancelled", 404),
        ("GET", "/v2/invoice/merchant/canceled", 405),
        ("POST", "/api/v2/invoices/511727000/void", 404),
        ("GET", "/api/v2/invoices/511727000/cancel", 405),
        ("POST", "/api/v2/transactions/511727000", 405),
    ],
)
def test_wrong_address_changes_nothing(sandbox, method, path, status):
    token = TOKENS["firekassa" if path.startswith("/api") else "cryptocloud"]
    received = ask(sandbox, request_bytes(method, path, b'{"uuid":"INV-89UX0900"}', Authorization=token))
    assert received.status == status
    assert sandbox.count("cancel") == 0
    assert sandbox.truths() == {}
