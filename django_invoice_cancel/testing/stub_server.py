"""A minimal HTTP server on 127.0.0.1 that answers through a handler and stores the received requests.

It uses plain sockets. A handler receives a request and returns the bytes to send, or a ``Fault``.
"""

import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum
from typing import BinaryIO, Self

HOST = "127.0.0.1"


@dataclass(frozen=True)
class StubRequest:
    """A completely received request."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes

    @property
    def identity(self) -> tuple[str, str, bytes]:
        """A key that is equal for a request and its repetition."""
        return self.method, self.target, self.body


class Fault(Enum):
    """Faults that replace an answer."""

    HANGS = "it never answers"
    CLOSES = "it closes the connection"
    RESETS = "it resets the connection"
    CUTS_HEAD = "it closes the connection within the head"
    CUTS_BODY = "it closes the connection within the body"
    DRIPS = "it answers a byte now and then, for ever"


Handler = Callable[[StubRequest], "bytes | Fault"]


def answer(status: int, body: str | bytes = "", **headers: str) -> bytes:
    """Return the bytes of an answer, with Content-Length. A 204 without a body has none."""
    payload = body.encode() if isinstance(body, str) else body
    named = {"Content-Type": "application/json", "Content-Length": str(len(payload))}
    if status == 204 and not payload:
        named = {}
    named |= {name.replace("_", "-"): value for name, value in headers.items()}
    lines = [f"HTTP/1.1 {status} Status", *(f"{name}: {value}" for name, value in named.items())]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + payload


class StubServer:
    """Listens inside its ``with`` block. At the end it closes all connections."""

    def __init__(self, handler: Handler) -> None:
        self.handler = handler
        self.requests: list[StubRequest] = []
        self._listener = socket.create_server((HOST, 0))
        self.url = f"http://{HOST}:{self._listener.getsockname()[1]}"
        self._is_closing = threading.Event()
        self._open: list[socket.socket] = []
        self._threads = [threading.Thread(target=self._accept, daemon=True)]

    def __enter__(self) -> Self:
        self._threads[0].start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_closing.set()
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._threads[0].join()  # no connection is opened after this
        for sock in self._open:
            with suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()

    def _accept(self) -> None:
        while not self._is_closing.is_set():
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            self._open.append(sock)
            thread = threading.Thread(target=self._serve, args=(sock,), daemon=True)
            thread.start()
            self._threads.append(thread)

    def _serve(self, sock: socket.socket) -> None:
        with sock, sock.makefile("rb") as stream, suppress(OSError):
            for request in _requests(stream):
                self.requests.append(request)
                said = self.handler(request)
                if isinstance(said, Fault):
                    self._misbehave(said, sock)
                    return
                sock.sendall(said)

    def _misbehave(self, fault: Fault, sock: socket.socket) -> None:
        if fault is Fault.HANGS:
            sock.recv(1)
        elif fault is Fault.RESETS:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        elif fault is Fault.CUTS_HEAD:
            sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Le")
        elif fault is Fault.CUTS_BODY:
            sock.sendall(b'HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{"status": ')
        elif fault is Fault.DRIPS:
            sock.sendall(b"HTTP/1.1 200 OK\r\nX-Slow: ")
            while not self._is_closing.wait(0.05):
                sock.sendall(b"x")


def _requests(stream: BinaryIO) -> Iterator[StubRequest]:
    while line := stream.readline().decode("latin-1").strip():
        method, target, _ = line.split(" ")
        fields = iter(lambda: stream.readline().decode("latin-1").strip(), "")
        headers = {name.strip().lower(): value.strip() for name, _, value in (each.partition(":") for each in fields)}
        yield StubRequest(method, target, headers, stream.read(int(headers.get("content-length", 0))))
