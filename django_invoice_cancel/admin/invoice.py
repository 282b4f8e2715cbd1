"""Invoices in the admin: the list and one invoice. What only the verbs may write is read-only here."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.contrib import admin
from django.http import HttpRequest

from ..models import Invoice
from ..models.verbs.rows import VERB_FIELDS
from .actions import CancelInvoicesAction

if TYPE_CHECKING:
    _ModelAdmin = admin.ModelAdmin[Invoice]
else:  # generic for the type checker alone
    _ModelAdmin = admin.ModelAdmin


class InvoiceAdmin(CancelInvoicesAction, _ModelAdmin):
    """Invoices, and what can be done with them."""

    list_display = ("external_id", "reference", "provider", "amount", "currency", "status", "issued_at")
    search_fields = ("external_id", "reference")
    ordering = ("-pk",)
    show_full_result_count = False

    def get_readonly_fields(self, request: HttpRequest, obj: Invoice | None = None) -> tuple[str, ...]:
        return (*VERB_FIELDS, "created_at")

    def has_delete_permission(self, request: HttpRequest, obj: Invoice | None = None) -> bool:
        """Only an invoice that nothing has happened to may go; never a selection of them."""
        if obj is None or obj.transitions.exists():
            return False
        allowed: Any = super().has_delete_permission(request, obj)
        return bool(allowed)
