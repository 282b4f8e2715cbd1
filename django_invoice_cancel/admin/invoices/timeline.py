"""The log of an invoice as people read it: one line an event, what the provider said folded away below.

The provider's words are text, never HTML: templates escape them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from ...domain.audit import Trigger
from ...domain.outcomes import Code, Outcome
from ...domain.statuses import Status
from ...models import Invoice, InvoiceTransition
from ...models.invoice import STATUS_LABELS
from ...services.results import provider_name
from ..formatting import clock, seconds, why

LATEST = 50
"""How many events an invoice's own page shows; its history shows more."""

_DOORS: Mapping[str, object] = {
    Trigger.API: gettext_lazy("API"),
    Trigger.ADMIN: gettext_lazy("admin"),
    Trigger.COMMAND: gettext_lazy("command"),
    Trigger.TASK: gettext_lazy("task"),
    Trigger.ON_COMMIT: gettext_lazy("on commit"),
    Trigger.RECONCILE: gettext_lazy("reconcile"),
    Trigger.WEBHOOK: gettext_lazy("webhook"),
    Trigger.OPERATOR: gettext_lazy("by hand"),
}
_CANCEL_SENT: Mapping[str, object] = {
    Outcome.CANCELED: gettext_lazy("cancel sent, confirmed after %(time)s"),
    Outcome.ALREADY_CANCELED: gettext_lazy("cancel sent; it was canceled already, said after %(time)s"),
    Outcome.REFUSED: gettext_lazy("cancel sent, refused after %(time)s"),
    Outcome.IN_DOUBT: gettext_lazy("cancel sent, no usable answer after %(time)s"),
}
_PLAIN: Mapping[str, object] = {
    Code.REQUESTED: gettext_lazy("asked to cancel it"),
    Code.WITHDRAWN: gettext_lazy("withdrew the request to cancel it"),
    Code.GIVEN_BACK: gettext_lazy("given back unsent"),
    Code.ABANDONED: gettext_lazy("the process that was canceling it is gone"),
    Code.HANDLED: gettext_lazy("late money marked as handled"),
    Code.MORE_MONEY: gettext_lazy("more money than was handled: to be handled again"),
}
_FAULTS = frozenset({Code.NO_ANSWER, Code.UNREACHABLE, Code.ADAPTER_ERROR})
"""Where there was no answer, what is noted are our words, not the provider's."""


@dataclass(frozen=True)
class Event:
    """One line, and what is folded away below it."""

    when: str
    who: str
    door: str
    what: str
    reason: str
    status: str
    """The status that the invoice got; empty where the event changed none."""
    label: str
    """The status's word for people."""
    row: InvoiceTransition

    @property
    def words_label(self) -> str:
        """What to call the raw words: the provider said nothing where its answer never came."""
        is_fault = self.row.http_status is None and self.row.code in _FAULTS
        return _("The fault") if is_fault else _("The provider's words")

    @property
    def has_details(self) -> bool:
        return bool(self.row.code or self.row.provider_message or self.row.http_status or self.row.operation)


def latest(invoice: Invoice, count: int = LATEST) -> list[InvoiceTransition]:
    """Return the latest rows of the log, newest first."""
    return list(invoice.transitions.order_by("-id")[:count])


def events_of(invoice: Invoice, log: list[InvoiceTransition]) -> list[Event]:
    """Return the events of a log, in its order."""
    name = provider_name(invoice.provider)
    return [_event(row, name) for row in log]


def _event(row: InvoiceTransition, name: str) -> Event:
    status = row.to_status if row.from_status != row.to_status else ""
    return Event(
        when=clock(row.created_at),
        who=row.actor_label,
        door=str(_DOORS.get(row.trigger, row.trigger)),
        what=_what(row, name),
        reason=row.reason,
        status=status,
        label=label_of(status) if status else "",
        row=row,
    )


def label_of(status: str) -> str:
    """Return a status's word for people."""
    return str(STATUS_LABELS[Status(status)]) if status in list(Status) else status


def _what(row: InvoiceTransition, name: str) -> str:
    if row.code in _PLAIN:
        return str(_PLAIN[row.code])
    if row.code == Code.RESOLVED:
        return _("decided: %(status)s") % {"status": label_of(row.to_status)}
    if not row.from_status:
        return _("registered")
    if row.to_status == Status.CANCELING:
        return _("begins to cancel at %(provider)s") % {"provider": name}
    if row.duration_ms is not None:
        return _sent(row, name)
    if row.code == Code.OBSERVED:
        return _("%(provider)s reported: %(status)s") % {"provider": name, "status": _reported(row)}
    return why(row.outcome or Outcome.SKIPPED, row.code, provider=name)


def _sent(row: InvoiceTransition, name: str) -> str:
    """Say what came of a request, and after how long."""
    if row.code == Code.NO_ANSWER:
        return _("cancel sent, no answer after %(time)s") % {"time": seconds(row.duration_ms or 0)}
    if row.outcome in _CANCEL_SENT:
        return str(_CANCEL_SENT[row.outcome]) % {"time": seconds(row.duration_ms or 0)}
    return _("cancel not carried out: %(why)s") % {"why": why(row.outcome, row.code, provider=name)}


def _reported(row: InvoiceTransition) -> str:
    """Return what a provider reported: the new status, or the one that its word means."""
    if row.outcome == Outcome.ALREADY_CANCELED:
        return label_of(Status.CANCELED)
    return label_of(row.to_status)
