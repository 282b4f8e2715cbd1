"""Raw HTTP: requests in several pieces, several on one connection, and bytes that are not a request."""

import pytest

from .client import TOKENS, ask, cancel_bytes, connect, receive, request_bytes


def test_connection_is_kept_for_the_next_request(sandbox, dialect):
    first, second = sandbox.new_id(dialect), sandbox.new_id(dialect)
    with connect(sandbox.base_url) as connection:
        for external_id in (first, second):
            connection.sendall(cancel_bytes(dialect, external_id))
            assert receive(connection).status == 200
    assert [one.external_id for one in sandbox.requests] == [first, second]


def test_request_in_single_bytes_is_read_whole(sandbox, dialect):
    with connect(sandbox.base_url) as connection:
        for byte in cancel_bytes(dialect, sandbox.new_id(dialect)):
            connection.sendall(bytes([byte]))
        assert receive(connection).status == 200
    assert sandbox.count("cancel") == 1


def test_request_sent_while_another_waits_is_read_after_it(sandbox):
    first, second = sandbox.new_id("firekassa", "paid"), sandbox.new_id("firekassa")
    held = sandbox.hold(first)
    with connect(sandbox.base_url) as connection:
        connection.sendall(cancel_bytes("firekassa", first))
        held.wait_arrived()
        connection.sendall(cancel_bytes("firekassa", second))
        assert ask(sandbox, cancel_bytes("cryptocloud", "INV-89UX0900")).status == 200
        assert sandbox.count("cancel", second) == 0
        held.release()
        assert receive(connection).status == 422
        assert receive(connection).status == 200
    assert sandbox.count("cancel") == 3


def test_requests_sent_together_are_answered_in_turn(sandbox, dialect):
    ids = [sandbox.new_id(dialect, name) for name in ("ordinary", "slow", "ordinary")]
    with connect(sandbox.base_url) as connection:
        connection.sendall(b"".join(cancel_bytes(dialect, external_id) for external_id in ids))
        assert [receive(connection).status for _ in ids] == [200] * 3
    assert [one.external_id for one in sandbox.requests] == ids


@pytest.mark.parametrize("name", ["reset_before", "close_after", "cut_headers", "cut_body"])
def test_failed_connection_is_not_reused(sandbox, name):
    request = cancel_bytes("firekassa", sandbox.new_id("firekassa", name))
    with connect(sandbox.base_url) as connection:
        connection.sendall(request + cancel_bytes("firekassa", sandbox.new_id("firekassa")))
        assert receive(connection).kind in ("reset", "closed", "cut")
    assert sandbox.count("cancel") == 1


def test_connection_closes_when_asked_to(sandbox):
    with connect(sandbox.base_url) as connection:
        connection.sendall(cancel_bytes("firekassa", "511727000", Connection="close"))
        assert receive(connection).status == 200
        assert receive(connection).kind == "closed"
    assert sandbox.count("cancel") == 1


def test_cancel_is_kept_after_the_client_disconnects(sandbox, dialect):
    external_id = sandbox.new_id(dialect)
    with connect(sandbox.base_url) as connection, sandbox.hold(external_id) as held:
        connection.sendall(cancel_bytes(dialect, external_id))
        held.wait_arrived()
        connection.close()
    sandbox.wait_until(lambda: sandbox.executed(external_id) == 1)
    assert sandbox.count("cancel") == 1


def test_incomplete_request_is_not_counted(sandbox):
    with connect(sandbox.base_url) as connection:
        connection.sendall(request_bytes("POST", "/v2/invoice/merchant/canceled", b'{"uuid":"INV-89UX0900"}')[:-5])
    with connect(sandbox.base_url) as connection:
        connection.sendall(cancel_bytes("firekassa", "511727000"))
        assert receive(connection).status == 200
    assert [one.external_id for one in sandbox.requests] == ["511727000"]


def test_client_that_expects_100_gets_it(sandbox):
    head, _, body = cancel_bytes("cryptocloud", "INV-89UX0900", Expect="100-continue").partition(b"\r\n\r\n")
    with connect(sandbox.base_url) as connection:
        connection.sendall(head + b"\r\n\r\n")
        assert connection.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.sendall(body)
        assert receive(connection).status == 200
    assert sandbox.count("cancel") == 1


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"GET\r\n\r\n", 400),
        (b"GET http://other/ HTTP/1.1\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nContent-Length: -1\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nContent-Length: 1048577\r\n\r\n", 413),
        (b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n", 411),
        (b"x" * 70_000, 431),
    ],
    ids=["no request line", "proxy", "negative", "too long", "chunked", "endless head"],
)
def test_bytes_that_are_not_a_request_are_refused(sandbox, data, status):
    received = ask(sandbox, data)
    assert received.status == status
    assert sandbox.requests == []


def test_log_holds_the_request_as_it_was_sent(sandbox):
    body = b'{"uuid": "INV-89UX0900"}'
    path = "/v2/invoice/merchant/canceled?locale=en"
    ask(sandbox, request_bytes("POST", path, body, Authorization=TOKENS["cryptocloud"], X_Odd="A: b"))
    (logged,) = sandbox.requests
    assert logged.method == "POST"
    assert logged.path == path
    assert logged.body == body
    assert logged.dialect == "cryptocloud"
    assert logged.operation == "cancel"
    assert logged.executed is True
    assert logged.headers == {
        "host": "127.0.0.1",
        "content-length": "24",
        "authorization": TOKENS["cryptocloud"],
        "x-odd": "A: b",
    }
