"""The models: ``Invoice``, its append-only log, bulk operations, and the shared state of provider accounts."""

from .invoice import Invoice
from .operation import BulkOperation
from .operation_item import BulkOperationItem
from .provider_state import ProviderState
from .queryset import InvoiceQuerySet
from .transition import InvoiceTransition

__all__ = ["BulkOperation", "BulkOperationItem", "Invoice", "InvoiceQuerySet", "InvoiceTransition", "ProviderState"]
