"""What the customer reads about an order: a label for the list and a sentence that helps.

The outcome of a cancellation is known only after the response of the view, so pages read it from the stored statuses.
The provider's own message is not shown to customers.
"""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from django.utils.translation import gettext_lazy as _

from django_invoice_cancel.models import Invoice

from .models import Order


@dataclass(frozen=True)
class Notice:
    level: str
    """``info``, ``success``, ``warning`` or ``error``."""
    label: Any
    text: Any
    can_cancel: bool = False


NOTICES = {
    "open": Notice("info", Order.State.OPEN.label, _("We are waiting for your payment."), can_cancel=True),
    "checking": Notice(
        "warning",
        _("Cancellation is being checked"),
        _(
            "The cancellation was requested, but the payment provider has not confirmed it yet. We are checking it, "
            "and this page will show the result. Please do not pay."
        ),
    ),
    "refused": Notice(
        "error",
        _("Not canceled"),
        _(
            "The payment provider refused to cancel the order, so it is still open. If you have already paid, wait "
            "until we receive the payment. Otherwise you can pay, try again later, or contact us."
        ),
        can_cancel=True,
    ),
    "unknown": Notice(
        "error",
        _("Not canceled"),
        _(
            "The order could not be canceled, because the payment provider does not know its invoice. Please do not "
            "pay, and contact us."
        ),
    ),
    "partially_paid": Notice(
        "warning",
        Order.State.PARTIALLY_PAID.label,
        _(
            "We received a part of the total, so the order cannot be canceled here. Pay the rest, or contact us to get "
            "your money back."
        ),
    ),
    "paid": Notice(
        "success",
        Order.State.PAID.label,
        _("We received your payment, so the order cannot be canceled here. Contact us if you want to return it."),
    ),
    "expired": Notice(
        "warning",
        Order.State.EXPIRED.label,
        _(
            "The order has expired, because the time to pay is over. Nothing is left to cancel. Please do not pay. If "
            "you still want the goods, place a new order."
        ),
    ),
    "failed": Notice(
        "error",
        Order.State.FAILED.label,
        _("The payment failed, and nothing is left to cancel. If you still want the goods, place a new order."),
    ),
    "canceled": Notice(
        "success", Order.State.CANCELED.label, _("The order is canceled. Please do not pay: it would not be delivered.")
    ),
    "refund_due": Notice(
        "warning",
        _("Canceled, refund due"),
        _(
            "The order is canceled, but a payment arrived afterwards. A refund is due: we return your money, and you "
            "need not do anything."
        ),
    ),
    "paid_too_much": Notice(
        "warning",
        _("Paid, refund possible"),
        _("We received a payment that the order may not need. We are checking it and will contact you about a refund."),
    ),
}


def key_of_notice(order: Order, invoices: Collection[Invoice]) -> str:
    """Return the key of the notice about an order and its registered invoices."""
    state = order.state_from(invoices)  # also if a signal was lost
    if order.refund_due:
        return "refund_due" if state == Order.State.CANCELED else "paid_too_much"
    if state != Order.State.OPEN:
        return str(state)
    refusals = {invoice.last_outcome for invoice in invoices if invoice.status == "created"}
    if "not_found" in refusals:
        return "unknown"
    if any(invoice.status in ("canceling", "in_doubt") or invoice.cancel_requested_at for invoice in invoices):
        return "checking"
    return "refused" if "refused" in refusals else "open"
