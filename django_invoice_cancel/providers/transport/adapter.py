"""requests' adapter for one host: tracked connections, one TLS context, one pool, the environment's proxy.

There is no Session: nothing follows redirects, keeps cookies, reads ~/.netrc or retries, because nothing here can.
``HTTPAdapter.send`` itself is not overridden, so that mocks which patch it still see every request.
"""

import ipaddress
import os
import socket
import ssl
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import certifi
from requests import PreparedRequest, Response
from requests.adapters import HTTPAdapter
from requests.exceptions import InvalidSchema
from requests.utils import get_environ_proxies, select_proxy
from urllib3.util.ssl_ import create_urllib3_context

from .attempt import current
from .connections import POOLS, TrackedConnection

CA_VARIABLES = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE")


def make_ssl_context() -> ssl.SSLContext:
    """Return a verifying context with the CAs that the environment names, else those of certifi."""
    named = next(filter(None, map(os.environ.get, CA_VARIABLES)), None) or certifi.where()
    return _context_of(named, os.getpid())


@lru_cache(maxsize=4)
def _context_of(named: str, pid: int) -> ssl.SSLContext:
    """Load the CAs once for all accounts of a process, which takes 40 ms of CPU. A forked child loads its own."""
    context = create_urllib3_context()
    is_directory = Path(named).is_dir()
    context.load_verify_locations(cafile=None if is_directory else named, capath=named if is_directory else None)
    return context


class NoSocksSupport(Exception):
    """The environment names a SOCKS proxy, and the library for it is missing."""

    detail = "The environment names a SOCKS proxy (such as ALL_PROXY): install requests[socks], or unset it."


def is_this_machine(url: str) -> bool:
    """Return whether the host of an address is this machine: no proxy of the environment could reach it."""
    host = (urlsplit(url).hostname or "").rstrip(".")
    if host == "localhost" or host.endswith(".localhost"):
        return True
    with suppress(OSError):  # "127.1" and "2130706433" are addresses for the resolver, but not for ipaddress
        host = socket.inet_ntoa(socket.inet_aton(host))
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None) or address
    return bool(mapped.is_loopback or mapped.is_unspecified)


class HostAdapter(HTTPAdapter):
    """Sends requests to ``base_url`` and nowhere else."""

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

    # -- what HTTPAdapter.send asks for ------------------------------------------------------------------------

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
        """Do nothing: the context verifies, whatever is asked for."""

    def request_url(self, request: Any, proxies: Any) -> str:
        return str(request.url if self._is_forwarded else request.path_url)

    def build_response(self, req: PreparedRequest, resp: Any) -> Response:
        """Wrap without parsing cookies, encodings or redirects."""
        response = Response()
        response.raw = resp
        response.status_code = resp.status
        response.headers = resp.headers
        response.request = req
        response.url = req.url or ""
        return response

    def __reduce_ex__(self, protocol: Any) -> Any:
        raise TypeError("Connections are not pickled.")
