"""Process slices without a time limit, and read their results from the database, by external id."""

from functools import partial

from django.db.models import QuerySet

from django_invoice_cancel import operations
from django_invoice_cancel.models import BulkOperation, Invoice, InvoiceTransition

advance = partial(operations.advance, deadline=60.0)


def outcomes(operation: BulkOperation) -> dict[str, str]:
    """Return each item's outcome and code; an item without has an empty word."""
    rows = operation.items.select_related("invoice")
    return {row.invoice.external_id: f"{row.outcome} {row.code}".strip() for row in rows}


def statuses() -> dict[str, str]:
    return dict(Invoice.objects.values_list("external_id", "status"))


def logs() -> dict[str, str]:
    """Return each invoice's log: the codes of its rows, "claim" where there is none."""
    told = dict.fromkeys(statuses(), "")
    for external_id, code in InvoiceTransition.objects.order_by("id").values_list("invoice__external_id", "code"):
        told[external_id] = f"{told[external_id]} {code or 'claim'}".strip()
    return told


def put(invoice: Invoice, **columns: object) -> None:
    """Write columns past everything that guards them."""
    QuerySet(Invoice).filter(pk=invoice.pk).update(**columns)


def progress(operation: BulkOperation) -> str:
    operation.refresh_from_db()
    return operation.progress
