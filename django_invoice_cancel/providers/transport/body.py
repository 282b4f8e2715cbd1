"""Reading a body: whole or not at all, never unpacked, never more than 64 KiB, masked before anybody sees it.

``read`` returns what was there only if its framing says that this is all; the reading of JSON never raises.
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
    """Return whether the body is JSON, what it says, and its text; secrets are masked in both."""
    text = mask(body.decode("utf-8-sig", errors="replace"), secrets)
    try:
        value = _loads(text)
        if "\\" in text:  # an escape may hide a secret from the mask: write it plainly, mask again
            text = mask(json.dumps(value, ensure_ascii=False), secrets)
            value = _loads(text)
    except (ValueError, RecursionError):
        return False, None, text
    return True, value, text


def _refuse(word: str) -> Never:
    raise ValueError(f"{word} is not JSON.")


def _finite(digits: str) -> float:
    number = float(digits)
    return number if math.isfinite(number) else _refuse("An infinite number")


def _loads(text: str) -> Any:
    return _DECODER.decode(text)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return the object, unless a key is there twice: which of its values counts is undefined."""
    known = dict(pairs)
    return known if len(known) == len(pairs) else _refuse("An object with a key twice")


_DECODER = json.JSONDecoder(parse_constant=_refuse, parse_float=_finite, object_pairs_hook=_unique)
