"""The box above the list of invoices. It shows invoices that need attention, and whether ``reconcile_invoices`` runs.

It is empty if nothing needs attention. It makes a constant number of queries, each of which reads only the rows that
it counts.
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
from ...labels.formatting import format_age, format_number, format_time_ago
from ...models import BulkOperation, Invoice, ProviderState
from ...models.provider_state import RECONCILE_QUIET
from ...services.cancel import FAILURES_THAT_PAUSE
from ..operations.list import InterruptedFilter
from ..provider_state import account_name, describe_pause, describe_trouble, sending_warnings
from ..resume import ResumeButton
from .filters import AttentionFilter, Need
from .summary import mark_code

if TYPE_CHECKING:
    from .admin import InvoiceAdmin

MAX_NAMES = 3
"""Maximum number of accounts that a warning names."""


@dataclass(frozen=True)
class Item:
    """One entry of the box."""

    text: str
    url: str
    """The URL of the matching list, or an empty string."""


@dataclass(frozen=True)
class Trouble:
    """A warning about sending."""

    text: str
    resume: ResumeButton | None = None


@dataclass(frozen=True)
class Attention:
    """The content of the box."""

    items: list[Item]
    troubles: list[Trouble]
    """Warnings about disabled sending and about providers that are paused or do not answer."""
    reconciled: str = ""
    """Last run of ``reconcile_invoices``, or a warning that it does not run; empty if no invoice is in doubt."""
    is_unattended: bool = False

    def __bool__(self) -> bool:
        return bool(self.items or self.troubles)


@dataclass(frozen=True)
class _Doubt:
    """The number of one provider's invoices in doubt, and the time since when the oldest one is in doubt."""

    alias: str
    count: int
    oldest: datetime


def collect_attention(admin: InvoiceAdmin, request: HttpRequest) -> Attention:
    """Return the entries for the invoices that this user may see."""
    invoices: Any = admin.get_queryset(request)
    doubts = _group_doubts(invoices)
    states = {state.alias: state for state in _read_states(invoices)}
    reconciled, is_unattended = _describe_reconcile(doubts, states)
    return Attention(
        items=[*_invoice_items(admin, request, invoices, doubts), *_operation_items(admin, request)],
        troubles=[
            *map(Trouble, sending_warnings()),
            *(
                Trouble(text, admin.resume_button(request, state))
                for state in states.values()
                if state.is_seen and (text := _describe_known_trouble(state))
            ),
        ],
        reconciled=mark_code(reconciled),
        is_unattended=is_unattended,
    )


def _describe_known_trouble(state: ProviderState) -> str:
    """Return the warning about a provider. A few failures are not included."""
    return describe_trouble(state) if state.failures >= FAILURES_THAT_PAUSE else describe_pause(state)


# -- items ----------------------------------------------------------------------------------------------------


def _invoice_items(admin: InvoiceAdmin, request: HttpRequest, invoices: Any, doubts: list[_Doubt]) -> Iterator[Item]:
    in_doubt = sum(doubt.count for doubt in doubts)
    if in_doubt:
        age = format_age(utc_now() - min(doubt.oldest for doubt in doubts))
        text = ngettext("%(count)s in doubt (%(age)s)", "%(count)s in doubt (oldest %(age)s)", in_doubt)
        values = {"count": format_number(in_doubt), "age": age}
        yield Item(text % values, _filtered_list_url(admin, request, Need.IN_DOUBT))
    for need, (count, since) in _count_needs(invoices).items():
        if since is not None:
            age = format_age(utc_now() - since)
            text = _NEED_COUNTS[need] % {"number": count, "count": format_number(count), "age": age}
            yield Item(text, _filtered_list_url(admin, request, need))


_NEED_COUNTS: Mapping[Need, Any] = {
    Need.ABANDONED: ngettext_lazy(
        "%(count)s cancellation interrupted",
        "%(count)s cancellations interrupted",
        "number",
    ),
    Need.WAITING: ngettext_lazy(
        "%(count)s requested cancellation is waiting (%(age)s)",
        "%(count)s requested cancellations are waiting (oldest %(age)s)",
        "number",
    ),
    Need.LATE_MONEY: ngettext_lazy("%(count)s paid after cancellation", "%(count)s paid after cancellation", "number"),
    Need.CONTRADICTED: ngettext_lazy(
        "%(count)s contradicted by the provider", "%(count)s contradicted by the provider", "number"
    ),
}


def _count_needs(invoices: Any) -> dict[Need, tuple[int, datetime | None]]:
    """Return the number of invoices for each need, and since when the oldest one has it. This makes one query."""
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


def _filtered_list_url(admin: InvoiceAdmin, request: HttpRequest, need: Need) -> str:
    """Return the URL of the filtered list; empty if the project's admin does not use this filter."""
    if AttentionFilter not in admin.get_list_filter(request):
        return ""
    opts = admin.opts
    url = reverse(f"admin:{opts.app_label}_{opts.model_name}_changelist", current_app=admin.admin_site.name)
    return f"{url}?{AttentionFilter.parameter_name}={need}"


def _operation_items(admin: InvoiceAdmin, request: HttpRequest) -> Iterator[Item]:
    site, interrupted = admin.admin_site, BulkOperation.objects.interrupted()
    if not site.is_registered(BulkOperation):
        return
    operations = site.get_model_admin(BulkOperation)
    if not operations.has_view_permission(request) or not interrupted.exists():
        return
    count = interrupted.filter(pk__in=operations.get_queryset(request).values("pk")).count()
    if count:
        text = ngettext("%(count)s operation interrupted", "%(count)s operations interrupted", count)
        url = reverse("admin:invoice_cancel_bulkoperation_changelist", current_app=site.name)
        yield Item(
            text % {"count": format_number(count)},
            f"{url}?{InterruptedFilter.parameter_name}={InterruptedFilter.INTERRUPTED}",
        )


# -- does reconcile run? --------------------------------------------------------------------------------------


def _group_doubts(invoices: Any) -> list[_Doubt]:
    groups = invoices.in_doubt().order_by().values("provider")
    counted = groups.annotate(count=Count("pk"), oldest=Min("status_changed_at"))
    return [_Doubt(group["provider"], group["count"], group["oldest"]) for group in counted]


def _read_states(invoices: Any) -> Any:
    """Return the states of accounts that have problems or were reconciled.

    ``is_seen`` is False if all invoices of the account are hidden from the user.
    """
    in_trouble = Q(paused_until__gt=utc_now()) | Q(failures__gte=FAILURES_THAT_PAUSE)
    relevant = in_trouble | Q(last_reconcile_at__isnull=False)
    own = Q(provider=OuterRef("alias"))
    seen = Exists(invoices.order_by().filter(own)) | ~Exists(Invoice.objects.filter(own))
    return ProviderState.objects.using(invoices.db).filter(relevant).annotate(is_seen=seen).order_by("alias")


def _describe_reconcile(doubts: list[_Doubt], states: Mapping[str, ProviderState]) -> tuple[str, bool]:
    """Return a text about the last run of reconcile for the invoices in doubt, and whether reconcile does not run."""
    if not doubts:
        return "", False
    now = utc_now()
    times = {alias: state.last_reconcile_at for alias, state in states.items() if state.last_reconcile_at}
    # A time far in the future was written by a machine with a wrong clock: the time of that run is unknown.
    runs = {alias: run for alias, run in times.items() if run < now + RECONCILE_QUIET}
    latest = max(runs.values(), default=None)
    quiet_since = now - RECONCILE_QUIET
    # For an alias of a resolver, reconcile stores its time only while the alias has invoices in doubt. For a new one,
    # the times of the other aliases are used.
    configured = conf.read()[0].providers
    with_time = {doubt.alias for doubt in doubts if doubt.alias in configured or doubt.oldest < quiet_since}
    last_runs = {doubt.alias: runs.get(doubt.alias) if doubt.alias in with_time else latest for doubt in doubts}
    recent = [run for run in last_runs.values() if run is not None and run >= quiet_since]
    if len(recent) == len(last_runs):
        return _("Reconcile last ran %(ago)s.") % {"ago": format_time_ago(min(recent))}, False
    if latest is not None and latest >= quiet_since:
        return _describe_unattended(sorted(alias for alias, run in last_runs.items() if run not in recent)), True
    return _describe_all_unattended(latest), True


def _describe_all_unattended(latest: datetime | None) -> str:
    text = _("Invoices in doubt are not checked. Schedule `reconcile_invoices`, or use Check with provider.")
    if latest is None:
        return text
    ran = _("Reconcile last ran %(ago)s.") % {"ago": format_time_ago(latest)}
    return f"{text} {ran}"


def _describe_unattended(aliases: list[str]) -> str:
    """Return the warning about accounts for which reconcile does not run, although it runs for others."""
    text = _(
        "Invoices in doubt are not checked (%(providers)s). Schedule `reconcile_invoices`, or use Check with provider."
    )
    names = [account_name(alias) for alias in aliases[:MAX_NAMES]]
    return text % {"providers": ", ".join([*names, "…"] if len(aliases) > MAX_NAMES else names)}
