"""Unit tests of adapters mock requests with ``responses``. There is no connection, so exception types decide."""

import pytest
import requests
import responses
import urllib3

from django_invoice_cancel.domain.outcomes import Code
from django_invoice_cancel.providers.transport import Deadline, Exchange, Kind

from .conftest import Connect

URL = "http://provider.test/cancel"


def ask(connect: Connect, **mock: object) -> Exchange:
    with responses.RequestsMock() as mocked:
        mocked.post(URL, **mock)
        exchange = connect("http://provider.test").request("POST", "/cancel", body=b"{}", deadline=Deadline(5))
        assert len(mocked.calls) == 1
    return exchange


@pytest.mark.parametrize(
    ("error", "kind", "code"),
    [
        (requests.ConnectTimeout(), Kind.NOT_SENT, Code.UNREACHABLE),
        (requests.exceptions.InvalidURL("x"), Kind.NOT_SENT, Code.UNREACHABLE),
        (urllib3.exceptions.LocationParseError("x"), Kind.NOT_SENT, Code.UNREACHABLE),
        (requests.ReadTimeout(), Kind.IN_DOUBT, Code.NO_ANSWER),
        (requests.ConnectionError("x"), Kind.IN_DOUBT, Code.NO_ANSWER),
        (requests.exceptions.SSLError("x"), Kind.IN_DOUBT, Code.NO_ANSWER),
        (requests.exceptions.ProxyError("x"), Kind.IN_DOUBT, Code.NO_ANSWER),
        (requests.exceptions.InvalidHeader("x"), Kind.IN_DOUBT, Code.NO_ANSWER),
        (ValueError("x"), Kind.IN_DOUBT, Code.NO_ANSWER),
        (MemoryError(), Kind.IN_DOUBT, Code.NO_ANSWER),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else str(value),
)
def test_error_is_classified_by_its_type(connect: Connect, error: Exception, kind: Kind, code: Code) -> None:
    exchange = ask(connect, body=error)

    assert exchange.kind == kind
    assert exchange.code == code
    assert exchange.detail == type(error).__name__


@pytest.mark.parametrize("status", [200, 302, 401, 404, 429, 503])
def test_response_of_any_status_is_an_answer(connect: Connect, status: int) -> None:
    exchange = ask(connect, body="<html>", status=status, headers={"Retry-After": "3", "Server": "cloudflare"})

    assert exchange.kind == Kind.ANSWER
    assert exchange.http_status == status
    assert exchange.text == "<html>"
    assert exchange.retry_after == 3.0
    assert exchange.server == "cloudflare"


def test_json_is_parsed(connect: Connect) -> None:
    assert ask(connect, json={"status": "success"}).json == {"status": "success"}


@pytest.mark.parametrize(("headers", "is_empty"), [({"Content-Length": "0"}, True), ({}, False)])
def test_empty_body_needs_its_length(connect: Connect, headers: dict[str, str], is_empty: bool) -> None:
    assert ask(connect, body=b"", headers=headers).is_empty is is_empty
