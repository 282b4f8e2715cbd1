"""Move the clock."""

import time
from datetime import timedelta

import time_machine


def travel_forward(**delta: float) -> time_machine.travel:
    """Move the clock forward. By a timestamp: a datetime would also move the machine to its time zone."""
    return time_machine.travel(time.time() + timedelta(**delta).total_seconds())
