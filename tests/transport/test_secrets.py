"""The token goes to the provider's socket and nowhere else."""

import copy
import gc
import logging
import pickle
import traceback

import pytest

from django_invoice_cancel.masking import Secret
from django_invoice_cancel.providers.transport import Deadline, Kind, Transport
from django_invoice_cancel.providers.transport.adapter import HostAdapter
from django_invoice_cancel.providers.transport.credentials import TokenAuth

from .conftest import TOKEN, Connect, Serve
from .faults import after_request, answer, fin, keeps_alive, replies

WRONG = {
    "empty": "",
    "newline at the end": "hunter2\n",
    "newline within": "hunter2\nX-Other: y",
    "carriage return": "hunter2\r",
    "folded": "hunter2\n x",
    "not latin": "hunter2\u0436",
    "latin-1": "hunter2\u00e9",
    "zero-width space": "hunter2\u200b",
    "NUL": "hunter2\0",
    "tab": "hunter2\t",
    "space at the end": "hunter2 ",
    "space within": "hunt er2",
    "delete": "hunter2\x7f",
}


@pytest.mark.parametrize("token", WRONG.values(), ids=WRONG)
def test_token_that_cannot_be_sent_is_refused_unseen(token: str, connect: Connect) -> None:
    with pytest.raises(ValueError, match="token") as caught:
        connect("https://provider.test", token=token)

    told = "".join(traceback.format_exception(caught.value))
    assert "hunt" not in told
    assert caught.value.__context__ is None


def test_token_of_every_printable_character_arrives(serve: Serve, connect: Connect) -> None:
    token = "".join(map(chr, range(33, 127)))
    server = serve(keeps_alive())

    connect(server.url, token=token).request("POST", "/cancel", deadline=Deadline(5))

    assert [request.headers["authorization"] for request in server.requests] == [f"Bearer {token}"]


def test_token_is_in_no_repr_and_no_pickle() -> None:
    transport = Transport(base_url="https://provider.test", scheme="Bearer", token=Secret(TOKEN), secrets=[])
    auth = TokenAuth("Bearer", Secret(TOKEN))
    adapter = HostAdapter("https://provider.test", 1)

    assert TOKEN not in f"{transport!r} {auth!r} {vars(transport)} {vars(auth)} {vars(adapter)}"
    for holder in (transport, auth, adapter, *vars(auth).values()):
        with pytest.raises(TypeError, match="not pickled"):
            pickle.dumps(holder)
        with pytest.raises(TypeError, match="not pickled"):
            copy.deepcopy(holder)


KEPT = ("code", "detail", "http_status", "retry_after", "server", "text")


@pytest.mark.parametrize(
    ("behave", "kind"),
    [
        (replies(answer(f"Bearer {TOKEN} unknown".encode(), "401 No", f"Server: {TOKEN}")), Kind.ANSWER),
        (replies(f"{TOKEN}\r\n\r\n".encode()), Kind.IN_DOUBT),
        (replies(f"HTTP/1.1 200 {TOKEN}\r\n{TOKEN}\r\n\r\n".encode()), Kind.IN_DOUBT),
        (
            replies(f"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\nX: {TOKEN}\r\n\r\n".encode()),
            Kind.IN_DOUBT,
        ),
        (replies(f"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{TOKEN}".encode()), Kind.IN_DOUBT),
        (after_request(fin), Kind.IN_DOUBT),
    ],
    ids=["answer", "status line", "headers", "lengths", "body", "none"],
)
def test_echoed_token_is_in_no_exchange_and_no_log(
    behave: object, kind: Kind, serve: Serve, connect: Connect, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    server = serve(behave)

    exchange = connect(server.url).request("POST", "/cancel", body=b"{}", deadline=Deadline(5))

    assert exchange.kind is kind
    assert TOKEN not in repr(exchange) + "".join(str(getattr(exchange, name)) for name in KEPT)
    assert TOKEN not in caplog.text
    assert server.executed == 1


def test_exchange_shows_and_pickles_nothing_of_an_answer_that_is_json(serve: Serve, connect: Connect) -> None:
    """The value is what the adapter reads, and stays as it came."""
    server = serve(replies(answer(f'{{"error": "Bearer {TOKEN}"}}'.encode(), "400 Bad Request")))

    exchange = connect(server.url).request("POST", "/cancel", body=b"{}", deadline=Deadline(5))

    assert exchange.json == {"error": f"Bearer {TOKEN}"}
    assert exchange.text == '{"error": "Bearer ***"}'
    assert TOKEN not in repr(exchange)
    for copying in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError, match="not pickled"):
            copying(exchange)
    assert server.executed == 1


def held_by_requests() -> list[object]:
    return [each for each in gc.get_objects() if type(each).__name__ in ("PreparedRequest", "Response")]


def test_nothing_that_holds_the_request_outlives_it(serve: Serve, connect: Connect) -> None:
    """Exceptions of the HTTP library hold the request, and so the token, in attributes and frames."""
    server = serve(after_request(fin))
    transport = connect(server.url)
    others = held_by_requests()  # what other tests of this process have not let go of

    exchange = transport.request("POST", "/cancel", deadline=Deadline(5))

    gc.collect()
    assert [each for each in held_by_requests() if not any(each is other for other in others)] == []
    assert exchange.detail == "ConnectionError > ProtocolError > RemoteDisconnected"
    assert server.executed == 1
