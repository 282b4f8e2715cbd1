"""Move the clock, and the instants at which daylight saving time begins or ends."""

import time
from datetime import UTC, datetime, timedelta

import time_machine

CLOCK_CHANGES = {
    "Berlin, forward": ("Europe/Berlin", datetime(2027, 3, 28, 1, tzinfo=UTC)),
    "Berlin, back": ("Europe/Berlin", datetime(2026, 10, 25, 1, tzinfo=UTC)),
    "Lord Howe, half an hour forward": ("Australia/Lord_Howe", datetime(2026, 10, 3, 15, 30, tzinfo=UTC)),
    "Lord Howe, half an hour back": ("Australia/Lord_Howe", datetime(2027, 4, 3, 15, tzinfo=UTC)),
}
"""(time zone, instant of the change)"""


def travel_forward(**delta: float) -> time_machine.travel:
    """Move the clock forward. By a timestamp: a datetime would also move the machine to its time zone."""
    return time_machine.travel(time.time() + timedelta(**delta).total_seconds())
