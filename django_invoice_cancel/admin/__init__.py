"""The admin: invoices, and operations on many of them. It decides nothing; it translates between people and the story.

Rooms: ``invoice`` the list and one invoice, ``actions`` from a selection to a draft, ``operations`` the pages of an
operation from confirmation to report.
"""

from django.contrib import admin

from ..models import BulkOperation, Invoice
from .invoices.admin import InvoiceAdmin
from .operations.actions import CancelInvoicesAction
from .operations.admin import BulkOperationAdmin

__all__ = ["BulkOperationAdmin", "CancelInvoicesAction", "InvoiceAdmin"]

admin.site.register(Invoice, InvoiceAdmin)
admin.site.register(BulkOperation, BulkOperationAdmin)
