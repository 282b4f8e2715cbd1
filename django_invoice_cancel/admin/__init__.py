"""The admin of invoices and of bulk operations. It makes no decisions: it calls services and shows their results.

``invoices`` contains the list and the pages of one invoice. ``operations`` contains the actions of the list and the
pages of a bulk operation. ``scope`` selects the invoices that a user may see and act on.
"""

from django.contrib import admin

from ..models import BulkOperation, Invoice
from .invoices.admin import InvoiceAdmin
from .operations.actions import CancelInvoicesAction
from .operations.admin import BulkOperationAdmin

__all__ = ["BulkOperationAdmin", "CancelInvoicesAction", "InvoiceAdmin"]

admin.site.register(Invoice, InvoiceAdmin)
admin.site.register(BulkOperation, BulkOperationAdmin)
