"""A provider on a real socket with scripted faults. It counts the requests that it received completely.

Each connection has a thread that runs one behaviour: a function of its ``Peer``. It never sleeps: a peer that waits,
waits until the client closes the connection or the server is closed.
"""

from __future__ import annotations

import fcntl
import socket
import ssl
import struct
import termios
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Self

Behaviour = Callable[["Peer"], None]
HOST = "127.0.0.1"


@dataclass(frozen=True)
class Request:
    """A completely received request."""

    line: str
    headers: dict[str, str]
    body: bytes
    connection: int
    """The number of the connection on which it came."""

    @property
    def path(self) -> str:
        return self.line.split(" ")[1]


@dataclass
class Peer:
    """The server's side of one connection."""

    sock: socket.socket
    server: FaultServer
    number: int
    buffer: bytes = b""

    def read_head(self) -> str | None:
        while b"\r\n\r\n" not in self.buffer:
            piece = self.sock.recv(65536)
            if not piece:
                return None
            self.buffer += piece
        head, _, self.buffer = self.buffer.partition(b"\r\n\r\n")
        return head.decode("latin-1")

    def read_request(self) -> Request | None:
        """Read one whole request and count it; None if the client disconnected before its end."""
        head = self.read_head()
        if head is None:
            return None
        line, *fields = head.split("\r\n")
        headers = {name.strip().lower(): value.strip() for name, _, value in (each.partition(":") for each in fields)}
        length = int(headers.get("content-length", 0))
        while len(self.buffer) < length:
            piece = self.sock.recv(65536)
            if not piece:
                return None
            self.buffer += piece
        body, self.buffer = self.buffer[:length], self.buffer[length:]
        request = Request(line, headers, body, self.number)
        with self.server.arrived:
            self.server.requests.append(request)
            self.server.arrived.notify_all()
        return request

    def send(self, data: bytes) -> None:
        self.sock.sendall(data)

    def send_under_tls(self, data: bytes) -> None:
        """Write to the socket itself, past the TLS layer."""
        socket.socket.sendall(self.sock, data)

    def flush(self) -> None:
        """Wait until all that was sent has arrived in the client's kernel."""
        while struct.unpack("i", fcntl.ioctl(self.sock, termios.TIOCOUTQ, bytes(4)))[0]:
            if self.server.is_closing.wait(0.005):
                return

    def start_tls(self, context: ssl.SSLContext) -> None:
        # registered before the handshake, so that the server can close a connection that hangs in it
        wrapped = context.wrap_socket(self.sock, server_side=True, do_handshake_on_connect=False)
        self.sock = self.server.replace(self.sock, wrapped)
        wrapped.do_handshake()

    def fin(self) -> None:
        self.server.close_socket(self.sock)

    def reset(self) -> None:
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.server.close_socket(self.sock)

    def wait_for_hangup(self) -> None:
        while self.sock.recv(65536):
            pass


@dataclass
class FaultServer:
    """Listens on a port of its own; ``behave`` is run for each connection."""

    behave: Behaviour
    tls: ssl.SSLContext | None = None
    receive_buffer: int | None = None
    """How many bytes the kernel takes before the server reads; about, and doubled."""
    requests: list[Request] = field(default_factory=list)
    connections: int = 0

    def __post_init__(self) -> None:
        self._listener = socket.create_server((HOST, 0))
        if self.receive_buffer is not None:
            self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, self.receive_buffer)
        self.port: int = self._listener.getsockname()[1]
        self.is_closing = threading.Event()
        self.arrived = threading.Condition()
        self._lock = threading.Lock()
        self._sockets: set[socket.socket] = set()
        self._threads = [threading.Thread(target=self._accept)]

    @property
    def url(self) -> str:
        return f"http{'s' if self.tls else ''}://localhost:{self.port}"

    @property
    def executed(self) -> int:
        """The number of completely received requests."""
        return len(self.requests)

    def executed_once_there_are(self, count: int) -> int:
        """Wait until ``count`` requests are complete, and return their number. The thread of the server may be late."""
        with self.arrived:
            self.arrived.wait_for(lambda: len(self.requests) >= count, timeout=10)
        return self.executed

    def __enter__(self) -> Self:
        self._threads[0].start()
        return self

    def __exit__(self, *_: object) -> None:
        self.is_closing.set()
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._threads[0].join()
        for sock in list(self._sockets):
            with suppress(OSError):
                socket.socket.shutdown(sock, socket.SHUT_RDWR)
        for thread in self._threads[1:]:
            thread.join()

    def replace(self, old: socket.socket, new: socket.socket) -> socket.socket:
        with self._lock:
            self._sockets.discard(old)
            self._sockets.add(new)
        return new

    def close_socket(self, sock: socket.socket) -> None:
        with self._lock:
            self._sockets.discard(sock)
        sock.close()

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            with self._lock:
                self._sockets.add(sock)
            self.connections += 1
            thread = threading.Thread(target=self._serve, args=(Peer(sock, self, self.connections),))
            self._threads.append(thread)
            thread.start()

    def _serve(self, peer: Peer) -> None:
        with suppress(OSError):  # the client hung up, or the server is closing
            if self.tls is not None:
                peer.start_tls(self.tls)
            self.behave(peer)
        self.close_socket(peer.sock)


# -- answers -----------------------------------------------------------------------------------------------------


def answer(body: bytes = b"{}", status: str = "200 OK", *headers: str, length: int | None = None) -> bytes:
    """Return an answer with a Content-Length."""
    size = len(body) if length is None else length
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {size}", *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def unframed(body: bytes, *headers: str) -> bytes:
    """Return an answer whose body ends with the connection."""
    return "\r\n".join(["HTTP/1.1 200 OK", *headers]).encode() + b"\r\n\r\n" + body


CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


# -- behaviours --------------------------------------------------------------------------------------------------


def hang(peer: Peer) -> None:
    peer.wait_for_hangup()


def fin(peer: Peer) -> None:
    peer.fin()


def reset(peer: Peer) -> None:
    peer.reset()


def after_request(*actions: Behaviour) -> Behaviour:
    """Return a behaviour that reads one whole request and then runs ``actions``."""

    def behave(peer: Peer) -> None:
        if peer.read_request() is not None:
            for action in actions:
                action(peer)

    return behave


def after_bytes(*actions: Behaviour) -> Behaviour:
    """Return a behaviour that reads the first bytes and then runs ``actions``."""

    def behave(peer: Peer) -> None:
        peer.sock.recv(4096)
        for action in actions:
            action(peer)

    return behave


def sends(data: bytes) -> Behaviour:
    return lambda peer: peer.send(data)


def sends_under_tls(data: bytes) -> Behaviour:
    return lambda peer: peer.send_under_tls(data)


def replies(data: bytes, last: Behaviour = fin) -> Behaviour:
    """Return a behaviour that answers one request with ``data`` and then runs ``last``."""
    return after_request(sends(data), last)


def keeps_alive(make: Callable[[Request], bytes] = lambda _: answer()) -> Behaviour:
    """Return a behaviour that answers every request of a connection."""

    def behave(peer: Peer) -> None:
        while (request := peer.read_request()) is not None:
            peer.send(make(request))

    return behave


def drips(head: bytes, endless: Callable[[], Iterator[bytes]], seconds: float = 0.05) -> Behaviour:
    """Return a behaviour that sends ``head`` and then pieces with pauses, without an end."""

    def behave(peer: Peer) -> None:
        if peer.read_request() is None:
            return
        peer.send(head)
        for piece in endless():
            if peer.server.is_closing.wait(seconds):
                return
            peer.send(piece)

    return behave


def floods(head: bytes, piece: bytes) -> Behaviour:
    """Return a behaviour that sends ``head`` and then ``piece`` repeatedly without a pause."""

    def behave(peer: Peer) -> None:
        peer.read_request()
        peer.send(head)
        while True:
            peer.send(piece)

    return behave


def tunnels(then: Behaviour, context: ssl.SSLContext) -> Behaviour:
    """Return a proxy that opens a tunnel and acts as the provider at its end."""

    def behave(peer: Peer) -> None:
        if peer.read_head() is not None:
            peer.send(b"HTTP/1.1 200 Connection established\r\n\r\n")
            peer.start_tls(context)
            then(peer)

    return behave


def refuses_tunnel(status: str) -> Behaviour:
    """Return a proxy that answers CONNECT with ``status``."""

    def behave(peer: Peer) -> None:
        peer.read_head()
        peer.send(f"HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n".encode())
        peer.fin()

    return behave


def after_head(action: Behaviour) -> Behaviour:
    """Return a proxy that reads the head of CONNECT and then runs ``action``."""

    def behave(peer: Peer) -> None:
        peer.read_head()
        action(peer)

    return behave


# -- certificates ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Certificates:
    """The certificates of the servers, and the file with their CA."""

    bundle: str
    ours: ssl.SSLContext
    """For localhost and provider.test, by the CA of ``bundle``."""
    other_host: ssl.SSLContext
    """By the same CA, for another host."""
    other_ca: ssl.SSLContext
    """For localhost, by an untrusted CA."""
    wants_client: ssl.SSLContext
    """As ``ours``, but requires a client certificate."""


def make_certificates(folder: Any) -> Certificates:
    import trustme

    ca, stranger = trustme.CA(), trustme.CA()
    bundle = str(folder / "ca.pem")
    ca.cert_pem.write_to_path(bundle)
    wants_client = _context(ca, "localhost")
    wants_client.verify_mode = ssl.CERT_REQUIRED
    ca.configure_trust(wants_client)
    ours = _context(ca, "localhost", "provider.test")
    return Certificates(bundle, ours, _context(ca, "other.test"), _context(stranger, "localhost"), wants_client)


def _context(ca: Any, *hosts: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ca.issue_cert(*hosts).configure_cert(context)
    return context
