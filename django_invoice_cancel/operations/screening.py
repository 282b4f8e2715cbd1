"""Leased items that must not be sent, with the outcomes that conclude them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ..domain.outcomes import LAST_REFUSED, Code, Outcome
from ..domain.statuses import Status
from ..models import BulkOperation, BulkOperationItem, InvoiceTransition
from ..models.operation import Operation

Conclusions = Mapping[Any, tuple[str, str]]
"""Outcome and code by the key of the invoice."""


def find_tried(operation: BulkOperation, items: Sequence[BulkOperationItem]) -> Conclusions:
    """Return the items that a crashed worker tried: their outcome in the log, or in doubt for an open claim."""
    keys = [item.invoice_id for item in items if item.was_leased and item.invoice_id is not None]
    if not keys:
        return {}
    found: dict[Any, tuple[str, str]] = {}
    log = InvoiceTransition.objects.using(operation.database)
    for row in log.filter(operation=operation.pk, invoice_id__in=keys).order_by("id"):
        if row.code in (Code.GIVEN_BACK, Code.RATE_LIMITED):
            found.pop(row.invoice_id, None)
        elif row.outcome:
            found[row.invoice_id] = (row.outcome, row.code)
        elif row.to_status == Status.CANCELING:
            found[row.invoice_id] = (Outcome.IN_DOUBT, Code.ABANDONED)
    return found


def find_moved(operation: BulkOperation, items: Sequence[BulkOperationItem]) -> Conclusions:
    """Return the items whose invoice was moved to another account after the selection."""
    return {
        item.invoice.pk: (Outcome.SKIPPED, Code.CHANGED)
        for item in items
        if item.invoice is not None and item.invoice.provider != item.provider
    }


def find_refused(operation: BulkOperation, items: Sequence[BulkOperationItem]) -> Conclusions:
    """Return the items to cancel whose invoice was refused after the selection."""
    if operation.operation != Operation.CANCEL:
        return {}
    keys = [
        item.invoice.pk
        for item in items
        if item.invoice is not None
        and item.invoice.last_outcome in LAST_REFUSED
        and item.invoice.attempt != item.attempt
    ]
    if not keys:
        return {}
    log = InvoiceTransition.objects.using(operation.database).filter(invoice_id__in=keys)
    refused = log.filter(outcome=Outcome.REFUSED, created_at__gte=operation.created_at)
    return dict.fromkeys(refused.values_list("invoice_id", flat=True), (Outcome.SKIPPED, Code.CHANGED))


SCREENS: tuple[Callable[[BulkOperation, Sequence[BulkOperationItem]], Conclusions], ...] = (
    find_tried,
    find_moved,
    find_refused,
)
"""The screens in their order. Each gets the items that the earlier ones have left."""
