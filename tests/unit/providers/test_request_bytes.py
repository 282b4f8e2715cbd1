"""The exact bytes of a request, head and body, as a socket receives them and not as the HTTP library shows them."""

import socket
import threading
from collections.abc import Iterator

import pytest

from django_invoice_cancel import __version__
from django_invoice_cancel.domain.outcomes import Outcome
from django_invoice_cancel.domain.secrets import Secret
from django_invoice_cancel.providers.cryptocloud import CryptoCloud
from django_invoice_cancel.providers.firekassa import FireKassa

from .conftest import may_send


class OneAnswer:
    """A server that takes one request on each connection, keeps its bytes and gives the one answer."""

    def __init__(self, body: bytes) -> None:
        self.requests: list[bytes] = []
        self._answer = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s" % (len(body), body)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.host = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            connection, _ = self._listener.accept()
            with connection:
                request = self._read(connection)
                if not request:
                    return
                self.requests.append(request)
                connection.sendall(self._answer)

    @staticmethod
    def _read(connection: socket.socket) -> bytes:
        with connection.makefile("rb") as stream:
            head = b""
            while not head.endswith(b"\r\n\r\n"):
                line = stream.readline()
                if not line:
                    return b""
                head += line
            length = [line for line in head.split(b"\r\n") if line.startswith(b"Content-Length: ")]
            return head + stream.read(int(length[0][16:]) if length else 0)

    def close(self) -> None:
        with socket.create_connection(self._listener.getsockname()):
            pass  # an empty request ends it
        self._thread.join(5)
        self._listener.close()
        assert not self._thread.is_alive()


@pytest.fixture
def serve() -> Iterator[type[OneAnswer]]:
    servers = []

    def start(body: bytes) -> OneAnswer:
        servers.append(OneAnswer(body))
        return servers[-1]

    yield start  # type: ignore[misc]
    for server in servers:
        server.close()


def test_bytes_of_a_cancel_at_firekassa(serve):
    server = serve(b"{}")
    firekassa = FireKassa(
        "fk",
        base_url=f"http://{server.host}",
        api_token=Secret("invented-token"),
        sign_token=Secret("test-sign-token"),
    )

    reply = firekassa.cancel("511727028", lease=may_send)

    firekassa.close()
    assert reply.outcome is Outcome.CANCELED
    assert server.requests == [
        b"POST /api/v2/invoices/511727028/cancel HTTP/1.1\r\n"
        b"Host: " + server.host.encode() + b"\r\n"
        b"User-Agent: django-invoice-cancel/" + __version__.encode() + b"\r\n"
        b"Accept: application/json\r\n"
        b"Accept-Encoding: identity\r\n"
        b"Signature: 6ff4a3481e621dfa9d3bc4d696d2d6c621b0e134a4fda517f00c092793b42d8d"
        b"cffe225acf7ea01f1fd4e7fafb5ef75d889591a1c29007a7db5950041eecb573\r\n"
        b"Content-Length: 0\r\n"
        b"Authorization: Bearer invented-token\r\n"
        b"\r\n"
    ]


def test_bytes_of_a_lookup_at_firekassa(serve):
    server = serve(b'{"id":"511727028","status":"process"}')
    firekassa = FireKassa("fk", base_url=f"http://{server.host}", api_token=Secret("invented-token"), lookup=True)

    replies = firekassa.lookup(["511727028"])

    firekassa.close()
    assert replies["511727028"].status == "created"
    assert server.requests == [
        b"GET /api/v2/transactions/511727028 HTTP/1.1\r\n"
        b"Host: " + server.host.encode() + b"\r\n"
        b"User-Agent: django-invoice-cancel/" + __version__.encode() + b"\r\n"
        b"Accept: application/json\r\n"
        b"Accept-Encoding: identity\r\n"
        b"Authorization: Bearer invented-token\r\n"
        b"\r\n"
    ]


def test_bytes_of_a_cancel_at_cryptocloud(serve):
    server = serve(b'{"status":"success","result":["ok"]}')
    cryptocloud = CryptoCloud("cc", base_url=f"http://{server.host}", api_key=Secret("invented-key"))

    reply = cryptocloud.cancel("89ux09ka", lease=may_send)

    cryptocloud.close()
    assert reply.outcome is Outcome.CANCELED
    assert server.requests == [
        b"POST /v2/invoice/merchant/canceled HTTP/1.1\r\n"
        b"Host: " + server.host.encode() + b"\r\n"
        b"User-Agent: django-invoice-cancel/" + __version__.encode() + b"\r\n"
        b"Accept: application/json\r\n"
        b"Accept-Encoding: identity\r\n"
        b"Content-Type: application/json\r\n"
        b"Content-Length: 23\r\n"
        b"Authorization: Token invented-key\r\n"
        b"\r\n"
        b'{"uuid":"INV-89UX09KA"}'
    ]


def test_refused_lease_sends_no_byte(serve):
    server = serve(b"{}")
    firekassa = FireKassa("fk", base_url=f"http://{server.host}", api_token=Secret("invented-token"))

    reply = firekassa.cancel("511727028", lease=lambda seconds_left: False)

    firekassa.close()
    assert reply.outcome == Outcome.NOT_PROCESSED
    assert reply.code == "lease_expired"
    assert server.requests == []
