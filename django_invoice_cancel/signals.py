"""Signals, sent after commit and best effort: the rows are the truth.

A receiver's exception is logged and changes nothing. ``sender`` is the ``Invoice`` class, for child classes and proxies
too. ``invoice`` is a copy: an attribute that a receiver sets on it reaches nobody else.
"""

from django.dispatch import Signal

__all__ = ["invoice_paid_after_cancel", "invoice_status_changed"]

invoice_status_changed = Signal()
"""Arguments: ``invoice``, ``transition`` (the row of the log), ``old_status``, ``new_status``."""

invoice_paid_after_cancel = Signal()
"""Arguments: ``invoice``, ``transition``. Sent when money and a cancellation met on an invoice: once.

Once more each time that more money comes after somebody has marked what was there as handled.
"""
