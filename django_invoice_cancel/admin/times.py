"""Instants and ages as the admin's pages say them: short, in the user's time zone, the same everywhere."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime, timedelta, tzinfo
from functools import cache
from typing import Any, Self

from django.conf import settings
from django.contrib import admin
from django.db import models
from django.utils import timezone
from django.utils.formats import date_format, localize, number_format
from django.utils.translation import gettext as _
from django.utils.translation import pgettext

from ..clock import utc_now
from ..models.fields import InstantField, is_displayable


def clock(when: datetime) -> str:
    """Return the time of day, with its date unless that is today: 12:41, or 21 Nov 2026, 12:41."""
    local, today = _local(when), _local(utc_now()).date()
    return date_format(local, "H:i" if local.date() == today else pgettext("date format", "j M Y, H:i"))


def age(span: timedelta) -> str:
    """Return a span in its one largest unit: 5 min, 3 h, 12 d."""
    minutes = max(int(span.total_seconds() // 60), 0)
    if minutes < 60:
        return _("%(count)d min") % {"count": minutes}
    if minutes < 60 * 24:
        return _("%(count)d h") % {"count": minutes // 60}
    return _("%(count)d d") % {"count": minutes // (60 * 24)}


def ago(when: datetime) -> str:
    """Return how long ago an instant was: just now, 5 min ago, 3 h ago."""
    span = utc_now() - when
    if span < timedelta(minutes=1):
        return _("just now")
    return _("%(age)s ago") % {"age": age(span)}


def seconds(milliseconds: int) -> str:
    """Return how long an answer took: 40 ms, 0.3 s, 15 s. Never 0: it took something."""
    if milliseconds < 100:
        return _("%(count)d ms") % {"count": max(milliseconds, 1)}
    number = milliseconds / 1000
    places = 0 if number >= 10 else 1
    return _("%(count)s s") % {"count": number_format(round(number, places), places)}


def in_local_time(model: type[models.Model], names: Iterable[Any]) -> tuple[Any, ...]:
    """Return columns of an admin page, with instants of the bookkeeping replaced by columns in local time.

    Django itself converts aware times for display only under ``USE_TZ``; there the names stay as they are.
    """
    if settings.USE_TZ:
        return tuple(names)
    instants = {field.name: field for field in model._meta.concrete_fields if isinstance(field, InstantField)}
    return tuple(_local_column(instants[name]) if name in instants else name for name in names)


class EdgeTime(datetime):
    """A time at the end of the calendar, which some zones cannot show: there it is shown as it is stored."""

    def astimezone(self, tz: tzinfo | None = None) -> Self:
        try:
            return super().astimezone(tz)
        except OverflowError:
            return self.replace(tzinfo=tz)


def make_showable(row: models.Model) -> None:
    """Replace the times of a row that not every zone can show, so that no page fails to convert them."""
    values = vars(row)  # a deferred column is not read for this
    for field in row._meta.concrete_fields:
        value = values.get(field.attname)
        if isinstance(value, datetime) and timezone.is_aware(value) and not is_displayable(value):
            values[field.attname] = EdgeTime.combine(value.date(), value.timetz())


@cache
def _local_column(field: InstantField) -> Callable[[Any], str]:
    @admin.display(description=field.verbose_name, ordering=field.name)
    def column(row: Any) -> str:
        when = getattr(row, field.name)
        return "-" if when is None else str(localize(_local(when)))

    column.__name__ = field.name  # the name of the column's CSS class
    return column


def _local(when: datetime) -> datetime:
    return timezone.localtime(when) if timezone.is_aware(when) else when
