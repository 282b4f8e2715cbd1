"""What the bulk tests read afterwards: how many rows of the log there are, and how many invoices in each status."""

from collections import Counter
from collections.abc import Iterable
from typing import Any

from django.db.models import Count

from django_invoice_cancel.models import Invoice, InvoiceTransition
from django_invoice_cancel.outcomes import CancelResult


def statuses(using: str = "default") -> dict[str, int]:
    """Return how many invoices there are in each status."""
    rows: Any = Invoice.objects.using(using).order_by("status").values_list("status")
    return dict(rows.annotate(Count("pk")))


def codes(results: Iterable[CancelResult]) -> dict[str, int]:
    """Return how many results there are with each code."""
    return dict(Counter(result.code for result in results))


def rows_each(using: str = "default") -> dict[int, int]:
    """Return how many invoices have how many rows of the log."""
    rows: Any = InvoiceTransition.objects.using(using).order_by().values_list("invoice_id")
    return dict(Counter(count for _, count in rows.annotate(Count("id"))))


def logged(code: str) -> int:
    """Return how many rows of the log have this code."""
    return InvoiceTransition.objects.filter(code=code).count()
