"""A small shop whose orders had invoice ids long before it installed django_invoice_cancel.

It added ``Order.register_invoice`` and ``request_cancel``, the view ``cancel_order``, one line in the webhook,
``receivers``, and ``texts`` about each outcome.
"""
