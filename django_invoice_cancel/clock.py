"""The one clock of the bookkeeping: instants in UTC, whatever ``USE_TZ`` and ``TIME_ZONE`` are. Plain Python."""

from datetime import UTC, datetime


def utc_now() -> datetime:
    """Return the current instant as an aware ``datetime`` in UTC.

    ``django.utils.timezone.now()`` is naive local time under ``USE_TZ = False``. Differences of such times are wrong
    by an hour in the two nights when the clocks change.
    """
    return datetime.now(UTC)
