"""The result of the transport: a frozen record of one request and its answer.

It contains plain values only. Exceptions, responses and frames of the HTTP library are left out, because their
attributes contain the token. ``json`` is the unmasked answer, in which the provider may echo the token. It is not
part of ``repr``, an exchange cannot be pickled, and an adapter applies ``Provider.sanitize`` to each text that it
takes from it. The kind is ``IN_DOUBT`` unless another one is proven.
"""

from __future__ import annotations

import http.client
import ssl
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Never

import requests
from urllib3 import exceptions as urllib3_exceptions

from ...domain.outcomes import Code
from .attempt import Attempt
from .connections import NoSocksSupport
from .response import UnreadableAnswer
from .silence import EarlyAnswer

NEVER_SENT = (
    urllib3_exceptions.NewConnectionError,
    urllib3_exceptions.ConnectTimeoutError,
    urllib3_exceptions.LocationValueError,
    ssl.SSLCertVerificationError,
    requests.exceptions.ConnectTimeout,
    requests.exceptions.InvalidURL,
    requests.exceptions.InvalidSchema,
)
"""Exception types that occur only before the first byte of a request."""

_UNREADABLE_HEAD = (
    EarlyAnswer,
    UnreadableAnswer,
    http.client.BadStatusLine,
    http.client.LineTooLong,
    urllib3_exceptions.InvalidHeader,
)
_DEPTH = 6


def exchange_of(error: BaseException, attempt: Attempt) -> Exchange:
    """Return the exchange for a request that raised ``error`` before the head of its answer was read."""
    chain = list(_chain(error))
    detail = _names(chain)
    if attempt.is_inherited:  # the parent process may have sent it
        return Exchange(Kind.IN_DOUBT, Code.NO_ANSWER, detail=detail)
    if attempt.is_refused:
        return Exchange(Kind.NOT_SENT, Code.LEASE_EXPIRED, detail=detail)
    if _is_not_sent(chain, attempt):
        return Exchange(Kind.NOT_SENT, Code.UNREACHABLE, detail=detail)
    return Exchange(Kind.IN_DOUBT, _code(chain), http_status=attempt.http_status, detail=detail)


def detail_of(error: BaseException) -> str:
    """Return the class names of ``error`` and its causes. Messages are left out, because they may contain the token."""
    return _names(_chain(error))


def _names(chain: Iterable[BaseException]) -> str:
    links = list(chain)
    if isinstance(links[0], NoSocksSupport):
        return links[0].detail
    return " > ".join(type(link).__name__ for link in links)


def _is_not_sent(chain: list[BaseException], attempt: Attempt) -> bool:
    if not attempt.is_begun:
        return True
    if attempt.is_tracked:
        return not attempt.is_sent
    return any(isinstance(link, NEVER_SENT) for link in chain)


def _code(chain: list[BaseException]) -> Code:
    if isinstance(chain[-1], _UNREADABLE_HEAD) and not isinstance(chain[-1], http.client.RemoteDisconnected):
        return Code.UNREADABLE_ANSWER
    return Code.NO_ANSWER


def _chain(error: BaseException) -> Iterator[BaseException]:
    """Yield the exception and its causes, in the attributes in which requests and urllib3 store them."""
    link: BaseException | None = error
    for _ in range(_DEPTH):
        if link is None:
            return
        yield link
        link = _cause(link)


def _cause(error: BaseException) -> BaseException | None:
    inner = [getattr(error, "reason", None), getattr(error, "original_error", None), *reversed(error.args)]
    return next((each for each in inner if isinstance(each, BaseException)), error.__cause__)


TEXT_KEPT = 500
"""Maximum number of characters of a body that are kept for an operator."""
SERVER_KEPT = 50
"""Maximum number of characters of the ``Server`` header that are kept."""


class Kind(StrEnum):
    """The kinds of results of a request."""

    ANSWER = "answer"
    """A complete answer was received, with any status."""
    NOT_SENT = "not_sent"
    """It is certain that no byte of the request was passed to the socket."""
    IN_DOUBT = "in_doubt"
    """All other cases: the provider may have executed the request."""


@dataclass(frozen=True)
class Exchange:
    """One request and its answer."""

    kind: Kind
    code: str = ""
    """NOT_SENT: ``unreachable``, ``lease_expired``. IN_DOUBT: ``no_answer``, ``unreadable_answer``. Otherwise empty."""
    http_status: int | None = None
    """The HTTP status code. Also set if the rest of the answer was unreadable."""
    retry_after: float | None = None
    """Seconds to wait, from 0 to 3600; None if the header is missing or unreadable."""
    is_json: bool = False
    """Whether the whole body is one JSON document. Its value is ``json``."""
    json: Any = field(default=None, repr=False)
    """The value of the JSON document, unmasked. None without JSON."""
    is_empty: bool = False
    """Whether the body is empty and certainly complete: ``Content-Length: 0`` or status 204."""
    text: str = ""
    """The beginning of the body, for an operator: with secrets masked, then truncated."""
    server: str = ""
    """The beginning of the ``Server`` header, which shows which server answered."""
    detail: str = ""
    """The error for operators and logs: names of exception classes, or advice. Never messages of exceptions."""

    def __reduce_ex__(self, protocol: Any) -> Never:
        raise TypeError("An Exchange cannot be pickled, because its answer may contain the token.")
