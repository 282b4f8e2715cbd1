"""The transport: sends requests and returns an ``Exchange``, also for all provider and network errors.

A request is never sent twice, and redirects are not followed. A request is in doubt unless it is proven that it was
not sent or was answered.
"""

import re
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import MappingProxyType
from typing import Any, Never
from urllib.parse import urlsplit

from requests import PreparedRequest, Response
from requests.auth import AuthBase
from urllib3.util import Timeout

from ... import __version__
from ...domain.interruptions import is_interruption, without_frames
from ...domain.processes import PerProcess
from ...domain.secrets import MASK, Secret
from ..base import Lease
from .answer import read_answer
from .attempt import Attempt, Deadline, DeadlineOver, make_current, watch
from .connections import HostAdapter, hooks_missing
from .exchange import Exchange, exchange_of


class HiddenValue(str):
    """A header value that ``repr`` does not show and that cannot be pickled."""

    __slots__ = ()

    def __repr__(self) -> str:
        return MASK

    def __reduce_ex__(self, protocol: Any) -> Never:
        raise TypeError("Credentials cannot be pickled.")


class TokenAuth(AuthBase):
    """Sets ``Authorization: <scheme> <token>``."""

    def __init__(self, scheme: str, token: Secret) -> None:
        _check(scheme, "scheme")
        _check(token.reveal(), "token")
        self._value = HiddenValue(f"{scheme} {token.reveal()}")

    def __call__(self, request: PreparedRequest) -> PreparedRequest:
        request.headers["Authorization"] = self._value
        return request

    def __repr__(self) -> str:
        return f"<TokenAuth {MASK}>"

    def __reduce_ex__(self, protocol: Any) -> Never:
        raise TypeError("Credentials cannot be pickled.")


def _check(value: str, what: str) -> None:
    """Raise ``ValueError`` for a value that requests or http.client would show in an error message or send garbled."""
    if not value or not all("!" <= character <= "~" for character in value):
        raise ValueError(f"The {what} must be printable ASCII without spaces, and not empty.")


_NO_HEADERS: Mapping[str, str] = MappingProxyType({})
_PATH = re.compile(r"/[!-~]*")


class _Shared:
    """The state that all threads of one process share."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.adapter: HostAdapter | None = None


class Transport:
    """Sends requests to one provider with one token. All threads of the process share its connections."""

    def __init__(
        self,
        *,
        base_url: str,
        scheme: str,
        token: Secret,
        secrets: Sequence[Secret],
        connect_timeout: float = 5.0,
        pool_size: int = 8,
        reuse_connections: bool = True,
    ) -> None:
        self._base_url = _checked_base_url(base_url)
        self._auth = TokenAuth(scheme, token)
        self._secrets = tuple(secrets)
        self._connect_timeout = connect_timeout
        self._pool_size = pool_size
        self._reuse_connections = reuse_connections
        self._headers = {
            "User-Agent": f"django-invoice-cancel/{__version__}",
            "Accept": "application/json",
            "Accept-Encoding": "identity",
        }
        self._shared = PerProcess(_Shared)

    @property
    def tracks_connections(self) -> bool:
        """Whether connections report if a request was sent. Otherwise this is derived from exceptions."""
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
        """Send one request once, and return its exchange within ``deadline``.

        Args:
            method: The HTTP method.
            path: The quoted path, beginning with a slash.
            body: The body, if any.
            headers: More headers.
            deadline: The end of the time for the request.
            lease: Called when the first byte is passed to the socket.

        Raises:
            ValueError: The path is invalid.

        Never raises for provider or network errors. Interruptions from outside (Ctrl-C, the time limit of a task) are
        raised again, without the frames that contain the token.
        """
        if not _PATH.fullmatch(path):
            raise ValueError("A path must start with a slash and be quoted.")
        attempt = Attempt(deadline, lease, may_reuse=self._reuse_connections)
        outcome = self._exchange(attempt, method, path, body, headers)
        if isinstance(outcome, BaseException):
            raise outcome
        return outcome

    def close(self) -> None:
        """Close the idle connections. The next request opens new ones."""
        shared = self._shared.get()
        with shared.lock:
            adapter, shared.adapter = shared.adapter, None
        if adapter is not None:
            adapter.close()

    # -- one request -------------------------------------------------------------------------------------------

    def _prepare(self, method: str, path: str, body: bytes | None, headers: Mapping[str, str]) -> PreparedRequest:
        request = PreparedRequest()
        request.method = method
        request.url = self._base_url + path
        request.headers = {**self._headers, **headers}  # type: ignore[assignment]
        request.body = body
        if body is not None or method != "GET":
            request.headers["Content-Length"] = str(len(body or b""))
        return self._auth(request)

    def _exchange(
        self, attempt: Attempt, method: str, path: str, body: bytes | None, headers: Mapping[str, str]
    ) -> Exchange | BaseException:
        before = make_current(attempt)
        try:
            request = self._prepare(method, path, body, headers)
            with self._opened() as adapter:
                return read_answer(self._send(request, attempt, adapter).raw, attempt, self._secrets)
        except BaseException as error:  # noqa: BLE001 - ValueError, UnicodeError and urllib3's own escape requests
            return without_frames(error) if is_interruption(error) else exchange_of(error, attempt)
        finally:
            attempt.release()
            make_current(before)

    def _send(self, request: PreparedRequest, attempt: Attempt, adapter: HostAdapter) -> Response:
        left = attempt.deadline.left()
        if left <= 0:
            raise DeadlineOver
        timeout = Timeout(connect=min(self._connect_timeout, left), read=left)
        watch(attempt)
        if not (adapter.is_tracked and attempt.may_reuse):
            request.headers["Connection"] = "close"
        attempt.is_begun = True
        return adapter.send(request, stream=True, timeout=timeout, verify=True)  # type: ignore[arg-type]

    # -- connections -------------------------------------------------------------------------------------------

    @contextmanager
    def _opened(self) -> Iterator[HostAdapter]:
        """Yield the adapter that all threads share, or one for this request only if its connections do not report."""
        shared = self._shared.get()
        adapter = shared.adapter or self._open(shared)
        try:
            yield adapter
        finally:
            if not adapter.is_tracked:
                adapter.close()  # on an idle connection, an unrequested answer would not be detected

    def _open(self, shared: _Shared) -> HostAdapter:
        with shared.lock:
            adapter = shared.adapter or HostAdapter(self._base_url, self._pool_size)
            if adapter.is_tracked:
                shared.adapter = adapter
            return adapter

    def __repr__(self) -> str:
        return f"<Transport {self._base_url}>"

    def __reduce_ex__(self, protocol: Any) -> Never:
        raise TypeError("A Transport cannot be pickled. Pass the provider's alias instead.")


def _checked_base_url(base_url: str) -> str:
    if not _is_address(base_url):
        raise ValueError("The base_url must be an http:// or https:// address with a host.")
    if "@" in base_url or "?" in base_url or "#" in base_url:
        raise ValueError("The base_url must have no user info, query or fragment.")
    return base_url.rstrip("/")


def _is_address(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0 and _is_visible(url)
    except ValueError:  # an invalid port or bracket
        return False


def _is_visible(url: str) -> bool:
    return all("!" <= character <= "~" for character in url)
