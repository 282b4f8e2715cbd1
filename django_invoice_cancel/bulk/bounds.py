"""The bounds of a run, checked before it begins: a wrong one must not mean "none", or let a run turn on the spot."""

from __future__ import annotations

from math import inf
from typing import Any


def checked_bounds(*, limit: Any = None, concurrency: Any = None, rate: Any = None) -> None:
    """Raise ``ValueError`` for a bound that is none. A limit of 0 is one: nothing is sent."""
    if limit is not None and not (isinstance(limit, int) and limit >= 0):
        raise ValueError(f"limit must be a whole number from 0 on, not {limit!r}.")
    if concurrency is not None and not (isinstance(concurrency, int) and concurrency > 0):
        raise ValueError(f"concurrency must be a whole number above 0, not {concurrency!r}.")
    if rate is not None and not (isinstance(rate, int | float) and 0 < rate < inf):
        raise ValueError(f"rate must be a number above 0, not {rate!r}.")
