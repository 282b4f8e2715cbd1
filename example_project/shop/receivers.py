"""Update orders when their invoices change.

Receivers run after the commit of the change. An exception in a receiver is logged and does not undo the cancellation.
"""

import logging
from typing import Any

from django.dispatch import receiver

from django_invoice_cancel.models import Invoice
from django_invoice_cancel.signals import invoice_paid_after_cancel, invoice_status_changed

from .models import Order

logger = logging.getLogger("shop")

ORDER_STATES = {
    "canceled": Order.State.CANCELED,
    "paid": Order.State.PAID,
    "overpaid": Order.State.PAID,
}
"""``in_doubt`` is missing here: the order does not change until the result is known."""


@receiver(invoice_status_changed)
def follow_invoice(invoice: Invoice, new_status: str, **kwargs: Any) -> None:
    """Update an open order. A canceled order does not become paid when money arrives late."""
    if new_status in ORDER_STATES:
        orders = Order.objects.filter(number=invoice.reference, state=Order.State.OPEN)
        orders.update(state=ORDER_STATES[new_status])


@receiver(invoice_paid_after_cancel)
def mark_late_money(invoice: Invoice, **kwargs: Any) -> None:
    logger.warning(
        "A payment was received for the canceled order %s. Deliver the order or refund the payment.", invoice.reference
    )
    Order.objects.filter(number=invoice.reference).update(state=Order.State.LATE_MONEY)
