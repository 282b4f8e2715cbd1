"""The lease is checked when the first byte is passed to the socket, after all steps that may take long."""

import socket
import ssl
import threading
from collections.abc import Callable
from contextlib import suppress
from queue import Queue
from time import monotonic
from typing import Any

import pytest

from django_invoice_cancel.domain.outcomes import Code
from django_invoice_cancel.providers.transport import Deadline, Exchange, Kind, Transport

from .conftest import Connect, Serve
from .fault_server import Certificates, Peer, answer, keeps_alive


def post(transport: Transport, lease: Callable[[float], bool]) -> Exchange:
    return transport.request("POST", "/cancel", body=b"{}", deadline=Deadline(5), lease=lease)


def test_refused_lease_sends_nothing_and_closes_the_connection(serve: Serve, connect: Connect) -> None:
    received: Queue[bytes] = Queue()
    server = serve(lambda peer: received.put(peer.sock.recv(4096)))

    exchange = post(connect(server.url), lambda _: False)

    assert exchange.kind == Kind.NOT_SENT
    assert exchange.code == Code.LEASE_EXPIRED
    assert received.get(timeout=5) == b""
    assert server.executed == 0


def test_lease_is_checked_once_per_request_with_the_remaining_seconds(serve: Serve, connect: Connect) -> None:
    server = serve(keeps_alive())
    transport = connect(server.url)
    checks: list[float] = []

    def lease(seconds_left: float) -> bool:
        checks.append(seconds_left)
        return True

    kinds = [post(transport, lease).kind for _ in range(2)]

    assert kinds == [Kind.ANSWER, Kind.ANSWER]
    assert len(checks) == 2
    assert all(4 < seconds <= 5 for seconds in checks)
    assert server.connections == 1
    assert server.executed == 2


def test_refused_lease_on_a_reused_connection_sends_nothing(serve: Serve, connect: Connect) -> None:
    server = serve(keeps_alive())
    transport = connect(server.url)

    post(transport, lambda _: True)
    refused = post(transport, lambda _: False)
    after = post(transport, lambda _: True)

    assert refused.code == Code.LEASE_EXPIRED
    assert after.kind == Kind.ANSWER
    assert server.connections == 2
    assert server.executed == 2


def test_lease_is_checked_after_tunnel_and_handshake(
    serve: Serve, connect: Connect, certificates: Certificates, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[str] = []

    def behave(peer: Peer) -> None:
        peer.read_head()
        steps.append("CONNECT")
        peer.send(b"HTTP/1.1 200 OK\r\n\r\n")
        peer.start_tls(certificates.ours)
        steps.append("TLS")
        keeps_alive()(peer)

    server = serve(behave)
    monkeypatch.setenv("https_proxy", server.url)
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", certificates.bundle)

    def lease(_: float) -> bool:
        steps.append("lease")
        return False

    exchange = post(connect("https://provider.test"), lease)

    assert exchange.code == Code.LEASE_EXPIRED
    assert steps[0] == "CONNECT"
    assert "lease" in steps
    assert server.executed == 0


def test_lease_is_not_checked_without_a_connection(connect: Connect, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> Any:
        raise socket.gaierror(socket.EAI_AGAIN, "Try again")

    monkeypatch.setattr(socket, "getaddrinfo", fail)
    checks: list[float] = []

    def lease(seconds_left: float) -> bool:
        checks.append(seconds_left)
        return True

    exchange = post(connect("http://provider.test"), lease)

    assert exchange.kind == Kind.NOT_SENT
    assert exchange.code == Code.UNREACHABLE
    assert checks == []


def test_error_in_the_lease_sends_nothing(serve: Serve, connect: Connect) -> None:
    def lease(_: float) -> bool:
        raise RuntimeError("a bug of ours")

    server = serve(keeps_alive())

    exchange = post(connect(server.url), lease)

    assert exchange.kind == Kind.NOT_SENT
    assert exchange.code == Code.UNREACHABLE
    assert exchange.detail == "RuntimeError"
    assert server.executed == 0


def test_request_within_a_lease_is_one_of_its_own(serve: Serve, connect: Connect) -> None:
    server = serve(keeps_alive(lambda request: answer(b'"%b"' % request.path.encode())))
    transport = connect(server.url)
    inner: list[Exchange] = []

    def lease(_: float) -> bool:
        inner.append(transport.request("GET", "/inner", deadline=Deadline(5)))
        return True

    outer = post(transport, lease)

    assert inner[0].json == "/inner"
    assert outer.json == "/cancel"
    assert server.executed == 2


class StoppingSocket:
    """Lets the claim end while the client hands out its first bytes, as it does for a process that is stopped there."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.is_over = False
        self.sent_late = 0
        client = threading.current_thread()
        for owner, name in ((socket.socket, "send"), (socket.socket, "sendall"), (ssl.SSLSocket, "send")):
            monkeypatch.setattr(owner, name, self.observed(getattr(owner, name), client))

    def observed(self, send: Callable[..., Any], client: threading.Thread) -> Callable[..., Any]:
        def observe(sock: Any, data: Any, *args: Any) -> Any:
            if threading.current_thread() is not client:
                return send(sock, data, *args)
            if self.is_over:
                self.sent_late += len(data)
            result = send(sock, data, *args)
            self.is_over = True
            return result

        return observe

    def lease(self, _: float) -> bool:
        return not self.is_over


BODIES = {"none": None, "empty": b"", "small": b'{"uuid":"INV-89UX09KA"}', "of a group": b"x" * 4_000}


@pytest.mark.parametrize("is_tls", [False, True], ids=["plain", "tls"])
@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)
def test_short_request_is_sent_whole_or_not_at_all(
    body: bytes | None,
    is_tls: bool,
    serve: Serve,
    connect: Connect,
    certificates: Certificates,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Head and body are handed out at once: the process cannot be stopped between them and send the body later."""
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", certificates.bundle)
    server = serve(keeps_alive(), tls=certificates.ours if is_tls else None)
    transport = connect(server.url)
    stopping = StoppingSocket(monkeypatch)

    first = transport.request("POST", "/first", body=body, deadline=Deadline(5), lease=stopping.lease)
    second = transport.request("POST", "/second", body=body, deadline=Deadline(5), lease=stopping.lease)

    assert first.kind == Kind.ANSWER
    assert second.code == Code.LEASE_EXPIRED
    assert stopping.sent_late == 0
    assert [(request.path, request.body) for request in server.requests] == [("/first", body or b"")]


@pytest.mark.parametrize("is_tls", [False, True], ids=["plain", "tls"])
@pytest.mark.parametrize("end", ["the lease", "the deadline"])
def test_rest_of_a_long_request_is_not_sent_after_the_claim_expires(
    end: str, is_tls: bool, serve: Serve, connect: Connect, certificates: Certificates, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The sent bytes are not a whole request. The invoice is in doubt nevertheless, because bytes were sent."""
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", certificates.bundle)
    is_held_up, is_over = threading.Event(), threading.Event()
    received: Queue[int] = Queue()
    checks: list[float] = []
    deadline = Deadline(20)

    def reads_late(peer: Peer) -> None:
        peer.read_head()
        size = len(peer.buffer)
        is_over.wait(10)
        with suppress(OSError):  # an end without TLS's own
            while piece := peer.sock.recv(65_536):
                size += len(piece)
        received.put(size)

    def lease(seconds_left: float) -> bool:
        checks.append(seconds_left)
        if len(checks) > 3 and not is_held_up.is_set():
            is_held_up.set()  # the client is in the middle of its request
            if end == "the deadline":
                deadline.at = monotonic()
            is_over.set()
        return end == "the deadline" or not is_over.is_set()

    server = serve(reads_late, tls=certificates.ours if is_tls else None)
    exchange = connect(server.url).request("POST", "/cancel", body=b"x" * 8_000_000, deadline=deadline, lease=lease)

    assert exchange.kind == Kind.IN_DOUBT
    assert exchange.code == Code.NO_ANSWER
    assert exchange.detail == {"the lease": "LeaseEnded", "the deadline": "DeadlineOver"}[end]
    assert 0 < received.get(timeout=10) < 8_000_000
    assert server.executed == 0
