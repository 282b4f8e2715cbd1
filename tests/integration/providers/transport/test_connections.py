"""Connections are reused while they are intact and fresh. Unrequested bytes are never used as an answer."""

import json
import os
import socket
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from time import monotonic

import pytest
from urllib3 import HTTPConnectionPool, Retry

from django_invoice_cancel.providers.transport import Deadline, Exchange, Kind, Transport, connections

from .conftest import Connect, Serve
from .fault_server import CHUNKED, Certificates, Peer, Request, after_request, answer, fin, hang, keeps_alive, sends

GOOD = {
    "length": answer(b"{}"),
    "empty": answer(b""),
    "chunked": CHUNKED + b"2\r\n{}\r\n0\r\n\r\n",
    "401": answer(b"no", "401 Unauthorized"),
    "redirect": answer(b"", "302 Found", "Location: /elsewhere"),
    "204": b"HTTP/1.1 204 No Content\r\n\r\n",
}


def post(transport: Transport, path: str = "/cancel") -> Exchange:
    return transport.request("POST", path, body=b"{}", deadline=Deadline(5))


@pytest.fixture(params=["plain", "tls"])
def is_tls(request: pytest.FixtureRequest, certificates: Certificates, monkeypatch: pytest.MonkeyPatch) -> bool:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", certificates.bundle)
    return bool(request.param == "tls")


@pytest.mark.parametrize("wire", GOOD)
def test_connection_is_reused_after_a_complete_response(
    wire: str, is_tls: bool, serve: Serve, connect: Connect, certificates: Certificates
) -> None:
    server = serve(keeps_alive(lambda _: GOOD[wire]), tls=certificates.ours if is_tls else None)
    transport = connect(server.url)

    kinds = [post(transport).kind for _ in range(3)]

    assert kinds == [Kind.ANSWER] * 3
    assert server.connections == 1
    assert server.executed == 3


BAD = {
    "too long": answer(b"x" * 70_000),
    "encoded": answer(b"{}", "200 OK", "Content-Encoding: gzip"),
    "bad chunk": CHUNKED + b"2\r\n{}\r\nzz\r\n",
    "cut short": answer(b"{", length=2),
    "early hints": b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" + answer(b'{"connection": "1, late"}'),
    "closes": answer(b"{}", "200 OK", "Connection: close"),
    "100 Continue": b"HTTP/1.1 100 Continue\r\n\r\n" + answer(),
    "304": b"HTTP/1.1 304 Not Modified\r\n\r\n",
    "no length": b"HTTP/1.1 200 OK\r\nConnection: keep-alive\r\n\r\n{}",
}


@pytest.mark.parametrize("wire", BAD)
def test_connection_is_not_reused_after_an_unusual_response(wire: str, serve: Serve, connect: Connect) -> None:
    server = serve(lambda peer: (after_request(sends(BAD[wire]), hang) if peer.number == 1 else keeps_alive())(peer))
    transport = connect(server.url)

    never_ends = wire in ("cut short", "no length")
    transport.request("POST", "/cancel", deadline=Deadline(1 if never_ends else 5))
    second = post(transport)

    assert second.kind == Kind.ANSWER
    assert second.json == {}
    assert server.connections == 2
    assert server.executed == 2


@pytest.mark.parametrize("wire", GOOD)
def test_without_reuse_each_request_opens_a_connection(
    wire: str, is_tls: bool, serve: Serve, connect: Connect, certificates: Certificates
) -> None:
    server = serve(keeps_alive(lambda _: GOOD[wire]), tls=certificates.ours if is_tls else None)
    transport = connect(server.url, reuse_connections=False)

    kinds = [post(transport).kind for _ in range(3)]

    assert kinds == [Kind.ANSWER] * 3
    assert server.connections == 3
    assert server.executed == 3
    assert [request.headers["connection"] for request in server.requests] == ["close"] * 3


def named(request: Request) -> bytes:
    return answer(json.dumps({"path": request.path}).encode())


@pytest.mark.parametrize(
    ("extra", "kind"),
    [
        (answer(b'{"path": "stray"}'), Kind.IN_DOUBT),
        (b"\r\n" + answer(b'{"path": "stray"}')[:5], Kind.IN_DOUBT),
        (b"HTTP/1.1 408 Request Timeout\r\n\r\n", Kind.IN_DOUBT),
        (b"\r\n", Kind.ANSWER),
        (b'{"path": "stray"}', Kind.ANSWER),
    ],
    ids=["200", "half a 200", "408", "empty line", "body"],
)
def test_extra_bytes_of_a_response_do_not_answer_the_next_request(
    extra: bytes, kind: Kind, is_tls: bool, serve: Serve, connect: Connect, certificates: Certificates
) -> None:
    """One of two responses to the first request of a connection was not requested, and it is unknown which one."""
    server = serve(keeps_alive(lambda request: named(request) + extra), tls=certificates.ours if is_tls else None)
    transport = connect(server.url)

    answers = [post(transport, f"/{n}") for n in range(3)]

    paths = [{"path": f"/{n}"} if kind is Kind.ANSWER else None for n in range(3)]
    assert [(each.kind, each.json) for each in answers] == [(kind, path) for path in paths]
    assert server.connections == 3
    assert server.executed == 3


def test_split_second_response_does_not_answer_the_next_request(serve: Serve, connect: Connect) -> None:
    """One half follows the first response, the other half arrives during the next request."""
    stray = answer(b'{"path": "stray"}')

    def behave(peer: Peer) -> None:
        while (request := peer.read_request()) is not None:
            peer.send(named(request) + stray[:20])
            peer.sock.recv(1)
            peer.send(stray[20:])

    server = serve(behave)
    transport = connect(server.url)

    assert [post(transport, f"/{n}").kind for n in range(2)] == [Kind.IN_DOUBT] * 2
    assert server.connections == 2
    assert server.executed == 2


def test_response_on_an_idle_connection_does_not_answer_the_next_request(
    is_tls: bool, serve: Serve, connect: Connect, certificates: Certificates
) -> None:
    is_answered, is_sent = threading.Event(), threading.Event()

    def behave(peer: Peer) -> None:
        while (request := peer.read_request()) is not None:
            peer.send(named(request))
            if request.path == "/first":
                is_answered.wait(5)
                peer.send(answer(b'{"path": "stray"}'))
                peer.flush()
                is_sent.set()

    server = serve(behave, tls=certificates.ours if is_tls else None)
    transport = connect(server.url)

    first = post(transport, "/first")
    is_answered.set()
    assert is_sent.wait(5)
    second = post(transport, "/second")

    assert first.json == {"path": "/first"}
    assert second.json == {"path": "/second"}
    assert server.connections == 2
    assert server.executed == 2


@pytest.mark.parametrize(
    ("idle_seconds", "kind", "count"), [(1.9, Kind.IN_DOUBT, 1), (2.1, Kind.ANSWER, 2)], ids=["fresh", "stale"]
)
def test_connection_idle_for_two_seconds_is_not_reused(
    idle_seconds: float, kind: Kind, count: int, serve: Serve, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The lost race: the server closes an idle connection while the next request is on its way to it."""

    def closes_when_reused(peer: Peer) -> None:
        peer.read_request()
        peer.send(answer())
        if peer.read_head() is not None:
            peer.fin()

    server = serve(closes_when_reused)
    transport = connect(server.url)

    post(transport)
    now = monotonic()
    monkeypatch.setattr(connections, "monotonic", lambda: now + idle_seconds)
    second = post(transport)

    assert second.kind is kind
    assert server.connections == count
    assert server.executed == count


def test_connection_closed_while_idle_is_not_reused(serve: Serve, connect: Connect) -> None:
    is_closed = threading.Event()

    def closes(peer: Peer) -> None:
        after_request(sends(answer()))(peer)
        peer.sock.shutdown(socket.SHUT_WR)
        peer.flush()
        is_closed.set()

    server = serve(closes)
    transport = connect(server.url)

    first = post(transport)
    assert is_closed.wait(5)
    second = post(transport)

    assert first.kind == Kind.ANSWER
    assert second.kind == Kind.ANSWER
    assert server.executed == 2


def test_concurrent_requests_get_their_own_responses(
    is_tls: bool, serve: Serve, connect: Connect, certificates: Certificates
) -> None:
    server = serve(keeps_alive(named), tls=certificates.ours if is_tls else None)
    transport = connect(server.url, pool_size=16)

    def ask(number: int) -> bool:
        return bool(post(transport, f"/{number}").json == {"path": f"/{number}"})

    with ThreadPoolExecutor(16) as pool:
        results = list(pool.map(ask, range(320)))

    assert all(results)
    assert server.executed == 320
    assert server.connections <= 16


def test_cookies_are_not_sent(serve: Serve, connect: Connect) -> None:
    server = serve(keeps_alive(lambda _: answer(b"{}", "200 OK", "Set-Cookie: session=abc; Path=/")))
    transport = connect(server.url)

    for _ in range(3):
        post(transport)

    assert server.executed == 3
    assert not any("cookie" in request.headers for request in server.requests)


def test_request_after_close_opens_a_connection(serve: Serve, connect: Connect) -> None:
    server = serve(keeps_alive())
    transport = connect(server.url)

    post(transport)
    transport.close()
    transport.close()
    exchange = post(transport)

    assert exchange.kind is Kind.ANSWER
    assert server.connections == 2
    assert server.executed == 2


FORK = """
import ctypes, os, sys
from django_invoice_cancel.domain.secrets import Secret
from django_invoice_cancel.providers.transport import Deadline, Transport
fork = {"os.fork": os.fork, "fork in C": ctypes.PyDLL(None).fork}[sys.argv[2]]
transport = Transport(base_url=sys.argv[1], scheme="Bearer", token=Secret("t"), secrets=[])
def ask(path, seconds=5):
    exchange = transport.request("POST", path, body=b"{}", deadline=Deadline(seconds))
    print(path, exchange.kind, exchange.json, flush=True)
ask("/parent-1")
child = fork()
if not child:
    ask("/child-1")
    ask("/child-drip", 0.4)
    grandchild = fork()
    if not grandchild:
        ask("/grandchild-1")
        ask("/grandchild-drip", 0.4)
        os._exit(0)
    os.waitpid(grandchild, 0)
    ask("/child-2")
    ask("/child-3")
    os._exit(0)
os.waitpid(child, 0)
ask("/parent-2")
"""
FORKS = [
    pytest.param(how, marks=pytest.mark.skipif(not hasattr(os, "fork"), reason="only if processes can fork"))
    for how in ("os.fork", "fork in C")
]


@pytest.mark.slow
@pytest.mark.parametrize("how", FORKS)
@pytest.mark.parametrize("is_tls", [False, True], ids=["plain", "tls"])
def test_forked_child_never_uses_a_connection_of_its_parent(
    how: str, is_tls: bool, serve: Serve, certificates: Certificates, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two processes on one connection would read each other's answers. The child's deadlines are kept, too.

    A fork in C does not run the hooks of ``os.register_at_fork``; uWSGI forks so.
    """
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", certificates.bundle)

    def behave(peer: Peer) -> None:
        while (request := peer.read_request()) is not None:
            if request.path.endswith("-drip"):
                peer.send(b"HTTP/1.1 200 OK\r\nX: ")
                while not peer.server.is_closing.wait(0.05):
                    peer.send(b"a")
            peer.send(answer(json.dumps(request.connection).encode()))

    server = serve(behave, tls=certificates.ours if is_tls else None)
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", FORK, server.url, how],
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )

    assert done.stdout.splitlines() == [
        "/parent-1 answer 1",
        "/child-1 answer 2",
        "/child-drip in_doubt None",
        "/grandchild-1 answer 3",
        "/grandchild-drip in_doubt None",
        "/child-2 answer 4",
        "/child-3 answer 4",
        "/parent-2 answer 1",
    ]
    assert server.executed == 8


@pytest.mark.parametrize("moment", ["before the first byte", "before the answer", "idle"])
def test_connection_is_not_used_after_the_process_id_changes(
    moment: str, serve: Serve, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The process id changes in the middle of a request, as it does in a child that was forked there."""
    pid = os.getpid()

    def become_the_child() -> None:
        monkeypatch.setattr(os, "getpid", lambda: pid + 1)

    def behave(peer: Peer) -> None:
        while (request := peer.read_request()) is not None:
            if moment == "before the answer" and request.path == "/second":
                become_the_child()
            peer.send(named(request))

    def lease(_: float) -> bool:
        if moment == "before the first byte":
            become_the_child()
        return True

    server = serve(behave)
    transport = connect(server.url)
    first = post(transport, "/first")
    if moment == "idle":
        become_the_child()
    second = transport.request("POST", "/second", body=b"{}", deadline=Deadline(5), lease=lease)

    assert first.json == {"path": "/first"}
    if moment == "idle":
        assert second.json == {"path": "/second"}
        assert server.connections == 2
        assert server.executed == 2
    else:
        assert second.kind == Kind.IN_DOUBT
        assert second.json is None
        assert server.connections == 1
        assert server.executed == (1 if moment == "before the first byte" else 2)


ACCEPTED, REFUSED = answer(b"{}"), answer(b'{"error": "paid"}', "422 Unprocessable Content")


@pytest.mark.parametrize(
    "wire", [ACCEPTED + REFUSED, REFUSED + ACCEPTED, ACCEPTED + b"x"], ids=["200+422", "422+200", "200+x"]
)
def test_response_with_extra_bytes_on_a_reused_connection_is_in_doubt(
    wire: bytes, is_tls: bool, serve: Serve, connect: Connect, certificates: Certificates
) -> None:
    """On a kept connection one of the two may be a second answer to the request before."""
    answers = iter([answer(b"{}"), wire, answer(b"{}")])
    server = serve(keeps_alive(lambda _: next(answers)), tls=certificates.ours if is_tls else None)
    transport = connect(server.url)

    kinds = [post(transport).kind for _ in range(3)]

    assert kinds == [Kind.ANSWER, Kind.IN_DOUBT, Kind.ANSWER]
    assert server.connections == 2
    assert server.executed == 3


def test_request_is_sent_once_if_the_http_library_retries(
    serve: Serve, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Retries are disabled. The connection refuses a repetition that another version of the library may try."""
    urlopen = HTTPConnectionPool.urlopen

    def retrying(pool: HTTPConnectionPool, *args: object, **options: object) -> object:
        if "retries" in options:  # the call of requests, and not one of urllib3 itself
            options["retries"] = Retry(2, allowed_methods=None)
        return urlopen(pool, *args, **options)

    monkeypatch.setattr(HTTPConnectionPool, "urlopen", retrying)
    server = serve(lambda peer: (after_request(fin) if peer.number == 1 else keeps_alive())(peer))

    exchange = post(connect(server.url))

    assert exchange.kind == Kind.IN_DOUBT
    assert server.executed == 1
