"""Update orders when their invoices change.

Receivers run after the commit of the change. An exception in a receiver is logged and does not undo the cancellation.
Signals are best effort: a job may call ``update_order`` for orders whose invoices changed during the last hours.
"""

import logging
from typing import Any

from django.db import transaction
from django.dispatch import receiver

from django_invoice_cancel.models import Invoice
from django_invoice_cancel.signals import invoice_paid_after_cancel, invoice_status_changed

from .models import Order

logger = logging.getLogger("shop")


@receiver(invoice_status_changed)
def follow_invoice(invoice: Invoice, **kwargs: Any) -> None:
    update_order(invoice.reference, is_payment=invoice.has_payment)


@receiver(invoice_paid_after_cancel)
def mark_late_money(invoice: Invoice, **kwargs: Any) -> None:
    logger.warning("Order %s: a canceled invoice was paid. Return the payment, or deliver.", invoice.reference)
    Order.objects.filter(number=invoice.reference).update(refund_due=True)


def update_order(number: str, *, is_payment: bool = False) -> None:
    """Update an order from all its invoices. A canceled order stays canceled, and a late payment has to be returned."""
    with transaction.atomic():
        # The lock makes receivers of two invoices of one order run one after the other.
        order = Order.objects.select_for_update().filter(number=number).first()
        if order is None:
            return
        invoices = list(Invoice.objects.filter(reference=number))
        order.state = order.state_from(invoices)
        is_paid_twice = sum(invoice.has_payment for invoice in invoices) > 1
        if is_payment and (order.state == Order.State.CANCELED or is_paid_twice):
            order.refund_due = True
        order.save(update_fields=["state", "refund_due"])
