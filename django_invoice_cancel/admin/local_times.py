"""Show times in local time on Django's own admin pages, with and without ``USE_TZ``."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime, tzinfo
from functools import cache
from typing import Any, Self

from django.conf import settings
from django.contrib import admin
from django.db import models
from django.utils import timezone
from django.utils.formats import localize

from ..labels.formatting import to_local
from ..models.fields import InstantField, is_displayable


def localize_columns(model: type[models.Model], names: Iterable[Any]) -> tuple[Any, ...]:
    """Return the columns of an admin page, with an ``InstantField`` replaced by a column in local time.

    With ``USE_TZ`` Django itself converts aware times for display, so the names are returned unchanged.
    """
    if settings.USE_TZ:
        return tuple(names)
    instants = {field.name: field for field in model._meta.concrete_fields if isinstance(field, InstantField)}
    return tuple(_local_column(instants[name]) if name in instants else name for name in names)


class EdgeTime(datetime):
    """A time at the end of the calendar that some time zones cannot show. There it is shown as it is stored."""

    def astimezone(self, tz: tzinfo | None = None) -> Self:
        try:
            return super().astimezone(tz)
        except OverflowError:
            return self.replace(tzinfo=tz)


def make_times_displayable(row: models.Model) -> None:
    """Replace the times of a row that some time zones cannot show, so that no page fails to convert them."""
    values = vars(row)  # does not load deferred columns
    for field in row._meta.concrete_fields:
        value = values.get(field.attname)
        if isinstance(value, datetime) and timezone.is_aware(value) and not is_displayable(value):
            values[field.attname] = EdgeTime.combine(value.date(), value.timetz())


@cache
def _local_column(field: InstantField) -> Callable[[Any], str]:
    @admin.display(description=field.verbose_name, ordering=field.name)
    def column(row: Any) -> str:
        when = getattr(row, field.name)
        return "-" if when is None else str(localize(to_local(when)))

    column.__name__ = field.name  # Django derives the CSS class of the column from it
    return column
