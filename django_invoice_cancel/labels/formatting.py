"""Format numbers, amounts and times in the language of the user."""

from __future__ import annotations

from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any

from django.utils import timezone
from django.utils.formats import date_format, number_format
from django.utils.translation import gettext as _
from django.utils.translation import pgettext

from ..domain.bidi import isolate
from ..domain.clock import utc_now


def format_time(when: datetime) -> str:
    """Return the time of day, with the date unless it is today: 12:41, or 21 Nov 2026, 12:41."""
    local, today = to_local(when), to_local(utc_now()).date()
    return date_format(local, "H:i" if local.date() == today else pgettext("date format", "j M Y, H:i"))


def format_dates(first: date | None, last: date | None) -> str:
    """Return a period, both days included: 16-22 Nov 2026, from 16 Nov 2026, until 22 Nov 2026."""
    shown = pgettext("date format", "j M Y")
    if first is None or last is None:
        day = first or last
        text = _("from %(day)s") if first else _("until %(day)s")
        return text % {"day": date_format(day, shown)} if day else ""
    if first == last:
        return date_format(last, shown)
    is_short = (first.year, first.month) == (last.year, last.month)
    return f"{first.day if is_short else date_format(first, shown)}\N{EN DASH}{date_format(last, shown)}"


def format_clock(when: datetime) -> str:
    """Return the time of day with seconds, with the date unless it is today: 12:41:05, or 21 Nov 2026, 12:41."""
    local, today = to_local(when), to_local(utc_now()).date()
    return date_format(local, "H:i:s") if local.date() == today else format_time(when)


def to_local(when: datetime) -> datetime:
    """Return an aware time in the current time zone. A naive time is local already."""
    return timezone.localtime(when) if timezone.is_aware(when) else when


def format_age(span: timedelta) -> str:
    """Return a duration in its largest unit: 5 min, 3 h, 12 d."""
    minutes = max(int(span.total_seconds() // 60), 0)
    if minutes < 60:
        return _("%(count)d min") % {"count": minutes}
    if minutes < 60 * 24:
        return _("%(count)d h") % {"count": minutes // 60}
    return _("%(count)d d") % {"count": minutes // (60 * 24)}


def format_time_ago(when: datetime) -> str:
    """Return the time since an instant: just now, 5 min ago, 3 h ago."""
    span = utc_now() - when
    if span < timedelta(minutes=1):
        return _("just now")
    return _("%(age)s ago") % {"age": format_age(span)}


def format_seconds_ago(when: datetime) -> str:
    """Return the same, but in steps of ten seconds during the first two minutes: just now, 40 s ago, 3 min ago."""
    seconds = int((utc_now() - when).total_seconds()) // 10 * 10
    if not 10 <= seconds < 120:
        return format_time_ago(when)
    return _("%(age)s ago") % {"age": _("%(count)s s") % {"count": seconds}}


def format_milliseconds(milliseconds: int) -> str:
    """Return the duration of a request, at least 1 ms: 40 ms, 0.3 s, 15 s."""
    if milliseconds < 100:
        return _("%(count)d ms") % {"count": max(milliseconds, 1)}
    number = milliseconds / 1000
    places = 0 if number >= 10 else 1
    return _("%(count)s s") % {"count": number_format(round(number, places), places)}


def format_number(value: int) -> str:
    """Return a count with grouped thousands: 1,014."""
    return number_format(value, use_l10n=True, force_grouping=True)


def format_count(text: Any, count: int) -> str:
    """Insert a count into a text that has plural forms."""
    return str(text % {"number": count, "count": format_number(count)})


def trim_amount(amount: Decimal) -> Decimal:
    """Return an amount without trailing zeros, but with at least two places: 23.90 for 23.90000000 in the database."""
    whole, _point, places = f"{amount:f}".partition(".")  # rounding fails beyond the decimal precision
    return Decimal(f"{whole}.{places.rstrip('0').ljust(2, '0')}")


def format_money(amount: Decimal, currency: str) -> str:
    """Return an amount with its currency: 1,501.50 USD."""
    amount = trim_amount(amount)
    places = -int(amount.as_tuple().exponent)
    shown = number_format(amount, decimal_pos=places, use_l10n=True, force_grouping=True)
    return f"{shown} {isolate(currency)}".strip()
