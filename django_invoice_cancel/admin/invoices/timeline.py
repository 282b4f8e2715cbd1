"""The timeline of an invoice: one line for each row of its log, newest first, with details that can be expanded.

Messages of providers are plain text: the templates escape them.
"""

from __future__ import annotations

from dataclasses import dataclass

from ...labels.formatting import format_milliseconds, format_time
from ...labels.invoices import TRIGGER_LABELS, describe_event, message_label, status_label
from ...models import Invoice, InvoiceTransition
from ...services.results import provider_name

MAX_EVENTS = 50
"""Maximum number of events on the page of an invoice. The history page shows more."""


@dataclass(frozen=True)
class Event:
    """One line of the timeline, and its details."""

    when: str
    who: str
    trigger: str
    what: str
    reason: str
    status: str
    """The new status of the invoice; empty if it did not change."""
    status_label: str
    row: InvoiceTransition

    @property
    def message_label(self) -> str:
        """The heading of the message among the details."""
        return message_label(self.row.code, self.row.http_status)

    @property
    def has_details(self) -> bool:
        return bool(self.row.code or self.row.provider_message or self.row.http_status or self.row.operation)


def read_log(invoice: Invoice, count: int = MAX_EVENTS) -> list[InvoiceTransition]:
    """Return the latest rows of the log, newest first."""
    return list(invoice.transitions.order_by("-id")[:count])


def build_events(invoice: Invoice, log: list[InvoiceTransition]) -> list[Event]:
    """Return the events for the rows of a log, in the same order."""
    name = provider_name(invoice.provider)
    return [_build_event(row, name) for row in log]


def _build_event(row: InvoiceTransition, name: str) -> Event:
    status = row.to_status if row.from_status != row.to_status else ""
    what = describe_event(
        from_status=row.from_status,
        to_status=row.to_status,
        outcome=row.outcome,
        code=row.code,
        provider=name,
        duration="" if row.duration_ms is None else format_milliseconds(row.duration_ms),
    )
    return Event(
        when=format_time(row.created_at),
        who=row.actor_label,
        trigger=str(TRIGGER_LABELS.get(row.trigger, row.trigger)),
        what=what,
        reason=row.reason,
        status=status,
        status_label=status_label(status) if status else "",
        row=row,
    )
