"""FireKassa: every documented, recorded or possible answer, and the bytes of the requests."""

import pytest
import requests

from django_invoice_cancel.domain.outcomes import Code, Outcome
from django_invoice_cancel.domain.secrets import Secret
from django_invoice_cancel.domain.statuses import Status
from django_invoice_cancel.exceptions import InvalidExternalId, ProviderMisconfigured
from django_invoice_cancel.providers.firekassa import FireKassa
from django_invoice_cancel.providers.transport import Exchange, Kind

from .conftest import may_send

CANCEL = "https://fk.example/api/v2/invoices/511727028/cancel"
LOOKUP = "https://fk.example/api/v2/transactions/511727028"
TRANSACTION = (
    '{"id":"511727028","created_at":"2023-04-19T17:29:00+03:00","action":"deposit","method":"wallet-card",'
    '"order_id":"123","amount":"5000.00","status":"%s","payment_url":null,"currency":"RUB"}'
)
REFUSAL = '{"message":"The given data was invalid","errors":{"id":["Нельзя отменить."]}}'
CLOUDFLARE = {"Server": "cloudflare", "Content-Type": "text/html"}
EMPTY = {"Content-Length": "0"}


@pytest.fixture(scope="module")
def firekassa():
    return FireKassa("fk", base_url="https://fk.example", api_token=Secret("invented-token"))


@pytest.fixture(scope="module")
def looking():
    """The same account with the undocumented lookup allowed."""
    return FireKassa("fk", base_url="https://fk.example", api_token=Secret("invented-token"), lookup=True)


# -- requests ------------------------------------------------------------------------------------------------------


def test_cancel_is_a_bare_post_with_the_bearer_token(firekassa, web):
    web.post(CANCEL, body="{}")

    firekassa.cancel("511727028", lease=may_send)

    (call,) = web.calls
    assert call.request.method == "POST"
    assert call.request.url == CANCEL
    assert call.request.headers["Authorization"] == "Bearer invented-token"
    assert call.request.headers["Accept"] == "application/json"
    assert call.request.headers["Content-Length"] == "0"
    assert not {"Signature", "Content-Type", "Cookie", "Idempotency-Key"} & set(call.request.headers)
    assert call.request.body is None
    assert len(web.calls) == 1


def test_cancel_is_signed_over_its_path_if_a_sign_token_is_set(web):
    web.post(CANCEL, body="{}")
    signing = FireKassa(
        "fk",
        base_url="https://fk.example/",
        api_token=Secret("invented-token"),
        sign_token=Secret("test-sign-token"),
    )

    signing.cancel("511727028", lease=may_send)

    (call,) = web.calls
    assert call.request.headers["Signature"] == (
        "6ff4a3481e621dfa9d3bc4d696d2d6c621b0e134a4fda517f00c092793b42d8d"
        "cffe225acf7ea01f1fd4e7fafb5ef75d889591a1c29007a7db5950041eecb573"
    )
    assert call.request.headers["Authorization"] == "Bearer invented-token"
    assert call.request.body is None
    assert len(web.calls) == 1


def test_lookup_is_a_get_of_the_transaction_signed_over_its_own_path(web):
    web.get(LOOKUP, body=TRANSACTION % "process")
    signing = FireKassa(
        "fk",
        base_url="https://fk.example",
        api_token=Secret("invented-token"),
        sign_token=Secret("test-sign-token"),
        lookup=True,
    )

    signing.lookup(["511727028"])

    (call,) = web.calls
    assert call.request.method == "GET"
    assert call.request.url == LOOKUP
    assert call.request.headers["Signature"] == (
        "096276ca9b5a96088ffcbf7414d1f80e0d483b18224be0ad11996c0ff678b471"
        "e64a416517c3ed6fed217c7b97d7c5ec6e0cdc0541392887325c96236a183945"
    )
    assert call.request.headers["Authorization"] == "Bearer invented-token"
    assert call.request.headers["Accept"] == "application/json"
    assert not {"Content-Type", "Content-Length"} & set(call.request.headers)
    assert call.request.body is None
    assert len(web.calls) == 1


def test_an_empty_sign_token_signs_nothing(web):
    """An environment variable that is not set is often read as an empty string."""
    web.post(CANCEL, body="{}")
    account = FireKassa("fk", base_url="https://fk.example", api_token=Secret("invented-token"), sign_token=Secret(""))

    account.cancel("511727028", lease=may_send)

    assert "Signature" not in web.calls[0].request.headers
    assert len(web.calls) == 1


def test_a_path_before_the_api_is_kept_and_not_signed(web):
    """Behind a proxy of the merchant, FireKassa receives the path without the part before /api."""
    web.post("https://proxy.example/firekassa/api/v2/invoices/511727028/cancel", body="{}")
    signing = FireKassa(
        "fk",
        base_url="https://proxy.example/firekassa/",
        api_token=Secret("invented-token"),
        sign_token=Secret("test-sign-token"),
    )

    reply = signing.cancel("511727028", lease=may_send)

    assert reply.outcome is Outcome.CANCELED
    assert web.calls[0].request.headers["Signature"].startswith("6ff4a3481e621dfa")
    assert len(web.calls) == 1


# -- responses to a cancel request ---------------------------------------------------------------------------------

ANSWERS = [
    # the documented success, and how PHP may print it
    pytest.param(200, "{}", {}, "canceled", "canceled", id="200 {}"),
    pytest.param(200, " {}\n", {}, "canceled", "canceled", id="200 {} with space around it"),
    pytest.param(200, "[]", {}, "canceled", "canceled", id="200 []"),
    pytest.param(200, "", EMPTY, "canceled", "canceled", id="200 empty with Content-Length: 0"),
    # a 200 that is not that
    pytest.param(200, "", {}, "in_doubt", "unreadable_answer", id="200 empty without Content-Length"),
    pytest.param(200, "<html>log in</html>", {}, "in_doubt", "unreadable_answer", id="200 HTML"),
    pytest.param(200, "<html>", CLOUDFLARE, "in_doubt", "unreadable_answer", id="200 HTML of Cloudflare"),
    pytest.param(200, "null", {}, "in_doubt", "unreadable_answer", id="200 null"),
    pytest.param(200, "false", {}, "in_doubt", "unreadable_answer", id="200 false"),
    pytest.param(200, "0", {}, "in_doubt", "unreadable_answer", id="200 zero"),
    pytest.param(200, '""', {}, "in_doubt", "unreadable_answer", id="200 empty string"),
    pytest.param(200, "[{}]", {}, "in_doubt", "unreadable_answer", id="200 list that is not empty"),
    pytest.param(200, '{"status":"cancel"}', {}, "in_doubt", "unreadable_answer", id="200 with a status"),
    pytest.param(200, '{"error":null}', {}, "in_doubt", "unreadable_answer", id="200 with an empty error"),
    pytest.param(200, '{"error":"x"}', {}, "in_doubt", "contradictory_answer", id="200 with error"),
    pytest.param(200, '{"errors":{"id":["x"]}}', {}, "in_doubt", "contradictory_answer", id="200 with errors"),
    pytest.param(200, "{", {}, "in_doubt", "unreadable_answer", id="200 cut JSON"),
    pytest.param(200, "{}", {"Content-Encoding": "br"}, "in_doubt", "unreadable_answer", id="200 encoded"),
    # other successes are not documented
    pytest.param(201, "{}", {}, "in_doubt", "unreadable_answer", id="201"),
    pytest.param(202, "{}", {}, "in_doubt", "unreadable_answer", id="202"),
    pytest.param(204, "", EMPTY, "in_doubt", "unreadable_answer", id="204"),
    pytest.param(206, "{}", {}, "in_doubt", "unreadable_answer", id="206"),
    # redirects are not followed
    pytest.param(301, "", {"Location": "https://b.example/"}, "in_doubt", "redirected", id="301"),
    pytest.param(302, "", {"Location": "https://b.example/"}, "in_doubt", "redirected", id="302"),
    pytest.param(307, "", {"Location": CANCEL}, "in_doubt", "redirected", id="307"),
    pytest.param(308, "{}", {}, "in_doubt", "redirected", id="308"),
    # credentials, rate
    pytest.param(401, '{"message":"Unauthenticated."}', {}, "not_processed", "bad_credentials", id="401"),
    pytest.param(401, "", EMPTY, "not_processed", "bad_credentials", id="401 empty"),
    pytest.param(403, '{"error":"Forbidden"}', {}, "not_processed", "bad_credentials", id="403"),
    pytest.param(403, "<html>", CLOUDFLARE, "not_processed", "bad_credentials", id="403 of Cloudflare"),
    pytest.param(429, "", EMPTY, "not_processed", "rate_limited", id="429"),
    # refusals
    pytest.param(404, '{"error":"Transaction not exists"}', {}, "refused", "not_found", id="404 with error"),
    pytest.param(422, REFUSAL, {}, "refused", "provider_refused", id="422 message and errors"),
    pytest.param(
        422,
        '{"message":"The given data was invalid","errors":{"amount":["Min amount is 100.00"]}}',
        {},
        "refused",
        "provider_refused",
        id="422 business validation",
    ),
    pytest.param(
        422,
        '{"message":"Validation failed","errors":{"method":["Выбранное Вами значение недопустимо."]}}',
        {},
        "refused",
        "provider_refused",
        id="422 field validation, in Russian",
    ),
    pytest.param(400, '{"error":"Wrong status"}', {}, "refused", "provider_refused", id="400"),
    pytest.param(409, '{"error":"Wrong status"}', {}, "refused", "provider_refused", id="409"),
    pytest.param(400, "<html>", CLOUDFLARE, "in_doubt", "unreadable_answer", id="400 of Cloudflare"),
    pytest.param(409, "", EMPTY, "in_doubt", "unreadable_answer", id="409 empty"),
    pytest.param(422, '["x"]', {}, "in_doubt", "unreadable_answer", id="422 of another shape"),
    # not FireKassa's API
    pytest.param(404, "<html>", {}, "in_doubt", "wrong_address", id="404 HTML"),
    pytest.param(404, '{"message":"Not Found"}', {}, "in_doubt", "wrong_address", id="404 without error"),
    pytest.param(404, "", EMPTY, "in_doubt", "wrong_address", id="404 empty"),
    pytest.param(405, '{"error":"x"}', {}, "in_doubt", "wrong_address", id="405"),
    # undocumented responses
    pytest.param(402, '{"error":"x"}', {}, "in_doubt", "unreadable_answer", id="402"),
    pytest.param(408, "", EMPTY, "in_doubt", "unreadable_answer", id="408"),
    pytest.param(410, '{"error":"x"}', {}, "in_doubt", "unreadable_answer", id="410"),
    pytest.param(415, '{"error":"x"}', {}, "in_doubt", "unreadable_answer", id="415"),
    # the provider's own faults: it may have canceled before it failed
    pytest.param(500, '{"message":"Server Error"}', {}, "in_doubt", "provider_error", id="500"),
    pytest.param(500, "{}", {}, "in_doubt", "provider_error", id="500 with the body of a success"),
    pytest.param(502, "<html>", CLOUDFLARE, "in_doubt", "provider_error", id="502"),
    pytest.param(503, "", {"Retry-After": "5", **EMPTY}, "in_doubt", "provider_error", id="503"),
    pytest.param(504, "", EMPTY, "in_doubt", "provider_error", id="504"),
    pytest.param(522, "<html>", CLOUDFLARE, "in_doubt", "provider_error", id="522"),
    pytest.param(524, "<html>", CLOUDFLARE, "in_doubt", "provider_error", id="524"),
]


@pytest.mark.parametrize(("http_status", "body", "headers", "outcome", "code"), ANSWERS)
def test_cancel_response_has_its_outcome(firekassa, web, http_status, body, headers, outcome, code):
    web.post(CANCEL, status=http_status, body=body, headers=headers)

    reply = firekassa.cancel("511727028", lease=may_send)

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
def test_missing_cancel_response_has_its_outcome(looking, web, fault, outcome, code):
    """Also if lookups are enabled: reconcile looks up later, when the request can no longer be executed."""
    web.post(CANCEL, body=fault)

    reply = looking.cancel("511727028", lease=may_send)

    assert reply.outcome == outcome
    assert reply.code == code
    assert reply.http_status is None
    assert len(web.calls) == 1


def test_refusal_keeps_the_message_of_the_provider(firekassa, web):
    web.post(CANCEL, status=422, body=REFUSAL)

    reply = firekassa.cancel("511727028", lease=may_send)

    assert "Нельзя отменить." in reply.provider_message
    assert len(web.calls) == 1


@pytest.mark.parametrize(
    ("retry_after", "seconds"), [("7", 7.0), ("99999999", 3600.0), ("-5", None), ("garbage", None), (None, None)]
)
def test_rate_limit_returns_the_wait_of_its_header(firekassa, web, retry_after, seconds):
    web.post(CANCEL, status=429, headers={"Retry-After": retry_after} if retry_after else {})

    reply = firekassa.cancel("511727028", lease=may_send)

    assert reply.outcome == Outcome.NOT_PROCESSED
    assert reply.code == Code.RATE_LIMITED
    assert reply.retry_after == seconds
    assert len(web.calls) == 1


def test_block_by_cloudflare_has_its_own_code(firekassa, web):
    web.post(CANCEL, status=403, body="<html>Sorry, you have been blocked</html>", headers=CLOUDFLARE)

    reply = firekassa.cancel("511727028", lease=may_send)

    assert reply.provider_message.startswith("Cloudflare blocked the request")
    assert len(web.calls) == 1


def test_403_of_firekassa_behind_cloudflare_is_not_a_block(firekassa, web):
    web.post(CANCEL, status=403, body='{"error":"Wrong signature"}', headers=CLOUDFLARE)

    reply = firekassa.cancel("511727028", lease=may_send)

    assert reply.provider_message == '{"error":"Wrong signature"}'
    assert len(web.calls) == 1


def test_echoed_secrets_are_not_in_the_reply(web):
    echo = '{"error":"Bearer invented\\/token with sign-token-1 is wrong"}'
    web.post(CANCEL, status=422, body=echo)
    web.get(LOOKUP, status=500, body=echo)
    account = FireKassa(
        "fk",
        base_url="https://fk.example",
        api_token=Secret("invented/token"),
        sign_token=Secret("sign-token-1"),
        lookup=True,
    )

    reply = account.cancel("511727028", lease=may_send)

    assert "Bearer ***" in reply.provider_message
    assert "invented" not in repr(reply)
    assert "sign-token-1" not in repr(reply)
    assert "invented" not in repr(account.lookup(["511727028"]))
    assert len(web.calls) == 3


# -- a refusal, explained by a lookup -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("provider_status", "outcome", "code", "status"),
    [
        ("cancel", "already_canceled", "already_canceled", Status.CANCELED),
        ("canceled", "already_canceled", "already_canceled", Status.CANCELED),
        ("cancelled", "already_canceled", "already_canceled", Status.CANCELED),
        ("expired", "refused", "closed", Status.EXPIRED),
        ("error", "refused", "closed", Status.FAILED),
        ("partially-paid", "refused", "has_payment", Status.PARTIALLY_PAID),
        ("paid", "refused", "has_payment", Status.PAID),
        ("overpaid", "refused", "has_payment", Status.OVERPAID),
        ("process", "in_doubt", "contradictory_answer", None),
        ("waiting", "refused", "provider_refused", None),
        ("refunded", "refused", "provider_refused", None),
        ("", "refused", "provider_refused", None),
    ],
)
@pytest.mark.parametrize("http_status", [400, 409, 422])
def test_refusal_is_explained_by_a_lookup(looking, web, http_status, provider_status, outcome, code, status):
    web.post(CANCEL, status=http_status, body=REFUSAL)
    web.get(LOOKUP, body=TRANSACTION % provider_status)

    reply = looking.cancel("511727028", lease=may_send)

    assert reply.outcome == outcome
    assert reply.code == code
    assert reply.status == status
    assert reply.http_status == http_status
    assert "Нельзя отменить." in reply.provider_message
    assert [call.request.method for call in web.calls] == ["POST", "GET"]


@pytest.mark.parametrize(
    ("http_status", "body"),
    [
        pytest.param(500, "{}", id="500"),
        pytest.param(429, "", id="429"),
        pytest.param(401, "{}", id="401"),
        pytest.param(404, '{"error":"Transaction not exists"}', id="not found"),
        pytest.param(404, "<html>", id="wrong address"),
        pytest.param(200, "<html>", id="HTML"),
        pytest.param(200, (TRANSACTION % "cancel").replace("511727028", "511727029"), id="reply about another invoice"),
        pytest.param(200, requests.ReadTimeout(), id="no answer"),
    ],
)
def test_refusal_remains_if_its_lookup_fails(looking, web, http_status, body):
    web.post(CANCEL, status=422, body=REFUSAL)
    web.get(LOOKUP, status=http_status, body=body)

    reply = looking.cancel("511727028", lease=may_send)

    assert reply.outcome == Outcome.REFUSED
    assert reply.code == Code.PROVIDER_REFUSED
    assert reply.status is None
    assert len(web.calls) == 2


def test_cancel_and_its_lookup_share_one_deadline_and_only_the_cancel_has_the_lease(looking, exchange_with):
    refused = Exchange(Kind.ANSWER, http_status=422, is_json=True, json={"error": "x"})
    sent = exchange_with(refused, Exchange(Kind.NOT_SENT, Code.UNREACHABLE))

    looking.cancel("511727028", lease=may_send)

    cancel, lookup = sent
    assert cancel.deadline is lookup.deadline
    assert 0 < cancel.deadline.left() <= 15
    assert cancel.lease is may_send
    assert lookup.lease is None


def test_cancel_that_is_not_refused_is_not_looked_up(looking, web):
    web.post(CANCEL, status=404, body='{"error":"Transaction not exists"}')

    reply = looking.cancel("511727028", lease=may_send)

    assert reply.code == Code.NOT_FOUND
    assert len(web.calls) == 1


# -- a lookup -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("http_status", "body", "status", "code", "is_answer"),
    [
        pytest.param(200, TRANSACTION % "process", Status.CREATED, "observed", True, id="process"),
        pytest.param(200, TRANSACTION % "expired", Status.EXPIRED, "observed", True, id="expired"),
        pytest.param(200, TRANSACTION % "Cancel", Status.CANCELED, "observed", True, id="another case"),
        pytest.param(200, '{"id":511727028,"status":"paid"}', Status.PAID, "observed", True, id="id as a number"),
        pytest.param(200, TRANSACTION % "waiting", None, "unknown_status", True, id="unknown status"),
        pytest.param(200, '{"id":"511727028","status":null}', None, "unknown_status", True, id="no status"),
        pytest.param(200, '{"id":"511727028","status":7}', None, "unknown_status", True, id="status is a number"),
        pytest.param(200, '{"id":"511727029","status":"paid"}', None, "unreadable_answer", False, id="another id"),
        pytest.param(200, '{"status":"paid"}', None, "unreadable_answer", False, id="no id"),
        pytest.param(200, "{}", None, "unreadable_answer", False, id="empty"),
        pytest.param(200, "[]", None, "unreadable_answer", False, id="list"),
        pytest.param(200, "<html>", None, "unreadable_answer", False, id="HTML"),
        pytest.param(202, TRANSACTION % "paid", None, "unreadable_answer", False, id="202"),
        pytest.param(404, '{"error":"Transaction not exists"}', None, "not_found", True, id="not found"),
        pytest.param(404, "<html>", None, "wrong_address", False, id="404 HTML"),
        pytest.param(302, "", None, "redirected", False, id="302"),
        pytest.param(401, "{}", None, "bad_credentials", False, id="401"),
        pytest.param(403, "{}", None, "bad_credentials", False, id="403"),
        pytest.param(429, "{}", None, "rate_limited", False, id="429"),
        pytest.param(500, "{}", None, "provider_error", False, id="500"),
        pytest.param(422, REFUSAL, None, "unreadable_answer", False, id="422"),
    ],
)
def test_lookup_response_has_its_status(looking, web, http_status, body, status, code, is_answer):
    web.get(LOOKUP, status=http_status, body=body)

    replies = looking.lookup(["511727028"])

    assert list(replies) == ["511727028"]
    reply = replies["511727028"]
    assert reply.status == status
    assert reply.code == code
    assert reply.is_answer == is_answer
    assert reply.http_status == http_status
    assert len(web.calls) == 1


@pytest.mark.parametrize(
    ("fault", "code"),
    [(requests.ConnectTimeout(), "unreachable"), (requests.ReadTimeout(), "no_answer")],
    ids=["no connection", "no answer"],
)
def test_missing_lookup_response_has_no_status(looking, web, fault, code):
    web.get(LOOKUP, body=fault)

    reply = looking.lookup(["511727028"])["511727028"]

    assert reply.status is None
    assert reply.code == code
    assert reply.is_answer is False
    assert len(web.calls) == 1


def test_disabled_lookup_sends_no_request(firekassa, web):
    reply = firekassa.lookup(["511727028"])["511727028"]

    assert reply.status is None
    assert reply.code == Code.NO_LOOKUP
    assert reply.is_answer is False
    assert len(web.calls) == 0


# -- ids and options ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("external_id", ["511727028", "1", "1234567890123456789", "aZ09_-"])
def test_id_is_kept_as_it_is(firekassa, external_id):
    assert firekassa.clean_id(external_id) == external_id


def test_blanks_around_an_id_are_dropped(firekassa):
    assert firekassa.clean_id("  511727028 ") == "511727028"


WRONG_IDS = [
    pytest.param("", id="empty"),
    pytest.param("12345678901234567890", id="20 characters"),
    pytest.param("..", id="dots"),
    pytest.param("../../v1/x", id="parent folder"),
    pytest.param("1/2", id="slash"),
    pytest.param("1\\2", id="backslash"),
    pytest.param("1?a=b", id="query"),
    pytest.param("1#a", id="fragment"),
    pytest.param("1%2f2", id="percent"),
    pytest.param("1\n2", id="newline"),
    pytest.param("12\n", id="newline at the end"),
    pytest.param("1\r\nX-A: b", id="header"),
    pytest.param("1\x002", id="null byte"),
    pytest.param("1 2", id="blank"),
    pytest.param("\u0663\u0664\u0665", id="unicode digits"),
    pytest.param("\uff11\uff12\uff13", id="wide digits"),
    pytest.param("ё", id="letter that is not ASCII"),
    pytest.param(511727028, id="number"),
    pytest.param(None, id="None"),
    pytest.param(b"511727028", id="bytes"),
]


@pytest.mark.parametrize("external_id", WRONG_IDS)
def test_wrong_id_is_refused_before_anything_is_sent(firekassa, web, external_id):
    with pytest.raises(InvalidExternalId, match=r"is not an id of FireKassa: an id is FireKassa's own number"):
        firekassa.clean_id(external_id)
    with pytest.raises(InvalidExternalId):
        firekassa.cancel(external_id, lease=may_send)
    assert len(web.calls) == 0


@pytest.mark.parametrize("external_id", WRONG_IDS)
def test_wrong_id_is_not_looked_up(looking, web, external_id):
    reply = looking.lookup([external_id])[external_id]

    assert reply.status is None
    assert reply.code == Code.MISCONFIGURED
    assert reply.is_answer is False
    assert "an id is FireKassa's own number" in reply.provider_message
    assert len(web.calls) == 0


def test_refused_id_is_shown_without_line_breaks_and_not_in_full(firekassa):
    with pytest.raises(InvalidExternalId) as caught:
        firekassa.clean_id("x\n" * 500)

    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 200


def test_adapter_declares_its_capabilities(firekassa, looking):
    assert firekassa.supports_lookup is False
    assert looking.supports_lookup is True
    assert firekassa.lookup_group_size == 1
    assert firekassa.is_repeat_harmless is True
    assert firekassa.secret_options == {"api_token", "sign_token"}
    assert firekassa.verbose_name == "FireKassa"


@pytest.mark.parametrize("lookup", ["false", "", None, 2], ids=["string", "empty string", "None", "number"])
def test_lookup_that_is_neither_true_nor_false_is_refused(lookup):
    with pytest.raises(ProviderMisconfigured, match=r"Provider 'fk': option 'lookup' must be True or False\."):
        FireKassa("fk", base_url="https://fk.example", api_token=Secret("t"), lookup=lookup)


def test_unknown_option_is_a_type_error():
    with pytest.raises(TypeError, match="'api_key'"):
        FireKassa("fk", base_url="https://fk.example", api_token=Secret("t"), api_key=Secret("k"))


@pytest.mark.parametrize("missing", ["base_url", "api_token"])
def test_required_option_that_is_missing_is_a_type_error(missing):
    options = {"base_url": "https://fk.example", "api_token": Secret("t")}
    del options[missing]

    with pytest.raises(TypeError, match=missing):
        FireKassa("fk", **options)
