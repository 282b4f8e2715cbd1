"""Actions on one invoice: cancel it, record statuses and lookups, and decide its eligibility."""

from ..domain.outcomes import CancelResult, Code, Outcome
from .cancel import cancel_invoice
from .reconcile import reconcile_invoice

__all__ = ["CancelResult", "Code", "Outcome", "cancel_invoice", "reconcile_invoice"]
