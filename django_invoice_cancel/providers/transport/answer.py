"""From an answer on the wire to an ``Exchange``: whole and readable, or in doubt with its status kept.

``200`` proves nothing by itself: an answer cut within its head reads as an empty success in http.client.
"""

from collections.abc import Sequence
from typing import Any

from ...interruptions import is_interruption
from ...masking import Secret, mask
from ...outcomes import Code
from . import body as bodies
from .attempt import Attempt, OtherProcess
from .exchange import SERVER_KEPT, TEXT_KEPT, Exchange, Kind
from .faults import detail_of
from .response import check_length
from .retry_after import retry_after_seconds
from .silence import EarlyAnswer


class CutAnswer(Exception):
    """The body ended without anything that proves it whole."""


class SurplusBytes(Exception):
    """Bytes that may be the real answer follow it: a second answer, or anything on a used connection."""


class InterimAnswer(Exception):
    """The HTTP library took an interim answer for the final one."""


class DeadlinePassed(Exception):
    """The watchdog ended the answer; what looks like its end may be our own doing."""


def read_answer(raw: Any, attempt: Attempt, secrets: Sequence[Secret]) -> Exchange:
    """Return the exchange of a urllib3 response; close its connection unless all of it was read and well."""
    head = _head(raw, secrets)
    try:
        return _whole_answer(raw, attempt, secrets, head)
    except BaseException as error:  # urllib3, http.client, ssl and OSError; the status is known by now
        raw.close()
        if is_interruption(error):
            raise
        return Exchange(Kind.IN_DOUBT, Code.UNREADABLE_ANSWER, detail=detail_of(error), **head)


def _head(raw: Any, secrets: Sequence[Secret]) -> dict[str, Any]:
    return {
        "http_status": raw.status,
        "retry_after": retry_after_seconds(raw.headers.get("Retry-After")),
        "server": mask(raw.headers.get("Server", ""), secrets)[:SERVER_KEPT],
    }


def _whole_answer(raw: Any, attempt: Attempt, secrets: Sequence[Secret], head: dict[str, Any]) -> Exchange:
    if raw.status < 200:
        raise InterimAnswer
    if attempt.is_unanswerable:
        raise EarlyAnswer
    if attempt.is_real and not attempt.is_tracked:
        headers = raw.headers
        lengths, encodings = headers.getlist("Content-Length"), headers.getlist("Transfer-Encoding")
        check_length(raw.status, lengths, encodings, is_old=raw.version != 11)
    content = bodies.read(raw)
    if attempt.is_expired:
        raise DeadlinePassed
    if attempt.has_second_answer or (attempt.has_surplus and attempt.is_on_used_connection):
        raise SurplusBytes
    if attempt.is_inherited:
        raise OtherProcess
    is_json, value, text = bodies.parse(content, secrets)
    # no end but the connection's: only a document that is complete in itself tells it from a cut one
    if attempt.is_real and not is_json and not bodies.is_framed(raw):
        raise CutAnswer
    # untracked connections do not tell a head that was cut behind its "Content-Length: 0" from a whole one
    is_proven = attempt.is_tracked or not attempt.is_real
    is_empty = is_proven and not content and (raw.status == 204 or bodies.content_length(raw) == "0")
    return Exchange(Kind.ANSWER, is_json=is_json, json=value, is_empty=is_empty, text=text[:TEXT_KEPT], **head)
