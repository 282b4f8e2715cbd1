"""Values that must never leave: a holder that does not show them, and a mask for texts that may.

Floor 0: plain Python. A secret leaves its holder through ``reveal()`` alone.
"""

import re
from collections.abc import Iterable
from html import escape
from typing import Any, Never

MASK = "***"


class Secret:
    """Hold a configured secret; ``str``, ``repr`` and f-strings show ``***``, pickling is refused."""

    __slots__ = ("_pattern", "_value")

    def __init__(self, value: str) -> None:
        self._value = value
        self._pattern: re.Pattern[str] | None = None

    def reveal(self) -> str:
        """Return the value itself; the caller keeps it out of locals, messages and logs."""
        return self._value

    def hidden_in(self, text: str) -> str:
        """Return ``text`` with ``***`` wherever the value stands in it, plain or escaped."""
        if not self._value:
            return text
        if self._pattern is None:
            self._pattern = re.compile("".join(map(_any_form, self._value)))
        return self._pattern.sub(MASK, text)

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
        raise TypeError("A Secret is not pickled: pass the provider's alias instead.")


class SecretDict(dict[str, Any]):
    """A dict of configured options that shows its keys and none of its values."""

    def __repr__(self) -> str:
        return "{" + ", ".join(f"{key!r}: {MASK}" for key in self) + "}"

    __str__ = __repr__

    def __reduce__(self) -> Never:
        raise TypeError("Configured options are not pickled: pass the provider's alias instead.")


def mask(text: str, secrets: Iterable[Secret]) -> str:
    """Return ``text`` with every one of ``secrets`` in it replaced by ``***``, the longest first.

    A provider may echo a value escaped (JSON, PHP's ``\\/``, percent-encoding, HTML): those are masked too.
    """
    for secret in sorted(secrets, key=lambda one: len(one.reveal()), reverse=True):
        text = secret.hidden_in(text)
    return text


def _any_form(character: str) -> str:
    """Return a pattern that matches a character as it is or as somebody may have escaped it."""
    if character.isalnum():
        return re.escape(character)
    number = ord(character)
    escapes = rf"%{number:02x}|\\+u{number:04x}|&#x0*{number:x};|&#0*{number};|{re.escape(escape(character))}"
    return rf"(?:\\*{re.escape(character)}|(?i:{escapes}))"
