"""urllib3's connections, made to report what was sent, and on which socket.

"Sent" means that the first byte of the request was handed to the socket; DNS, connect, TLS and CONNECT come before it
and prove "not sent". A connection is used again only after a plain exchange, and only for a short time.
"""

import math
import os
import socket
from collections.abc import Sequence
from itertools import zip_longest
from time import monotonic
from typing import Any

from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import ConnectTimeoutError, LocationParseError, NameResolutionError, NewConnectionError
from urllib3.util.connection import allowed_gai_family

from .attempt import Attempt, SentTwice, current
from .response import TrackedResponse
from .silence import expect_silence, quiet_seconds

MAX_IDLE_SECONDS = 2.0
"""A server may close an idle connection at any time; what is lost in that race cannot be told from executed."""
PIECE_BYTES = 16_384
"""How much is handed to the socket at a time: one TLS record. A longer request asks the lease before each piece."""
NEVER = -math.inf


class TrackedConnection(HTTPConnection):
    """Reports to the attempt of its thread; see the module."""

    response_class = TrackedResponse
    _last_used = NEVER
    _pid = 0
    _opening_since = NEVER
    _outgoing: list[bytes] | None = None

    @property
    def is_connected(self) -> bool:
        is_ours = self._pid == os.getpid()  # two processes on one connection would read each other's answers
        return is_ours and monotonic() - self._last_used < MAX_IDLE_SECONDS and super().is_connected

    def connect(self) -> None:
        self._pid, self._last_used = os.getpid(), NEVER
        super().connect()

    def request(self, *args: Any, **kwargs: Any) -> None:
        """Send head and body in one go, so that nothing is left to be sent once the claim is over."""
        attempt = current()
        if attempt is None:
            super().request(*args, **kwargs)
            return
        self._outgoing = []
        try:
            super().request(*args, **kwargs)
            data = b"".join(self._outgoing)
        finally:
            self._outgoing = None
        self._send_whole(data, attempt)

    def send(self, data: Any) -> None:
        if self._outgoing is None:
            super().send(data)
        else:
            self._outgoing.append(data)

    def _send_whole(self, data: bytes, attempt: Attempt) -> None:
        if attempt.is_sent:
            raise SentTwice
        if self.sock is None:
            self.connect()
        attempt.watch(self.sock)
        if self._last_used == NEVER:
            self._expect_silence_of_new_connection(attempt)
        attempt.before_first_byte()
        expect_silence(self.sock)
        attempt.is_sent = True
        rest = memoryview(data)
        while rest:
            rest = rest[self.sock.send(rest[:PIECE_BYTES]) :]
            if rest:
                attempt.before_more_bytes()
                expect_silence(self.sock)
        attempt.is_whole = True

    def _expect_silence_of_new_connection(self, attempt: Attempt) -> None:
        """Notice a server that answers as soon as it accepts: its bytes need a round trip, too."""
        seconds = quiet_seconds(monotonic() - self._opening_since, is_tls=isinstance(self, HTTPSConnection))
        expect_silence(self.sock, min(seconds, attempt.deadline.left()))

    def getresponse(self) -> Any:
        attempt = current()
        if attempt is not None:
            attempt.is_on_used_connection = self._last_used != NEVER
        response = super().getresponse()
        self._last_used = monotonic()
        return response

    def _new_conn(self) -> socket.socket:
        try:
            return self._open_socket()
        except socket.gaierror as error:
            raise NameResolutionError(self.host, self, error) from error
        except TimeoutError as error:
            raise ConnectTimeoutError(self, "Connecting timed out.") from error
        except OSError as error:
            raise NewConnectionError(self, "Connecting failed.") from error

    def _open_socket(self) -> socket.socket:
        """Connect to the first address that answers.

        Addresses that follow an unreachable one still get their share of the time, and both families are tried early
        (the order of RFC 8305, one after the other).
        """
        failure: OSError = OSError("The host has no address.")
        addresses = interleave(self._addresses())
        for number, (family, kind, protocol, _, address) in enumerate(addresses):
            try:
                seconds = self._seconds_to_connect(len(addresses) - number)
                return self._connect_to(socket.socket(family, kind, protocol), address, seconds)
            except OSError as error:
                failure = error
        raise failure

    def _addresses(self) -> list[Any]:
        host = self._dns_host.strip("[]")
        try:
            host.encode("idna")
        except UnicodeError:
            raise LocationParseError("The host has an empty or too long label.") from None
        return socket.getaddrinfo(host, self.port, allowed_gai_family(), socket.SOCK_STREAM)

    def _connect_to(self, sock: socket.socket, address: Any, seconds: float) -> socket.socket:
        try:
            for option in self.socket_options or ():
                sock.setsockopt(*option)
            sock.settimeout(seconds)
            self._opening_since = monotonic()
            sock.connect(address)
        except BaseException:
            sock.close()
            raise
        attempt = current()
        if attempt is not None:
            attempt.watch(sock)
        return sock

    def _seconds_to_connect(self, addresses_left: int) -> float:
        attempt = current()
        left = attempt.deadline.left() if attempt is not None else math.inf
        if left <= 0:
            raise TimeoutError
        return min(float(self.timeout or 0), left / addresses_left)


def interleave(addresses: Sequence[Any]) -> list[Any]:
    """Return ``getaddrinfo``'s addresses with their families in turn, each family in its own order."""
    by_family: dict[int, list[Any]] = {}
    for address in addresses:
        by_family.setdefault(address[0], []).append(address)
    turns = zip_longest(*by_family.values())
    return [address for turn in turns for address in turn if address is not None]


class TrackedHTTPSConnection(TrackedConnection, HTTPSConnection):
    """The same over TLS."""


class _ReleasingPool:
    """Takes a connection out of the watchdog's reach before another thread can get it; closes it unless reusable."""

    def _put_conn(self, conn: Any) -> None:
        attempt = current()
        if attempt is not None:
            attempt.release()
            if conn is not None and not attempt.may_keep_connection:
                conn.close()
        super()._put_conn(conn)  # type: ignore[misc]


class TrackedPool(_ReleasingPool, HTTPConnectionPool):
    ConnectionCls = TrackedConnection


class TrackedHTTPSPool(_ReleasingPool, HTTPSConnectionPool):
    ConnectionCls = TrackedHTTPSConnection


POOLS = {"http": TrackedPool, "https": TrackedHTTPSPool}
