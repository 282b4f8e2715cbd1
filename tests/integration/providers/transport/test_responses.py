"""An answer counts only if it is complete and readable. Its status is kept in any case."""

import gzip
import json
import subprocess
import sys
from time import monotonic

import pytest
from urllib3 import HTTPConnectionPool

from django_invoice_cancel.domain.outcomes import Code
from django_invoice_cancel.providers.transport import Deadline, Exchange, Kind, connections

from .conftest import TOKEN, Connect, Serve
from .fault_server import CHUNKED, Behaviour, answer, drips, floods, replies, unframed

BOMB = gzip.compress(b"\0" * 50_000_000)


def ask(serve: Serve, connect: Connect, behave: Behaviour) -> Exchange:
    """Send one request, check that it arrived once, and return its exchange."""
    server = serve(behave)
    exchange = connect(server.url).request("POST", "/cancel", body=b"{}", deadline=Deadline(5))
    assert server.executed == 1
    return exchange


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"{}", {}),
        (b"[]", []),
        (b"null", None),
        (b' {"a": [1, 2.5, "\\u0436"]}\n', {"a": [1, 2.5, "ж"]}),
        (b"\xef\xbb\xbf{}", {}),
    ],
)
@pytest.mark.parametrize("framing", ["length", "chunked", "close"])
def test_complete_json_is_an_answer(
    serve: Serve, connect: Connect, body: bytes, expected: object, framing: str
) -> None:
    chunks = CHUNKED + b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
    wire = {"length": answer(body), "chunked": chunks, "close": unframed(body)}[framing]

    exchange = ask(serve, connect, replies(wire))

    assert exchange.kind is Kind.ANSWER
    assert exchange.is_json is True
    assert exchange.json == expected
    assert exchange.code == ""
    assert exchange.detail == ""
    assert exchange.is_empty is False


@pytest.mark.parametrize(
    "body",
    [
        b'{"a": NaN}',
        b"[Infinity]",
        b"-Infinity",
        b"1e999",
        b"[" * 60_000,
        b'{"a":' * 10_000,
        b"1" * 5_000,
        b'{"status": "canc',
        b"{}{}",
        b"<html>Checking your browser</html>",
        b"\xff\xfe{}",
    ],
    ids=lambda body: ascii(body[:12]),
)
def test_other_content_is_an_answer_without_json(serve: Serve, connect: Connect, body: bytes) -> None:
    exchange = ask(serve, connect, replies(answer(body, "502 Bad Gateway")))

    assert exchange.kind == Kind.ANSWER
    assert exchange.http_status == 502
    assert exchange.is_json is False
    assert exchange.json is None
    assert 0 < len(exchange.text) <= 500


EMPTY = {
    "length 0": (answer(b""), Kind.ANSWER, True),
    "no length": (unframed(b""), Kind.IN_DOUBT, False),
    "chunked": (CHUNKED + b"0\r\n\r\n", Kind.ANSWER, False),
    "204": (b"HTTP/1.1 204 No Content\r\n\r\n", Kind.ANSWER, True),
    "204 with length 0": (b"HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n", Kind.ANSWER, True),
    "204 of HTTP/1.0": (b"HTTP/1.0 204 No Content\r\n\r\n", Kind.ANSWER, True),
    "204 whose head is cut": (b"HTTP/1.1 204 No Content\r\n", Kind.IN_DOUBT, False),
    "204 whose status line is cut": (b"HTTP/1.1 204 No Content", Kind.IN_DOUBT, False),
    "304": (b"HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n", Kind.ANSWER, False),
    "head cut behind the length": (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nServ", Kind.IN_DOUBT, False),
    "head cut after the length": (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n", Kind.IN_DOUBT, False),
    "line that is no header": (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nnonsense\r\n\r\n", Kind.IN_DOUBT, False),
    "head cut within the length": (b"HTTP/1.1 200 OK\r\nContent-Length: 0", Kind.IN_DOUBT, False),
}


@pytest.mark.parametrize("case", EMPTY)
def test_body_is_empty_only_if_the_header_proves_it(serve: Serve, connect: Connect, case: str) -> None:
    wire, kind, is_empty = EMPTY[case]

    exchange = ask(serve, connect, replies(wire))

    assert exchange.kind == kind
    assert exchange.is_empty == is_empty
    assert exchange.is_json is False


@pytest.mark.parametrize("status", [200, 401, 429, 500, 302])
@pytest.mark.parametrize(
    "wire",
    [
        'HTTP/1.1 %d X\r\nRetry-After: 7\r\nServer: cf\r\nContent-Length: 9\r\n\r\n{"a"',
        "HTTP/1.1 %d X\r\nRetry-After: 7\r\nServer: cf\r\n\r\n<html>",
        "HTTP/1.1 %d X\r\nRetry-After: 7\r\nServer: cf\r\nContent-Encoding: gzip\r\nContent-Length: 2\r\n\r\n{}",
        "HTTP/1.1 %d X\r\nRetry-After: 7\r\nServer: cf\r\nContent-Encoding: br\r\nContent-Length: 2\r\n\r\n{}",
    ],
    ids=["short", "unframed", "gzip", "br"],
)
def test_unreadable_body_is_in_doubt_and_its_headers_are_kept(
    serve: Serve, connect: Connect, wire: str, status: int
) -> None:
    exchange = ask(serve, connect, replies((wire % status).encode()))

    assert exchange.kind == Kind.IN_DOUBT
    assert exchange.code == Code.UNREADABLE_ANSWER
    assert exchange.http_status == status
    assert exchange.retry_after == 7.0
    assert exchange.server == "cf"
    assert exchange.is_json is False
    assert exchange.is_empty is False
    assert exchange.text == ""


def test_encoding_identity_is_accepted(serve: Serve, connect: Connect) -> None:
    exchange = ask(serve, connect, replies(answer(b"{}", "200 OK", "Content-Encoding: Identity")))

    assert exchange.is_json


@pytest.mark.parametrize(("size", "kind"), [(65_536, Kind.ANSWER), (65_537, Kind.IN_DOUBT)])
@pytest.mark.parametrize("is_framed", [True, False])
def test_body_is_read_up_to_64_kib(serve: Serve, connect: Connect, size: int, kind: Kind, is_framed: bool) -> None:
    body = b"{}".ljust(size)

    exchange = ask(serve, connect, replies(answer(body) if is_framed else unframed(body)))

    assert exchange.kind is kind


MEMORY = """
import resource, sys
from django_invoice_cancel.domain.secrets import Secret
from django_invoice_cancel.providers.transport import Deadline, Transport
transport = Transport(base_url=sys.argv[1], scheme="Bearer", token=Secret("t"), secrets=[])
transport.request("POST", "/warm-up", deadline=Deadline(5))
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
exchange = transport.request("POST", "/cancel", deadline=Deadline(2))
print(exchange.kind, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""
HUGE = b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n"
ENDLESS = {
    "body": floods(HUGE, b"x" * 65_536),
    "chunks": floods(CHUNKED, b"10000\r\n" + b"x" * 65_536 + b"\r\n"),
    "chunk": floods(CHUNKED + b"fffffffff\r\n", b"x" * 65_536),
    "header": floods(b"HTTP/1.1 200 OK\r\nX: ", b"x" * 65_536),
    "gzip bomb": replies(answer(BOMB, "200 OK", "Content-Encoding: gzip")),
    "double gzip bomb": replies(answer(BOMB, "200 OK", "Content-Encoding: gzip, gzip")),
}


@pytest.mark.parametrize("behave", ENDLESS.values(), ids=ENDLESS)
def test_endless_answer_is_in_doubt_long_before_its_deadline(serve: Serve, connect: Connect, behave: Behaviour) -> None:
    begin = monotonic()

    exchange = connect(serve(behave).url).request("POST", "/cancel", deadline=Deadline(30))

    assert exchange.kind is Kind.IN_DOUBT
    assert monotonic() - begin < 10


@pytest.mark.slow
@pytest.mark.parametrize("behave", ENDLESS.values(), ids=ENDLESS)
def test_endless_answer_takes_less_than_20_mb(serve: Serve, behave: Behaviour) -> None:
    server = serve(
        lambda peer: (replies(answer(b"", "200 OK", "Connection: close")) if peer.number == 1 else behave)(peer)
    )

    done = subprocess.run(
        [sys.executable, "-c", MEMORY, server.url], capture_output=True, text=True, timeout=30, check=True
    )

    kind, megabytes = done.stdout.split()
    assert kind == Kind.IN_DOUBT
    assert int(megabytes) < 20
    assert server.executed_once_there_are(2) == 2


def test_text_is_masked_before_it_is_shortened(serve: Serve, connect: Connect) -> None:
    """A token that straddles the cut would otherwise leave half of itself."""
    body = b"x" * 490 + TOKEN.encode() + b"y" * 100

    exchange = ask(serve, connect, replies(answer(body, "500 No", f"Server: {'s' * 45}{TOKEN}")))

    assert exchange.text == "x" * 490 + "***" + "y" * 7
    assert exchange.server == "s" * 45 + "***"


@pytest.mark.parametrize(
    "echo",
    [TOKEN, json.dumps(TOKEN)[1:-1].replace("/", "\\/"), "".join(f"\\u{ord(character):04x}" for character in TOKEN)],
    ids=["plain", "slash", "escaped"],
)
def test_echoed_token_is_masked_in_the_text(serve: Serve, connect: Connect, echo: str) -> None:
    body = f'{{"error": "Bearer {echo} is wrong", "{echo}": 1}}'.encode()

    exchange = ask(serve, connect, replies(answer(body, "401 Unauthorized")))

    assert exchange.json == {"error": f"Bearer {TOKEN} is wrong", TOKEN: 1}
    assert exchange.text == '{"error": "Bearer *** is wrong", "***": 1}'


@pytest.mark.parametrize("token", ["o", "k", '"', ":", "{", "0", "\\", "ok", "status"])
def test_answer_is_read_before_it_is_masked(serve: Serve, connect: Connect, token: str) -> None:
    """A short token occurs in many responses. The outcome does not depend on the token."""
    server = serve(replies(answer(b'{"status":"ok","code":0}')))

    exchange = connect(server.url, token=token).request("POST", "/cancel", deadline=Deadline(5))

    assert exchange.is_json is True
    assert exchange.json == {"status": "ok", "code": 0}
    assert token == "\\" or token not in exchange.text
    assert server.executed == 1


def test_letters_of_other_alphabets_are_kept(serve: Serve, connect: Connect) -> None:
    exchange = ask(serve, connect, replies(answer(b'{"message":"\\u043d\\u0435\\u0442"}', "422 No")))

    assert exchange.text == '{"message": "нет"}'


def test_slow_response_within_the_deadline_is_read(serve: Serve, connect: Connect) -> None:
    exchange = ask(serve, connect, drips(answer(b"", length=2), lambda: iter([b"{", b"}"]), seconds=0.02))

    assert exchange.json == {}


@pytest.mark.parametrize("head", [b"200 OK\r\nContent-Length: 0", b"204 No Content"], ids=["length 0", "204"])
def test_without_hooks_no_body_is_known_to_be_empty(
    serve: Serve, connect: Connect, monkeypatch: pytest.MonkeyPatch, head: bytes
) -> None:
    """Without hooks, a header that was cut after its length cannot be detected."""
    monkeypatch.setattr(connections, "POOLS", {"http": HTTPConnectionPool})

    exchange = ask(serve, connect, replies(b"HTTP/1.1 " + head + b"\r\n"))

    assert not exchange.is_empty
