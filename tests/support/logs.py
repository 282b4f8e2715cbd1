"""Read the log: the rows of one invoice, or figures over all invoices."""

from collections import Counter
from typing import Any

from django.db.models import Count

from django_invoice_cancel.models import Invoice, InvoiceTransition
from tests.support.invoices import stored

CANCELED_LOG = [("created", "canceling", "", ""), ("canceling", "canceled", "canceled", "canceled")]
"""The log of an invoice that was canceled at the first attempt."""


def log_entries(invoice: Invoice) -> list[tuple[str, str, str, str]]:
    """Return the invoice's log as (from, to, outcome, code), oldest first."""
    rows = invoice.transitions.using(invoice._state.db).order_by("id")
    return list(rows.values_list("from_status", "to_status", "outcome", "code"))


def log_changes(invoice: Invoice) -> list[tuple[str, str, str]]:
    """Return the invoice's log as (from, to, outcome or, if there is none, code)."""
    return [(old, new, outcome or code) for old, new, outcome, code in log_entries(invoice)]


def status_and_log(invoice: Invoice) -> tuple[str, list[tuple[str, str, str, str]]]:
    """Return the status in the invoice's row, and its log."""
    return stored(invoice).status, log_entries(invoice)


def status_history(invoice: Invoice) -> list[str]:
    """Return the changes of the status: "created > canceling"."""
    rows = InvoiceTransition.objects.using(invoice._state.db).filter(invoice_id=invoice.pk).history()
    return [f"{row.from_status} > {row.to_status}" for row in rows]


def log_codes_by_id() -> dict[str, str]:
    """Return the codes in each invoice's log by its external id, "claim" for a row without a code."""
    logs = dict.fromkeys(Invoice.objects.values_list("external_id", flat=True), "")
    for external_id, code in InvoiceTransition.objects.order_by("id").values_list("invoice__external_id", "code"):
        logs[external_id] = f"{logs[external_id]} {code or 'claim'}".strip()
    return logs


def count_log_rows(code: str) -> int:
    """Return the number of log rows with this code."""
    return InvoiceTransition.objects.filter(code=code).count()


def count_answers() -> dict[str, int]:
    """Return the number of log rows with each code, without claims and without claims that were given back."""
    rows: Any = InvoiceTransition.objects.exclude(code__in=["", "given_back"]).order_by().values_list("code")
    return dict(rows.annotate(Count("id")))


def count_invoices_by_log_rows(using: str = "default") -> dict[int, int]:
    """Return how many invoices have how many log rows."""
    rows: Any = InvoiceTransition.objects.using(using).order_by().values_list("invoice_id")
    return dict(Counter(count for _, count in rows.annotate(Count("id"))))


def invoices_with_broken_log() -> list[Invoice]:
    """Return the invoices whose log is no chain from "created" to the status in their row."""
    at: dict[Any, str] = {}
    broken = set()
    changes = InvoiceTransition.objects.order_by("id").values_list("invoice_id", "from_status", "to_status")
    for key, old, new in changes:
        broken |= {key} if at.get(key, "created") != old else set()
        at[key] = new
    return [each for each in Invoice.objects.all() if each.pk in broken or each.status != at.get(each.pk, "created")]
