"""Run by ``test_orders.py`` with the example's settings: apply events to orders, and print what became of them.

stdin is a JSON object of lists of events by name. ``["cryptocloud", "paid"]`` means that the provider reports a status,
and ``["refund", ""]`` that the staff record a refund. An invoice is registered with its first event.
"""

import json
import sys

import django

django.setup()

from django.contrib.auth import get_user_model  # noqa: E402 - after the setup
from django.core.management import call_command  # noqa: E402
from shop.models import Order  # noqa: E402
from shop.texts import key_of_notice  # noqa: E402

from django_invoice_cancel.models import Invoice  # noqa: E402


def apply(order, provider, status):
    if provider == "refund":
        order.record_refund(actor="staff")
    else:
        invoice = order.register_invoice(provider)
        if status != "created":
            invoice.observe_status(status)


def main():
    call_command("migrate", verbosity=0)
    customer = get_user_model().objects.create_user("customer")
    results = {}
    for number, (name, events) in enumerate(json.load(sys.stdin).items(), start=1):
        order = Order.objects.create(
            customer=customer,
            number=name[:20],
            total="10.00",
            cryptocloud_uuid=f"INV-{number:08}",
            firekassa_invoice_id=f"{number}00",
        )
        for provider, status in events:
            apply(order, provider, status)
        order.refresh_from_db()
        invoices = Invoice.objects.filter(reference=order.number)
        results[name] = [order.state, order.refund_due, key_of_notice(order, invoices)]
    json.dump(results, sys.stdout)


main()
