"""Detect bytes that arrive before the server can have read the request. They cannot be its answer.

HTTP/1.1 does not number answers, so the arrival time of bytes is the only evidence.
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
"""Limits of the time in which a new connection must stay silent, in seconds."""
_ACK_SECONDS = 0.001
_NOTHING_YET = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError, TimeoutError)


class EarlyAnswer(http.client.HTTPException):
    """Bytes arrived before the server had received the whole request."""


class EarlyClose(OSError):
    """The server closed the connection before it had received the whole request.

    It has no errno, because urllib3 ignores some errors by their errno.
    """


def quiet_seconds(setup_seconds: float, *, is_tls: bool) -> float:
    """Return the time in which a new connection must stay silent, in seconds: one round trip, within the limits.

    Args:
        setup_seconds: Duration of opening the connection: one round trip, with TLS (and the tunnel of a proxy) at
            least two.
        is_tls: Whether the connection uses TLS.
    """
    return min(max(setup_seconds / (2 if is_tls else 1), MIN_SECONDS), MAX_SECONDS)


def expect_silence(sock: Any, seconds: float = 0.0) -> None:
    """Raise ``EarlyAnswer`` or ``EarlyClose`` if anything arrives within ``seconds``.

    With TLS, session tickets are read and ignored. Received bytes are lost, so the caller must close the connection.
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
    """Acknowledge received bytes at once, if the system supports it.

    A server delays small packets until earlier ones are acknowledged (Nagle's algorithm). Without this, bytes that
    follow its TLS session tickets, or a second answer, could arrive just after the next request.
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
    """Return whether the kernel of the server has certainly not received the whole request. Only Linux reports this.

    Each segment acknowledges the bytes that its sender has received. A system may deliver the bytes of a segment just
    before it processes their acknowledgement, so this function checks twice.
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
    except (OSError, ValueError):  # not TCP, or already closed
        return False
