"""Fields that several models use: case-sensitive text, instants that do not depend on a time zone."""

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

from django.conf import settings
from django.core.exceptions import ValidationError
from django.db import models
from django.utils import timezone
from django.utils.dateparse import parse_datetime
from django.utils.translation import gettext_lazy as _

if TYPE_CHECKING:
    _CharField = models.CharField[Any, str]
    _DateTimeField = models.DateTimeField[Any, Any]
else:  # generic for the type checker alone
    _CharField = models.CharField
    _DateTimeField = models.DateTimeField


class ExactCharField(_CharField):
    """A ``CharField`` whose comparisons and unique keys respect case on MySQL and MariaDB too.

    Their default collation does not: two of a provider's ids that differ by case would be one invoice.
    """

    def db_parameters(self, connection: Any) -> dict[str, Any]:
        parameters: dict[str, Any] = dict(super().db_parameters(connection))
        if connection.vendor == "mysql":
            parameters["collation"] = "utf8mb4_bin"
        return parameters


class InstantField(_DateTimeField):
    """An instant, stored in UTC and read as an aware ``datetime`` in UTC, whatever ``USE_TZ`` is.

    A plain ``DateTimeField`` holds naive local time under ``USE_TZ = False``: in the nights when the clocks change,
    two instants an hour apart may read the same. Naive values are accepted in filters, as local time.
    """

    def get_internal_type(self) -> str:
        return "DateTimeField"

    def get_prep_value(self, value: Any) -> Any:
        value = super().get_prep_value(value)  # with USE_TZ, Django warns about a naive value and makes it aware
        if isinstance(value, datetime) and timezone.is_naive(value):
            return timezone.make_aware(value, timezone.get_default_timezone())
        return value

    def get_db_prep_value(self, value: Any, connection: Any, prepared: bool = False) -> Any:  # noqa: FBT002 - Django's
        if not prepared:
            value = self.get_prep_value(value)
        if not isinstance(value, datetime):
            return value
        in_utc = value.astimezone(UTC)
        if connection.vendor == "postgresql":
            return connection.ops.adapt_datetimefield_value(in_utc)
        return str(in_utc.replace(tzinfo=None))  # Django would refuse it, or convert it to the connection's zone

    def from_db_value(self, value: Any, expression: Any, connection: Any) -> datetime | None:
        """Return the stored instant; undo what the backend did to it for ``USE_TZ``."""
        if isinstance(value, str):  # SQLite, for an expression
            value = parse_datetime(value)
        if value is None:
            return None
        if connection.vendor != "postgresql":
            return value.replace(tzinfo=UTC)  # type: ignore[no-any-return]
        if timezone.is_naive(value):
            value = value.replace(tzinfo=ZoneInfo(connection.timezone_name))  # its ``fold`` is set
        return value.astimezone(UTC)  # type: ignore[no-any-return]


def as_plain(instant: datetime) -> datetime:
    """Return an instant as a plain ``DateTimeField`` holds it: under ``USE_TZ = False`` as naive local time."""
    return instant if settings.USE_TZ else timezone.make_naive(instant, timezone.get_default_timezone())


_MARGIN = timedelta(days=2)
_FIRST, _LAST = datetime.min.replace(tzinfo=UTC) + _MARGIN, datetime.max.replace(tzinfo=UTC) - _MARGIN


def displayable(value: datetime) -> None:
    """Raise ``ValidationError`` for a time so close to the ends of the calendar that not every time zone can show it.

    Such times stand for "never" or "unknown" in other systems: 9999-12-31, 0001-01-01.
    """
    # The comparison of a time in another zone does not overflow. A naive one is within a day of its instant.
    if not _FIRST <= (value.replace(tzinfo=UTC) if timezone.is_naive(value) else value) <= _LAST:
        raise ValidationError(
            _("A time at the end of the calendar cannot be shown in every time zone: leave it empty if there is none.")
        )
