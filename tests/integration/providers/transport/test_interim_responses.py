"""Any number of interim answers is skipped. Only the final answer counts, and only for its own request."""

import json
from itertools import repeat
from time import monotonic

import pytest
from urllib3 import HTTPConnectionPool

from django_invoice_cancel.domain.outcomes import Code
from django_invoice_cancel.providers.transport import Deadline, Exchange, Kind, Transport, connections

from .conftest import Connect, Serve
from .fault_server import Behaviour, Certificates, Peer, Request, answer, drips, floods, keeps_alive

INTERIM = [status for status in range(100, 200) if status != 101]
HINTS = b"HTTP/1.1 103 Early Hints\r\nLink: </style.css>; rel=preload\r\n\r\n"


def post(transport: Transport, path: str = "/cancel", seconds: float = 5) -> Exchange:
    return transport.request("POST", path, body=b"{}", deadline=Deadline(seconds))


def named(request: Request) -> bytes:
    return answer(json.dumps({"path": request.path}).encode())


def announces(*interim: bytes) -> Behaviour:
    """Return what sends interim answers to each request and, once they have arrived, its final answer."""

    def behave(peer: Peer) -> None:
        while (request := peer.read_request()) is not None:
            for each in interim:
                peer.send(each)
                peer.flush()
            peer.send(named(request))

    return behave


def test_each_interim_status_is_skipped(serve: Serve, connect: Connect) -> None:
    def behave(peer: Peer) -> None:
        while (request := peer.read_request()) is not None:
            status = request.path.removeprefix("/")
            peer.send(f"HTTP/1.1 {status} Wait\r\nX-Note: {status}\r\n\r\n".encode())
            peer.flush()
            peer.send(named(request))

    server = serve(behave)
    transport = connect(server.url)

    answers = [post(transport, f"/{status}") for status in INTERIM]

    assert [(each.kind, each.http_status, each.json) for each in answers] == [
        (Kind.ANSWER, 200, {"path": f"/{status}"}) for status in INTERIM
    ]
    assert server.executed == len(INTERIM)


@pytest.mark.parametrize("count", [1, 2, 7, 300])
@pytest.mark.parametrize("is_tls", [False, True], ids=["plain", "tls"])
def test_final_response_is_read_after_any_number_of_interim_responses(
    count: int,
    is_tls: bool,
    serve: Serve,
    connect: Connect,
    certificates: Certificates,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", certificates.bundle)
    server = serve(announces(HINTS * (count - 1), HINTS), tls=certificates.ours if is_tls else None)

    exchange = post(connect(server.url))

    assert exchange.kind == Kind.ANSWER
    assert exchange.json == {"path": "/cancel"}
    assert server.executed == 1


def test_split_interim_response_is_skipped(serve: Serve, connect: Connect) -> None:
    pieces = [HINTS[i : i + 5] for i in range(0, len(HINTS), 5)]
    server = serve(announces(*pieces))

    exchange = post(connect(server.url))

    assert exchange.json == {"path": "/cancel"}
    assert server.executed == 1


def test_interim_response_does_not_shift_later_responses(serve: Serve, connect: Connect) -> None:
    """The final answer to the first request must not be read as the answer to the second."""
    server = serve(announces(HINTS))
    transport = connect(server.url)

    answers = [post(transport, f"/{number}").json for number in range(5)]

    assert answers == [{"path": f"/{number}"} for number in range(5)]
    assert server.executed == 5


def test_connection_is_not_reused_after_an_interim_answer(serve: Serve, connect: Connect) -> None:
    def behave(peer: Peer) -> None:
        (announces(HINTS) if peer.number == 1 else keeps_alive(named))(peer)

    server = serve(behave)
    transport = connect(server.url)

    answers = [post(transport, f"/{number}").json for number in range(4)]

    assert answers == [{"path": f"/{number}"} for number in range(4)]
    assert server.connections == 2
    assert server.executed == 4


def test_switched_protocol_is_in_doubt_and_closes_the_connection(serve: Serve, connect: Connect) -> None:
    wire = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n" + answer(b'{"path": "/stray"}')
    server = serve(keeps_alive(lambda request: wire if request.path == "/first" else named(request)))
    transport = connect(server.url)

    first, second = post(transport, "/first"), post(transport, "/second")

    assert first.kind == Kind.IN_DOUBT
    assert first.code == Code.UNREADABLE_ANSWER
    assert first.http_status == 101
    assert second.json == {"path": "/second"}
    assert server.connections == 2
    assert server.executed == 2


@pytest.mark.parametrize(
    "behave",
    [
        drips(b"", lambda: repeat(HINTS)),
        floods(b"", HINTS * 200),
        floods(HINTS + b"HTTP/1.1 103 Early Hints\r\nLink: ", b"x" * 1000),
    ],
    ids=["now and then", "without a pause", "a header without an end"],
)
def test_endless_interim_responses_end_at_the_deadline(behave: Behaviour, serve: Serve, connect: Connect) -> None:
    server = serve(behave)
    begin = monotonic()

    exchange = post(connect(server.url), seconds=0.5)

    assert exchange.kind is Kind.IN_DOUBT
    assert monotonic() - begin < 1.5
    assert server.executed == 1


@pytest.mark.parametrize(
    "broken", [b"HTTP/1.1 103 Early", b"HTTP/1.1 103 X\r\n", b"HTTP/1.1 103 X\r\nno header\r\n\r\n"]
)
def test_malformed_interim_response_is_in_doubt(broken: bytes, serve: Serve, connect: Connect) -> None:
    def behave(peer: Peer) -> None:
        peer.read_request()
        peer.send(broken)
        peer.fin()

    server = serve(behave)

    exchange = post(connect(server.url))

    assert exchange.kind == Kind.IN_DOUBT
    assert exchange.code == Code.UNREADABLE_ANSWER
    assert server.executed == 1


def test_interim_response_without_a_final_one_is_in_doubt(serve: Serve, connect: Connect) -> None:
    def behave(peer: Peer) -> None:
        peer.read_request()
        peer.send(HINTS)
        peer.fin()

    server = serve(behave)

    exchange = post(connect(server.url))

    assert exchange.kind == Kind.IN_DOUBT
    assert exchange.code == Code.NO_ANSWER
    assert server.executed == 1


def test_without_hooks_an_interim_response_is_in_doubt(
    serve: Serve, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Connections that do not report are used for one request each."""
    monkeypatch.setattr(connections, "POOLS", {"http": HTTPConnectionPool})

    def behave(peer: Peer) -> None:
        (announces(HINTS) if peer.number == 1 else keeps_alive(named))(peer)

    server = serve(behave)
    transport = connect(server.url)

    first, *others = [post(transport, f"/{number}") for number in range(3)]

    assert first.kind == Kind.IN_DOUBT
    assert first.code == Code.UNREADABLE_ANSWER
    assert [each.json for each in others] == [{"path": "/1"}, {"path": "/2"}]
    assert server.connections == 3
    assert server.executed == 3
