"""Fields of the models: case-sensitive text, instants that do not depend on a time zone, exact amounts."""

import re
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any, TypeVar
from zoneinfo import ZoneInfo

from django import forms
from django.conf import settings
from django.core.exceptions import ValidationError
from django.db import models, router
from django.utils import formats, timezone
from django.utils.dateparse import parse_datetime
from django.utils.translation import gettext_lazy as _

Row = TypeVar("Row", bound=models.Model)


class PrimaryManager(models.Manager[Row]):
    """A manager that uses the writable database of the router for reads as well."""

    @property
    def db(self) -> str:
        """The alias of the database in use."""
        return self._db or router.db_for_write(self.model, **self._hints)  # type: ignore[attr-defined]

    def get_queryset(self) -> "models.QuerySet[Row]":
        """Return all rows of the writable database."""
        rows: Any = super().get_queryset()
        rows._for_write = True  # as QuerySet.update does
        return rows  # type: ignore[no-any-return]


if TYPE_CHECKING:
    _CharField = models.CharField[Any, str]
    _DecimalField = models.DecimalField[Any, Any]
    _DateTimeField = models.DateTimeField[Any, Any]
else:  # generic only for the type checker
    _CharField = models.CharField
    _DecimalField = models.DecimalField
    _DateTimeField = models.DateTimeField


class ExactCharField(_CharField):
    """A ``CharField`` whose comparisons and unique keys respect case on MySQL and MariaDB too.

    Their default collation ignores case: two ids of a provider that differ only in case would be one invoice.
    """

    def db_parameters(self, connection: Any) -> dict[str, Any]:
        parameters: dict[str, Any] = dict(super().db_parameters(connection))
        if connection.vendor == "mysql":
            parameters["collation"] = "utf8mb4_bin"
        return parameters


class InstantField(_DateTimeField):
    """An instant, stored in UTC and read as an aware ``datetime`` in UTC, independent of ``USE_TZ``.

    A plain ``DateTimeField`` holds naive local time under ``USE_TZ = False``. In the nights when the clocks change,
    two instants an hour apart may then be equal. Filters accept naive values as local time.
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
        """Return the stored instant, without the conversion of the backend for ``USE_TZ``."""
        if isinstance(value, str):  # SQLite, for an expression
            value = parse_datetime(value)
        if value is None:
            return None
        if connection.vendor != "postgresql":
            return value.replace(tzinfo=UTC)  # type: ignore[no-any-return]
        if timezone.is_naive(value):
            value = value.replace(tzinfo=ZoneInfo(connection.timezone_name))  # its ``fold`` is set
        return value.astimezone(UTC)  # type: ignore[no-any-return]


_DIGITS_OF_SQLITE = 15
_AMOUNT = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]{1,4})?")


def is_amount(text: str) -> bool:
    """Return whether a text is an amount in plain digits. Python also accepts 1_000 and digits of other scripts."""
    return _AMOUNT.fullmatch(text.strip(" ")) is not None


class AmountField(_DecimalField):
    """A ``DecimalField`` that accepts only plain digits, and refuses amounts that the database would silently round."""

    def to_python(self, value: Any) -> Any:
        if isinstance(value, bool) or (isinstance(value, str) and not is_amount(value)):
            raise ValidationError(self.error_messages["invalid"], code="invalid", params={"value": value})
        return super().to_python(value)

    def formfield(self, **kwargs: Any) -> Any:
        return super().formfield(**{"form_class": AmountFormField, **kwargs})

    def get_db_prep_save(self, value: Any, connection: Any) -> Any:
        if connection.vendor == "sqlite" and isinstance(value, Decimal):
            self.refuse_rounding(value)
        return super().get_db_prep_save(value, connection)

    def refuse_rounding(self, value: Decimal) -> None:
        """Raise ``ValidationError`` for an amount with more digits than SQLite keeps."""
        if value.is_finite() and len("".join(map(str, value.as_tuple().digits)).strip("0")) > _DIGITS_OF_SQLITE:
            text = _(
                "SQLite stores 15 digits of an amount and would round this one. Use another database, or round it."
            )
            raise ValidationError({self.name: text})


class AmountFormField(forms.DecimalField):
    """The form field of an ``AmountField``."""

    def to_python(self, value: Any) -> Any:
        text = formats.sanitize_separators(value) if self.localize else value
        if isinstance(text, str) and text.strip() and not is_amount(text.strip()):
            raise ValidationError(self.error_messages["invalid"], code="invalid")
        return super().to_python(value)


def as_plain(instant: datetime) -> datetime:
    """Return an instant in the form of a plain ``DateTimeField``: naive local time under ``USE_TZ = False``."""
    return instant if settings.USE_TZ else timezone.make_naive(instant, timezone.get_default_timezone())


_MARGIN = timedelta(days=2)
_FIRST, _LAST = datetime.min.replace(tzinfo=UTC) + _MARGIN, datetime.max.replace(tzinfo=UTC) - _MARGIN


def displayable(value: datetime) -> None:
    """Raise ``ValidationError`` for a time at an end of the calendar, which not every time zone can show.

    Other systems use such times for "never" or "unknown": 9999-12-31, 0001-01-01.
    """
    if not is_displayable(value):
        raise ValidationError(
            _(
                "A time at the end of the calendar cannot be shown in every time zone. "
                "If there is no time, leave it empty."
            )
        )


def is_displayable(value: datetime) -> bool:
    """Return whether every time zone can show a time."""
    # The comparison of a time in another zone does not overflow. A naive one is within a day of its instant.
    return _FIRST <= (value.replace(tzinfo=UTC) if timezone.is_naive(value) else value) <= _LAST
