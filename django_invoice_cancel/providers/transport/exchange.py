"""What leaves the transport: one frozen record of one request and what became of it.

It holds plain values only: no exception, response or frame of the HTTP library, whose attributes hold the token.
``json`` is the answer as it came, in which the provider may echo the token: it is neither shown nor pickled, and what
an adapter takes from it goes through ``Provider.words`` before it is kept. Everything that is not proven to be
something else is ``IN_DOUBT``.
"""

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Never

TEXT_KEPT = 500
"""How many characters of a body are kept for an operator."""
SERVER_KEPT = 50
"""How many characters of the ``Server`` header are kept."""


class Kind(StrEnum):
    """How a request ended."""

    ANSWER = "answer"
    """A whole answer came, of whatever status."""
    NOT_SENT = "not_sent"
    """Certainly not one byte of the request was handed to the socket."""
    IN_DOUBT = "in_doubt"
    """Anything else: the other side may have carried the request out."""


@dataclass(frozen=True)
class Exchange:
    """One request and what became of it."""

    kind: Kind
    code: str = ""
    """NOT_SENT: ``unreachable``, ``lease_expired``. IN_DOUBT: ``no_answer``, ``unreadable_answer``. Else empty."""
    http_status: int | None = None
    """The code of the status line; also set if the rest of the answer could not be read."""
    retry_after: float | None = None
    """Seconds, from 0 to 3600; None where absent or unreadable."""
    is_json: bool = False
    """Whether the whole body is one JSON document; it is in ``json``."""
    json: Any = field(default=None, repr=False)
    """The value of that document, unmasked; None if there is none."""
    is_empty: bool = False
    """Whether the body is empty and certainly complete: ``Content-Length: 0``, or status 204."""
    text: str = ""
    """The beginning of the body, for an operator: secrets masked, then cut."""
    server: str = ""
    """The beginning of the ``Server`` header, to say who answered."""
    detail: str = ""
    """What went wrong, for people and logs: names of exception classes, never their messages."""

    def __reduce_ex__(self, protocol: Any) -> Never:
        raise TypeError("An Exchange is not pickled: its answer may echo the token.")
