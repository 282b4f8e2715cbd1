"""Process slices of stored operations without a time limit, and read their results by external id."""

from functools import partial

from django_invoice_cancel import operations
from django_invoice_cancel.models import BulkOperation

advance_slice = partial(operations.advance, deadline=60.0)


def item_outcomes(operation: BulkOperation) -> dict[str, str]:
    """Return the outcome and code of each item, empty for an item that was not processed."""
    rows = operation.items.select_related("invoice")
    return {row.invoice.external_id: f"{row.outcome} {row.code}".strip() for row in rows}


def stored_progress(operation: BulkOperation) -> str:
    """Return the progress in the operation's row."""
    operation.refresh_from_db()
    return operation.progress
