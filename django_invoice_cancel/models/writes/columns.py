"""The columns of an invoice that only the writer changes, and how an instance in memory carries them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...domain.ports import InvoicePort

WRITER_FIELDS = (
    "status",
    "attempt",
    "claim_expires_at",
    "cancel_requested_at",
    "cancel_try_at",
    "cancel_try_count",
    "next_check_at",
    "check_count",
    "last_outcome",
    "status_changed_at",
    "status_confirmed_at",
    "contradicted_at",
    "paid_after_cancel_at",
    "paid_after_cancel_handled_at",
    "paid_after_cancel_handled_by_id",
)
"""The columns of an invoice that only the writer changes."""


def show(invoice: InvoicePort, changes: Mapping[str, Any]) -> None:
    """Let the instance in memory carry what was written to its row."""
    for name, value in changes.items():
        setattr(invoice, name, value)


def carried_values(invoice: InvoicePort) -> dict[str, Any]:
    return {name: vars(invoice)[name] for name in WRITER_FIELDS if name in vars(invoice)}


def restore_values(invoice: InvoicePort, carried: dict[str, Any]) -> None:
    for name in set(WRITER_FIELDS) - set(carried):
        vars(invoice).pop(name, None)  # it was deferred
    show(invoice, carried)


def carry_over(row: InvoicePort, invoice: InvoicePort) -> None:
    """Let an instance carry the status and bookkeeping of its row; its other fields stay as they are."""
    if row is not invoice:
        show(invoice, {name: getattr(row, name) for name in WRITER_FIELDS})
