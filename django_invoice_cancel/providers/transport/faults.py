"""What an exception proves. One question: could the other side have seen our request?

Where the connections report, they answer it. Else a short list of types proves "not sent"; everything else may have
been sent. The names of requests' classes alone prove nothing: SSLError and ProxyError come after execution, too.
"""

import http.client
import ssl
from collections.abc import Iterable, Iterator

import requests
from urllib3 import exceptions as urllib3_exceptions

from ...outcomes import Code
from .adapter import NoSocksSupport
from .attempt import Attempt
from .exchange import Exchange, Kind
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
"""Types that only arise before the first byte of a request."""

_UNREADABLE_HEAD = (
    EarlyAnswer,
    UnreadableAnswer,
    http.client.BadStatusLine,
    http.client.LineTooLong,
    urllib3_exceptions.InvalidHeader,
)
_DEPTH = 6


def exchange_of(error: BaseException, attempt: Attempt) -> Exchange:
    """Return what is known of a request that ended in ``error`` before its answer's head was read."""
    chain = list(_chain(error))
    detail = _names(chain)
    if attempt.is_inherited:  # the parent may have sent it
        return Exchange(Kind.IN_DOUBT, Code.NO_ANSWER, detail=detail)
    if attempt.is_refused:
        return Exchange(Kind.NOT_SENT, Code.LEASE_EXPIRED, detail=detail)
    if _is_not_sent(chain, attempt):
        return Exchange(Kind.NOT_SENT, Code.UNREACHABLE, detail=detail)
    return Exchange(Kind.IN_DOUBT, _code(chain), http_status=attempt.http_status, detail=detail)


def detail_of(error: BaseException) -> str:
    """Return the names of the classes of ``error`` and its causes; never a message, which may hold the token."""
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
    """Walk from what requests raised to its cause, along the ways in which the two libraries store it."""
    link: BaseException | None = error
    for _ in range(_DEPTH):
        if link is None:
            return
        yield link
        link = _cause(link)


def _cause(error: BaseException) -> BaseException | None:
    inner = [getattr(error, "reason", None), getattr(error, "original_error", None), *reversed(error.args)]
    return next((each for each in inner if isinstance(each, BaseException)), error.__cause__)
