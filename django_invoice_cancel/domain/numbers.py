"""The valid ranges of all numbers in settings, options and arguments. They are checked before a run begins.

Without a check, a wrong value could mean "no limit", or make a run wait forever. Plain Python.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class NumberRange:
    """A range of valid numbers. ``value in range_`` is False for other types, and also for ``True`` and NaN."""

    least: float
    most: float
    unit: str = ""
    is_whole: bool = False
    excludes_least: bool = False

    def __contains__(self, value: object) -> bool:
        if isinstance(value, bool) or not isinstance(value, int if self.is_whole else int | float):
            return False
        return self.least <= value <= self.most and not (self.excludes_least and value == self.least)

    def __str__(self) -> str:
        """Return the range as the end of the sentence "It must be ..."."""
        noun = f"a {'whole ' if self.is_whole else ''}number{f' of {self.unit}' if self.unit else ''}"
        if self.excludes_least:
            return f"{noun} greater than {self.least} and at most {self.most}"
        return f"{noun} from {self.least} to {self.most}"

    def check(self, name: str, value: object) -> None:
        """Raise ``ValueError``, with ``name`` in its message, unless the value is in the range."""
        if value not in self:
            raise ValueError(f"{name} must be {self}, not {_shorten(value)}.")


LIMIT = NumberRange(0, 1_000_000_000, is_whole=True)
"""Maximum number of invoices of a run. 0 is valid: nothing is sent."""
COMMAND_LIMIT = NumberRange(1, 1_000_000_000, is_whole=True)
"""Maximum number of invoices of a command. 0 is refused, because it is a mistake there."""
CONCURRENCY = NumberRange(1, 1000, is_whole=True)
"""Requests in flight for one provider. Each has a thread."""
RATE = NumberRange(0.001, 1000, unit="requests a second")
"""Requests a second. A request reserves its slot up to 1 / rate seconds ahead, and all processes wait for it."""
WORKERS = NumberRange(1, 1000, is_whole=True)
"""Workers of one operation."""
SLICE_SECONDS = NumberRange(0, 86_400, unit="seconds")
"""Seconds in which one call of ``advance`` leases more invoices."""
REQUEST_SECONDS = NumberRange(0, 3600, unit="seconds", excludes_least=True)
"""A provider's ``deadline`` and ``connect_timeout``."""
CLAIM_SECONDS = NumberRange(0, 86_400, unit="seconds", excludes_least=True)
"""CLAIM_TTL: claims of a crashed process stay in progress for this time."""
DOUBT_SECONDS = NumberRange(0, 2_592_000, unit="seconds", excludes_least=True)
"""DOUBT_PERIOD: at most 30 days."""

_OF_RUNS = {
    "limit": LIMIT,
    "concurrency": CONCURRENCY,
    "rate": RATE,
    "workers": WORKERS,
    "deadline": SLICE_SECONDS,
}


def check_run_options(**options: Any) -> None:
    """Raise ``ValueError`` if an option of a run is invalid. Options that are None are ignored."""
    for name, value in options.items():
        if value is not None:
            _OF_RUNS[name].check(name, value)


def _shorten(value: object) -> str:
    try:
        text = repr(value)
    except ValueError:  # Python does not print whole numbers of thousands of digits
        return "a number with thousands of digits"
    return text if len(text) <= 40 else f"{text[:37]}..."
