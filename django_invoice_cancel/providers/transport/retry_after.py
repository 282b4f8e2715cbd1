"""Reading ``Retry-After``, in both of its forms; whatever comes, the result is bounded and nothing is raised."""

from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

MAX_SECONDS = 3600.0
"""No provider holds us off for longer at a time."""
_DATE_LENGTH = 40


def retry_after_seconds(value: str | None, now: datetime | None = None) -> float | None:
    """Return the seconds to wait, from 0 to 3600; None where the header is absent or says nothing readable."""
    value = (value or "").strip()
    if value.isascii() and value.isdigit():
        digits = value.lstrip("0") or "0"
        return MAX_SECONDS if len(digits) > 4 else min(float(digits), MAX_SECONDS)
    return _seconds_until(value, now or datetime.now(UTC))


def _seconds_until(value: str, now: datetime) -> float | None:
    if not value.endswith("GMT") or len(value) > _DATE_LENGTH:
        return None
    try:
        seconds = (parsedate_to_datetime(value) - now).total_seconds()
    except (TypeError, ValueError, OverflowError):
        return None
    return min(max(seconds, 0.0), MAX_SECONDS)
