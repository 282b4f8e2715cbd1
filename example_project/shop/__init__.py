"""A small shop whose orders had invoice ids long before it installed django_invoice_cancel.

It added ``Order.register_invoice``, the view ``cancel_order``, one line in the webhook, and ``receivers``.
"""
