"""What the pages of an operation say, in one place: titles, headlines, labels, amounts."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import datetime, timedelta, tzinfo
from decimal import Decimal
from functools import cache
from typing import Any, Self

from django.conf import settings
from django.contrib import admin
from django.db import models
from django.utils import timezone
from django.utils.formats import date_format, localize, number_format
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext, ngettext_lazy, pgettext

from .. import conf
from ..domain.clock import utc_now
from ..domain.outcomes import CONFIRMS_CANCEL, Code, Outcome
from ..labels import sentence
from ..models import BulkOperation
from ..models.fields import InstantField, is_displayable
from ..models.operation import Operation, Progress
from ..services.results import provider_name


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


UNTRIED = ""
"""The outcome of an item that has none yet."""

_DO: Mapping[str, Any] = {
    Operation.CANCEL: ngettext_lazy("Cancel %(count)s invoice", "Cancel %(count)s invoices", "number"),
    Operation.CHECK: ngettext_lazy("Check %(count)s invoice", "Check %(count)s invoices", "number"),
    Operation.RESOLVE: ngettext_lazy("Resolve %(count)s invoice", "Resolve %(count)s invoices", "number"),
}
_ASK: Mapping[str, Any] = {
    Operation.CANCEL: ngettext_lazy("Cancel %(count)s invoice?", "Cancel %(count)s invoices?", "number"),
    Operation.CHECK: ngettext_lazy("Check %(count)s invoice?", "Check %(count)s invoices?", "number"),
    Operation.RESOLVE: ngettext_lazy("Resolve %(count)s invoice?", "Resolve %(count)s invoices?", "number"),
}
_YES: Mapping[str, Any] = {
    Operation.CANCEL: ngettext_lazy("Yes, cancel %(count)s invoice", "Yes, cancel %(count)s invoices", "number"),
    Operation.CHECK: ngettext_lazy("Yes, check %(count)s invoice", "Yes, check %(count)s invoices", "number"),
    Operation.RESOLVE: ngettext_lazy("Yes, resolve %(count)s invoice", "Yes, resolve %(count)s invoices", "number"),
}
_CANNOT: Mapping[str, Any] = {
    Operation.CANCEL: gettext_lazy("Cannot cancel invoices"),
    Operation.CHECK: gettext_lazy("Cannot check invoices"),
    Operation.RESOLVE: gettext_lazy("Cannot resolve invoices"),
}
_LOGGED: Mapping[str, Any] = {
    Operation.CANCEL: ngettext_lazy(
        "Started to cancel %(count)s invoice.", "Started to cancel %(count)s invoices.", "number"
    ),
    Operation.CHECK: ngettext_lazy(
        "Started to check %(count)s invoice.", "Started to check %(count)s invoices.", "number"
    ),
    Operation.RESOLVE: ngettext_lazy(
        "Started to resolve %(count)s invoice.", "Started to resolve %(count)s invoices.", "number"
    ),
}
_OUTCOMES: Mapping[str, Any] = {
    Outcome.CANCELED: gettext_lazy("Canceled"),
    Outcome.ALREADY_CANCELED: gettext_lazy("Already canceled"),
    Outcome.REFUSED: gettext_lazy("Refused"),
    Outcome.NOT_PROCESSED: gettext_lazy("Not processed"),
    Outcome.IN_DOUBT: gettext_lazy("In doubt"),
    Outcome.SKIPPED: gettext_lazy("Skipped"),
    UNTRIED: gettext_lazy("Not tried"),
}
_CHECKED: Mapping[str, Any] = {
    **_OUTCOMES,
    Outcome.ALREADY_CANCELED: gettext_lazy("Canceled"),
    Outcome.REFUSED: gettext_lazy("Paid or closed"),
    Outcome.NOT_PROCESSED: gettext_lazy("Open"),
}


def number(value: int) -> str:
    """Return a count as people read it: 1,014."""
    return number_format(value, use_l10n=True, force_grouping=True)


def counted(text: Any, count: int) -> str:
    """Fill a count into a text that has plural forms."""
    return str(text % {"number": count, "count": number(count)})


def short(amount: Decimal) -> Decimal:
    """Return an amount with at least two places and no more than it has: 23.90 for the database's 23.90000000."""
    whole, _point, places = f"{amount:f}".partition(".")  # rounding fails for more digits than the context has
    return Decimal(f"{whole}.{places.rstrip('0').ljust(2, '0')}")


def money(amount: Decimal, currency: str) -> str:
    """Return an amount as people read it, in as many places as it needs: 1,501.50 USD."""
    amount = short(amount)
    places = -int(amount.as_tuple().exponent)
    shown = number_format(amount, decimal_pos=places, use_l10n=True, force_grouping=True)
    return f"{shown} {currency}".strip()


def account(alias: str) -> str:
    """Return what people call an account: its provider's name; with the alias where another account has that name."""
    name, others = provider_name(alias), [other for other in conf.read()[0].providers if other != alias]
    return f"{alias} ({name})" if name in map(provider_name, others) else name


def is_known(operation: BulkOperation) -> bool:
    """Return whether this version knows what the operation does and how far it is; a newer one may have written it."""
    return operation.operation in Operation.values and operation.progress in Progress.values


def why(outcome: str, code: str, *, provider: str, detail: str = "") -> str:
    """Return the sentence for an outcome and its code; the words themselves if a newer version wrote them."""
    if outcome not in _OUTCOMES:
        return f"{outcome} ({code})" if code else outcome
    return str(sentence(Outcome(outcome), code, provider=provider, detail=detail))


def title(operation: BulkOperation, count: int) -> str:
    if operation.operation not in _DO:
        return f"{operation.operation}: {number(count)}"
    return counted(_DO[operation.operation], count)


def question(operation: BulkOperation, count: int) -> str:
    return counted(_ASK[operation.operation], count) if count else str(_CANNOT[operation.operation])


def consent(operation: BulkOperation, count: int) -> str:
    return counted(_YES[operation.operation], count)


def log_line(operation: BulkOperation) -> str:
    return counted(_LOGGED[operation.operation], operation.total)


def outcome_word(outcome: str) -> str:
    """Return the word for the outcome of a cancel; empty where there was none."""
    if outcome == Code.NOT_FOUND:
        return _("Unknown to the provider")
    return str(_OUTCOMES.get(outcome, outcome)) if outcome else ""


def outcome_label(operation: BulkOperation, outcome: str) -> str:
    """Return the word for an outcome, as it is read in this kind of operation."""
    if operation.operation == Operation.RESOLVE and outcome:
        return _("Unchanged") if outcome == Outcome.SKIPPED else _("Resolved")
    labels = _CHECKED if operation.operation == Operation.CHECK else _OUTCOMES
    return str(labels.get(outcome, outcome))


def headline(operation: BulkOperation, counts: Mapping[str, int], total: int) -> str:
    """Return the one sentence of a report on ``total`` invoices."""
    if not is_known(operation):
        return _("A newer version of this app wrote this operation. This version only shows it.")
    if operation.operation == Operation.CHECK:
        return _checked(counts)
    good = _good(operation, counts)
    if operation.operation == Operation.CANCEL:
        text = ngettext("%(good)s of %(count)s canceled.", "%(good)s of %(count)s canceled.", total)
    else:
        text = ngettext("%(good)s of %(count)s resolved.", "%(good)s of %(count)s resolved.", total)
    return text % {"good": number(good), "count": number(total)}


def is_all_done(operation: BulkOperation, counts: Mapping[str, int], total: int) -> bool:
    """Return whether every invoice of an operation ended as intended: canceled, found out about, resolved."""
    return _good(operation, counts) == total


def _good(operation: BulkOperation, counts: Mapping[str, int]) -> int:
    if operation.operation == Operation.CANCEL:
        return sum(counts.get(outcome, 0) for outcome in CONFIRMS_CANCEL)
    bad = {UNTRIED, Outcome.SKIPPED} | ({Outcome.IN_DOUBT} if operation.operation == Operation.CHECK else set())
    return sum(count for outcome, count in counts.items() if outcome not in bad)


def _checked(counts: Mapping[str, int]) -> str:
    done = sum(count for outcome, count in counts.items() if outcome not in (UNTRIED, Outcome.SKIPPED))
    text = ngettext(
        "%(count)s invoice checked; in doubt: %(doubt)s.", "%(count)s invoices checked; in doubt: %(doubt)s.", done
    )
    return text % {"count": number(done), "doubt": number(counts.get(Outcome.IN_DOUBT, 0))}
