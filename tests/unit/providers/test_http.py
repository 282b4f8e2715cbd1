"""Common parts of adapters over HTTP: the address, the token, and the answers with a common meaning."""

import re

import pytest

from django_invoice_cancel.domain.outcomes import Code, LookupReply, Outcome, ProviderReply
from django_invoice_cancel.domain.secrets import Secret
from django_invoice_cancel.domain.statuses import Status
from django_invoice_cancel.exceptions import ProviderMisconfigured
from django_invoice_cancel.providers.http import HTTPProvider
from django_invoice_cancel.providers.transport import Deadline, Exchange, Kind
from tests.integration.providers.transport.fault_server import FaultServer, keeps_alive


class Plain(HTTPProvider):
    verbose_name = "Plain"
    token_option = "key"
    secret_options = frozenset({"key"})
    id_form = "digits"
    id_pattern = re.compile("[0-9]+")

    def __init__(self, alias, *, key, **common):
        super().__init__(alias, key, **common)

    def cancel(self, external_id, *, lease):
        raise NotImplementedError


def make(base_url="https://api.example", key="invented-key", **options):
    return Plain("plain", key=Secret(key), base_url=base_url, **options)


# -- the address ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("base_url", "kept", "is_plain_http"),
    [
        ("https://api.example", "https://api.example", False),
        ("https://api.example/", "https://api.example", False),
        ("https://api.example:8443", "https://api.example:8443", False),
        ("https://api.example/shop/pay/", "https://api.example/shop/pay", False),
        ("https://10.0.0.7", "https://10.0.0.7", False),
        ("https://v2.example", "https://v2.example", False),
        ("http://127.0.0.1:8000", "http://127.0.0.1:8000", True),
        ("http://127.3.2.1/", "http://127.3.2.1", True),
        ("http://[::1]:8000", "http://[::1]:8000", True),
        ("http://localhost", "http://localhost", True),
        ("http://LOCALHOST:1", "http://LOCALHOST:1", True),
    ],
)
def test_address_is_accepted(base_url, kept, is_plain_http):
    provider = make(base_url)

    assert provider.base_url == kept
    assert provider.is_plain_http == is_plain_http


@pytest.mark.parametrize(
    "base_url",
    [
        pytest.param("", id="empty"),
        pytest.param(None, id="None"),
        pytest.param(b"https://api.example", id="bytes"),
        pytest.param("api.example", id="no scheme"),
        pytest.param("//api.example", id="no scheme, slashes"),
        pytest.param("ftp://api.example", id="another scheme"),
        pytest.param("https://", id="no host"),
        pytest.param("https:///path", id="no host, a path"),
        pytest.param("https://user:password@api.example", id="user and password"),
        pytest.param("https://user@api.example", id="user"),
        pytest.param("https://api.example\\@evil.example", id="backslash"),
        pytest.param("https://api.example?a=b", id="query"),
        pytest.param("https://api.example/#a", id="fragment"),
        pytest.param("https://api.example/a b", id="blank"),
        pytest.param(" https://api.example", id="blank before it"),
        pytest.param("https://api.example\n", id="newline"),
        pytest.param("https://api.example/a%2fb", id="percent"),
        pytest.param("https://api.example//", id="two slashes"),
        pytest.param("https://bücher.example", id="not ASCII"),
        pytest.param("https://api.example:0", id="port 0"),
        pytest.param("https://api.example:65536", id="port too high"),
        pytest.param("https://api.example:x", id="port that is none"),
        pytest.param("https://{{your_api_domain}}", id="left as in the docs"),
    ],
)
def test_invalid_address_is_refused(base_url):
    with pytest.raises(ProviderMisconfigured) as caught:
        make(base_url)

    assert str(caught.value) == (
        "Provider 'plain': option 'base_url' must be an address such as 'https://api.example.com', with an optional "
        "port and path, and without user, password, query or fragment."
    )


@pytest.mark.parametrize(
    "base_url", ["http://api.example", "http://10.0.0.7", "http://127.0.0.1.example", "http://localhost.example:80"]
)
def test_plain_http_is_refused_for_any_host_but_the_loopback_ones(base_url):
    with pytest.raises(ProviderMisconfigured, match=r"option 'base_url' must begin with https://"):
        make(base_url)


@pytest.mark.parametrize(
    ("base_url", "version"),
    [
        ("https://api.example/api/v2", "/api/v2"),
        ("https://api.example/api/v2/", "/api/v2"),
        ("https://api.example/v2", "/v2"),
        ("https://api.example/shop/V3/", "/V3"),
    ],
)
def test_address_that_ends_in_the_version_of_the_api_is_refused(base_url, version):
    with pytest.raises(
        ProviderMisconfigured, match=f"'base_url' must not end in '{version}', because this app appends it"
    ):
        make(base_url)


# -- the token and the other options --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "key",
    [
        pytest.param("", id="empty"),
        pytest.param("invented key", id="blank"),
        pytest.param("invented-key\n", id="newline"),
        pytest.param("invented-ключ", id="not ASCII"),
    ],
)
def test_token_that_cannot_be_sent_is_refused_without_being_shown(key):
    with pytest.raises(ProviderMisconfigured, match="Provider 'plain': option 'key' is invalid:") as caught:
        make(key=key)

    assert "invented" not in str(caught.value)


@pytest.mark.parametrize("seconds", [0, -1, "5", None, True, float("inf"), float("nan"), 3601, 1e300, 10**400])
def test_connect_timeout_outside_its_limits_is_refused(seconds):
    problem = "option 'connect_timeout' must be a number of seconds greater than 0 and at most 3600"
    with pytest.raises(ProviderMisconfigured, match=problem):
        make(connect_timeout=seconds)


@pytest.mark.parametrize("reuse_connections", [True, False])
def test_reuse_of_connections_is_an_option(reuse_connections):
    with FaultServer(keeps_alive()) as server:
        provider = make(server.url, reuse_connections=reuse_connections)
        for _ in range(3):
            provider.send("POST", "/cancel", deadline=Deadline(5))
        provider.close()

    assert server.connections == (1 if reuse_connections else 3)
    assert server.executed == 3


@pytest.mark.parametrize("value", [None, 0, 1, "False", ""])
def test_reuse_of_connections_must_be_a_bool(value):
    with pytest.raises(ProviderMisconfigured, match="option 'reuse_connections' must be True or False"):
        make(reuse_connections=value)


def test_secrets_are_the_secret_options_that_are_set():
    class Two(Plain):
        def __init__(self, alias, *, key, other, **common):
            HTTPProvider.__init__(self, alias, key, other, None, Secret(""), **common)

    provider = Two("two", key=Secret("one"), other=Secret("two"), base_url="https://api.example")

    assert [secret.reveal() for secret in provider.secrets] == ["one", "two"]


def test_token_option_must_be_one_of_the_secret_ones():
    class Leaky(Plain):
        secret_options = frozenset()

    with pytest.raises(ProviderMisconfigured, match="Leaky has invalid declarations: token_option must name one of"):
        Leaky("leaky", key=Secret("k"), base_url="https://api.example")


def test_close_closes_the_connections():
    with FaultServer(keeps_alive()) as server:
        provider = make(server.url)
        for _ in range(2):
            provider.send("POST", "/cancel", deadline=Deadline(5))
            provider.close()

    assert server.connections == 2
    assert server.executed == 2


# -- read in common -------------------------------------------------------------------------------------------------


def answer(http_status, **rest):
    return Exchange(Kind.ANSWER, http_status=http_status, **rest)


COMMON = [
    (Exchange(Kind.NOT_SENT, Code.UNREACHABLE), "not_processed", "unreachable"),
    (Exchange(Kind.NOT_SENT, Code.LEASE_EXPIRED), "not_processed", "lease_expired"),
    (Exchange(Kind.IN_DOUBT, Code.NO_ANSWER), "in_doubt", "no_answer"),
    (Exchange(Kind.IN_DOUBT, Code.UNREADABLE_ANSWER, http_status=200), "in_doubt", "unreadable_answer"),
    (Exchange(Kind.IN_DOUBT, Code.UNREADABLE_ANSWER, http_status=401), "in_doubt", "unreadable_answer"),
    (Exchange(Kind.IN_DOUBT, Code.UNREADABLE_ANSWER, http_status=403), "in_doubt", "unreadable_answer"),
    (Exchange(Kind.IN_DOUBT, Code.UNREADABLE_ANSWER, http_status=429), "in_doubt", "unreadable_answer"),
    (answer(401), "not_processed", "bad_credentials"),
    (answer(403), "not_processed", "bad_credentials"),
    (answer(429), "not_processed", "rate_limited"),
    (answer(300), "in_doubt", "redirected"),
    (answer(304), "in_doubt", "redirected"),
    (answer(399), "in_doubt", "redirected"),
    (answer(404), "in_doubt", "wrong_address"),
    (answer(405), "in_doubt", "wrong_address"),
    (answer(500), "in_doubt", "provider_error"),
    (answer(599), "in_doubt", "provider_error"),
    (answer(999), "in_doubt", "provider_error"),
]
IDS = [f"{exchange.kind} {exchange.http_status or exchange.code}" for exchange, _, _ in COMMON]


@pytest.mark.parametrize(("exchange", "outcome", "code"), COMMON, ids=IDS)
def test_common_response_has_the_same_outcome_for_every_adapter(exchange, outcome, code):
    reply = make().read_common(exchange)

    assert reply is not None
    assert reply.outcome == outcome
    assert reply.code == code
    assert reply.http_status == exchange.http_status


@pytest.mark.parametrize(("exchange", "outcome", "code"), COMMON, ids=IDS)
def test_lookup_with_a_common_failure_has_no_status(exchange, outcome, code):
    reply = make().read_common_lookup(exchange)

    assert reply is not None
    assert reply.status is None
    assert reply.code == code
    assert reply.is_answer is False


@pytest.mark.parametrize("http_status", [200, 201, 204, 400, 402, 406, 408, 409, 410, 415, 422, 451])
def test_other_responses_are_read_by_the_adapter(http_status):
    assert make().read_common(answer(http_status)) is None
    assert make().read_common_lookup(answer(http_status)) is None


def test_reply_has_the_message_of_the_provider_or_the_error():
    said = make().read_common(answer(429, text="Slow down", retry_after=3.0))
    failed = make().read_common(Exchange(Kind.NOT_SENT, Code.UNREACHABLE, detail="NameResolutionError"))

    assert said is not None
    assert failed is not None
    assert said.provider_message == "Slow down"
    assert said.retry_after == 3.0
    assert failed.provider_message == "NameResolutionError"


def test_message_is_masked_and_shortened():
    reply = make().reply(answer(400, text="x" * 490 + " invented-key"), Outcome.IN_DOUBT, Code.UNREADABLE_ANSWER)

    assert reply.provider_message == "x" * 490 + " ***"
    assert len(make().sanitize("y" * 600)) == 500


@pytest.mark.parametrize(
    ("exchange", "is_hinted"),
    [
        (Exchange(Kind.NOT_SENT, Code.UNREACHABLE), True),
        (answer(302), True),
        (answer(404), True),
        (Exchange(Kind.NOT_SENT, Code.LEASE_EXPIRED), False),
        (Exchange(Kind.IN_DOUBT, Code.NO_ANSWER), False),
        (answer(401), False),
        (answer(500), False),
    ],
    ids=["unreachable", "redirected", "wrong address", "lease over", "no answer", "credentials", "provider's error"],
)
def test_hint_about_the_address_is_given_if_the_host_is_unknown(exchange, is_hinted):
    provider = make()
    provider.address_hint = "Try the other one."

    reply = provider.read_common(exchange)

    assert reply is not None
    assert ("Try the other one." in reply.provider_message) is is_hinted


@pytest.mark.parametrize(
    ("http_status", "server", "is_json", "is_called_a_block"),
    [
        (403, "cloudflare", False, True),
        (403, "Cloudflare", False, True),
        (403, "cloudflare", True, False),
        (403, "nginx", False, False),
        (503, "cloudflare", False, False),
    ],
)
def test_only_a_403_of_cloudflare_is_a_block(http_status, server, is_json, is_called_a_block):
    reply = make().read_common(answer(http_status, server=server, is_json=is_json, text="No."))

    assert reply is not None
    assert reply.provider_message.startswith("Cloudflare blocked") is is_called_a_block
    assert reply.provider_message.endswith("No.")


# -- a refusal and the lookup after it ------------------------------------------------------------------------------

REFUSED = ProviderReply(Outcome.REFUSED, Code.PROVIDER_REFUSED, http_status=400, provider_message="No.")


@pytest.mark.parametrize(
    ("status", "outcome", "code"),
    [
        (Status.CANCELED, Outcome.ALREADY_CANCELED, Code.ALREADY_CANCELED),
        (Status.EXPIRED, Outcome.REFUSED, Code.CLOSED),
        (Status.FAILED, Outcome.REFUSED, Code.CLOSED),
        (Status.PARTIALLY_PAID, Outcome.REFUSED, Code.HAS_PAYMENT),
        (Status.PAID, Outcome.REFUSED, Code.HAS_PAYMENT),
        (Status.OVERPAID, Outcome.REFUSED, Code.HAS_PAYMENT),
    ],
)
def test_looked_up_status_explains_a_refusal(status, outcome, code):
    reply = make().explain_refusal(REFUSED, LookupReply(status, Code.OBSERVED, is_answer=True))

    assert reply == ProviderReply(outcome, code, status, http_status=400, provider_message="No.")


@pytest.mark.parametrize("status", [Status.CREATED, None])
def test_open_status_does_not_explain_a_refusal(status):
    assert make().explain_refusal(REFUSED, LookupReply(status, Code.OBSERVED, is_answer=True)) is None


def test_refusal_of_an_open_invoice_is_a_contradiction():
    found = LookupReply(Status.CREATED, Code.OBSERVED, is_answer=True, provider_status="process")

    reply = make().doubt_refusal(REFUSED, found)

    assert reply.outcome == Outcome.IN_DOUBT
    assert reply.code == Code.CONTRADICTORY_ANSWER
    assert reply.status is None
    assert reply.provider_message == "No. (asked for its status: observed process)"


def test_failed_lookup_after_a_refusal_keeps_its_code_and_wait():
    found = LookupReply(None, Code.RATE_LIMITED, is_answer=False, provider_message="Slow down", retry_after=9.0)

    reply = make().doubt_refusal(REFUSED, found)

    assert reply.outcome == Outcome.IN_DOUBT
    assert reply.code == Code.NO_ANSWER
    assert reply.provider_message == "No. (asked for its status: rate_limited Slow down)"
    assert reply.retry_after == 9.0


def test_unknown_status_after_a_refusal_is_in_the_reply():
    found = LookupReply(None, Code.UNKNOWN_STATUS, is_answer=True, provider_status="frozen")

    reply = make().doubt_refusal(REFUSED, found)

    assert reply.outcome == Outcome.IN_DOUBT
    assert reply.code == Code.UNKNOWN_STATUS
    assert reply.provider_message == "No. (asked for its status: unknown_status frozen)"
