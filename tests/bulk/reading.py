"""Functions that read the result of a bulk test: the number of log rows, and of invoices by status."""

from collections import Counter
from collections.abc import Iterable
from typing import Any

from django.db.models import Count

from django_invoice_cancel.domain.outcomes import CancelResult
from django_invoice_cancel.models import Invoice, InvoiceTransition


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


def answers() -> dict[str, int]:
    """Return how many rows of the log have each code; claims, and what was given back, are left out."""
    rows: Any = InvoiceTransition.objects.exclude(code__in=["", "given_back"]).order_by().values_list("code")
    return dict(rows.annotate(Count("id")))


def odd_logs() -> list[Invoice]:
    """Return the invoices whose log is no chain from "created" to the status in their row."""
    at: dict[Any, str] = {}
    odd = set()
    for key, old, new in InvoiceTransition.objects.order_by("id").values_list("invoice_id", "from_status", "to_status"):
        odd |= {key} if at.get(key, "created") != old else set()
        at[key] = new
    return [each for each in Invoice.objects.all() if each.pk in odd or each.status != at.get(each.pk, "created")]


def logged(code: str) -> int:
    """Return how many rows of the log have this code."""
    return InvoiceTransition.objects.filter(code=code).count()
