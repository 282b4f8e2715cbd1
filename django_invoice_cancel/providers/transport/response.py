"""A strict response for http.client: one final answer, in plain HTTP/1.1 syntax, with one unambiguous length.

http.client skips only the interim status 100, accepts lengths such as ``+2`` and ``1_0``, and accepts a truncated
head. Each of these can assign the answer of one request to the next one. Therefore any deviation raises an
``UnreadableAnswer``, and the connection is closed.
"""

import http.client
import io
import re
import socket
from collections.abc import Sequence
from typing import Any

from .attempt import Attempt, current, shut_down
from .silence import acknowledge, is_request_on_its_way

MAX_LINE = 65_536
MAX_HEADERS = 99  # the limit of http.client, which counts the empty line
BODILESS = frozenset({204, 304})
"""Final statuses whose answers have no body (RFC 9110, 8.6 and 15.4.5)."""

_TEXT = rb"[\t\x20-\x7e\x80-\xff]*"
_STATUS_LINE = re.compile(rb"HTTP/1\.([01]) ([1-9][0-9]{2})(?: " + _TEXT + rb")?\r?\n")
_HEADER = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):(" + _TEXT + rb")\r?\n")
_CONTINUATION = re.compile(rb"[ \t]" + _TEXT + rb"\r?\n")
_CHUNK_SIZE = re.compile(rb"([0-9A-Fa-f]{1,16})(?:;" + _TEXT + rb")?\r\n")
_LENGTH = re.compile("[0-9]{1,15}")


class UnreadableAnswer(http.client.HTTPException):
    """The answer violates HTTP/1.1. The exception contains no text of the answer, which may echo the token."""


class MalformedHead(UnreadableAnswer):
    """A status line or header has invalid syntax, or there are too many headers."""


class TruncatedHead(UnreadableAnswer):
    """The connection ended before the empty line after the head."""


class AmbiguousLength(UnreadableAnswer):
    """The headers define the end of the body ambiguously."""


class ProtocolSwitched(UnreadableAnswer):
    """Status 101: the following bytes are not HTTP/1.1."""


class MalformedChunk(UnreadableAnswer):
    """A chunk has no plain size or no line end."""


class TrackedResponse(http.client.HTTPResponse):
    """Skips interim answers, and reports to the attempt whether the connection may serve another request."""

    def __init__(self, sock: socket.socket, *args: Any, **kwargs: Any) -> None:
        super().__init__(sock, *args, **kwargs)
        self._tracked_sock = sock
        self._reader = self.fp
        self._has_begun = False
        self._is_last = False
        """The server closes the connection, or the status does not allow the connection to be reused."""
        self._chunk_left = 0
        self._has_all_chunks = False

    def begin(self) -> None:
        if self._has_begun:
            return
        head = self._final_head()
        self.fp = io.BytesIO(head)  # type: ignore[assignment]
        try:
            super().begin()
        finally:
            self.fp = self._reader
        self._has_begun = True

    def _final_head(self) -> bytes:
        attempt = current()
        self._reader.peek(1)  # wait for the first bytes
        if attempt is not None and is_request_on_its_way(self._tracked_sock):
            attempt.is_early = True
        while True:
            lines = _read_head(self._reader)
            is_old, status = _parse_status_line(lines[0])
            fields = _parse_fields(lines[1:-1])
            if attempt is not None:
                attempt.http_status = status
            if status == http.client.SWITCHING_PROTOCOLS:
                raise ProtocolSwitched
            if status >= 200:
                check_length(status, fields.get("content-length", ()), fields.get("transfer-encoding", ()), is_old)
                self._is_last = status == 304 or any("close" in each.lower() for each in fields.get("connection", ()))
                return b"".join(lines)
            _note_interim(attempt)

    def read1(self, n: int = -1) -> bytes:
        if self.isclosed() or not self.chunked:
            return super().read1(n)
        if not self._chunk_left:
            self._chunk_left = self._next_chunk_size()
        if not self._chunk_left:
            self._skip_trailers()
            self._has_all_chunks = True
            self._close_conn()
            return b""
        piece = self._reader.read1(self._chunk_left if n < 0 else min(n, self._chunk_left))
        if not piece:
            raise MalformedChunk
        self._chunk_left -= len(piece)
        if not self._chunk_left and self._reader.read(2) != b"\r\n":
            raise MalformedChunk
        return piece

    def _next_chunk_size(self) -> int:
        size = _CHUNK_SIZE.fullmatch(self._reader.readline(MAX_LINE + 1))
        if size is None:
            raise MalformedChunk
        return int(size[1], 16)

    def _skip_trailers(self) -> None:
        while (line := self._reader.readline(MAX_LINE + 1)) != b"\r\n":
            if not _HEADER.fullmatch(line):
                raise MalformedChunk

    def _close_conn(self) -> None:
        if self._has_begun:
            self._report_end()
        super()._close_conn()  # type: ignore[misc]

    def _report_end(self) -> None:
        attempt = current()
        surplus = self._surplus()
        if surplus:
            shut_down(self._tracked_sock)  # otherwise it would be read as the answer to the next request
            if attempt is not None:
                attempt.has_surplus = True
                attempt.has_second_answer = is_start_of_answer(surplus)
            return
        if attempt is not None and (self.length == 0 or self._has_all_chunks):
            attempt.is_plain = not (attempt.has_interim_answer or self._is_last)
            acknowledge(self._tracked_sock)

    def _surplus(self) -> bytes:
        try:
            self._tracked_sock.settimeout(0)
            return bytes(self._reader.peek(1))
        except (OSError, ValueError):
            return b""  # no bytes, or already closed


def check_length(status: int, lengths: Sequence[str], encodings: Sequence[str], is_old: bool) -> None:
    """Raise ``AmbiguousLength`` unless the headers define at most one end of the body, in plain syntax.

    Args:
        status: The HTTP status code.
        lengths: All values of Content-Length.
        encodings: All values of Transfer-Encoding.
        is_old: Whether the answer is HTTP/1.0.
    """
    if len(lengths) + len(encodings) > 1:
        raise AmbiguousLength
    if encodings and (encodings[0].lower() != "chunked" or is_old or status in BODILESS):
        raise AmbiguousLength
    if lengths and (not _LENGTH.fullmatch(lengths[0]) or (status == 204 and int(lengths[0]))):
        raise AmbiguousLength


def is_start_of_answer(data: bytes) -> bool:
    """Return whether bytes begin like an answer, after empty lines."""
    start = data.lstrip(b"\r\n")[:5]
    return bool(start) and b"HTTP/".startswith(start)


def _read_head(reader: Any) -> list[bytes]:
    """Return the lines of a head, including the empty line at its end."""
    lines: list[bytes] = []
    while len(lines) <= MAX_HEADERS + 1:
        line = reader.readline(MAX_LINE + 1)
        if not line and not lines:
            raise http.client.RemoteDisconnected("No answer.")
        if not line.endswith(b"\n"):
            raise MalformedHead if len(line) > MAX_LINE else TruncatedHead
        lines.append(line)
        if line in (b"\r\n", b"\n"):
            return lines
    raise MalformedHead


def _parse_status_line(line: bytes) -> tuple[bool, int]:
    """Return whether the answer is HTTP/1.0, and its status code."""
    parts = _STATUS_LINE.fullmatch(line)
    if parts is None:
        raise MalformedHead
    return parts[1] == b"0", int(parts[2])


def _parse_fields(lines: Sequence[bytes]) -> dict[str, list[str]]:
    """Return the values of headers by lower-case name. Trailing spaces are kept, which makes a length invalid."""
    fields: dict[str, list[str]] = {}
    values: list[str] | None = None
    for line in lines:
        if (field := _HEADER.fullmatch(line)) is not None:
            values = fields.setdefault(field[1].decode("ascii").lower(), [])
            values.append(field[2].decode("latin-1").lstrip(" \t"))
        elif values is not None and _CONTINUATION.fullmatch(line):
            values[-1] += line.decode("latin-1")
        else:
            raise MalformedHead
    return fields


def _note_interim(attempt: Attempt | None) -> None:
    if attempt is None:
        return
    attempt.has_interim_answer = True
    if attempt.deadline.left() <= 0:  # with a flood of interim answers no read ever times out
        raise TimeoutError
