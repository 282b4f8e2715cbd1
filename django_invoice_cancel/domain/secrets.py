"""Secrets: a class that never shows its value, and a function that masks secrets in a text.

Only ``reveal()`` returns the value of a secret. The mask finds a secret in its plain form and in the encodings in which
a provider may echo it. Its run time is proportional to the length of the text, for any text and any secret.
"""

import re
from base64 import b64encode
from collections.abc import Iterable, Iterator
from html import unescape
from typing import Any, Never

MASK = "***"


class Secret:
    """A configured secret. ``str``, ``repr`` and f-strings show ``***``; pickling raises ``TypeError``."""

    __slots__ = ("_forms", "_value")

    def __init__(self, value: str) -> None:
        self._value = value
        self._forms: _Forms | None = None

    def reveal(self) -> str:
        """Return the value. The caller must keep it out of local variables, messages and logs."""
        return self._value

    def find_in(self, views: "Iterable[_View]") -> "Iterator[tuple[int, int]]":
        """Yield each occurrence of the value in a text, as a pair of start and end. ``views`` are forms of the text."""
        if not self._value:
            return
        if self._forms is None:
            self._forms = _Forms(self._value)
        for view in views:
            yield from self._forms.find_in(view)

    def __bool__(self) -> bool:
        return bool(self._value)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._value == self._value

    def __hash__(self) -> int:
        return hash((Secret, self._value))

    def __repr__(self) -> str:
        return MASK

    __str__ = __repr__

    def __reduce__(self) -> Never:
        raise TypeError("A Secret cannot be pickled. Pass the provider's alias instead.")


class SecretDict(dict[str, Any]):
    """A dict of configured options that shows its keys and none of its values."""

    def __repr__(self) -> str:
        return "{" + ", ".join(f"{key!r}: {MASK}" for key in self) + "}"

    __str__ = __repr__

    def __reduce__(self) -> Never:
        raise TypeError("Configured options cannot be pickled. Pass the provider's alias instead.")


def mask(text: str, secrets: Iterable[Secret]) -> str:
    """Return ``text`` with every occurrence of a secret replaced by ``***``.

    It finds a secret in its plain form, escaped up to three times as in JSON, a URL, HTML or Python, and in Base64.
    """
    views = _views(text)
    spans = sorted(span for secret in secrets for span in secret.find_in(views))
    if not spans:
        return text
    parts, end = [], 0
    for start, stop in spans:
        if start >= end:
            parts += [text[end:start], MASK]
        end = max(end, stop)
    return "".join(parts) + text[end:]


MESSAGE_LENGTH = 500
"""Maximum length of a stored message from outside, in characters."""
_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")


def sanitize(text: object, secrets: Iterable[Secret]) -> str:
    """Return a text from outside as it is stored: with secrets masked, then truncated to 500 characters.

    Characters that a database rejects (NUL in PostgreSQL, lone surrogates) become U+FFFD.
    """
    return _UNSTORABLE.sub("\ufffd", mask(str(text), secrets))[:MESSAGE_LENGTH]


_ROUNDS = 3
"""Number of nested escapes that are undone."""
_ESCAPE = re.compile(
    r"\\u(?P<code>[0-9A-Fa-f]{4})|%u(?P<old>[0-9A-Fa-f]{4})"  # JSON; the escape() of old browsers
    r"|\\x(?P<byte>[0-9A-Fa-f]{2})|%(?P<percent>[0-9A-Fa-f]{2})"
    r"|&(?:#[0-9]{1,32}|#[Xx][0-9A-Fa-f]{1,32}|[A-Za-z]{2,24});"
    r"|\\(?P<whitespace>[nrt])|\\(?P<itself>.)",  # a quote, a slash, a backslash
    re.DOTALL,
)
"""One escaped character. Each alternative has a maximum length, so that a search takes linear time."""
_TO_STANDARD_BASE64 = str.maketrans("-_", "+/")
_BASE64 = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/=")
_SHORTEST_UNESCAPED = 4
_SHORTEST_CORE = 8
"""A shorter piece of Base64 may be in any text by chance."""


class _View:
    """A text with its escapes undone, and the original place of each character."""

    def __init__(self, text: str, starts: "range | list[int]", ends: "range | list[int]") -> None:
        self.text = text
        self.starts = starts
        self.ends = ends
        self._base64: _View | None = None

    def span(self, start: int, stop: int) -> tuple[int, int]:
        """Return the place in the original text of a piece of this text."""
        return self.starts[start], self.ends[stop - 1]

    def unescaped(self) -> "_View | None":
        """Return the view with one more level of escapes undone, or None if the text has no escapes."""
        parts: list[str] = []
        starts: list[int] = []
        ends: list[int] = []
        end = 0
        for escape in _ESCAPE.finditer(self.text):
            start, stop = escape.span()
            character = _unescape(escape)
            parts += [self.text[end:start], character]
            starts += [*self.starts[end:start], *[self.starts[start]] * len(character)]
            ends += [*self.ends[end:start], *[self.ends[stop - 1]] * len(character)]
            end = stop
        if not end:
            return None
        return _View("".join([*parts, self.text[end:]]), [*starts, *self.starts[end:]], [*ends, *self.ends[end:]])

    @property
    def base64(self) -> "_View":
        """The view in which Base64 is searched: one alphabet, no line breaks."""
        if self._base64 is None:
            text = self.text.translate(_TO_STANDARD_BASE64) if "-" in self.text or "_" in self.text else self.text
            self._base64 = _View(text, self.starts, self.ends)._without_line_breaks()
        return self._base64

    def _without_line_breaks(self) -> "_View":
        if "\n" not in self.text and "\r" not in self.text:
            return self
        kept = [place for place, character in enumerate(self.text) if character not in "\r\n"]
        text = "".join([self.text[place] for place in kept])
        return _View(text, [self.starts[place] for place in kept], [self.ends[place] for place in kept])


def _views(text: str) -> list[_View]:
    view = _View(text, range(len(text)), range(1, len(text) + 1))
    views = [view]
    while len(views) <= _ROUNDS and any(mark in view.text for mark in "\\%&"):
        further = view.unescaped()
        if further is None:
            break
        views.append(view := further)
    return views


def _unescape(escape: re.Match[str]) -> str:
    """Return the character that an escape represents."""
    if escape["itself"]:
        return escape["itself"]
    digits = escape["code"] or escape["old"] or escape["byte"] or escape["percent"]
    if digits:
        return chr(int(digits, 16))
    return "\n" if escape["whitespace"] else unescape(escape[0])


class _Forms:
    """The forms of a secret in a view of a text."""

    def __init__(self, value: str) -> None:
        plain = [value, value.encode(errors="replace").decode("latin-1")]
        # a secret that looks escaped is changed when the text is unescaped
        plain += [view.text for view in _views(value)[1:] if len(view.text) >= _SHORTEST_UNESCAPED]
        self._plain = list(dict.fromkeys(plain))
        data = value.encode(errors="replace")
        self._whole = b64encode(data).decode().rstrip("=")
        cores = [_base64_core(data, offset) for offset in range(3)]
        self._cores = [core for core in cores if len(core) >= _SHORTEST_CORE]

    def find_in(self, view: _View) -> Iterator[tuple[int, int]]:
        for form in self._plain:
            for start in _places(view.text, form):
                yield view.span(start, start + len(form))
        encoded = view.base64
        for core in self._cores:
            yield from self._runs(encoded, core)
        if len(self._cores) < 3:
            yield from self._runs(encoded, self._whole, is_whole=True)

    def _runs(self, encoded: _View, piece: str, *, is_whole: bool = False) -> Iterator[tuple[int, int]]:
        """Yield the runs of Base64 around a piece; with ``is_whole`` only runs that equal the piece."""
        text, end = encoded.text, 0
        for place in _places(text, piece):
            if place < end:
                continue  # within the run that was yielded
            start, stop = place, place + len(piece)
            if is_whole:
                stop += len(text[stop : stop + 2]) - len(text[stop : stop + 2].lstrip("="))
                if text[start - 1 : start] in _BASE64 or text[stop : stop + 1] in _BASE64:
                    continue
            else:
                while start > end and text[start - 1] in _BASE64:
                    start -= 1
                while stop < len(text) and text[stop] in _BASE64:
                    stop += 1
            end = stop
            yield encoded.span(start, stop)


def _base64_core(data: bytes, offset: int) -> str:
    """Return the common part of all Base64 in which ``data`` begins ``offset`` bytes after a multiple of three."""
    encoded = b64encode(bytes(offset) + data).decode()
    return encoded[(0, 2, 3)[offset] : (offset + len(data)) * 8 // 6]


def _places(text: str, piece: str) -> Iterator[int]:
    """Yield the places of ``piece`` in ``text``, without overlaps."""
    place = text.find(piece)
    while place >= 0:
        yield place
        place = text.find(piece, place + len(piece))
