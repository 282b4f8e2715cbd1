"""A small shop that had orders with invoice ids long before it installed django_invoice_cancel.

What it added: ``Order.register_invoice``, the view ``cancel_order``, one line in the webhook, and ``receivers``.
"""
