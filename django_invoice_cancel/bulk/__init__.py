"""Runs on many invoices: at the rate that the provider allows, without a lost or repeated request.

Modules: ``start`` (the functions that start a run), ``selection`` (the invoices), ``queues`` and ``workers`` (the queue
and the threads of one provider), ``run`` (the loop and its end), ``garbage`` (a run that was never closed),
``cancel``, ``requested`` and ``reconcile`` (the kinds of run).
"""

from ..domain.outcomes import BulkReport
from .start import cancel_invoices, reconcile_invoices

__all__ = ["BulkReport", "cancel_invoices", "reconcile_invoices"]
