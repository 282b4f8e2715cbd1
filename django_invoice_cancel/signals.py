"""Signals about invoices. They are sent after the commit.

A process that crashes after the commit sends none, so only the rows are reliable. An exception of a receiver is logged
and has no other effect. ``sender`` is the class ``Invoice``, also for child classes and proxies. ``invoice`` is a copy,
so that attributes that a receiver sets on it have no effect elsewhere.
"""

from django.dispatch import Signal

__all__ = ["invoice_paid_after_cancel", "invoice_status_changed"]

invoice_status_changed = Signal()
"""Arguments: ``invoice``, ``transition`` (the row of the log), ``old_status``, ``new_status``."""

invoice_paid_after_cancel = Signal()
"""Arguments: ``invoice``, ``transition``. Sent once if an invoice has both a payment and a confirmed cancellation.

It is sent again for each further payment after ``mark_handled``.
"""
