"""Many invoices in one run: at the speed that the provider allows, without losing or repeating one.

Modules: ``start`` (the functions that start a run), ``selection`` (which invoices), ``queues`` and ``workers`` (the
work and the threads of one provider), ``run`` (the loop and its end), ``garbage`` (a run that was never closed),
``cancel``, ``requested`` and ``reconcile`` (the kinds of run).
"""

from ..domain.outcomes import BulkReport
from .start import cancel_invoices, reconcile_invoices

__all__ = ["BulkReport", "cancel_invoices", "reconcile_invoices"]
