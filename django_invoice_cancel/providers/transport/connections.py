"""Connections of urllib3 that report whether a request was sent, and on which socket.

"Sent" means that the first byte of the request was passed to the socket. DNS, connect, TLS and CONNECT happen before
that, so their errors prove "not sent". A connection is reused only after a plain exchange, and only for a short time.
"""

import http.client
import ipaddress
import math
import os
import socket
import ssl
from collections.abc import Sequence
from contextlib import suppress
from functools import lru_cache
from itertools import zip_longest
from pathlib import Path
from time import monotonic
from typing import Any
from urllib.parse import urlsplit

import certifi
from requests import PreparedRequest, Response
from requests.adapters import HTTPAdapter
from requests.exceptions import InvalidSchema
from requests.utils import get_environ_proxies, select_proxy
from urllib3 import PoolManager
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import ConnectTimeoutError, LocationParseError, NameResolutionError, NewConnectionError
from urllib3.util.connection import allowed_gai_family
from urllib3.util.ssl_ import create_urllib3_context

from .attempt import Attempt, SentTwice, current
from .response import TrackedResponse
from .silence import expect_silence, quiet_seconds

_HOOKS = (
    (HTTPAdapter, ("get_connection_with_tls_context", "build_connection_pool_key_attributes", "request_url")),
    (HTTPConnectionPool, ("ConnectionCls", "_put_conn")),
    (HTTPConnection, ("_new_conn", "connect", "request", "send", "getresponse", "is_connected", "response_class")),
    (http.client.HTTPResponse, ("begin", "read1", "_close_conn")),
)


def hooks_missing() -> list[str]:
    """Return the names of hooks that the installed requests, urllib3 or Python lacks; empty if all exist."""
    missing = [f"{owner.__name__}.{name}" for owner, names in _HOOKS for name in names if not hasattr(owner, name)]
    if not hasattr(PoolManager(), "pool_classes_by_scheme"):
        missing.append("PoolManager.pool_classes_by_scheme")
    return missing


CA_VARIABLES = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE")


def make_ssl_context() -> ssl.SSLContext:
    """Return a verifying SSL context with the CAs that the environment configures, otherwise those of certifi."""
    named = next(filter(None, map(os.environ.get, CA_VARIABLES)), None) or certifi.where()
    return _context_of(named, os.getpid())


@lru_cache(maxsize=4)
def _context_of(named: str, pid: int) -> ssl.SSLContext:
    """Load the CAs once per process, because this takes 40 ms of CPU. A forked child loads its own."""
    context = create_urllib3_context()
    is_directory = Path(named).is_dir()
    context.load_verify_locations(cafile=None if is_directory else named, capath=named if is_directory else None)
    return context


class NoSocksSupport(Exception):
    """The environment configures a SOCKS proxy, but the library for it is not installed."""

    detail = "The environment names a SOCKS proxy (such as ALL_PROXY): install requests[socks], or unset it."


def is_this_machine(url: str) -> bool:
    """Return whether an address is on this machine. A proxy of the environment could not reach it."""
    host = (urlsplit(url).hostname or "").rstrip(".")
    if host == "localhost" or host.endswith(".localhost"):
        return True
    with suppress(OSError):  # the resolver accepts addresses such as "127.1" and "2130706433", ipaddress does not
        host = socket.inet_ntoa(socket.inet_aton(host))
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None) or address
    return bool(mapped.is_loopback or mapped.is_unspecified)


class HostAdapter(HTTPAdapter):
    """Sends requests to ``base_url`` only."""

    def __init__(self, base_url: str, pool_size: int) -> None:
        super().__init__(pool_connections=1, pool_maxsize=pool_size, max_retries=0, pool_block=False)
        proxies: dict[str, str] = {} if is_this_machine(base_url) else get_environ_proxies(base_url)
        proxy = select_proxy(base_url, proxies) or ""
        self._is_forwarded = base_url.startswith("http://") and proxy.lower().startswith("http")
        self._pool = self._make_pool(base_url, proxies)
        self.is_tracked = issubclass(self._pool.ConnectionCls, TrackedConnection)

    def _make_pool(self, base_url: str, proxies: dict[str, str]) -> Any:
        request = PreparedRequest()
        request.url = base_url
        try:
            return super().get_connection_with_tls_context(request, verify=True, proxies=proxies)
        except InvalidSchema as error:
            if (select_proxy(base_url, proxies) or "").lower().startswith("socks"):
                raise NoSocksSupport from error
            raise

    # -- methods that HTTPAdapter.send calls ------------------------------------------------------------------------

    def init_poolmanager(self, connections: int, maxsize: int, block: Any, **kwargs: Any) -> None:  # type: ignore[override]
        self._context = make_ssl_context()
        super().init_poolmanager(connections, maxsize, block, **kwargs)
        self.poolmanager.pool_classes_by_scheme = POOLS

    def proxy_manager_for(self, proxy: str, **kwargs: Any) -> Any:
        manager = super().proxy_manager_for(proxy, proxy_ssl_context=self._context, **kwargs)
        if not proxy.lower().startswith("socks"):
            manager.pool_classes_by_scheme = POOLS
        return manager

    def build_connection_pool_key_attributes(self, request: Any, verify: Any, cert: Any = None) -> Any:
        host, _ = super().build_connection_pool_key_attributes(request, verify=True)
        return host, {"cert_reqs": "CERT_REQUIRED", "ssl_context": self._context}

    def get_connection_with_tls_context(self, request: Any, verify: Any, proxies: Any = None, cert: Any = None) -> Any:
        attempt = current()
        if attempt is not None:
            attempt.is_real, attempt.is_tracked = True, self.is_tracked
        return self._pool

    def cert_verify(self, conn: Any, url: Any, verify: Any, cert: Any) -> None:
        """Do nothing: the SSL context always verifies."""

    def request_url(self, request: Any, proxies: Any) -> str:
        return str(request.url if self._is_forwarded else request.path_url)

    def build_response(self, req: PreparedRequest, resp: Any) -> Response:
        """Create the response without parsing cookies, encodings or redirects."""
        response = Response()
        response.raw = resp
        response.status_code = resp.status
        response.headers = resp.headers
        response.request = req
        response.url = req.url or ""
        return response

    def __reduce_ex__(self, protocol: Any) -> Any:
        raise TypeError("Connections cannot be pickled.")


MAX_IDLE_SECONDS = 2.0
"""A server may close an idle connection at any time. A request that is lost then may have been executed."""
PIECE_BYTES = 16_384
"""Number of bytes sent at a time: one TLS record. For a longer request the lease is checked before each piece."""
NEVER = -math.inf


class TrackedConnection(HTTPConnection):
    """Reports to the attempt of its thread, see the module."""

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
        """Send head and body at once, so that no part of the request is sent after the claim has expired."""
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
        """Detect a server that sends an answer as soon as it accepts. Its bytes need a round trip to arrive."""
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

        Addresses are tried one after the other, in the order of RFC 8305, which alternates IPv6 and IPv4. Each one
        gets a share of the remaining time, so an unreachable address does not use up all of it.
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
    """Return ``getaddrinfo``'s addresses with alternating families, each family in its own order."""
    by_family: dict[int, list[Any]] = {}
    for address in addresses:
        by_family.setdefault(address[0], []).append(address)
    turns = zip_longest(*by_family.values())
    return [address for turn in turns for address in turn if address is not None]


class TrackedHTTPSConnection(TrackedConnection, HTTPSConnection):
    """A tracked connection over TLS."""


class _ReleasingPool:
    """Releases the attempt before another thread can get the connection, and closes it unless it is reusable."""

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
