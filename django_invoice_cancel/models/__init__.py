"""The models: ``Invoice``, its append-only log, and what is shared about a provider account."""

from .invoice import Invoice
from .operation import BulkOperation
from .operation_item import BulkOperationItem
from .provider_state import ProviderState
from .queryset import InvoiceQuerySet
from .transition import InvoiceTransition

__all__ = ["BulkOperation", "BulkOperationItem", "Invoice", "InvoiceQuerySet", "InvoiceTransition", "ProviderState"]
