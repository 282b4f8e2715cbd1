"""The one function that touches the network. It returns; no exception, response or connection leaves it.

Nothing is sent twice, nothing is followed, and what is not proven to be unsent or answered is in doubt.
"""

import os
import re
import threading
import weakref
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, Never
from urllib.parse import urlsplit

from requests import PreparedRequest, Response
from urllib3.util import Timeout

from ... import __version__
from ...masking import Secret, mask
from ...outcomes import Code
from ..base import Lease
from . import body as bodies
from . import watchdog
from .adapter import HostAdapter
from .attempt import Attempt, make_current
from .credentials import TokenAuth
from .deadline import Deadline
from .exchange import SERVER_KEPT, TEXT_KEPT, Exchange, Kind
from .faults import exchange_of
from .hooks import hooks_missing
from .retry_after import retry_after_seconds

_NO_HEADERS: Mapping[str, str] = MappingProxyType({})
_PATH = re.compile(r"/[!-~]*")


class Transport:
    """Requests to one provider with one token, over connections that are shared by all threads of the process."""

    def __init__(
        self,
        *,
        base_url: str,
        scheme: str,
        token: Secret,
        secrets: Sequence[Secret],
        connect_timeout: float = 5.0,
        pool_size: int = 8,
    ) -> None:
        self._base_url = _checked_base_url(base_url)
        self._auth = TokenAuth(scheme, token)
        self._secrets = tuple(secrets)
        self._connect_timeout = connect_timeout
        self._pool_size = pool_size
        self._headers = {
            "User-Agent": f"django-invoice-cancel/{__version__}",
            "Accept": "application/json",
            "Accept-Encoding": "identity",
        }
        self._renew()
        _transports.add(self)

    @property
    def tracks_connections(self) -> bool:
        """Whether "sent or not" is known from the connections, not guessed from exceptions."""
        return not hooks_missing()

    def request(
        self,
        method: str,
        path: str,
        *,
        body: bytes | None = None,
        headers: Mapping[str, str] = _NO_HEADERS,
        deadline: Deadline,
        lease: Lease | None = None,
    ) -> Exchange:
        """Send one request, once, and return what became of it, within ``deadline``.

        ``path`` starts with a slash and is quoted already. ``lease`` is asked where the first byte is handed to the
        socket. Raises ValueError for a path that is none; for nothing remote.
        """
        request = self._prepare(method, path, body, headers)
        attempt = Attempt(deadline, lease)
        before = make_current(attempt)
        try:
            return self._exchange(request, attempt)
        finally:
            attempt.release()
            make_current(before)

    def close(self) -> None:
        """Close the idle connections; the next request opens new ones."""
        with self._lock:
            adapter, self._adapter = self._adapter, None
        if adapter is not None:
            adapter.close()

    # -- one request -------------------------------------------------------------------------------------------

    def _prepare(self, method: str, path: str, body: bytes | None, headers: Mapping[str, str]) -> PreparedRequest:
        if not _PATH.fullmatch(path):
            raise ValueError("A path must start with a slash and be quoted.")
        request = PreparedRequest()
        request.method = method
        request.url = self._base_url + path
        request.headers = {**self._headers, **headers}  # type: ignore[assignment]
        request.body = body
        if body is not None or method != "GET":
            request.headers["Content-Length"] = str(len(body or b""))
        return self._auth(request)

    def _exchange(self, request: PreparedRequest, attempt: Attempt) -> Exchange:
        try:
            response = self._send(request, attempt)
            return self._read(response, attempt)
        except Exception as error:  # noqa: BLE001 - ValueError, UnicodeError and bare urllib3 errors escape requests
            return exchange_of(error, attempt)

    def _send(self, request: PreparedRequest, attempt: Attempt) -> Response:
        adapter = self._adapter or self._open()
        left = max(attempt.deadline.left(), 0.001)
        timeout = Timeout(connect=min(self._connect_timeout, left), read=left)
        watchdog.watch(attempt)
        return adapter.send(request, stream=True, timeout=timeout, verify=True, proxies=adapter.proxies)  # type: ignore[arg-type]

    def _read(self, response: Response, attempt: Attempt) -> Exchange:
        raw = response.raw
        head: dict[str, Any] = {
            "http_status": raw.status,
            "retry_after": retry_after_seconds(raw.headers.get("Retry-After")),
            "server": mask(raw.headers.get("Server", ""), self._secrets)[:SERVER_KEPT],
        }
        problem = ""
        try:
            content = bodies.read(raw)
        except Exception as error:  # noqa: BLE001 - as above
            problem = type(error).__name__
        if problem or attempt.is_cut or attempt.is_expired:
            raw.close()
            return Exchange(Kind.IN_DOUBT, Code.UNREADABLE_ANSWER, detail=problem or "Cut", **head)
        return self._answer(raw, content, attempt, head)

    def _answer(self, raw: Any, content: bytes, attempt: Attempt, head: dict[str, Any]) -> Exchange:
        is_json, value, text = bodies.parse(content, self._secrets)
        if attempt.is_engaged and not is_json and not bodies.is_framed(raw):
            raw.close()
            return Exchange(Kind.IN_DOUBT, Code.UNREADABLE_ANSWER, detail="Unframed", **head)
        is_empty = not content and raw.headers.get("Content-Length", "").strip() == "0"
        return Exchange(Kind.ANSWER, is_json=is_json, json=value, is_empty=is_empty, text=text[:TEXT_KEPT], **head)

    # -- connections -------------------------------------------------------------------------------------------

    def _open(self) -> HostAdapter:
        with self._lock:
            if self._adapter is None:
                self._adapter = HostAdapter(self._base_url, self._pool_size)
            return self._adapter

    def _renew(self) -> None:
        self._lock = threading.Lock()
        self._adapter: HostAdapter | None = None

    def _renew_in_child(self) -> None:
        _inherited.append(self._adapter)
        self._renew()

    def __repr__(self) -> str:
        return f"<Transport {self._base_url}>"

    def __reduce_ex__(self, protocol: Any) -> Never:
        raise TypeError("A Transport is not pickled: pass the provider's alias instead.")


def _checked_base_url(base_url: str) -> str:
    try:
        parts = urlsplit(base_url)
        is_valid = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_valid = False
    if not is_valid or not base_url.isascii() or not base_url.isprintable() or " " in base_url:
        raise ValueError("The base_url must be an http:// or https:// address with a host.")
    if "@" in parts.netloc or "?" in base_url or "#" in base_url:
        raise ValueError("The base_url must have no user info, query or fragment.")
    return base_url.rstrip("/")


_transports: "weakref.WeakSet[Transport]" = weakref.WeakSet()
_inherited: list[HostAdapter | None] = []
"""The parent's connections in a forked child: neither used nor closed, since their locks may be held for ever."""


def _renew_all() -> None:
    for transport in list(_transports):
        transport._renew_in_child()


os.register_at_fork(after_in_child=_renew_all)
