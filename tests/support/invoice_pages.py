"""Addresses of the invoice pages, and the number of rows in both logs."""

from django.contrib.admin.models import LogEntry
from django.urls import reverse

from django_invoice_cancel.models import Invoice, InvoiceTransition

FORM_DATA = {
    "cancel": {"reason": "old"},
    "check": {},
    "resolve": {"decision": "canceled", "reason": "seen"},
    "handled": {"note": "paid back"},
    "withdraw": {"reason": "a mistake"},
}
"""Valid data for the form of each action on one invoice."""

PAGES = ("cancel", "check", "resolve", "handled", "withdraw")


def changelist_url(query: str = "", site: str = "admin") -> str:
    return reverse(f"{site}:invoice_cancel_invoice_changelist") + query


def invoice_url(invoice: Invoice, name: str = "change", site: str = "admin") -> str:
    return reverse(f"{site}:invoice_cancel_invoice_{name}", args=[invoice.pk])


def count_both_logs() -> tuple[int, int]:
    """Return the number of rows in the log of the invoices, and in the admin's own log."""
    return InvoiceTransition.objects.count(), LogEntry.objects.count()
