"""Read a body whole or not at all, never unpacked and never more than 64 KiB, and parse it.

``read`` returns a body only if its framing states that it is complete. Parsing JSON never raises.
"""

import json
import math
from collections.abc import Sequence
from typing import Any, Never

from ...masking import Secret, mask
from .response import BODILESS

MAX_BYTES = 65_536
_PIECE = 16_384


class Unreadable(Exception):
    """An answer's body is too long, encoded or incomplete."""


def read(raw: Any) -> bytes:
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


def parse(body: bytes, secrets: Sequence[Secret]) -> tuple[bool, Any, str]:
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
