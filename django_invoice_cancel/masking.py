"""Values that must never leave: a holder that does not show them, and a mask for texts that may.

Floor 0: plain Python. A secret leaves its holder through ``reveal()`` alone.
"""

import json
from collections.abc import Iterable
from typing import Any, Never
from urllib.parse import quote

MASK = "***"


class Secret:
    """Hold a configured secret; ``str``, ``repr`` and f-strings show ``***``, pickling is refused."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """Return the value itself; the caller keeps it out of locals, messages and logs."""
        return self._value

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

    A provider may echo a value escaped (JSON, PHP's ``\\/``, percent-encoding): those are masked too.
    """
    forms = {form for secret in secrets for form in _forms(secret.reveal())}
    for form in sorted(forms, key=len, reverse=True):
        text = text.replace(form, MASK)
    return text


def _forms(value: str) -> set[str]:
    escaped = json.dumps(value)[1:-1]
    return {value, escaped, escaped.replace("/", "\\/"), quote(value, safe="")} - {""}
