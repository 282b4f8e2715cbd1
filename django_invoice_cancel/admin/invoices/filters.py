"""Search and filters of the list of invoices. No filter reads the table of invoices to build its choices."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator
from datetime import date, datetime, time, timedelta
from enum import StrEnum
from typing import Any

from django.contrib.admin import SimpleListFilter
from django.core.exceptions import ImproperlyConfigured
from django.db.models import Q, QuerySet, Value
from django.db.models.functions import Coalesce
from django.http import HttpRequest, QueryDict
from django.utils import timezone
from django.utils.dateparse import parse_date
from django.utils.text import format_lazy
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from ... import conf, registry
from ...domain.bidi import isolate
from ...domain.clock import utc_now
from ...domain.statuses import Status
from ...exceptions import InvalidExternalId
from ...labels.formatting import format_dates, to_local
from ...models import ProviderState
from ...models.fields import as_plain
from ...models.values import is_unstorable
from ...services.results import provider_name


def search_invoices(invoices: Any, term: str) -> Any:
    """Return the invoices with this id or reference; without a match, those whose id or reference begins with it."""
    term = term.strip()
    if not term:
        return invoices
    if is_unstorable(term):
        return invoices.none()
    exact = invoices.filter(_match_exactly(term))
    if exact.exists():
        return exact
    return invoices.filter(Q(external_id__startswith=term) | Q(reference__startswith=term))


def _match_exactly(term: str) -> Q:
    """Return the condition for an id in the form of each provider, or for a reference.

    Each part names the provider, because the index begins with the provider.
    """
    configured = conf.read()[0].providers
    forms: dict[str, list[str]] = defaultdict(list)
    for alias in known_aliases():
        forms[term].append(alias)
        if alias in configured and (form := _clean_id(alias, term)) != term:
            forms[form].append(alias)
    condition = Q(reference=term)
    for form, aliases in forms.items():
        condition |= Q(provider__in=aliases, external_id=form)
    return condition


def _clean_id(alias: str, term: str) -> str:
    try:
        return registry.get_provider(alias).clean_id(term)
    except (ImproperlyConfigured, InvalidExternalId):
        return term


MAX_PROVIDERS = 50
"""Maximum number of accounts in the filter. A resolver may have thousands. The search finds their invoices."""


class Need(StrEnum):
    """The reasons why an invoice may need attention."""

    ANY = "any"
    IN_DOUBT = "in_doubt"
    ABANDONED = "abandoned"
    LATE_MONEY = "paid_after_cancel"
    CONTRADICTED = "contradicted"
    REQUESTED = "requested"
    WAITING = "waiting"


class AttentionFilter(SimpleListFilter):
    """Invoices that need attention."""

    title = _("needs attention")
    parameter_name = "attention"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        return [
            (Need.ANY, _("Any reason")),
            (Need.IN_DOUBT, _("In doubt")),
            (Need.ABANDONED, _("Cancellation interrupted")),
            (Need.LATE_MONEY, _("Paid after cancellation")),
            (Need.CONTRADICTED, _("Contradicted by the provider")),
            (Need.REQUESTED, _("Cancellation requested")),
            (Need.WAITING, _("Requested more than 15 minutes ago")),
        ]

    def queryset(self, request: HttpRequest, queryset: Any) -> QuerySet[Any] | None:
        querysets = {
            Need.ANY: queryset.needing_attention,
            Need.IN_DOUBT: queryset.in_doubt,
            Need.ABANDONED: queryset.abandoned,
            Need.LATE_MONEY: queryset.paid_after_cancel,
            Need.CONTRADICTED: queryset.contradicted,
            Need.REQUESTED: queryset.requested,
            Need.WAITING: queryset.requested_long_ago,
        }
        value = self.value()
        return querysets[Need(value)]() if value in list(Need) else None


class ProviderFilter(SimpleListFilter):
    """Provider accounts: those of the settings, and others that have a stored state."""

    title = _("provider")
    parameter_name = "provider"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        return [(alias, _account_label(alias)) for alias in known_aliases()[:MAX_PROVIDERS]]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any] | None:
        value = self.value()
        if not value:
            return None
        # A provider may have most of a million rows. A database without statistics (SQLite) would use the index on the
        # provider and sort all of them. With an expression it reads the rows in the order of the list.
        rows: QuerySet[Any] = queryset.alias(its_provider=Coalesce("provider", Value(""))).filter(its_provider=value)
        return rows


class IssuedFilter(SimpleListFilter):
    """The dates on which invoices were issued: ages, the last calendar week or month, or two dates in local time.

    A week begins on Monday. Invalid dates list no invoice, so that an action on the list never gets more invoices than
    the user meant.
    """

    title = _("issued")
    parameter_name = "issued"
    from_name = "issued_from"
    to_name = "issued_to"
    template = "admin/invoice_cancel/invoice/issued_filter.html"
    error = ""
    """The text about invalid dates, for the page."""

    def __init__(self, request: HttpRequest, params: dict[str, Any], model: Any, model_admin: Any) -> None:
        super().__init__(request, params, model, model_admin)
        dates = [params.pop(name, [""])[-1].strip() for name in (self.from_name, self.to_name)]
        self.first, self.last = dates
        self.hidden: list[tuple[str, str]] = []

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        today = to_local(utc_now()).date()
        return [
            ("new-1", _("In the last 24 hours")),
            ("new-7", _("In the last 7 days")),
            ("last-week", format_lazy(_("Last week ({dates})"), dates=format_dates(*_last_week(today)))),
            ("last-month", format_lazy(_("Last month ({dates})"), dates=format_dates(*_last_month(today)))),
            ("old-1", _("More than a day ago")),
            ("old-7", _("More than 7 days ago")),
            ("old-30", _("More than 30 days ago")),
        ]

    def expected_parameters(self) -> list[str | None]:
        return [self.parameter_name, self.from_name, self.to_name]

    def choices(self, changelist: Any) -> Iterator[Any]:
        """Yield the periods and, if the user entered dates, a choice that shows them."""
        dates = [self.from_name, self.to_name]
        rest = QueryDict(changelist.get_query_string({}, self.expected_parameters()).lstrip("?"))
        self.hidden = [(name, value) for name, values in rest.lists() for value in values]
        has_dates = bool(self.first or self.last)
        everything = changelist.get_query_string({}, self.expected_parameters())
        yield {"selected": not has_dates and self.value() is None, "query_string": everything, "display": _("All")}
        for value, label in self.lookup_choices:
            yield {
                "selected": not has_dates and value == self.value(),
                "query_string": changelist.get_query_string({self.parameter_name: value}, dates),
                "display": label,
            }
        if has_dates and not self.error:
            shown = format_dates(*self._entered_dates())
            yield {"selected": True, "query_string": changelist.get_query_string(), "display": shown}

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any] | None:
        try:
            dates = self._entered_dates()
        except ValueError as error:
            self.error = str(error)
            return queryset.none()
        if any(dates):
            return _issued_between(queryset, *dates)
        value = self.value()
        if value not in dict(self.lookup_choices):
            return None
        side, _dash, span = str(value).partition("-")
        if side == "last":
            today = to_local(utc_now()).date()
            return _issued_between(queryset, *(_last_week(today) if span == "week" else _last_month(today)))
        lookup = "issued_at__gte" if side == "new" else "issued_at__lt"
        return queryset.filter(**{lookup: as_plain(utc_now() - timedelta(days=int(span)))})

    def _entered_dates(self) -> tuple[date | None, date | None]:
        """Return the first and the last day, or raise ``ValueError`` with a text for the user."""
        first, last = _parse_date(self.first), _parse_date(self.last)
        if first and last and first > last:
            raise ValueError(gettext("No invoices are shown: the first date is after the last one."))
        return first, last


def _parse_date(text: str) -> date | None:
    if not text:
        return None
    try:
        day = parse_date(text)
    except ValueError:  # valid syntax, but there is no such day
        day = None
    if day is None or not 1 < day.year < 9999:  # at the ends of the calendar a day has no end in some time zones
        example = {"text": text[:40], "example": "2026-01-31"}
        raise ValueError(
            gettext("No invoices are shown: “%(text)s” is not a date. Enter it like %(example)s.") % example
        )
    return day


def _issued_between(invoices: QuerySet[Any], first: date | None, last: date | None) -> QuerySet[Any]:
    """Return the invoices that were issued on these days, the last one included, in the current time zone."""
    if first is not None:
        invoices = invoices.filter(issued_at__gte=_start_of_day(first))
    return invoices if last is None else invoices.filter(issued_at__lt=_start_of_day(last + timedelta(days=1)))


def _start_of_day(day: date) -> datetime:
    return as_plain(timezone.make_aware(datetime.combine(day, time.min), timezone.get_current_timezone()))


def _last_week(today: date) -> tuple[date, date]:
    monday = today - timedelta(days=today.weekday() + 7)
    return monday, monday + timedelta(days=6)


def _last_month(today: date) -> tuple[date, date]:
    last = today.replace(day=1) - timedelta(days=1)
    return last.replace(day=1), last


def list_shortcuts(list_filter: Collection[Any]) -> list[tuple[Any, str]]:
    """Return links to the open invoices of the last week and month; empty if the list does not have both filters."""
    if "status" not in list_filter or IssuedFilter not in list_filter:
        return []
    labels = {"last-week": _("issued last week"), "last-month": _("issued last month")}
    return [
        (label, f"?status__exact={Status.CREATED}&{IssuedFilter.parameter_name}={period}")
        for period, label in labels.items()
    ]


def lists_doubts(parameters: QueryDict) -> bool:
    """Return whether these parameters of the list select the invoices in doubt."""
    status, need = parameters.get("status__exact"), parameters.get(AttentionFilter.parameter_name)
    return status == Status.IN_DOUBT or need == Need.IN_DOUBT


def lists_requests(parameters: QueryDict) -> bool:
    """Return whether these parameters of the list select the requested cancellations that wait."""
    return parameters.get(AttentionFilter.parameter_name) in (Need.REQUESTED, Need.WAITING)


def known_aliases() -> list[str]:
    """Return the aliases of the settings, followed by others that have a stored state."""
    configured = list(conf.read()[0].providers)
    others = ProviderState.objects.exclude(alias__in=configured).order_by("alias")
    return [*configured, *others.values_list("alias", flat=True)[:MAX_PROVIDERS]]


def _account_label(alias: str) -> str:
    name = provider_name(alias)
    return name if name.lower() == alias.lower() else f"{isolate(alias)} ({name})"
