"""Bytes that arrive before the server can have received the whole request are never its answer."""

import socket
import sys
import threading
from collections.abc import Callable

import pytest

from django_invoice_cancel.domain.outcomes import Code
from django_invoice_cancel.providers.transport import Deadline, Exchange, Kind, Transport, connections, silence

from .conftest import Connect, Serve
from .fault_server import HOST, Behaviour, Certificates, FaultServer, Peer, answer, fin, keeps_alive, reset, tunnels

WAYS = ["plain", "tls", "tunneled", "forward"]
HINTS = b"HTTP/1.1 103 Early Hints\r\nLink: </style.css>; rel=preload\r\n\r\n"
EARLY = {
    "200": answer(),
    "204": b"HTTP/1.1 204 No Content\r\n\r\n",
    "200 that closes": answer(b"{}", "200 OK", "Connection: close"),
    "200 without a length": b"HTTP/1.1 200 OK\r\n\r\n{}",
    "200 in chunks": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
    "200 of HTTP/1.0": b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\n{}",
    "two answers": answer() + answer(),
    "three refusals": answer(b'{"message": "no"}', "400 Bad Request") * 3,
    "401": answer(b"", "401 Unauthorized"),
    "403": answer(b"", "403 Forbidden"),
    "408": answer(b"", "408 Request Timeout", "Connection: close"),
    "413": answer(b"", "413 Content Too Large"),
    "429": answer(b"", "429 Too Many Requests", "Retry-After: 30"),
    "503": answer(b"", "503 Service Unavailable"),
    "100": b"HTTP/1.1 100 Continue\r\n\r\n",
    "101": b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n",
    "103": HINTS,
    "103 and 200": HINTS + answer(),
    "half a status line": b"HTTP/1.",
    "half a head": b"HTTP/1.1 200 OK\r\nContent-Le",
    "a head": b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n",
    "half a body": answer(b"{", length=2),
    "an empty line": b"\r\n",
    "an empty line and 200": b"\r\n" + answer(),
    "a body": b"{}",
    "a zero byte": b"\0",
    "a greeting of SMTP": b"220 ready\r\n",
    "HTTP/2 settings": b"\0\0\0\x04\0\0\0\0\0",
    "64 KiB": answer(b" " * 65_534 + b"{}"),
}


@pytest.fixture
def no_minimum_silence() -> None:
    """Keep the minimum: these tests are about it."""


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait until the other side has sent, however slow this machine is."""
    monkeypatch.setattr(silence, "MIN_SECONDS", 5)
    monkeypatch.setattr(silence, "MAX_SECONDS", 5)


def post(transport: Transport, path: str = "/cancel", lease: Callable[[float], bool] | None = None) -> Exchange:
    return transport.request("POST", path, body=b"{}", deadline=Deadline(10), lease=lease)


@pytest.fixture
def reach(
    serve: Serve, connect: Connect, certificates: Certificates, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., tuple[FaultServer, Transport]]:
    """Return a function that starts a server behind one of the ways, and a transport to it."""

    def start(way: str, behave: Behaviour) -> tuple[FaultServer, Transport]:
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", certificates.bundle)
        is_tunneled = way == "tunneled"
        server = serve(
            tunnels(behave, certificates.ours) if is_tunneled else behave,
            tls=certificates.ours if way == "tls" else None,
        )
        if way not in ("tunneled", "forward"):
            return server, connect(server.url)
        monkeypatch.setenv("https_proxy" if is_tunneled else "http_proxy", f"http://{HOST}:{server.port}")
        return server, connect("https://provider.test" if is_tunneled else "http://provider.test")

    return start


def answers_at_once(wire: bytes, then: Behaviour) -> Behaviour:
    def behave(peer: Peer) -> None:
        peer.send(wire)
        then(peer)

    return behave


@pytest.mark.usefixtures("patient")
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("form", EARLY)
def test_early_bytes_stop_the_request(form: str, way: str, reach: Callable[..., tuple[FaultServer, Transport]]) -> None:
    server, transport = reach(way, answers_at_once(EARLY[form], keeps_alive()))

    exchange = post(transport)

    assert exchange.kind == Kind.NOT_SENT
    assert exchange.code == Code.UNREACHABLE
    assert exchange.http_status is None
    assert exchange.detail.endswith("EarlyAnswer")
    assert server.connections == 1
    assert server.executed == 0


@pytest.mark.usefixtures("patient")
@pytest.mark.parametrize("end", [fin, reset])
@pytest.mark.parametrize("wire", [b"", answer()], ids=["nothing", "200"])
def test_early_close_stops_the_request(end: Behaviour, wire: bytes, serve: Serve, connect: Connect) -> None:
    def behave(peer: Peer) -> None:
        peer.send(wire)
        peer.flush()
        end(peer)

    server = serve(behave)

    exchange = post(connect(server.url))

    assert exchange.kind is Kind.NOT_SENT
    assert server.executed == 0


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("form", ["200", "429", "103", "an empty line"])
def test_bytes_during_the_lease_check_stop_the_request(
    form: str, way: str, reach: Callable[..., tuple[FaultServer, Transport]]
) -> None:
    is_asked, has_arrived = threading.Event(), threading.Event()

    def behave(peer: Peer) -> None:
        assert is_asked.wait(5)
        peer.send(EARLY[form])
        peer.flush()
        has_arrived.set()
        keeps_alive()(peer)

    def lease(_: float) -> bool:
        is_asked.set()
        return has_arrived.wait(5)

    server, transport = reach(way, behave)

    exchange = post(transport, lease=lease)

    assert exchange.kind == Kind.NOT_SENT
    assert exchange.code == Code.UNREACHABLE
    assert server.connections == 1
    assert server.executed == 0


@pytest.mark.parametrize("way", WAYS)
def test_unrequested_response_on_an_idle_connection_stops_the_next_request(
    way: str, reach: Callable[..., tuple[FaultServer, Transport]]
) -> None:
    """It arrives after the pool has taken the connection out, and before the first byte."""
    is_asked, has_arrived = threading.Event(), threading.Event()

    def behave(peer: Peer) -> None:
        peer.read_request()
        peer.send(answer(b'{"number": 1}'))
        if peer.number == 1:
            assert is_asked.wait(5)
            peer.send(answer(b'{"number": "stray"}'))
            peer.flush()
            has_arrived.set()
        keeps_alive()(peer)

    def lease(_: float) -> bool:
        is_asked.set()
        return has_arrived.wait(5)

    server, transport = reach(way, behave)

    first, second, third = post(transport), post(transport, lease=lease), post(transport)

    assert first.json == {"number": 1}
    assert third.json == {"number": 1}
    assert second.kind == Kind.NOT_SENT
    assert second.code == Code.UNREACHABLE
    assert server.connections == 2
    assert server.executed == 2


@pytest.mark.parametrize("status", ["200 OK", "401 Unauthorized", "403 Forbidden", "429 Too Many Requests"])
def test_answer_to_a_request_that_has_not_arrived_whole_is_in_doubt(
    status: str, serve: Serve, connect: Connect
) -> None:
    """The rest of the request is in the client's kernel, because the buffer of the server is full."""

    def behave(peer: Peer) -> None:
        peer.sock.recv(1, socket.MSG_PEEK)
        peer.send(answer(b"{}", status, "Retry-After: 30"))
        peer.wait_for_hangup()

    server = serve(behave, receive_buffer=1)

    exchange = connect(server.url).request("POST", "/cancel", body=b"x" * 12_000, deadline=Deadline(5))

    assert exchange.kind == Kind.IN_DOUBT
    assert exchange.code == Code.UNREADABLE_ANSWER
    assert exchange.http_status == int(status[:3])
    assert exchange.retry_after == 30
    assert exchange.json is None
    assert server.executed == 0


@pytest.mark.parametrize("way", ["plain", "tls"])
@pytest.mark.parametrize("form", ["200", "413", "103 and 200"])
@pytest.mark.parametrize("end", [fin, lambda peer: peer.wait_for_hangup()], ids=["closes", "stays"])
def test_answer_before_the_last_piece_is_in_doubt(
    end: Behaviour, form: str, way: str, reach: Callable[..., tuple[FaultServer, Transport]]
) -> None:
    has_arrived = threading.Event()
    leases = iter(range(10_000))

    def behave(peer: Peer) -> None:
        peer.read_head()
        peer.send(EARLY[form])
        peer.flush()
        has_arrived.set()
        end(peer)

    def lease(_: float) -> bool:
        return next(leases) == 0 or has_arrived.wait(5)

    server, transport = reach(way, behave)

    exchange = transport.request("POST", "/cancel", body=b"x" * 100_000, deadline=Deadline(5), lease=lease)

    assert exchange.kind is Kind.IN_DOUBT
    assert server.executed == 0


def test_tls_session_tickets_are_ignored(
    serve: Serve, connect: Connect, certificates: Certificates, monkeypatch: pytest.MonkeyPatch
) -> None:
    """TLS 1.3 servers send them unasked behind the handshake."""
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", certificates.bundle)
    certificates.ours.num_tickets = 8
    try:
        server = serve(keeps_alive(), tls=certificates.ours)
        transport = connect(server.url, reuse_connections=False)
        kinds = [post(transport).kind for _ in range(5)]
    finally:
        certificates.ours.num_tickets = 2

    assert kinds == [Kind.ANSWER] * 5
    assert server.connections == 5
    assert server.executed == 5


@pytest.mark.parametrize(
    ("setup", "is_tls", "seconds"),
    [(0.0, False, 0.02), (0.05, False, 0.05), (0.05, True, 0.025), (0.1, True, 0.05), (3.0, False, 0.1)],
)
def test_new_connection_must_stay_silent_for_a_round_trip(setup: float, is_tls: bool, seconds: float) -> None:
    assert silence.quiet_seconds(setup, is_tls=is_tls) == seconds


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux can be asked to acknowledge at once")
@pytest.mark.parametrize("way", ["plain", "tls"])
def test_answer_is_acknowledged_at_once(
    way: str, reach: Callable[..., tuple[FaultServer, Transport]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a second answer is held back (Nagle's algorithm) until the next request acknowledges the first one."""
    sockets = []
    real = connections.expect_silence
    monkeypatch.setattr(connections, "expect_silence", lambda sock, *args: (sockets.append(sock), real(sock, *args)))
    server, transport = reach(way, keeps_alive())

    kinds = [post(transport).kind for _ in range(5)]

    assert kinds == [Kind.ANSWER] * 5
    assert sockets[-1].getsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK) == 1
    assert server.connections == 1
    assert server.executed == 5
