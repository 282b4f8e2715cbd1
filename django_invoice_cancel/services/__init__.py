"""One invoice: cancel it, take in what was learned of it, and why something cannot be done with it."""

from ..domain.outcomes import CancelResult, Code, Outcome
from .cancel import cancel_invoice
from .reconcile import reconcile_invoice

__all__ = ["CancelResult", "Code", "Outcome", "cancel_invoice", "reconcile_invoice"]
