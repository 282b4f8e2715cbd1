"""The token is sent to the provider's socket only."""

import asyncio
import copy
import gc
import logging
import pickle
import signal
import socket
import threading
import traceback
from collections.abc import Callable, Iterator
from http.client import HTTPConnection
from typing import Any

import pytest
from requests import PreparedRequest, Response
from requests.adapters import HTTPAdapter

from django_invoice_cancel.domain.interruptions import is_interruption
from django_invoice_cancel.domain.secrets import Secret
from django_invoice_cancel.providers.transport import Deadline, Kind, Transport
from django_invoice_cancel.providers.transport.client import TokenAuth
from django_invoice_cancel.providers.transport.connections import HostAdapter

from .conftest import TOKEN, Connect, Serve
from .fault_server import after_request, answer, fin, hang, keeps_alive, replies

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
def test_invalid_token_is_refused_and_not_shown(token: str, connect: Connect) -> None:
    with pytest.raises(ValueError, match="token") as caught:
        connect("https://provider.test", token=token)

    text = "".join(traceback.format_exception(caught.value))
    assert "hunt" not in text
    assert caught.value.__context__ is None


def test_token_of_every_printable_character_arrives(serve: Serve, connect: Connect) -> None:
    token = "".join(map(chr, range(33, 127)))
    server = serve(keeps_alive())

    connect(server.url, token=token).request("POST", "/cancel", deadline=Deadline(5))

    assert [request.headers["authorization"] for request in server.requests] == [f"Bearer {token}"]


def test_token_is_not_in_representations_or_pickles() -> None:
    transport = Transport(base_url="https://provider.test", scheme="Bearer", token=Secret(TOKEN), secrets=[])
    auth = TokenAuth("Bearer", Secret(TOKEN))
    adapter = HostAdapter("https://provider.test", 1)

    assert TOKEN not in f"{transport!r} {auth!r} {vars(transport)} {vars(auth)} {vars(adapter)}"
    for holder in (transport, auth, adapter, *vars(auth).values()):
        with pytest.raises(TypeError, match="cannot be pickled"):
            pickle.dumps(holder)
        with pytest.raises(TypeError, match="cannot be pickled"):
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


def test_exchange_with_a_json_response_shows_and_pickles_no_token(serve: Serve, connect: Connect) -> None:
    """The adapter reads the unmasked value."""
    server = serve(replies(answer(f'{{"error": "Bearer {TOKEN}"}}'.encode(), "400 Bad Request")))

    exchange = connect(server.url).request("POST", "/cancel", body=b"{}", deadline=Deadline(5))

    assert exchange.json == {"error": f"Bearer {TOKEN}"}
    assert exchange.text == '{"error": "Bearer ***"}'
    assert TOKEN not in repr(exchange)
    for copying in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError, match="cannot be pickled"):
            copying(exchange)
    assert server.executed == 1


def held_by_requests() -> list[object]:
    return [each for each in gc.get_objects() if type(each).__name__ in ("PreparedRequest", "Response")]


def test_request_objects_are_released_after_the_request(serve: Serve, connect: Connect) -> None:
    """Exceptions of the HTTP library hold the request, and so the token, in attributes and frames."""
    server = serve(after_request(fin))
    transport = connect(server.url)
    others = held_by_requests()  # objects of other tests of this process

    exchange = transport.request("POST", "/cancel", deadline=Deadline(5))

    gc.collect()
    assert [each for each in held_by_requests() if not any(each is other for other in others)] == []
    assert exchange.detail == "ConnectionError > ProtocolError > RemoteDisconnected"
    assert server.executed == 1


class Stopped(BaseException):
    """An interruption of another library, with arguments of its own."""


# Celery's, which the tests of the transport do not need.
SoftTimeLimitExceeded = type("SoftTimeLimitExceeded", (Exception,), {"__module__": "billiard.exceptions"})


class JobTimeout(Exception):
    """Raised by a handler of SIGALRM in the code of a task."""


INTERRUPTIONS = {
    "a task's time limit": SoftTimeLimitExceeded(),
    "Ctrl-C": KeyboardInterrupt(),
    "exit": SystemExit(3),
    "a canceled coroutine": asyncio.CancelledError("stop"),
    "another": Stopped("why", 7),
}


def interrupt_while_connecting(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    monkeypatch.setattr(socket.socket, "connect", raiser(error))


def interrupt_while_sending(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    client, send = threading.current_thread(), socket.socket.send
    monkeypatch.setattr(
        socket.socket,
        "send",
        lambda *args: raiser(error)() if threading.current_thread() is client else send(*args),
    )


def interrupt_while_waiting(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    monkeypatch.setattr(socket.SocketIO, "readinto", raiser(error))


def interrupt_while_reading(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    monkeypatch.setattr("django_invoice_cancel.providers.transport.answer.parse_body", raiser(error))


def interrupt_in_the_adapter(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    monkeypatch.setattr(HTTPAdapter, "send", raiser(error))


def raiser(error: BaseException) -> Callable[..., Any]:
    def interrupt(*_: Any, **__: Any) -> Any:
        try:
            {}[TOKEN]  # the exception that was being handled at the interruption
        except KeyError:
            raise error  # noqa: B904

    return interrupt


def held_by_frames(error: BaseException) -> Iterator[object]:
    """Yield the locals of the frames that an error reporter keeps, and the objects in them."""
    trace = error.__traceback__
    while trace is not None:
        if "/tests/" not in trace.tb_frame.f_code.co_filename:
            yield from gc.get_referents(*trace.tb_frame.f_locals.values())
            yield from trace.tb_frame.f_locals.values()
        trace = trace.tb_next


@pytest.mark.parametrize("name", INTERRUPTIONS)
@pytest.mark.parametrize(
    ("interrupt", "executed"),
    [
        (interrupt_while_connecting, 0),
        (interrupt_in_the_adapter, 0),
        (interrupt_while_sending, 0),
        (interrupt_while_waiting, 1),
        (interrupt_while_reading, 1),
    ],
)
def test_interruption_is_reraised_without_frames_that_contain_the_token(
    name: str,
    interrupt: Callable[..., None],
    executed: int,
    serve: Serve,
    connect: Connect,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    error = INTERRUPTIONS[name]
    server = serve(keeps_alive())
    transport = connect(server.url)

    with monkeypatch.context() as patch:
        interrupt(patch, error)
        with pytest.raises(type(error)) as caught:
            transport.request("POST", "/cancel", body=b"{}", deadline=Deadline(5))

    assert caught.value.__traceback__ is not None
    ours = caught.value.__traceback__.tb_next  # without the frame of this test, which contains the server's requests
    report = traceback.TracebackException(type(error), caught.value, ours, capture_locals=True)
    assert caught.value.args == INTERRUPTIONS[name].args
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None
    assert TOKEN not in "".join(report.format())
    held = list(held_by_frames(caught.value))
    assert not [each for each in held if isinstance(each, PreparedRequest | Response | HTTPConnection)]
    assert not any(TOKEN in each for each in held if type(each) is str)
    assert server.executed_once_there_are(executed) == executed
    assert transport.request("POST", "/after", deadline=Deadline(5)).kind is Kind.ANSWER


def test_exception_of_a_signal_handler_interrupts_the_request(serve: Serve, connect: Connect) -> None:
    """The deadline of a job is no failure of the network, whatever the class of its exception."""

    def on_alarm(*_: Any) -> None:
        raise JobTimeout("too long")

    client = threading.get_ident()  # in another thread, the signal would not end the client's wait for the answer
    server = serve(after_request(lambda _: signal.pthread_kill(client, signal.SIGALRM), hang))
    before = signal.signal(signal.SIGALRM, on_alarm)
    try:
        with pytest.raises(JobTimeout) as caught:
            connect(server.url).request("POST", "/cancel", body=b"{}", deadline=Deadline(5))
    finally:
        signal.signal(signal.SIGALRM, before)

    assert is_interruption(caught.value)
    assert not any(isinstance(each, PreparedRequest | HTTPConnection) for each in held_by_frames(caught.value))
    assert server.executed_once_there_are(1) == 1


def test_interruption_keeps_its_identity_and_attributes(
    serve: Serve, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The exit code, for one; and time-out libraries recognise their exception by its identity."""
    error = SystemExit(7)
    interrupt_in_the_adapter(monkeypatch, error)

    with pytest.raises(SystemExit) as caught:
        connect(serve(keeps_alive()).url).request("POST", "/cancel", deadline=Deadline(5))

    assert caught.value is error
    assert caught.value.code == 7
