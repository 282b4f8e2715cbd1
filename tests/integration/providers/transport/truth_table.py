"""Proofs of "not sent": sixty ways in which a request can end, and the known facts after each.

``executed`` is the number of requests that the server received completely. A row with 1 may never be NOT_SENT.
"""

import errno
import socket
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from django_invoice_cancel.providers.transport import Kind

from . import fault_server
from .fault_server import (
    CHUNKED,
    Behaviour,
    after_bytes,
    after_head,
    after_request,
    answer,
    fin,
    hang,
    refuses_tunnel,
    replies,
    reset,
    sends,
    sends_under_tls,
    unframed,
)

GARBAGE = b"\x99\x99garbage, no TLS record" * 4
HEADERS = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
NOT_SENT, IN_DOUBT, ANSWER = {Kind.NOT_SENT}, {Kind.IN_DOUBT}, {Kind.ANSWER}


@dataclass(frozen=True)
class Row:
    """One end of a request. ``way`` is the route of the client to the server."""

    name: str
    kinds: set[Kind]
    executed: int
    behave: Behaviour = hang
    way: str = "plain"
    """``plain``, ``tls``, ``tunnel``, ``tunneled`` (TLS at the end of a tunnel), ``forward``."""
    certificate: str = "ours"
    is_big: bool = False
    """The request has a body of 8 MB."""
    inject: Callable[[pytest.MonkeyPatch], None] = lambda _: None
    is_listening: bool = True
    """If not: the port refuses (``plain`` and proxies) or its backlog is full (``has_backlog``)."""
    has_backlog: bool = False

    @property
    def is_ended_by_deadline(self) -> bool:
        return any(word in self.name for word in ("timeout", "hang", "never reads"))


def early_answer(peer: fault_server.Peer) -> None:
    peer.read_head()
    peer.send(answer(b"", "413 Content Too Large", "Connection: close"))
    peer.fin()


def no_dns(patch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> Any:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    patch.setattr(socket, "getaddrinfo", fail)


def no_route(patch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> Any:
        raise OSError(errno.ENETUNREACH, "Network is unreachable")

    patch.setattr(socket.socket, "connect", fail)


def no_descriptors(patch: pytest.MonkeyPatch) -> None:
    class NoSocket(socket.socket):
        def __init__(self, *_: Any, **__: Any) -> None:
            raise OSError(errno.EMFILE, "Too many open files")

    patch.setattr(socket, "socket", NoSocket)


ROWS = [
    Row("connect: refused", NOT_SENT, 0, is_listening=False),
    Row("connect: timeout (full backlog)", NOT_SENT, 0, is_listening=False, has_backlog=True),
    Row("connect: DNS failure (gaierror)", NOT_SENT, 0, inject=no_dns),
    Row("connect: ENETUNREACH", NOT_SENT, 0, inject=no_route),
    Row("connect: EMFILE (no fds)", NOT_SENT, 0, inject=no_descriptors),
    Row("tls: untrusted CA", NOT_SENT, 0, way="tls", certificate="other_ca"),
    Row("tls: hostname mismatch", NOT_SENT, 0, way="tls", certificate="other_host"),
    Row("tls: server speaks plain HTTP", NOT_SENT, 0, after_bytes(sends(answer(status="400 Bad")), hang), "no tls"),
    Row("tls: handshake hangs", NOT_SENT, 0, hang, "no tls"),
    Row("tls: FIN in handshake", NOT_SENT, 0, after_bytes(fin), "no tls"),
    Row("tls: RST in handshake", NOT_SENT, 0, after_bytes(reset), "no tls"),
    Row("tls: garbage record AFTER request", IN_DOUBT, 1, after_request(sends_under_tls(GARBAGE), hang), "tls"),
    Row("tls: plaintext AFTER request", IN_DOUBT, 1, after_request(sends_under_tls(answer()), hang), "tls"),
    Row("tls: FIN w/o close_notify AFTER request", IN_DOUBT, 1, after_request(fin), "tls"),
    Row("tls: RST AFTER request", IN_DOUBT, 1, after_request(reset), "tls"),
    Row("tls1.3: client cert demanded (alert after handshake)", NOT_SENT | IN_DOUBT, 0, hang, "tls", "wants_client"),
    Row("tls: RST while sending 8 MB", IN_DOUBT, 0, after_bytes(reset), "tls", is_big=True),
    Row("tls: close while sending 8 MB", IN_DOUBT, 0, after_bytes(fin), "tls", is_big=True),
    Row("send: accept then FIN at once", NOT_SENT | IN_DOUBT, 0, fin),  # before or after the first byte
    Row("send: accept then RST at once", NOT_SENT | IN_DOUBT, 0, reset),  # either side of connect()
    Row("send: RST while sending 8 MB", IN_DOUBT, 0, after_bytes(reset), is_big=True),
    # an answer only without hooks: they are needed to know that the request was not sent whole
    Row("send: early 413 + close while sending 8 MB", ANSWER | IN_DOUBT, 0, early_answer, is_big=True),
    Row("send: peer never reads 8 MB (send blocks)", IN_DOUBT, 0, lambda peer: never_reads(peer), is_big=True),
    Row("recv: FIN after full request", IN_DOUBT, 1, after_request(fin)),
    Row("recv: RST after full request", IN_DOUBT, 1, after_request(reset)),
    Row("recv: no answer (read timeout)", IN_DOUBT, 1, after_request(hang)),
    Row("recv: partial status line + FIN", IN_DOUBT, 1, replies(b"HTTP/1.")),
    Row("recv: garbage status line", IN_DOUBT, 1, replies(b"\x00\x01garbage\r\n\r\n")),
    Row("recv: HTTP/1.1 99999 X", IN_DOUBT, 1, replies(b"HTTP/1.1 99999 X\r\nContent-Length: 2\r\n\r\n{}")),
    Row("recv: truncated headers + FIN", IN_DOUBT, 1, replies(b"HTTP/1.1 200 OK\r\nContent-Ty")),
    Row("recv: status line only + FIN", IN_DOUBT, 1, replies(b"HTTP/1.1 200 OK\r\n")),
    Row("recv: status+some headers + RST", IN_DOUBT, 1, replies(HEADERS, reset)),
    Row("recv: status+some headers + hang", IN_DOUBT, 1, replies(HEADERS, hang)),
    Row("body: CL 100, 10 bytes + FIN", IN_DOUBT, 1, replies(answer(b'{"status":', length=100))),
    Row("body: CL 100, 10 bytes + RST", IN_DOUBT, 1, replies(answer(b'{"status":', length=100), reset)),
    Row("body: CL 100, 10 bytes + hang", IN_DOUBT, 1, replies(answer(b'{"status":', length=100), hang)),
    Row("body: chunked cut", IN_DOUBT, 1, replies(CHUNKED + b"2\r\n{}\r\n")),
    Row("body: chunked bad size", IN_DOUBT, 1, replies(CHUNKED + b"2\r\n{}\r\nzz\r\n", hang)),
    Row("body: no CL, FIN mid JSON", IN_DOUBT, 1, replies(unframed(b'{"status": "canc'))),
    Row("body: CL shorter than body", ANSWER, 1, replies(answer(b'{}{"status": "surplus"}', length=2))),
    Row("body: bad gzip", IN_DOUBT, 1, replies(answer(b"not gzip", "200 OK", "Content-Encoding: gzip"))),
    Row("body: negative/garbage CL", IN_DOUBT, 1, replies(unframed(b"{}", "Content-Length: -5"))),
    Row("body: two different CL", IN_DOUBT, 1, replies(unframed(b"{}", "Content-Length: 2", "Content-Length: 3"))),
    Row("body: 200 charset=nonsense", ANSWER, 1, replies(answer(b"{}", "200 OK", "Content-Type: x/y; charset=no"))),
    Row("proxy: refused", NOT_SENT, 0, way="tunnel", is_listening=False),
    Row("proxy: DNS failure", NOT_SENT, 0, way="tunnel", inject=no_dns),
    Row("proxy: CONNECT -> 407", NOT_SENT, 0, refuses_tunnel("407 Proxy Authentication Required"), "tunnel"),
    Row("proxy: CONNECT -> 502", NOT_SENT, 0, refuses_tunnel("502 Bad Gateway"), "tunnel"),
    Row("proxy: CONNECT -> 503", NOT_SENT, 0, refuses_tunnel("503 Service Unavailable"), "tunnel"),
    Row("proxy: CONNECT hangs", NOT_SENT, 0, hang, "tunnel"),
    Row("proxy: CONNECT then FIN", NOT_SENT, 0, after_head(fin), "tunnel"),
    Row("proxy: CONNECT then RST", NOT_SENT, 0, after_head(reset), "tunnel"),
    Row("proxy: tunnel up, origin FIN after request", IN_DOUBT, 1, after_request(fin), "tunneled"),
    Row("proxy: tunnel up, origin RST after request", IN_DOUBT, 1, after_request(reset), "tunneled"),
    Row("proxy: tunnel up, read timeout", IN_DOUBT, 1, after_request(hang), "tunneled"),
    Row(
        "proxy: tunnel up, garbage TLS record after request",
        IN_DOUBT,
        1,
        after_request(sends_under_tls(GARBAGE), hang),
        "tunneled",
    ),
    Row("proxy: http forward, FIN after request", IN_DOUBT, 1, after_request(fin), "forward"),
    Row("proxy: http forward, RST after request", IN_DOUBT, 1, after_request(reset), "forward"),
    Row("proxy: http forward, read timeout", IN_DOUBT, 1, after_request(hang), "forward"),
    Row("proxy: http forward, 504 response", ANSWER, 1, replies(answer(b"", "504 Gateway Timeout")), "forward"),
]


def never_reads(peer: fault_server.Peer) -> None:
    peer.server.is_closing.wait()
