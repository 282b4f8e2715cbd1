"""The models: ``Invoice``, its append-only log, and what is shared about a provider account."""

from .bulk_operation import BulkOperation
from .bulk_operation_item import BulkOperationItem
from .invoice import Invoice
from .provider_state import ProviderState
from .transition import InvoiceTransition

__all__ = ["BulkOperation", "BulkOperationItem", "Invoice", "InvoiceTransition", "ProviderState"]
