"""Whether the other side sends before it can have read our request. Whatever it sends then answers something else.

HTTP/1.1 does not number answers, so the time at which the bytes arrive is the only evidence.
"""

import http.client
import socket
import ssl
import struct
import sys
from contextlib import suppress
from time import monotonic, sleep
from typing import Any

from urllib3.util.wait import wait_for_read

if sys.platform == "linux":
    import fcntl
    import termios

MIN_SECONDS = 0.02
MAX_SECONDS = 0.1
"""Bounds of the time in which a new connection must stay silent."""
_ACK_SECONDS = 0.001
_NOTHING_YET = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError, TimeoutError)


class EarlyAnswer(http.client.HTTPException):
    """Bytes arrived before the other side had the whole request."""


class EarlyClose(OSError):
    """The other side closed the connection before it had the whole request. Without an errno, which urllib3 ignores."""


def quiet_seconds(setup_seconds: float, *, is_tls: bool) -> float:
    """Return how long a new connection must stay silent: one round trip, within the bounds.

    ``setup_seconds`` is what opening it took: one round trip, with TLS (and a proxy's tunnel) at least two.
    """
    return min(max(setup_seconds / (2 if is_tls else 1), MIN_SECONDS), MAX_SECONDS)


def expect_silence(sock: Any, seconds: float = 0.0) -> None:
    """Raise ``EarlyAnswer`` or ``EarlyClose`` unless nothing arrives within ``seconds``.

    Through TLS, session tickets are read and do not count. What is read is lost, so the connection must be closed.
    """
    end = monotonic() + seconds
    timeout = sock.gettimeout()
    sock.settimeout(0)
    try:
        _check(sock)
        while (left := end - monotonic()) > 0 and _wait_for_read(sock, left):
            _check(sock)
    finally:
        sock.settimeout(timeout)


def _wait_for_read(sock: Any, seconds: float) -> bool:
    acknowledge(sock)
    return bool(wait_for_read(sock, seconds))


def acknowledge(sock: Any) -> None:
    """Acknowledge what was read at once, if the system can.

    A server holds back small pieces until those before them are acknowledged (Nagle's algorithm): what follows its
    TLS session tickets, or a second answer, which would else arrive just behind the next request.
    """
    if sys.platform == "linux":
        with suppress(OSError, AttributeError):
            getattr(sock, "socket", sock).setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)


def _check(sock: Any) -> None:
    try:
        data = sock.recv(1)
    except _NOTHING_YET:
        return
    except OSError as error:
        raise EarlyClose from error
    raise EarlyAnswer if data else EarlyClose


def is_request_on_its_way(sock: Any) -> bool:
    """Return whether the other side's kernel has certainly not received all that was sent, where the system can tell.

    Each segment acknowledges what its sender has received. A system may hand out the bytes of a segment just before it
    counts their acknowledgement, so this looks twice.
    """
    if not _has_unacknowledged(sock):
        return False
    sleep(_ACK_SECONDS)
    return _has_unacknowledged(sock)


def _has_unacknowledged(sock: Any) -> bool:
    if sys.platform != "linux":
        return False
    try:
        return bool(struct.unpack("i", fcntl.ioctl(sock.fileno(), termios.TIOCOUTQ, bytes(4)))[0])
    except (OSError, ValueError):  # no TCP, or closed by now
        return False
