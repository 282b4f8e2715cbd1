"""One invoice: cancel it, take in what was learned of it, and why something cannot be done with it."""

from .cancel import cancel_invoice
from .reconcile import reconcile_invoice

__all__ = ["cancel_invoice", "reconcile_invoice"]
