"""Sample orders of every kind for ``make serve``, created by the app itself with the sandbox.

A table defines the state of each order's invoice at the provider, and the actions of the shop so far.
"""

from collections import defaultdict
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import samples_bulk
from django.contrib.auth import get_user_model
from django.utils import timezone
from shop.models import Order

from django_invoice_cancel.exceptions import CancelError
from django_invoice_cancel.models import Invoice
from django_invoice_cancel.testing.sandbox import BEHAVIOURS, invoice_id

GOODS = ("Oak desk", "Desk lamp", "Bookshelf", "Wool blanket", "Kettle", "Bicycle bell", "Garden chair", "Rain coat")
DESCRIPTIONS = {behaviour.name: behaviour.description for behaviour in BEHAVIOURS}


@dataclass(frozen=True)
class Kind:
    """A number of orders of each provider with similar invoices."""

    behaviour: str
    """The behaviour of the sandbox."""
    is_registered: bool = True
    is_canceled: bool = False
    """Whether the shop tried to cancel the invoice."""
    then_observed: str = ""
    """The status that the shop received after that."""
    is_handled: bool = False
    """Whether the late money was handled."""
    operation: str = ""
    """The bulk operation that contains the invoices (see ``samples_bulk``)."""
    hours_ago: int = 0
    """The age in hours. Operations define their own age."""
    count: int = 1


KINDS = (
    # You can cancel these. The first four are not registered yet.
    Kind("ordinary", is_registered=False, count=3),
    Kind("silent_after", is_registered=False),
    Kind("paid", is_registered=False),
    Kind("not_found", is_registered=False),
    Kind("ordinary", count=40),
    # Some of these are not open at the provider, which the shop does not know yet.
    Kind("paid", count=3),
    Kind("already_canceled", count=2),
    Kind("reset_after", count=3),
    Kind("not_found"),
    # Bulk operations: one is finished, one was interrupted.
    Kind("ordinary", operation="finished", count=18),
    Kind("paid", operation="finished", count=2),
    Kind("ordinary", operation="finished", count=4),
    Kind("cut_body", operation="finished", count=2),
    Kind("already_canceled", operation="finished"),
    Kind("not_found", operation="finished"),
    Kind("ordinary", operation="interrupted", count=20),
    # Cases that the shop has seen before.
    Kind("ordinary", is_canceled=True, hours_ago=28, count=6),
    Kind("already_canceled", is_canceled=True),
    Kind("reset_after", is_canceled=True),
    Kind("paid", then_observed="paid", hours_ago=6, count=4),
    Kind("error_500_before", is_canceled=True),
    Kind("partially_paid", then_observed="partially_paid", hours_ago=2, count=2),
    # An outage some hours ago: some cancel requests were executed and some were not, but no answer arrived.
    Kind("reset_after", is_canceled=True, hours_ago=3, count=10),
    Kind("reset_before", is_canceled=True, hours_ago=3, count=4),
    # The rest of an ordinary week.
    Kind("overpaid", is_canceled=True, hours_ago=5),
    Kind("expired", then_observed="expired", hours_ago=30, count=4),
    Kind("failed", then_observed="failed", hours_ago=8, count=2),
    Kind("not_found", is_canceled=True),
    Kind("paid_before_answer", is_canceled=True, then_observed="paid", hours_ago=4),
    Kind("paid_before_answer", is_canceled=True, then_observed="paid", is_handled=True, hours_ago=50),
)

CUSTOMERS_ORDERS = (
    # The state of the order's invoice at each provider. They are few, as a customer's orders are.
    (Kind("ordinary", is_registered=False), ("cryptocloud",)),
    (Kind("ordinary", is_registered=False), ("cryptocloud", "firekassa")),
    (Kind("silent_after", is_registered=False), ("cryptocloud",)),
    (Kind("paid", is_registered=False), ("firekassa",)),
    (Kind("echo", is_registered=False), ("cryptocloud",)),
    (Kind("not_found", is_registered=False), ("firekassa",)),
    (Kind("reset_after", is_canceled=True), ("cryptocloud",)),
    (Kind("partially_paid", then_observed="partially_paid", hours_ago=2), ("firekassa",)),
    (Kind("expired", then_observed="expired", hours_ago=30), ("firekassa",)),
    (Kind("failed", then_observed="failed", hours_ago=8), ("firekassa",)),
    (Kind("paid", then_observed="paid", hours_ago=6), ("cryptocloud",)),
    (Kind("ordinary", is_canceled=True, hours_ago=28), ("cryptocloud",)),
    (Kind("paid_before_answer", is_canceled=True, then_observed="paid", hours_ago=4), ("cryptocloud",)),
)
COLUMNS = {"cryptocloud": "cryptocloud_uuid", "firekassa": "firekassa_invoice_id"}


def load(user: Any) -> int:
    """Create the orders, and a few that are paid in cash, for this user. Return their number."""
    samples_bulk.pause_old_account(user)
    number = 1001
    operations: dict[str, list[Invoice]] = defaultdict(list)
    for kind in KINDS:
        invoices = []
        for provider in ("cryptocloud", "firekassa") * kind.count:
            order = make_order(user, number, kind, provider)
            invoices += live_through(kind, order, user) if kind.is_registered else []
            number += 1
        operations[kind.operation] += invoices
        samples_bulk.move_back(invoices, hours=kind.hours_ago)
    samples_bulk.finish_one(operations["finished"], user)
    samples_bulk.interrupt_one(operations["interrupted"], user)
    for cash in range(2):
        make_cash_order(user, number + cash)
    return user.orders.count()


def load_customer(customer: Any, *, staff: Any) -> int:
    """Create the orders of another customer, in each state. Return their number."""
    for number, (kind, providers) in enumerate(CUSTOMERS_ORDERS, start=501):
        order = make_order(customer, number, kind, *providers)
        invoices = live_through(kind, order, staff) if kind.is_registered else []
        samples_bulk.move_back(invoices, hours=kind.hours_ago)
    make_cash_order(customer, 601)
    mistyped = make_order(customer, 602, Kind("ordinary"), "firekassa")
    mistyped.firekassa_invoice_id, mistyped.note = "see the e-mail", "Its invoice id was entered manually."
    mistyped.save()
    return int(customer.orders.count())


def make_order(customer: Any, number: int, kind: Kind, *providers: str) -> Order:
    return Order.objects.create(
        customer=customer,
        number=str(number),
        title=GOODS[number % len(GOODS)],
        total=Decimal(20 + number % 97) + Decimal("0.90"),
        currency="USD" if "cryptocloud" in providers else "RUB",
        placed_at=placed(number),
        note=f"Invoice at the sandbox: {DESCRIPTIONS[kind.behaviour]}.",
        **{COLUMNS[provider]: invoice_id(provider, number, kind.behaviour) for provider in providers},
    )


def make_cash_order(customer: Any, number: int) -> None:
    Order.objects.create(
        customer=customer, number=str(number), title="Gift card", total="25.00", placed_at=placed(number)
    )


def placed(number: int) -> datetime:
    """Return the time when the order was placed. Lower numbers are more recent."""
    return timezone.now() - timedelta(hours=5 * (number % 500))


def live_through(kind: Kind, order: Order, user: Any) -> list[Invoice]:
    """Apply the events of its kind to the order's invoices, and return them."""
    invoices = [order.register_invoice(provider) for provider in order.invoice_ids]
    for invoice in invoices:
        if kind.is_canceled:
            cancel(invoice, user)
        if kind.then_observed:
            invoice.observe_status(kind.then_observed, trigger="webhook")
    if kind.is_handled:
        order.record_refund(actor=user)
    return invoices


def cancel(invoice: Invoice, user: Any) -> None:
    try:
        invoice.cancel(actor=user, trigger="admin", reason="unpaid for a week")
    except CancelError:
        samples_bulk.end_pause(invoice.provider)  # the next sample belongs to another hour


def make_user(username: str, password: str) -> Any:
    """Create a user with all permissions."""
    return get_user_model().objects.create_superuser(username, password=password)


def make_customer(username: str, password: str) -> Any:
    """Create a user without permissions."""
    return get_user_model().objects.create_user(username, password=password)
