"""A request ends at its deadline, or at most a second later, for any behaviour of the server."""

import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from itertools import repeat
from queue import LifoQueue
from time import monotonic
from typing import Any

import pytest
from urllib3 import HTTPConnectionPool

from django_invoice_cancel.domain.outcomes import Code
from django_invoice_cancel.providers.transport import Deadline, Exchange, Kind, Transport
from django_invoice_cancel.providers.transport import attempt as deadline_module
from django_invoice_cancel.providers.transport.attempt import current

from .conftest import Connect, Serve
from .fault_server import (
    CHUNKED,
    HOST,
    Behaviour,
    Certificates,
    Peer,
    after_request,
    answer,
    drips,
    hang,
    keeps_alive,
    sends,
    unframed,
)
from .test_truth_table import unanswered_port

SECONDS = 0.5

DRIPS = {
    "a header": (b"HTTP/1.1 200 OK\r\nX-Slow: ", lambda: repeat(b"a")),
    "headers": (b"HTTP/1.1 200 OK\r\n", lambda: (f"X-{n}: y\r\n".encode() for n in range(90))),
    "the status line": (b"HTTP/1.1 200 ", lambda: repeat(b"O")),
    "a body": (b"HTTP/1.1 200 OK\r\nContent-Length: 60000\r\n\r\n", lambda: repeat(b" ")),
    "a body to the end": (b"HTTP/1.1 200 OK\r\n\r\n", lambda: repeat(b" ")),
    "chunks": (CHUNKED, lambda: repeat(b"1\r\n \r\n")),
    "a chunk's size": (CHUNKED, lambda: repeat(b"0")),
    "a chunk's extension": (CHUNKED + b"1;x=", lambda: repeat(b"y")),
    "trailers": (CHUNKED + b"2\r\n{}\r\n0\r\n", lambda: repeat(b"X: y\r\n")),
    "100 Continue": (b"", lambda: repeat(b"HTTP/1.1 100 Continue\r\n\r\n")),
    "103 Early Hints": (b"", lambda: repeat(b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n")),
}


def post_timed(transport: Transport, seconds: float = SECONDS) -> tuple[Exchange, float]:
    begin = monotonic()
    exchange = transport.request("POST", "/cancel", body=b"{}", deadline=Deadline(seconds))
    return exchange, monotonic() - begin


@pytest.mark.parametrize("is_tls", [False, True], ids=["plain", "tls"])
def test_response_that_drips_ends_at_the_deadline(
    is_tls: bool, serve: Serve, connect: Connect, certificates: Certificates, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All forms are requested at the same time, each from a server of its own."""
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", certificates.bundle)
    servers = {form: serve(drips(*DRIPS[form]), tls=certificates.ours if is_tls else None) for form in DRIPS}
    transports = [connect(server.url) for server in servers.values()]

    with ThreadPoolExecutor(len(transports)) as pool:
        exchanges = list(pool.map(post_timed, transports))

    for (form, server), (exchange, seconds) in zip(servers.items(), exchanges, strict=True):
        assert exchange.kind is Kind.IN_DOUBT, form
        assert SECONDS - 0.1 <= seconds <= SECONDS + 1, form
        assert server.executed == 1, form


def test_body_that_ends_at_the_deadline_is_in_doubt(serve: Serve, connect: Connect) -> None:
    """The body looks whole and reads to an end, but that end is the watchdog's doing."""
    server = serve(after_request(sends(unframed(b"{}")), hang))

    exchange, took = post_timed(connect(server.url))

    assert exchange.kind == Kind.IN_DOUBT
    assert exchange.code == Code.UNREADABLE_ANSWER
    assert exchange.http_status == 200
    assert took <= SECONDS + 1
    assert server.executed == 1


def test_tls_handshake_ends_at_the_deadline(serve: Serve, connect: Connect) -> None:
    server = serve(hang)

    exchange, took = post_timed(connect(f"https://localhost:{server.port}", connect_timeout=30))

    assert exchange.kind == Kind.NOT_SENT
    assert exchange.code == Code.UNREACHABLE
    assert took <= SECONDS + 1
    assert server.executed == 0


def test_proxy_that_drips_ends_at_the_deadline(serve: Serve, connect: Connect, monkeypatch: pytest.MonkeyPatch) -> None:
    def drip_tunnel(peer: Peer) -> None:
        peer.read_head()
        while not peer.server.is_closing.wait(0.05):
            peer.send(b"H")

    server = serve(drip_tunnel)
    monkeypatch.setenv("https_proxy", server.url)

    exchange, took = post_timed(connect("https://provider.test", connect_timeout=30))

    assert exchange.kind is Kind.NOT_SENT
    assert took <= SECONDS + 1
    assert server.executed == 0


def test_many_unreachable_addresses_end_at_the_deadline(connect: Connect, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each address may take the connect time-out, all of them together no longer than the deadline."""
    with ExitStack() as stack:
        port = unanswered_port(stack, has_backlog=True)
        address = (socket.AF_INET, socket.SOCK_STREAM, 6, "", (HOST, port))
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_: [address] * 20)

        exchange, took = post_timed(connect("http://provider.test", connect_timeout=0.6), seconds=0.7)

    assert exchange.kind is Kind.NOT_SENT
    assert "ConnectTimeoutError" in exchange.detail
    assert 0.6 <= took <= 1.7


class Network:
    """A network with unreachable addresses. Each connection to one takes the whole time-out, by a clock of the test."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, live_port: int, addresses: str) -> None:
        self.now = monotonic()
        self.tried: list[tuple[str, float]] = []
        self.names = addresses.split()
        network = self

        class Socket(socket.socket):
            def __init__(self, family: int = -1, *args: Any, **kwargs: Any) -> None:
                # The test machine may have no IPv6.
                super().__init__(socket.AF_INET if family == socket.AF_INET6 else family, *args, **kwargs)

            def connect(self, address: Any) -> None:
                name = address[0]
                network.tried.append((name, round(self.gettimeout() or 0, 2)))
                if not name.endswith("live"):
                    network.now += self.gettimeout() or 0
                    raise TimeoutError
                super().connect((HOST, live_port))

        monkeypatch.setattr(socket, "getaddrinfo", lambda *_: [self.info(name) for name in self.names])
        monkeypatch.setattr(socket, "socket", Socket)
        monkeypatch.setattr(deadline_module, "monotonic", lambda: self.now)

    def info(self, name: str) -> Any:
        family = socket.AF_INET6 if name.startswith("6") else socket.AF_INET
        return family, socket.SOCK_STREAM, 6, "", (name, 80)


@pytest.mark.parametrize(
    ("addresses", "tried"),
    [
        ("6a 6b 6c 4live", [("6a", 3.75), ("4live", 3.75)]),
        ("4a 4b 4c 6live", [("4a", 3.75), ("6live", 3.75)]),
        ("6a 6b 4c 4live", [("6a", 3.75), ("4c", 3.75), ("6b", 3.75), ("4live", 3.75)]),
        ("6a 6b 6c 6live", [("6a", 3.75), ("6b", 3.75), ("6c", 3.75), ("6live", 3.75)]),
        ("6a 4live", [("6a", 5), ("4live", 5)]),
        ("6live 4b", [("6live", 5)]),
        ("4live", [("4live", 5)]),
        ("6a 6b 6c 6d 6e 6f 6g 6h 6i 4j 4live", [("6a", 1.36), ("4j", 1.36), ("6b", 1.36), ("4live", 1.36)]),
    ],
)
def test_reachable_address_is_tried_after_unreachable_ones(
    addresses: str, tried: list[tuple[str, float]], serve: Serve, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A connect time-out of 5 s for each address, and a deadline of 15 s for the request."""
    server = serve(after_request(sends(answer())))
    network = Network(monkeypatch, server.port, addresses)

    exchange = connect("http://provider.test").request("POST", "/cancel", body=b"{}", deadline=Deadline(15))

    assert exchange.kind is Kind.ANSWER
    assert network.tried == tried
    assert server.executed == 1


def test_each_unreachable_address_is_tried_within_the_deadline(
    serve: Serve, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = serve(after_request(sends(answer())))
    network = Network(monkeypatch, server.port, "6a 6b 4c 6d 4e")

    begin = network.now
    exchange = connect("http://provider.test").request("POST", "/cancel", deadline=Deadline(15))

    assert exchange.kind == Kind.NOT_SENT
    assert exchange.code == Code.UNREACHABLE
    assert [name for name, _ in network.tried] == ["6a", "4c", "6b", "4e", "6d"]
    assert network.now - begin <= 15
    assert server.executed == 0


def test_second_address_is_tried_if_the_first_refuses(
    serve: Serve, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = serve(after_request(sends(answer())))
    with ExitStack() as stack:
        ports = [unanswered_port(stack, has_backlog=False), server.port]
        addresses = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (HOST, port)) for port in ports]
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_: addresses)

        exchange, _ = post_timed(connect("http://provider.test"))

    assert exchange.kind is Kind.ANSWER
    assert server.executed == 1


def test_dns_that_takes_longer_than_the_deadline_sends_nothing(
    serve: Serve, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = serve(after_request(sends(answer())))
    deadline = Deadline(30)

    def slow(*_: Any) -> Any:
        deadline.at = monotonic()
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (HOST, server.port))]

    monkeypatch.setattr(socket, "getaddrinfo", slow)
    exchange = connect("http://provider.test").request("POST", "/cancel", deadline=deadline)

    assert exchange.kind is Kind.NOT_SENT
    assert server.executed == 0


def test_expired_deadline_opens_no_connection(serve: Serve, connect: Connect) -> None:
    server = serve(after_request(sends(answer())))

    exchange, _ = post_timed(connect(server.url), seconds=0)

    assert exchange.kind == Kind.NOT_SENT
    assert exchange.code == Code.UNREACHABLE
    assert server.connections == 0


def test_deadline_of_a_finished_request_does_not_end_the_next_one(serve: Serve, connect: Connect) -> None:
    """The connection is reused, and the first request's deadline passes while the second waits for its answer."""

    def slow_second(peer: Peer) -> None:
        peer.read_request()
        peer.send(answer(b'{"n": 1}'))
        peer.read_request()
        peer.server.is_closing.wait(SECONDS + 0.2)
        peer.send(answer(b'{"n": 2}'))

    server = serve(slow_second)
    transport = connect(server.url)

    first, _ = post_timed(transport)
    second, _ = post_timed(transport, seconds=10)

    assert first.json == {"n": 1}
    assert second.json == {"n": 2}
    assert server.connections == 1
    assert server.executed == 2


def test_late_response_does_not_answer_the_next_request(serve: Serve, connect: Connect) -> None:
    late: list[Peer] = []

    def answer_first_late(peer: Peer) -> None:
        request = peer.read_request()
        assert request is not None
        if peer.number == 1:
            late.append(peer)
            peer.server.is_closing.wait()
        else:
            peer.send(answer(f'{{"connection": {peer.number}}}'.encode()))

    server = serve(answer_first_late)
    transport = connect(server.url)

    first, _ = post_timed(transport)
    with suppress(OSError):  # the first connection may be closed already
        late[0].send(answer(b'{"connection": 1}'))
    second, _ = post_timed(transport)

    assert first.kind is Kind.IN_DOUBT
    assert second.json == {"connection": 2}
    assert server.executed == 2


def test_shorter_deadline_is_kept_after_a_longer_one(serve: Serve, connect: Connect) -> None:
    behaviours: Iterator[Behaviour] = iter(
        # The first one sends Connection: close, because a second request on a closing connection would be lost.
        [
            after_request(sends(answer(b"{}", "200 OK", "Connection: close"))),
            drips(b"HTTP/1.1 200 OK\r\nX: ", lambda: repeat(b"a")),
        ]
    )
    server = serve(lambda peer: next(behaviours)(peer))
    transport = connect(server.url)

    post_timed(transport, seconds=60)
    exchange, took = post_timed(transport)

    assert exchange.kind is Kind.IN_DOUBT
    assert took <= SECONDS + 1
    assert server.executed_once_there_are(2) == 2


def test_deadline_after_the_connection_is_returned_does_not_close_it(
    serve: Serve, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another thread may have it already; the answer is whole by then."""
    expired = []

    class ExpiringQueue(LifoQueue[Any]):
        """The idle connections of a pool. The deadline of the request passes as soon as its connection is idle."""

        def put(self, *args: Any, **options: Any) -> None:
            super().put(*args, **options)
            attempt = current()
            if attempt is not None and attempt.is_sent:
                attempt.expire()
                expired.append(attempt)

    monkeypatch.setattr(HTTPConnectionPool, "QueueCls", ExpiringQueue)
    server = serve(keeps_alive())
    transport = connect(server.url)

    kinds = [post_timed(transport)[0].kind for _ in range(2)]

    assert kinds == [Kind.ANSWER, Kind.ANSWER]
    assert len(expired) == 2
    assert server.connections == 1
    assert server.executed == 2
