"""The strip above the list: what needs a person, and whether anybody is at work on it. Nothing where nothing does.

A constant number of queries, each of which reads only the rows that it counts: never the whole table.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from django.db.models import Count, Exists, Min, OuterRef, Q, Value
from django.http import HttpRequest
from django.urls import reverse
from django.utils.translation import gettext as _
from django.utils.translation import ngettext, ngettext_lazy

from ... import conf
from ...domain.clock import utc_now
from ...models import BulkOperation, Invoice, ProviderState
from ...models.provider_state import RECONCILE_QUIET
from ...services.cancel import FAILURES_THAT_PAUSE
from ..formatting import account, age, ago, number
from ..operations.list import InterruptedFilter
from ..provider_state import pause_of, sending_disabled, trouble_of
from .filters import AttentionFilter, Need
from .summary import marked

if TYPE_CHECKING:
    from .admin import InvoiceAdmin

MOST_NAMED = 3
"""Where more accounts than this are left unattended, a few names do."""


@dataclass(frozen=True)
class Item:
    """One thing that needs attention, and the list of it."""

    text: str
    address: str


@dataclass(frozen=True)
class Attention:
    """What the strip says."""

    items: list[Item]
    troubles: list[str]
    """Which providers are paused, or have not answered since they were."""
    reconciled: str = ""
    """When reconcile last ran, or that nobody runs it; empty where nothing is in doubt."""
    is_unattended: bool = False

    def __bool__(self) -> bool:
        return bool(self.items or self.troubles)


@dataclass(frozen=True)
class _Doubt:
    """How many invoices of one provider are in doubt, and since when."""

    alias: str
    count: int
    oldest: datetime


def attention(admin: InvoiceAdmin, request: HttpRequest) -> Attention:
    """Return what needs attention among the invoices that this user may see."""
    invoices: Any = admin.get_queryset(request)
    doubts = _doubts(invoices)
    states = {state.alias: state for state in _states(invoices)}
    reconciled, is_unattended = _reconciled(doubts, states)
    return Attention(
        items=[*_about_invoices(admin, request, invoices, doubts), *_about_operations(admin, request)],
        troubles=[
            *sending_disabled(),
            *(text for state in states.values() if state.is_seen and (text := _trouble(state))),
        ],
        reconciled=marked(reconciled),
        is_unattended=is_unattended,
    )


def _trouble(state: ProviderState) -> str:
    """Say that a provider is down, as far as is known; one lost answer is no news."""
    return trouble_of(state) if state.failures >= FAILURES_THAT_PAUSE else pause_of(state)


# -- items ----------------------------------------------------------------------------------------------------


def _about_invoices(admin: InvoiceAdmin, request: HttpRequest, invoices: Any, doubts: list[_Doubt]) -> Iterator[Item]:
    in_doubt = sum(doubt.count for doubt in doubts)
    if in_doubt:
        oldest = age(utc_now() - min(doubt.oldest for doubt in doubts))
        text = ngettext("%(count)s in doubt (%(age)s)", "%(count)s in doubt (oldest %(age)s)", in_doubt)
        yield Item(text % {"count": number(in_doubt), "age": oldest}, _list_of(admin, request, Need.IN_DOUBT))
    for need, (count, since) in _counted(invoices).items():
        if since is not None:
            text = _TEXTS[need] % {"number": count, "count": number(count), "age": age(utc_now() - since)}
            yield Item(text, _list_of(admin, request, need))


_TEXTS: Mapping[Need, Any] = {
    Need.ABANDONED: ngettext_lazy(
        "%(count)s left behind while it was being canceled",
        "%(count)s left behind while they were being canceled",
        "number",
    ),
    Need.WAITING: ngettext_lazy(
        "%(count)s requested cancellation waits (%(age)s)",
        "%(count)s requested cancellations wait (oldest %(age)s)",
        "number",
    ),
    Need.LATE_MONEY: ngettext_lazy("%(count)s paid after cancellation", "%(count)s paid after cancellation", "number"),
    Need.CONTRADICTED: ngettext_lazy(
        "%(count)s contradicted by the provider", "%(count)s contradicted by the provider", "number"
    ),
}


def _counted(invoices: Any) -> dict[Need, tuple[int, datetime | None]]:
    """Return how many invoices have each need, and since when the oldest has it: one query, a part for each need."""
    parts = {
        Need.ABANDONED: (invoices.abandoned(), "status_changed_at"),
        Need.WAITING: (invoices.requested_long_ago(), "cancel_requested_at"),
        Need.LATE_MONEY: (invoices.paid_after_cancel(), "paid_after_cancel_at"),
        Need.CONTRADICTED: (invoices.contradicted(), "contradicted_at"),
    }
    first, *others = (
        rows.order_by()
        .values(need=Value(str(need)))
        .annotate(count=Count("pk", distinct=rows.query.distinct), oldest=Min(since))
        .values_list("need", "count", "oldest")
        for need, (rows, since) in parts.items()
    )
    return {Need(need): (count, oldest) for need, count, oldest in first.union(*others, all=True)}


def _list_of(admin: InvoiceAdmin, request: HttpRequest, need: Need) -> str:
    """Return the address of the filtered list; empty where a host's admin has another set of filters."""
    if AttentionFilter not in admin.get_list_filter(request):
        return ""
    opts = admin.opts
    address = reverse(f"admin:{opts.app_label}_{opts.model_name}_changelist", current_app=admin.admin_site.name)
    return f"{address}?{AttentionFilter.parameter_name}={need}"


def _about_operations(admin: InvoiceAdmin, request: HttpRequest) -> Iterator[Item]:
    site, interrupted = admin.admin_site, BulkOperation.objects.interrupted()
    if not site.is_registered(BulkOperation):
        return
    operations = site.get_model_admin(BulkOperation)
    if not operations.has_view_permission(request) or not interrupted.exists():
        return
    count = interrupted.filter(pk__in=operations.get_queryset(request).values("pk")).count()
    if count:
        text = ngettext("%(count)s operation interrupted", "%(count)s operations interrupted", count)
        address = reverse("admin:invoice_cancel_bulkoperation_changelist", current_app=site.name)
        yield Item(
            text % {"count": number(count)},
            f"{address}?{InterruptedFilter.parameter_name}={InterruptedFilter.INTERRUPTED}",
        )


# -- is anybody at work? --------------------------------------------------------------------------------------


def _doubts(invoices: Any) -> list[_Doubt]:
    groups = invoices.in_doubt().order_by().values("provider")
    counted = groups.annotate(count=Count("pk"), oldest=Min("status_changed_at"))
    return [_Doubt(group["provider"], group["count"], group["oldest"]) for group in counted]


def _states(invoices: Any) -> Any:
    """Return the accounts in trouble and those that were reconciled; ``is_seen``: not of hidden invoices only."""
    in_trouble = Q(paused_until__gt=utc_now()) | Q(failures__gte=FAILURES_THAT_PAUSE)
    telling = in_trouble | Q(last_reconcile_at__isnull=False)
    own = Q(provider=OuterRef("alias"))
    seen = Exists(invoices.order_by().filter(own)) | ~Exists(Invoice.objects.filter(own))
    return ProviderState.objects.using(invoices.db).filter(telling).annotate(is_seen=seen).order_by("alias")


def _reconciled(doubts: list[_Doubt], states: Mapping[str, ProviderState]) -> tuple[str, bool]:
    """Say when reconcile last ran for what is in doubt, or that nobody runs it; and whether that is so."""
    if not doubts:
        return "", False
    now = utc_now()
    times = {alias: state.last_reconcile_at for alias, state in states.items() if state.last_reconcile_at}
    # A time far in the future was written by a clock that is ahead: how long ago that was is not known.
    beats = {alias: beat for alias, beat in times.items() if beat < now + RECONCILE_QUIET}
    latest = max(beats.values(), default=None)
    quiet_since = now - RECONCILE_QUIET
    # Reconcile beats for a resolver's alias only while that has doubts: of a new one, the others' beat tells.
    configured = conf.read()[0].providers
    beating = {doubt.alias for doubt in doubts if doubt.alias in configured or doubt.oldest < quiet_since}
    ran = {doubt.alias: beats.get(doubt.alias) if doubt.alias in beating else latest for doubt in doubts}
    kept = [beat for beat in ran.values() if beat is not None and beat >= quiet_since]
    if len(kept) == len(ran):
        return _("Reconcile last ran %(ago)s.") % {"ago": ago(min(kept))}, False
    if latest is not None and latest >= quiet_since:
        return _unattended_at(sorted(alias for alias, beat in ran.items() if beat not in kept)), True
    return _unattended(latest), True


def _unattended(latest: datetime | None) -> str:
    text = _("Nothing is checking invoices in doubt: schedule `reconcile_invoices`, or use Check with provider.")
    if latest is None:
        return text
    ran = _("Reconcile last ran %(ago)s.") % {"ago": ago(latest)}
    return f"{text} {ran}"


def _unattended_at(aliases: list[str]) -> str:
    """Say it of these accounts alone: reconcile does run, for others."""
    text = _(
        "Nothing is checking invoices in doubt (%(providers)s): "
        "schedule `reconcile_invoices`, or use Check with provider."
    )
    names = [account(alias) for alias in aliases[:MOST_NAMED]]
    return text % {"providers": ", ".join([*names, "…"] if len(aliases) > MOST_NAMED else names)}
