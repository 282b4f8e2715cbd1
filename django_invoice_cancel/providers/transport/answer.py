"""Read an answer into an ``Exchange``: complete and readable, or in doubt with its status code.

``200`` alone proves nothing: http.client reads an answer that is cut within its head as an empty success.
"""

import json
import math
from collections.abc import Sequence
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Never

from ...domain.interruptions import is_interruption
from ...domain.outcomes import Code
from ...domain.secrets import Secret, mask
from .attempt import Attempt, OtherProcess
from .exchange import SERVER_KEPT, TEXT_KEPT, Exchange, Kind, detail_of
from .response import BODILESS, check_length
from .silence import EarlyAnswer

MAX_SECONDS = 3600.0
"""No provider holds us off for longer at a time."""
_DATE_LENGTH = 40


def retry_after_seconds(value: str | None, now: datetime | None = None) -> float | None:
    """Return the seconds to wait, from 0 to 3600; None where the header is absent or says nothing readable."""
    value = (value or "").strip()
    if value.isascii() and value.isdigit():
        digits = value.lstrip("0") or "0"
        return MAX_SECONDS if len(digits) > 4 else min(float(digits), MAX_SECONDS)
    return _seconds_until(value, now or datetime.now(UTC))


def _seconds_until(value: str, now: datetime) -> float | None:
    if not value.endswith("GMT") or len(value) > _DATE_LENGTH:
        return None
    try:
        seconds = (parsedate_to_datetime(value) - now).total_seconds()
    except (TypeError, ValueError, OverflowError):
        return None
    return min(max(seconds, 0.0), MAX_SECONDS)


MAX_BYTES = 65_536
_PIECE = 16_384


class Unreadable(Exception):
    """An answer's body is too long, encoded or incomplete."""


def read_body(raw: Any) -> bytes:
    """Return the whole body of a urllib3 response, as it came over the wire.

    ``read1`` gives what one ``recv`` gave, so that nothing waits for bytes that do not come.
    """
    if raw.headers.get("Content-Encoding", "identity").strip().lower() not in ("", "identity"):
        raise Unreadable("encoded")
    if (raw.length_remaining or 0) > MAX_BYTES:
        raise Unreadable("too long")
    body = b""
    while piece := raw.read1(_PIECE, decode_content=False):
        body += piece
        if len(body) > MAX_BYTES:
            raise Unreadable("too long")
        if raw.length_remaining == 0:
            break  # this read has given the connection back already
    return body


def is_framed(raw: Any) -> bool:
    """Return whether the answer itself states the end of its body."""
    return raw.chunked or raw.status in BODILESS or bool(content_length(raw))


def content_length(raw: Any) -> str:
    """Return the header as it came, trimmed; empty where there is none."""
    return str(raw.headers.get("Content-Length", "")).strip()


def parse_body(body: bytes, secrets: Sequence[Secret]) -> tuple[bool, Any, str]:
    """Return whether the body is JSON, its value, and its text.

    The value is read first and stays as it came: with a short token in it masked, ``["ok"]`` would not be "ok" any
    more. In the text, which may be kept, secrets are masked.
    """
    text = body.decode("utf-8-sig", errors="replace")
    try:
        value = _DECODER.decode(text)
        if "\\" in text:  # letters of other alphabets, for people
            text = json.dumps(value, ensure_ascii=False)
    except (ValueError, RecursionError):
        return False, None, mask(text, secrets)
    return True, value, mask(text, secrets)


def _refuse(word: str) -> Never:
    raise ValueError(f"{word} is not JSON.")


def _finite(digits: str) -> float:
    number = float(digits)
    return number if math.isfinite(number) else _refuse("An infinite number")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return the object, unless a key is there twice: which of its values counts is undefined."""
    known = dict(pairs)
    return known if len(known) == len(pairs) else _refuse("An object with a key twice")


_DECODER = json.JSONDecoder(parse_constant=_refuse, parse_float=_finite, object_pairs_hook=_unique)


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
    content = read_body(raw)
    if attempt.is_expired:
        raise DeadlinePassed
    if attempt.has_second_answer or (attempt.has_surplus and attempt.is_on_used_connection):
        raise SurplusBytes
    if attempt.is_inherited:
        raise OtherProcess
    is_json, value, text = parse_body(content, secrets)
    # no end but the connection's: only a document that is complete in itself tells it from a cut one
    if attempt.is_real and not is_json and not is_framed(raw):
        raise CutAnswer
    # untracked connections do not tell a head that was cut behind its "Content-Length: 0" from a whole one
    is_proven = attempt.is_tracked or not attempt.is_real
    is_empty = is_proven and not content and (raw.status == 204 or content_length(raw) == "0")
    return Exchange(Kind.ANSWER, is_json=is_json, json=value, is_empty=is_empty, text=text[:TEXT_KEPT], **head)
