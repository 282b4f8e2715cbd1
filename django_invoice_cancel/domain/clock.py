"""The clock for all stored times: instants in UTC, independent of ``USE_TZ`` and ``TIME_ZONE``. Plain Python."""

from datetime import UTC, datetime, timedelta

TOLERANCE = timedelta(seconds=5)
"""Maximum difference between the clocks of two machines. A time further in the future was written by a wrong clock."""


def utc_now() -> datetime:
    """Return the current instant as an aware ``datetime`` in UTC.

    ``django.utils.timezone.now()`` is naive local time under ``USE_TZ = False``. Differences of such times are wrong
    by an hour in the two nights when the clocks change.
    """
    return datetime.now(UTC)


def is_ahead(instant: datetime | None, now: datetime) -> bool:
    """Return whether an instant that was "now" when it was written is in the future.

    The clock that wrote it was ahead, or has been set back since.
    """
    return instant is not None and instant > now + TOLERANCE
