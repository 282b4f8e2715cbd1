"""Texts that others wrote, inside sentences: bidirectional control characters must not reorder the sentence.

In HTML, templates put such a text into a ``<bdi>`` element. In plain text (messages, the admin's log, exceptions, log
lines) it passes through ``isolate``.
"""

import re
from unicodedata import bidirectional

FIRST_STRONG_ISOLATE, POP_ISOLATE = "\u2068", "\u2069"
_CONTROLS = re.compile("[\u202a-\u202e\u2066-\u2069]")
"""Embeddings, overrides and isolates."""
_OVERRIDES = re.compile("[\u202a-\u202e\u2066\u2067]")
"""The same without the characters that ``isolate`` adds."""
_RIGHT_TO_LEFT = frozenset({"R", "AL", "AN"})


def isolate(text: str) -> str:
    """Return a text for the inside of a sentence, so that it cannot reorder the words around it.

    Control characters are escaped (``\\u202e``). A text with right-to-left letters is put between two isolate
    characters. Every other text, such as Latin or Cyrillic, is returned unchanged.
    """
    if text.isascii():
        return text
    text = escape_controls(text)
    if any(bidirectional(character) in _RIGHT_TO_LEFT for character in text):
        return f"{FIRST_STRONG_ISOLATE}{text}{POP_ISOLATE}"
    return text


def escape_controls(text: str) -> str:
    """Return a text with all bidirectional control characters escaped, for a cell of a file."""
    return _CONTROLS.sub(_escape, text)


def escape_overrides(text: str) -> str:
    """Return a text with bidirectional control characters escaped, except isolates, for the output of a command.

    In JSON the escape has the same meaning as the character.
    """
    return _OVERRIDES.sub(_escape, text)


def _escape(control: re.Match[str]) -> str:
    return f"\\u{ord(control[0]):04x}"
