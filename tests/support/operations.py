"""Process slices of stored operations without a time limit, and read their results by external id."""

from functools import partial

from django_invoice_cancel import operations
from django_invoice_cancel.models import BulkOperation
from django_invoice_cancel.testing import ScriptedProvider

advance_slice = partial(operations.advance, deadline=60.0)


def item_outcomes(operation: BulkOperation) -> dict[str, str]:
    """Return the outcome and code of each item, empty for an item that was not processed."""
    rows = operation.items.select_related("invoice")
    return {row.invoice.external_id: f"{row.outcome} {row.code}".strip() for row in rows}


def stored_progress(operation: BulkOperation) -> str:
    """Return the progress in the operation's row."""
    operation.refresh_from_db()
    return operation.progress


def requests_by_account() -> dict[str, tuple[int, int]]:
    """Return the numbers of cancel and lookup requests of the accounts "a" and "b"."""
    return {alias: (each.cancel_count, each.lookup_count) for alias in "ab" for each in [ScriptedProvider.of(alias)]}
