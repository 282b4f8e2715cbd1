"""The limits of a run, checked before it begins: a wrong value must not mean "none", or let a run hang."""

from __future__ import annotations

from typing import Any

MOST_INVOICES = 1_000_000_000
MOST_AT_ONCE = 1000
"""Each request in flight has a thread of its own."""
LEAST_RATE = 0.001
"""Requests a second: a slot is reserved for up to 1 / rate seconds, and all processes wait for it."""
MOST_RATE = 1000.0
MOST_WORKERS = 1000
LONGEST_SLICE = 86_400
"""Seconds for which a slice of an operation takes more invoices."""


def checked_bounds(
    *, limit: Any = None, concurrency: Any = None, rate: Any = None, workers: Any = None, deadline: Any = None
) -> None:
    """Raise ``ValueError`` that names the value which is unusable. A limit of 0 is valid: nothing is sent."""
    if limit is not None and not (_is_whole(limit) and 0 <= limit <= MOST_INVOICES):
        raise ValueError(f"limit must be a whole number from 0 to {MOST_INVOICES}, not {_shown(limit)}.")
    if concurrency is not None and not (_is_whole(concurrency) and 0 < concurrency <= MOST_AT_ONCE):
        raise ValueError(f"concurrency must be a whole number from 1 to {MOST_AT_ONCE}, not {_shown(concurrency)}.")
    if rate is not None and not (_is_number(rate) and LEAST_RATE <= rate <= MOST_RATE):
        raise ValueError(f"rate must be a number from {LEAST_RATE} to {MOST_RATE:g}, not {_shown(rate)}.")
    if workers is not None and not (_is_whole(workers) and 0 < workers <= MOST_WORKERS):
        raise ValueError(f"workers must be a whole number from 1 to {MOST_WORKERS}, not {_shown(workers)}.")
    if deadline is not None and not (_is_number(deadline) and 0 <= deadline <= LONGEST_SLICE):
        raise ValueError(f"deadline must be a number of seconds from 0 to {LONGEST_SLICE}, not {_shown(deadline)}.")


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _shown(value: object) -> str:
    try:
        text = repr(value)
    except ValueError:  # Python writes out no whole number of thousands of digits
        return "one of so many digits"
    return text if len(text) <= 40 else f"{text[:37]}..."
