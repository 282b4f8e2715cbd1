"""Build invoices in any state, and read their rows."""

from itertools import count
from typing import Any

from django.db.models import Count, QuerySet

from django_invoice_cancel.domain.statuses import Status
from django_invoice_cancel.models import Invoice

_numbers = count(1000)


def invoice_in_status(status: str = Status.CREATED, *, using: str = "default", **columns: Any) -> Invoice:
    """Store a new invoice as if the writer had brought it to this status, without a log."""
    identity = {name: columns.pop(name) for name in ("provider", "external_id", "reference") if name in columns}
    identity = {"provider": "cryptocloud", "external_id": f"INV-{next(_numbers)}"} | identity
    invoice = Invoice(**identity)
    invoice.save(using=using)
    set_columns_and_refresh(invoice, status=status, **columns)
    return invoice


def set_columns(invoice: Invoice, **columns: Any) -> None:
    """Write columns past everything that guards them. The instance in memory is not changed."""
    QuerySet(Invoice, using=invoice._state.db).filter(pk=invoice.pk).update(**columns)


def set_columns_and_refresh(invoice: Invoice, **columns: Any) -> None:
    """Write columns past everything that guards them, and read the instance again."""
    set_columns(invoice, **columns)
    invoice.refresh_from_db()


def stored(invoice: Invoice) -> Invoice:
    """Return the row as it is in the database: another instance, as another process holds it."""
    return Invoice.objects.using(invoice._state.db).get(pk=invoice.pk)


def count_statuses(using: str = "default") -> dict[str, int]:
    """Return the number of invoices in each status."""
    rows: Any = Invoice.objects.using(using).order_by("status").values_list("status")
    return dict(rows.annotate(Count("pk")))


def statuses_by_id() -> dict[str, str]:
    """Return the status of each invoice by its external id."""
    return dict(Invoice.objects.values_list("external_id", "status"))
