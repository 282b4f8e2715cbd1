"""Read an answer into an ``Exchange``: either complete and readable, or in doubt with its status code.

A status of 200 proves nothing: http.client reads an answer with a truncated head as an empty success.
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
"""Maximum time to wait after one answer, in seconds."""
_DATE_LENGTH = 40


def retry_after_seconds(value: str | None, now: datetime | None = None) -> float | None:
    """Return the seconds to wait, from 0 to 3600; None if the header is missing or unreadable."""
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
    """The body of an answer is too long, encoded or incomplete."""


def read_body(raw: Any) -> bytes:
    """Return the whole body of a urllib3 response, undecoded.

    ``read1`` returns the bytes of one ``recv``, so it does not wait for bytes that never arrive.
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
            break  # the last read has already returned the connection to its pool
    return body


def is_framed(raw: Any) -> bool:
    """Return whether the answer itself defines the end of its body."""
    return raw.chunked or raw.status in BODILESS or bool(content_length(raw))


def content_length(raw: Any) -> str:
    """Return the Content-Length header without surrounding spaces; empty if it is missing."""
    return str(raw.headers.get("Content-Length", "")).strip()


def parse_body(body: bytes, secrets: Sequence[Secret]) -> tuple[bool, Any, str]:
    """Return whether the body is JSON, its value, and its text.

    The value is parsed before secrets are masked: if a short token is part of ``["ok"]``, the masked value would no
    longer be "ok". The text may be stored, so secrets in it are masked.
    """
    text = body.decode("utf-8-sig", errors="replace")
    try:
        value = _DECODER.decode(text)
        if "\\" in text:  # decode escaped letters of other alphabets for operators
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
    """Return the object, or refuse a duplicate key: JSON does not define which of its values is valid."""
    known = dict(pairs)
    return known if len(known) == len(pairs) else _refuse("An object with a key twice")


_DECODER = json.JSONDecoder(parse_constant=_refuse, parse_float=_finite, object_pairs_hook=_unique)


class CutAnswer(Exception):
    """The body ended, but nothing proves that it is complete."""


class SurplusBytes(Exception):
    """More bytes follow the answer: a second answer, or any bytes on a used connection. They may be the real answer."""


class InterimAnswer(Exception):
    """The HTTP library returned an interim answer as the final one."""


class DeadlinePassed(Exception):
    """The watchdog shut the connection down, so the end of the answer may not be its real end."""


def read_answer(raw: Any, attempt: Attempt, secrets: Sequence[Secret]) -> Exchange:
    """Return the exchange for a urllib3 response. The connection is closed unless the answer was read completely."""
    head = _head(raw, secrets)
    try:
        return _whole_answer(raw, attempt, secrets, head)
    except BaseException as error:  # exceptions of urllib3, http.client, ssl and OSError; the status is known
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
    # Only the end of the connection ends this body. Without JSON, a truncated body looks the same as a complete one.
    if attempt.is_real and not is_json and not is_framed(raw):
        raise CutAnswer
    # untracked connections cannot detect a head that was cut off after its "Content-Length: 0"
    is_proven = attempt.is_tracked or not attempt.is_real
    is_empty = is_proven and not content and (raw.status == 204 or content_length(raw) == "0")
    return Exchange(Kind.ANSWER, is_json=is_json, json=value, is_empty=is_empty, text=text[:TEXT_KEPT], **head)
