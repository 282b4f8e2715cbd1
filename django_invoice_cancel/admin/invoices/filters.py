"""Search and filters of the list of invoices. No filter reads the table of invoices to build its choices."""

from __future__ import annotations

from collections import defaultdict
from datetime import timedelta
from enum import StrEnum
from typing import Any

from django.contrib.admin import SimpleListFilter
from django.core.exceptions import ImproperlyConfigured
from django.db.models import Q, QuerySet, Value
from django.db.models.functions import Coalesce
from django.http import HttpRequest
from django.utils.translation import gettext_lazy as _

from ... import conf, registry
from ...domain.clock import utc_now
from ...exceptions import InvalidExternalId
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
    """The age of invoices."""

    title = _("issued")
    parameter_name = "issued"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        return [
            ("new-1", _("In the last 24 hours")),
            ("new-7", _("In the last 7 days")),
            ("old-1", _("More than a day ago")),
            ("old-7", _("More than 7 days ago")),
            ("old-30", _("More than 30 days ago")),
        ]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any] | None:
        value = self.value()
        if value not in dict(self.lookup_choices):
            return None
        side, _dash, days = str(value).partition("-")
        lookup = "issued_at__gte" if side == "new" else "issued_at__lt"
        return queryset.filter(**{lookup: as_plain(utc_now() - timedelta(days=int(days)))})


def known_aliases() -> list[str]:
    """Return the aliases of the settings, followed by others that have a stored state."""
    configured = list(conf.read()[0].providers)
    others = ProviderState.objects.exclude(alias__in=configured).order_by("alias")
    return [*configured, *others.values_list("alias", flat=True)[:MAX_PROVIDERS]]


def _account_label(alias: str) -> str:
    name = provider_name(alias)
    return name if name.lower() == alias.lower() else f"{alias} ({name})"
