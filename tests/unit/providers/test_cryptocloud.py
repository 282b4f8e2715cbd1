"""CryptoCloud: every documented, recorded or possible answer, and the bytes of the requests."""

import json

import pytest
import requests

from django_invoice_cancel.domain.outcomes import Code, Outcome
from django_invoice_cancel.domain.secrets import Secret
from django_invoice_cancel.domain.statuses import Status
from django_invoice_cancel.exceptions import InvalidExternalId
from django_invoice_cancel.providers.cryptocloud import CryptoCloud
from django_invoice_cancel.providers.transport import Exchange, Kind

from .conftest import may_send

CANCEL = "https://api.cryptocloud.plus/v2/invoice/merchant/canceled"
INFO = "https://api.cryptocloud.plus/v2/invoice/merchant/info"
UUID = "INV-89UX09KA"

OK = '{"status":"success","result":["ok"]}'
NOT_CREATED = '{"status":"error","result":{"validate_error":"Invoice is not created"}}'
UUID_REQUIRED = '{"status":"error","result":{"validate_error":"uuid is required"}}'
UNAUTHORIZED = '{"status":"error","result":{"authorization":"Unauthorized request."}}'
TOO_MANY = '{"status":"error","result":{"validate_error":"Max 100 uuids"}}'
EMPTY = {"Content-Length": "0"}


def info(*statuses, uuid=UUID):
    """The documented answer of ``merchant/info``, shortened, with a few of its many fields."""
    entries = [
        {
            "uuid": uuid,
            "address": "",
            "expiry_date": "2023-01-01 12:00:00.000000",
            "amount": 100.2,
            "status": status,
            "invoice_status": "success",
            "order_id": "None",
            "currency": {"id": 4, "code": "USDT", "network": {"code": "TRC20"}},
            "test_mode": False,
        }
        for status in statuses
    ]
    return json.dumps({"status": "success", "result": entries})


@pytest.fixture(scope="module")
def cryptocloud():
    return CryptoCloud("cc", api_key=Secret("invented-key"))


# -- requests ------------------------------------------------------------------------------------------------------


def test_cancel_is_a_post_of_the_uuid_with_the_token(cryptocloud, web):
    web.post(CANCEL, body=OK)

    cryptocloud.cancel(UUID, lease=may_send)

    (call,) = web.calls
    assert call.request.method == "POST"
    assert call.request.url == CANCEL
    assert call.request.body == b'{"uuid":"INV-89UX09KA"}'
    assert call.request.headers["Authorization"] == "Token invented-key"
    assert call.request.headers["Content-Type"] == "application/json"
    assert call.request.headers["Content-Length"] == "23"
    assert call.request.headers["Accept"] == "application/json"
    assert not {"Signature", "Cookie", "Idempotency-Key"} & set(call.request.headers)
    assert len(web.calls) == 1


def test_lookup_is_one_post_of_all_the_uuids(cryptocloud, web):
    web.post(INFO, body='{"status":"success","result":[]}')

    cryptocloud.lookup(["INV-89UX09KA", "INV-ILRAJE1Q"])

    (call,) = web.calls
    assert call.request.method == "POST"
    assert call.request.url == INFO
    assert call.request.body == b'{"uuids":["INV-89UX09KA","INV-ILRAJE1Q"]}'
    assert call.request.headers["Authorization"] == "Token invented-key"
    assert call.request.headers["Content-Type"] == "application/json"
    assert call.request.headers["Accept"] == "application/json"
    assert len(web.calls) == 1


def test_base_url_replaces_the_default_host(web):
    web.post("https://api.trybit.com/v2/invoice/merchant/canceled", body=OK)
    trybit = CryptoCloud("cc", api_key=Secret("invented-key"), base_url="https://api.trybit.com/")

    reply = trybit.cancel("89ux09ka", lease=may_send)

    assert reply.outcome is Outcome.CANCELED
    assert web.calls[0].request.body == b'{"uuid":"INV-89UX09KA"}'
    assert len(web.calls) == 1


# -- responses to a cancel request ---------------------------------------------------------------------------------

ANSWERS = [
    # the documented success: a list in the example, a string in the table
    pytest.param(200, OK, "canceled", "canceled", id="200 success [ok]"),
    pytest.param(200, '{"status":"success","result":"ok"}', "canceled", "canceled", id="200 success ok"),
    pytest.param(200, f'{OK[:-1]},"uuid":"{UUID}"}}', "canceled", "canceled", id="200 success with its uuid"),
    pytest.param(200, f'{OK[:-1]},"uuid":"{UUID[4:].lower()}"}}', "canceled", "canceled", id="200 success, bare uuid"),
    pytest.param(200, f'{OK[:-1]},"message":"done"}}', "canceled", "canceled", id="200 success with a message"),
    # a success that is more than that
    *(
        pytest.param(
            200, f'{{"status":"success","result":{result}}}', "in_doubt", "unreadable_answer", id=f"200 {result}"
        )
        for result in (
            '["ok",{}]',
            '["ok","ok"]',
            '["ok",null]',
            '[["ok"]]',
            '"OK"',
            '["Ok"]',
            '" ok"',
            '{"0":"ok"}',
            "true",
        )
    ),
    *(
        pytest.param(200, f"{OK[:-1]},{more}}}", "in_doubt", "contradictory_answer", id=f"200 success and {more}")
        for more in (
            '"error":"Invoice is not created"',
            '"errors":{"uuid":["x"]}',
            '"error":null',
            '"errors":[]',
            '"detail":"Not found."',
            '"uuid":"INV-ILRAJE1Q"',
            '"uuid":"INV-INV-89UX09KA"',
            '"uuid":null',
            '"uuid":["INV-89UX09KA"]',
            '"invoice_id":"ILRAJE1Q"',
        )
    ),
    pytest.param(
        200,
        '{"status":"error","status":"success","result":["ok"]}',
        "in_doubt",
        "unreadable_answer",
        id="200 status twice",
    ),
    pytest.param(
        200,
        '{"status":"success","result":["no"],"result":["ok"]}',
        "in_doubt",
        "unreadable_answer",
        id="200 result twice",
    ),
    *[
        pytest.param(200, body, "in_doubt", "contradictory_answer", id=f"200 ok and {name}")
        for name, body in {
            "another id in data": '{"status":"success","result":"ok","data":{"uuid":"INV-0THER"}}',
            "another id in a list": '{"status":"success","result":["ok"],"items":[{"uuid":"INV-0THER"}]}',
            "another id in capitals": '{"status":"success","result":"ok","UUID":"INV-0THER"}',
            "a refusal": '{"status":"success","result":["ok"],"validate_error":"Invoice is not created"}',
            "an error in capitals": '{"status":"success","result":"ok","Error":"x"}',
            "an error in data": '{"status":"success","result":"ok","data":{"errors":["x"]}}',
        }.items()
    ],
    # a 200 that is not that
    pytest.param(200, '{"status":"success","result":[]}', "in_doubt", "unreadable_answer", id="200 success []"),
    pytest.param(200, '{"status":"success"}', "in_doubt", "unreadable_answer", id="200 success without result"),
    pytest.param(200, '{"status":"success","result":"no"}', "in_doubt", "unreadable_answer", id="200 success no"),
    pytest.param(200, '{"status":"success","result":{"ok":1}}', "in_doubt", "unreadable_answer", id="200 success {ok}"),
    pytest.param(200, '{"result":["ok"]}', "in_doubt", "unreadable_answer", id="200 without status"),
    pytest.param(200, '{"status":"Success","result":["ok"]}', "in_doubt", "unreadable_answer", id="200 another status"),
    pytest.param(200, '{"status":"error","result":["ok"]}', "in_doubt", "unreadable_answer", id="200 error [ok]"),
    pytest.param(200, '{"status":"error","result":{}}', "in_doubt", "unreadable_answer", id="200 error {}"),
    pytest.param(200, '["ok"]', "in_doubt", "unreadable_answer", id="200 list"),
    pytest.param(200, "{}", "in_doubt", "unreadable_answer", id="200 {}"),
    pytest.param(200, "", "in_doubt", "unreadable_answer", id="200 empty"),
    pytest.param(200, "<html>", "in_doubt", "unreadable_answer", id="200 HTML"),
    pytest.param(200, '{"status":"success","result":["ok"', "in_doubt", "unreadable_answer", id="200 cut JSON"),
    pytest.param(201, OK, "in_doubt", "unreadable_answer", id="201 success"),
    pytest.param(202, OK, "in_doubt", "unreadable_answer", id="202 success"),
    pytest.param(204, "", "in_doubt", "unreadable_answer", id="204"),
    # credentials: named by a key, whatever the code
    pytest.param(400, UNAUTHORIZED, "not_processed", "bad_credentials", id="400 authorization"),
    pytest.param(200, UNAUTHORIZED, "not_processed", "bad_credentials", id="200 authorization"),
    pytest.param(401, UNAUTHORIZED, "not_processed", "bad_credentials", id="401 authorization"),
    pytest.param(401, '{"message":"Unauthenticated."}', "not_processed", "bad_credentials", id="401 as in v1"),
    pytest.param(401, '{"detail":"Invalid token."}', "not_processed", "bad_credentials", id="401 detail"),
    pytest.param(403, '{"detail":"Forbidden."}', "not_processed", "bad_credentials", id="403 detail"),
    pytest.param(403, "<html>", "not_processed", "bad_credentials", id="403 HTML"),
    pytest.param(500, UNAUTHORIZED, "in_doubt", "provider_error", id="500 authorization"),
    pytest.param(
        400,
        '{"status":"error","result":{"validate_error":"x","authorization":"Unauthorized request."}}',
        "not_processed",
        "bad_credentials",
        id="400 authorization and another error",
    ),
    *(
        pytest.param(400, f'{{"detail":"{text}"}}', "not_processed", "bad_credentials", id=f"400 {text}")
        for text in (
            "Signature verification failed",
            "Signature verification failed.",
            " signature VERIFICATION failed ",
            "Invalid header padding",
        )
    ),
    *(
        pytest.param(status, body, "in_doubt", "unreadable_answer", id=f"{status} {body}")
        for status, body in (
            (200, '{"detail":"Signature verification failed"}'),
            (402, '{"detail":"Signature verification failed"}'),
            (400, '{"detail":"Signature verification failed of your message"}'),
            (400, '{"detail":["Signature verification failed"]}'),
            (400, '{"status":"success","detail":"Signature verification failed"}'),
            (400, '{"detail":"x","detail":"Signature verification failed"}'),
        )
    ),
    # a 400 that names nothing we know
    pytest.param(400, '{"detail":"JSON parse error"}', "in_doubt", "unreadable_answer", id="400 detail"),
    pytest.param(400, '{"status":"error","result":{"uuid":"x"}}', "in_doubt", "unreadable_answer", id="400 other key"),
    pytest.param(
        400, '{"status":"error","result":{"validate_error":["x"]}}', "in_doubt", "unreadable_answer", id="400 list"
    ),
    pytest.param(400, '{"status":"error","result":"x"}', "in_doubt", "unreadable_answer", id="400 text"),
    pytest.param(
        400, '{"result":{"validate_error":"x"}}', "in_doubt", "unreadable_answer", id="400 error without status"
    ),
    pytest.param(
        200,
        '{"status":"success","result":{"authorization":"x"}}',
        "in_doubt",
        "unreadable_answer",
        id="200 success with an error's key",
    ),
    pytest.param(400, '{"validate_error":"x"}', "in_doubt", "unreadable_answer", id="400 another shape"),
    pytest.param(400, "<html>", "in_doubt", "unreadable_answer", id="400 HTML"),
    pytest.param(400, OK, "in_doubt", "unreadable_answer", id="400 success"),
    # the common rest
    pytest.param(301, "", "in_doubt", "redirected", id="301"),
    pytest.param(302, OK, "in_doubt", "redirected", id="302 success"),
    pytest.param(308, "", "in_doubt", "redirected", id="308"),
    pytest.param(404, "<html>", "in_doubt", "wrong_address", id="404"),
    pytest.param(404, '{"detail":"Not found."}', "in_doubt", "wrong_address", id="404 detail"),
    pytest.param(405, '{"detail":"Method not allowed."}', "in_doubt", "wrong_address", id="405"),
    pytest.param(406, '{"detail":"Service unavailable"}', "in_doubt", "unreadable_answer", id="406"),
    pytest.param(415, '{"detail":"Unsupported media type"}', "in_doubt", "unreadable_answer", id="415"),
    pytest.param(422, NOT_CREATED, "in_doubt", "unreadable_answer", id="422"),
    pytest.param(429, "", "not_processed", "rate_limited", id="429"),
    pytest.param(500, NOT_CREATED, "in_doubt", "provider_error", id="500 with an error's body"),
    pytest.param(500, OK, "in_doubt", "provider_error", id="500 with a success's body"),
    pytest.param(502, "<html>", "in_doubt", "provider_error", id="502"),
    pytest.param(503, "", "in_doubt", "provider_error", id="503"),
    pytest.param(522, "<html>", "in_doubt", "provider_error", id="522"),
]


@pytest.mark.parametrize(("http_status", "body", "outcome", "code"), ANSWERS)
def test_cancel_response_has_its_outcome(cryptocloud, web, http_status, body, outcome, code):
    web.post(CANCEL, status=http_status, body=body)

    reply = cryptocloud.cancel(UUID, lease=may_send)

    assert reply.outcome == outcome
    assert reply.code == code
    assert reply.http_status == http_status
    assert reply.status is None
    assert len(web.calls) == 1


@pytest.mark.parametrize(
    ("fault", "outcome", "code"),
    [
        pytest.param(requests.ConnectTimeout(), "not_processed", "unreachable", id="no connection"),
        pytest.param(requests.ReadTimeout(), "in_doubt", "no_answer", id="no answer"),
        pytest.param(ConnectionResetError(), "in_doubt", "no_answer", id="reset"),
        pytest.param(RuntimeError("bug"), "in_doubt", "no_answer", id="bug in a library"),
    ],
)
def test_missing_cancel_response_has_its_outcome(cryptocloud, web, fault, outcome, code):
    web.post(CANCEL, body=fault)

    reply = cryptocloud.cancel(UUID, lease=may_send)

    assert reply.outcome == outcome
    assert reply.code == code
    assert reply.http_status is None
    assert len(web.calls) == 1


def test_rate_limit_returns_the_wait_of_its_header(cryptocloud, web):
    web.post(CANCEL, status=429, headers={"Retry-After": "12"})

    reply = cryptocloud.cancel(UUID, lease=may_send)

    assert reply.outcome == Outcome.NOT_PROCESSED
    assert reply.retry_after == 12.0
    assert len(web.calls) == 1


def test_echoed_key_is_not_in_the_reply(cryptocloud, web):
    echo = '{"status":"error","result":{"authorization":"Token \\u0069nvented-key is invalid"}}'
    web.post(CANCEL, status=400, body=echo)
    web.post(INFO, status=400, body=echo)

    reply = cryptocloud.cancel(UUID, lease=may_send)
    found = cryptocloud.lookup([UUID])

    assert "Token *** is invalid" in reply.provider_message
    assert "invented-key" not in repr(reply)
    assert "nvented-key" not in repr(found)
    assert len(web.calls) == 2


# -- "Invoice is not created" is ambiguous without a lookup ---------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "outcome", "code", "status"),
    [
        pytest.param(info("canceled"), "already_canceled", "already_canceled", Status.CANCELED, id="canceled"),
        pytest.param(info("partial"), "refused", "has_payment", Status.PARTIALLY_PAID, id="partial"),
        pytest.param(info("paid"), "refused", "has_payment", Status.PAID, id="paid"),
        pytest.param(info("overpaid"), "refused", "has_payment", Status.OVERPAID, id="overpaid"),
        pytest.param(info("created"), "in_doubt", "contradictory_answer", None, id="created"),
        pytest.param(info("create"), "in_doubt", "unknown_status", None, id="unknown status"),
        pytest.param(info(None), "in_doubt", "unknown_status", None, id="no status"),
        pytest.param(info(), "refused", "not_found", None, id="not found"),
        pytest.param(info("paid", uuid="89ux09ka"), "refused", "has_payment", Status.PAID, id="id without INV-"),
        pytest.param(info("paid", uuid="INV-ILRAJE1Q"), "in_doubt", "no_answer", None, id="entry of another invoice"),
        pytest.param("<html>", "in_doubt", "no_answer", None, id="HTML"),
        pytest.param(UNAUTHORIZED, "in_doubt", "no_answer", None, id="authorization"),
        pytest.param(NOT_CREATED, "in_doubt", "no_answer", None, id="error"),
    ],
)
@pytest.mark.parametrize(
    ("http_status", "refusal"),
    [
        pytest.param(400, NOT_CREATED, id="400"),
        pytest.param(200, NOT_CREATED, id="200"),
        pytest.param(
            400,
            NOT_CREATED.replace("Invoice is not created", " invoice IS not created. "),
            id="400 in another spelling",
        ),
    ],
)
def test_not_created_is_explained_by_a_lookup(cryptocloud, web, http_status, refusal, answer, outcome, code, status):
    web.post(CANCEL, status=http_status, body=refusal)
    web.post(INFO, body=answer)

    reply = cryptocloud.cancel("89ux09ka", lease=may_send)

    assert reply.outcome == outcome
    assert reply.code == code
    assert reply.status == status
    assert reply.http_status == http_status
    assert "not created" in reply.provider_message
    assert [json.loads(call.request.body) for call in web.calls] == [
        {"uuid": "INV-89UX09KA"},
        {"uuids": ["INV-89UX09KA"]},
    ]


@pytest.mark.parametrize(
    ("http_status", "body", "learned"),
    [
        pytest.param(400, UNAUTHORIZED, "bad_credentials", id="400 authorization"),
        pytest.param(403, '{"detail":"x"}', "bad_credentials", id="403"),
        pytest.param(404, "<html>", "wrong_address", id="404"),
        pytest.param(429, "", "rate_limited", id="429"),
        pytest.param(500, info("canceled"), "provider_error", id="500"),
        pytest.param(302, info("canceled"), "redirected", id="302"),
        pytest.param(200, requests.ReadTimeout(), "no_answer", id="no answer"),
        pytest.param(200, requests.ConnectTimeout(), "unreachable", id="no connection"),
    ],
)
def test_not_created_is_in_doubt_if_the_lookup_fails(cryptocloud, web, http_status, body, learned):
    web.post(CANCEL, status=400, body=NOT_CREATED)
    web.post(INFO, status=http_status, body=body)

    reply = cryptocloud.cancel(UUID, lease=may_send)

    assert reply.outcome == Outcome.IN_DOUBT
    assert reply.code == Code.NO_ANSWER
    assert reply.status is None
    assert f"(asked for its status: {learned}" in reply.provider_message
    assert len(web.calls) == 2


@pytest.mark.parametrize(
    ("answer", "outcome", "code", "status"),
    [
        pytest.param(info("canceled"), "already_canceled", "already_canceled", Status.CANCELED, id="canceled"),
        pytest.param(info("paid"), "refused", "has_payment", Status.PAID, id="paid"),
        pytest.param(info("created"), "refused", "provider_refused", None, id="created"),
        pytest.param(info("other"), "refused", "provider_refused", None, id="unknown status"),
        pytest.param(info(), "refused", "provider_refused", None, id="not found"),
        pytest.param("<html>", "refused", "provider_refused", None, id="no lookup"),
    ],
)
@pytest.mark.parametrize("text", ["uuid is required", "Too late", ""], ids=["uuid is required", "too late", "no text"])
def test_other_refusal_remains_unless_the_lookup_explains_it(cryptocloud, web, text, answer, outcome, code, status):
    web.post(CANCEL, status=400, body=UUID_REQUIRED.replace("uuid is required", text))
    web.post(INFO, body=answer)

    reply = cryptocloud.cancel(UUID, lease=may_send)

    assert reply.outcome == outcome
    assert reply.code == code
    assert reply.status == status
    assert text in reply.provider_message
    assert len(web.calls) == 2


def test_cancel_and_its_lookup_share_one_deadline_and_only_the_cancel_has_the_lease(cryptocloud, exchange_with):
    refused = Exchange(Kind.ANSWER, http_status=400, is_json=True, json=json.loads(NOT_CREATED))
    sent = exchange_with(refused, Exchange(Kind.NOT_SENT, Code.UNREACHABLE))

    cryptocloud.cancel(UUID, lease=may_send)

    cancel, lookup = sent
    assert cancel.deadline is lookup.deadline
    assert 0 < cancel.deadline.left() <= 15
    assert cancel.lease is may_send
    assert lookup.lease is None


# -- a lookup -------------------------------------------------------------------------------------------------------


def test_lookup_matches_entries_by_uuid_in_any_order_case_and_form(cryptocloud, web):
    entries = [
        {"uuid": "c3", "status": "paid"},
        {"uuid": "inv-a1", "status": "canceled", "unheard_of": [1]},
        {"uuid": "INV-D4", "status": "frozen"},
    ]
    web.post(INFO, body=json.dumps({"status": "success", "result": entries, "all_count": 3}))

    replies = cryptocloud.lookup(["INV-A1", "INV-B2", "INV-C3", "INV-D4"])

    assert {each: (reply.status, reply.code, reply.is_answer) for each, reply in replies.items()} == {
        "INV-A1": (Status.CANCELED, "observed", True),
        "INV-B2": (None, "not_found", True),
        "INV-C3": (Status.PAID, "observed", True),
        "INV-D4": (None, "unknown_status", True),
    }
    assert replies["INV-D4"].provider_status == "frozen"
    assert len(web.calls) == 1


@pytest.mark.parametrize(
    ("statuses", "status", "code"),
    [
        (["canceled", "canceled"], Status.CANCELED, "observed"),
        (["canceled", "created"], None, "unreadable_answer"),
        (["created", None], None, "unreadable_answer"),
        (["canceled", "paid"], Status.PAID, "observed"),
        (["overpaid", "partial", "canceled"], Status.OVERPAID, "observed"),
    ],
    ids=["same status", "canceled and created", "created and none", "canceled and paid", "overpaid, partial, canceled"],
)
def test_contradicting_entries_of_one_invoice_are_unknown_unless_paid(cryptocloud, web, statuses, status, code):
    forms = ["INV-A1", "a1", "inv-a1"]
    entries = [{"uuid": form, "status": each} for form, each in zip(forms, statuses, strict=False)]
    web.post(INFO, body=json.dumps({"status": "success", "result": entries}))

    reply = cryptocloud.lookup(["INV-A1"])["INV-A1"]

    assert reply.status == status
    assert reply.code == code
    assert len(web.calls) == 1


def test_payment_status_of_a_postback_is_known(cryptocloud):
    assert cryptocloud.status_of_postback("success") is Status.PAID
    assert cryptocloud.status_of_postback(" Success ") is Status.PAID
    assert cryptocloud.status_of_postback("overpaid") is Status.OVERPAID
    assert cryptocloud.status_of_postback("frozen") is None
    assert cryptocloud.status_of("success") is None  # in a lookup it would be a status that is not documented


def test_hundred_uuids_are_one_request(cryptocloud, web):
    uuids = [f"INV-{number:08}" for number in range(100)]
    result = [{"uuid": uuid, "status": "created"} for uuid in reversed(uuids)]
    web.post(INFO, body=json.dumps({"status": "success", "result": result}))

    replies = cryptocloud.lookup(uuids)

    assert [reply.status for reply in replies.values()] == [Status.CREATED] * 100
    assert cryptocloud.lookup_group_size == 100
    assert len(web.calls) == 1


@pytest.mark.parametrize(
    "entry",
    [
        {"uuid": "INV-ILRAJE1Q", "status": "paid"},
        {"status": "paid"},
        {"uuid": None},
        {"uuid": ["INV-A1"]},
        "INV-A1",
        None,
    ],
    ids=["another invoice", "no uuid", "uuid is null", "uuid is a list", "string", "null"],
)
def test_unrequested_entries_of_a_response_are_ignored(cryptocloud, web, entry):
    """The response may belong to another request, or have an unknown form."""
    body = {"status": "success", "result": [{"uuid": "INV-B2", "status": "paid"}, entry]}
    web.post(INFO, body=json.dumps(body))

    replies = cryptocloud.lookup(["INV-A1", "INV-B2"])

    assert replies["INV-A1"].code == Code.UNREADABLE_ANSWER
    assert replies["INV-A1"].is_answer is False
    assert replies["INV-B2"].status is Status.PAID
    assert len(web.calls) == 1


@pytest.mark.parametrize(
    ("http_status", "body", "code"),
    [
        pytest.param(400, UNAUTHORIZED, "bad_credentials", id="400 authorization"),
        pytest.param(400, '{"detail":"Signature verification failed"}', "bad_credentials", id="400 signature"),
        pytest.param(400, '{"detail":"Invalid header padding"}', "bad_credentials", id="400 padding"),
        pytest.param(200, '{"status":"success","result":[],"error":"x"}', "unreadable_answer", id="200 with an error"),
        pytest.param(200, '{"status":"success","result":[],"errors":{}}', "unreadable_answer", id="200 with errors"),
        pytest.param(
            200, '{"status":"error","status":"success","result":[]}', "unreadable_answer", id="200 status twice"
        ),
        pytest.param(401, '{"detail":"x"}', "bad_credentials", id="401"),
        pytest.param(403, '{"detail":"x"}', "bad_credentials", id="403"),
        pytest.param(400, TOO_MANY, "unreadable_answer", id="400 too many"),
        pytest.param(400, '{"detail":"x"}', "unreadable_answer", id="400 detail"),
        pytest.param(200, NOT_CREATED, "unreadable_answer", id="200 error"),
        pytest.param(200, '{"status":"success","result":{"uuid":"INV-A1"}}', "unreadable_answer", id="200 object"),
        pytest.param(200, '{"status":"success","result":7}', "unreadable_answer", id="200 number"),
        pytest.param(200, '{"status":"success"}', "unreadable_answer", id="200 without result"),
        pytest.param(200, "[]", "unreadable_answer", id="200 list"),
        pytest.param(200, "<html>", "unreadable_answer", id="200 HTML"),
        pytest.param(201, '{"status":"success","result":[]}', "unreadable_answer", id="201"),
        pytest.param(302, "", "redirected", id="302"),
        pytest.param(404, "<html>", "wrong_address", id="404"),
        pytest.param(429, "", "rate_limited", id="429"),
        pytest.param(500, '{"status":"success","result":[]}', "provider_error", id="500"),
        pytest.param(200, requests.ReadTimeout(), "no_answer", id="no answer"),
        pytest.param(200, requests.ConnectTimeout(), "unreachable", id="no connection"),
    ],
)
def test_lookup_without_a_response_has_a_reply_for_every_id(cryptocloud, web, http_status, body, code):
    web.post(INFO, status=http_status, body=body)

    replies = cryptocloud.lookup(["INV-A1", "INV-B2"])

    assert {each: (reply.status, reply.code, reply.is_answer) for each, reply in replies.items()} == {
        "INV-A1": (None, code, False),
        "INV-B2": (None, code, False),
    }
    assert len(web.calls) == 1


# -- the rename -----------------------------------------------------------------------------------------------------

HINT = "CryptoCloud is now Trybit: if https://api.cryptocloud.plus has been retired, set the option base_url to "


@pytest.mark.parametrize(
    ("http_status", "body"),
    [
        pytest.param(200, requests.ConnectTimeout(), id="unreachable"),
        pytest.param(301, "", id="redirecting"),
        pytest.param(404, "<html>", id="404 HTML"),
    ],
)
def test_unknown_default_host_is_reported_with_a_hint(cryptocloud, web, http_status, body):
    web.post(CANCEL, status=http_status, body=body)
    web.post(INFO, status=http_status, body=body)

    reply = cryptocloud.cancel(UUID, lease=may_send)
    found = cryptocloud.lookup([UUID])[UUID]

    assert reply.provider_message.startswith(HINT + "https://api.trybit.com.")
    assert found.provider_message.startswith(HINT + "https://api.trybit.com.")
    assert len(web.calls) == 2


def test_configured_host_is_reported_without_a_hint(web):
    web.post("https://api.trybit.com/v2/invoice/merchant/canceled", status=301)
    trybit = CryptoCloud("cc", api_key=Secret("invented-key"), base_url="https://api.trybit.com")

    reply = trybit.cancel(UUID, lease=may_send)

    assert reply.code == Code.REDIRECTED
    assert reply.provider_message == ""
    assert len(web.calls) == 1


def test_other_failure_of_the_default_host_is_reported_without_a_hint(cryptocloud, web):
    web.post(CANCEL, status=500, body="Server Error")

    reply = cryptocloud.cancel(UUID, lease=may_send)

    assert reply.provider_message == "Server Error"
    assert len(web.calls) == 1


# -- ids and options ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("external_id", "stored"),
    [
        ("INV-89UX09KA", "INV-89UX09KA"),
        ("89UX09KA", "INV-89UX09KA"),
        ("inv-89ux09ka", "INV-89UX09KA"),
        (" 89ux09ka ", "INV-89UX09KA"),
        ("INV12345", "INV-INV12345"),
        ("A", "INV-A"),
        ("INV-" + "A" * 32, "INV-" + "A" * 32),
    ],
)
def test_id_has_one_form_and_keeps_it(cryptocloud, external_id, stored):
    assert cryptocloud.clean_id(external_id) == stored
    assert cryptocloud.clean_id(stored) == stored


@pytest.mark.parametrize(
    "external_id",
    [
        pytest.param("", id="empty"),
        pytest.param("INV-", id="prefix alone"),
        pytest.param("INV-INV-89UX09KA", id="two prefixes"),
        pytest.param("A" * 33, id="33 characters"),
        pytest.param("../89UX09KA", id="parent folder"),
        pytest.param("89UX/09KA", id="slash"),
        pytest.param("89UX?09KA", id="query"),
        pytest.param("89UX%2f09KA", id="percent"),
        pytest.param('89UX","uuids":["', id="JSON"),
        pytest.param("89UX\n09KA", id="newline"),
        pytest.param("89UX09KA\n", id="newline at the end"),
        pytest.param("89 UX", id="blank"),
        pytest.param("\u0663\u0664\u0665", id="unicode digits"),
        pytest.param("straße", id="letter that becomes two ASCII ones in upper case"),
        pytest.param("\u0131d", id="letter that becomes an ASCII one in upper case"),
        pytest.param(12345678, id="number"),
        pytest.param(None, id="None"),
    ],
)
def test_wrong_id_is_refused_before_anything_is_sent(cryptocloud, web, external_id):
    with pytest.raises(InvalidExternalId, match=r"is not an id of CryptoCloud: an id is INV- and 1 to 32 of"):
        cryptocloud.clean_id(external_id)
    with pytest.raises(InvalidExternalId):
        cryptocloud.cancel(external_id, lease=may_send)
    assert cryptocloud.lookup([external_id])[external_id].code == Code.MISCONFIGURED
    assert len(web.calls) == 0


def test_invalid_id_does_not_stop_the_lookup_of_its_group(cryptocloud, web):
    web.post(INFO, body=info("canceled"))

    replies = cryptocloud.lookup(["../x", UUID])

    assert replies["../x"].code == Code.MISCONFIGURED
    assert replies["../x"].is_answer is False
    assert replies[UUID].status is Status.CANCELED
    assert web.calls[0].request.body == b'{"uuids":["INV-89UX09KA"]}'
    assert len(web.calls) == 1


def test_id_in_another_form_is_normalised_in_the_request_and_kept_in_the_reply(cryptocloud, web):
    web.post(INFO, body=info("paid"))

    replies = cryptocloud.lookup(["89ux09ka"])

    assert replies["89ux09ka"].status is Status.PAID
    assert web.calls[0].request.body == b'{"uuids":["INV-89UX09KA"]}'
    assert len(web.calls) == 1


def test_adapter_declares_its_capabilities(cryptocloud):
    assert cryptocloud.supports_lookup is True
    assert cryptocloud.lookup_group_size == 100
    assert cryptocloud.is_repeat_harmless is False
    assert cryptocloud.secret_options == {"api_key"}
    assert cryptocloud.verbose_name == "CryptoCloud"
    assert cryptocloud.base_url == "https://api.cryptocloud.plus"


def test_unknown_option_is_a_type_error():
    with pytest.raises(TypeError, match="'api_token'"):
        CryptoCloud("cc", api_key=Secret("k"), api_token=Secret("t"))


def test_missing_key_is_a_type_error():
    with pytest.raises(TypeError, match="api_key"):
        CryptoCloud("cc")


@pytest.mark.parametrize("key", ["o", "k", "s", '"', "ok", "success", "INV-89UX09KA"])
def test_answers_are_read_before_a_short_key_in_them_is_masked(web, key):
    web.post(CANCEL, body=OK)
    web.post(INFO, body=json.dumps({"status": "success", "result": [{"uuid": UUID, "status": "overpaid"}]}))
    provider = CryptoCloud("cc", api_key=Secret(key))

    canceled = provider.cancel(UUID, lease=may_send)
    found = provider.lookup([UUID])[UUID]

    assert canceled.outcome == Outcome.CANCELED
    assert found.status == Status.OVERPAID
    assert found.code == "observed"
    assert key not in canceled.provider_message + found.provider_message + found.provider_status
    assert len(web.calls) == 2
