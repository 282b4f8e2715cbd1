"""Every row of the truth table with a real socket: the reported result, the executed requests, the duration."""

import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from time import monotonic

import pytest
from urllib3 import HTTPConnectionPool, HTTPSConnectionPool

from django_invoice_cancel.providers.transport import Deadline, Exchange, Kind, connections

from .conftest import TOKEN, Connect
from .fault_server import HOST, Certificates, FaultServer, tunnels
from .truth_table import ROWS, Row

SHORT_DEADLINE, LONG_DEADLINE = 0.6, 5
SHORT_CONNECT_TIMEOUT, LONG_CONNECT_TIMEOUT = 0.4, 4
"""Short if nothing else ends the request; else long enough for a loaded machine."""
BIG = b"x" * 8_000_000


@contextmanager
def other_side(row: Row, certificates: Certificates) -> Iterator[FaultServer | int]:
    """Yield the server of a row, or the number of a port without a server."""
    with ExitStack() as stack:
        if not row.is_listening:
            yield unanswered_port(stack, has_backlog=row.has_backlog)
            return
        behave = tunnels(row.behave, certificates.ours) if row.way == "tunneled" else row.behave
        tls = getattr(certificates, row.certificate) if row.way == "tls" else None
        yield stack.enter_context(FaultServer(behave, tls=tls))


def unanswered_port(stack: ExitStack, *, has_backlog: bool) -> int:
    listener = stack.enter_context(socket.socket())
    listener.bind((HOST, 0))
    address = listener.getsockname()
    if has_backlog:
        listener.listen(0)
        for _ in range(4):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(address)
    return int(address[1])


def base_url(row: Row, port: int, monkeypatch: pytest.MonkeyPatch) -> str:
    if row.way in ("tunnel", "tunneled"):
        monkeypatch.setenv("https_proxy", f"http://{HOST}:{port}")
        return "https://provider.test"
    if row.way == "forward":
        monkeypatch.setenv("http_proxy", f"http://{HOST}:{port}")
        return "http://provider.test"
    return f"https://localhost:{port}" if row.way in ("tls", "no tls") else f"http://{HOST}:{port}"


def run(
    row: Row, certificates: Certificates, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> tuple[Exchange, int]:
    """Send the request of a row. Return its exchange and the number of received requests."""
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", certificates.bundle)
    with other_side(row, certificates) as other:
        port = other if isinstance(other, int) else other.port
        is_short = row.is_ended_by_deadline
        connect_timeout = SHORT_CONNECT_TIMEOUT if is_short else LONG_CONNECT_TIMEOUT
        deadline = SHORT_DEADLINE if is_short else LONG_DEADLINE
        transport = connect(base_url(row, port, monkeypatch), connect_timeout=connect_timeout)
        with monkeypatch.context() as patch:
            row.inject(patch)
            begin = monotonic()
            exchange = transport.request(
                "POST", "/cancel", body=BIG if row.is_big else b"{}", deadline=Deadline(deadline)
            )
            took = monotonic() - begin
    assert took <= deadline + 1
    return exchange, 0 if isinstance(other, int) else other.executed


def test_table_has_sixty_rows() -> None:
    assert len({row.name for row in ROWS}) == 60


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_request_ends_as_in_the_table(
    row: Row, certificates: Certificates, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    exchange, executed = run(row, certificates, connect, monkeypatch)

    assert exchange.kind in row.kinds, exchange
    assert TOKEN not in repr(exchange)
    assert executed == row.executed


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_without_hooks_a_request_ends_as_in_the_table_or_in_doubt(
    row: Row, certificates: Certificates, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another urllib3, whose connections do not report: the types of the exceptions decide, timidly."""
    monkeypatch.setattr(connections, "POOLS", {"http": HTTPConnectionPool, "https": HTTPSConnectionPool})
    exchange, executed = run(row, certificates, connect, monkeypatch)

    assert exchange.kind in row.kinds | {Kind.IN_DOUBT}, exchange
    assert executed == row.executed
