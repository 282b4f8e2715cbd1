"""HTTP/1.1 on a plain socket, so that an answer can fail at any byte.

A connection passes complete requests on, and sends the bytes that it receives. It reads the next request after the
previous one was answered. Without an answer it stays silent until it is closed.
"""

import asyncio
import socket
import struct
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from typing import NamedTuple, cast

MAX_HEAD = 64 * 1024
MAX_BODY = 1024 * 1024


@dataclass(slots=True, eq=False)
class Request:
    """A complete request, with lower-case header names."""

    method: str
    path: str
    query: str
    headers: dict[str, str]
    body: bytes


class Reply(NamedTuple):
    """A well-formed HTTP answer."""

    status: int
    body: bytes
    content_type: str = "application/json"
    headers: tuple[tuple[str, str], ...] = ()


class BadRequest(Exception):
    """The request is unreadable. ``status`` is the HTTP status code of the answer."""

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status


_PHRASES = {status.value: status.phrase for status in HTTPStatus}


def render(reply: Reply, *, length: int | None = None) -> bytes:
    """Return the bytes of a reply; ``length`` overrides its Content-Length."""
    more = "".join([f"{name}: {value}\r\n" for name, value in reply.headers])
    head = (
        f"HTTP/1.1 {reply.status} {_PHRASES[reply.status]}\r\nContent-Type: {reply.content_type}\r\n"
        f"Content-Length: {len(reply.body) if length is None else length}\r\n{more}\r\n"
    )
    return head.encode("latin-1") + reply.body


class Connection(asyncio.Protocol):
    """One connection."""

    def __init__(self, receive: Callable[[Request, "Connection"], None], connections: set["Connection"]) -> None:
        self._receive = receive
        self._connections = connections
        self._buffer = bytearray()
        self._request: Request | None = None
        self._missing = 0
        self._is_busy = False
        self._closes_after = False
        self._transport: asyncio.Transport

    # -- asyncio ----------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._connections.discard(self)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        if not self._is_busy:
            self._take()

    def _take(self) -> None:
        try:
            request = self._next_request()
        except BadRequest as bad:
            self._is_busy = True
            self.send(render(Reply(bad.status, b"", "text/plain")), close=True)
            return
        if request is not None:
            self._is_busy = True
            self._closes_after = request.headers.get("connection", "").lower() == "close"
            self._receive(request, self)

    def _next_request(self) -> Request | None:
        if self._request is None and not self._read_head():
            return None
        request = self._request
        if request is None or len(self._buffer) < self._missing:
            return None
        request.body = bytes(self._buffer[: self._missing])
        del self._buffer[: self._missing]
        self._request = None
        return request

    def _read_head(self) -> bool:
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0:
            if len(self._buffer) > MAX_HEAD:
                raise BadRequest(431)
            return False
        self._request = parse_head(bytes(self._buffer[:end]).decode("latin-1"))
        del self._buffer[: end + 4]
        self._missing = body_length(self._request)
        if self._request.headers.get("expect", "").lower() == "100-continue":
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        return True

    # -- answering --------------------------------------------------------------------------------------------

    def send(self, data: bytes, *, close: bool = False) -> None:
        """Send an answer. Then read the next request, or close the connection if ``close`` is set."""
        if self._transport.is_closing():
            return
        self._transport.write(data)
        if close or self._closes_after:
            self.close()
            return
        self._is_busy = False
        if self._buffer:
            asyncio.get_running_loop().call_soon(self.data_received, b"")

    def drip(self, data: bytes, seconds: float, at: int = 0) -> None:
        """Send an answer one byte at a time, ``seconds`` apart."""
        if self._transport.is_closing():
            return
        if at + 1 >= len(data):
            self.send(data[at:])
            return
        self._transport.write(data[at : at + 1])
        asyncio.get_running_loop().call_later(seconds, self.drip, data, seconds, at + 1)

    def close(self) -> None:
        """Close the connection with a FIN."""
        self._transport.close()

    def hang_up(self) -> None:
        """Close the connection at once and drop unsent data."""
        self._transport.abort()

    def reset(self) -> None:
        """Close the connection with an RST and drop unsent data."""
        sock: socket.socket | None = self._transport.get_extra_info("socket")
        if sock is not None and not self._transport.is_closing():
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._transport.abort()


def parse_head(head: str) -> Request:
    """Parse the head of a request, without its empty line."""
    first, *lines = head.split("\r\n")
    parts = first.split(" ")
    if len(parts) != 3 or not parts[1].startswith("/"):
        raise BadRequest(400)
    headers = {}
    for line in lines:
        name, _, value = line.partition(":")
        headers[name.lower()] = value.strip()
    if parts[2] != "HTTP/1.1":
        headers["connection"] = "close"
    path, _, query = parts[1].partition("?")
    return Request(parts[0], path, query, headers, b"")


def body_length(request: Request) -> int:
    """Return the length of the body in bytes."""
    if "transfer-encoding" in request.headers:
        raise BadRequest(411)
    text = request.headers.get("content-length", "0")
    if not (text.isascii() and text.isdigit()):
        raise BadRequest(400)
    if int(text) > MAX_BODY:
        raise BadRequest(413)
    return int(text)
