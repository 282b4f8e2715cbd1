"""P7: Ctrl-C at any line between the claim and the request releases the claim. Nothing is sent."""

import sys
from datetime import timedelta
from pathlib import Path

import pytest
from django.db import connection

import django_invoice_cancel
from django_invoice_cancel import signals
from django_invoice_cancel.models import Invoice
from django_invoice_cancel.testing import ScriptedProvider, make_invoice
from tests.support.logs import status_and_log

pytestmark = pytest.mark.django_db(transaction=True)

slow = pytest.mark.slow  # each line of the package is one cancellation

PACKAGE = str(Path(django_invoice_cancel.__file__).parent)


class Interrupt:
    """Raises KeyboardInterrupt at a line of the package: the one with this number after the claim is committed."""

    def __init__(self, invoice, number):
        self.invoice, self.number, self.lines = invoice, number, 0

    def __enter__(self):
        self.before = sys.gettrace()
        sys.settrace(self.trace)

    def __exit__(self, *error):
        sys.settrace(self.before)

    def trace(self, frame, event, arg):
        if frame.f_code is ScriptedProvider.cancel.__code__:
            sys.settrace(self.before)  # from here on the request may be sent
            return None
        if not frame.f_code.co_filename.startswith(PACKAGE):
            return None
        if event == "line" and self.invoice.status == "canceling" and not connection.in_atomic_block:
            self.lines += 1
            if self.lines == self.number:
                sys.settrace(self.before)
                raise KeyboardInterrupt
        return self.trace


CALLS = {
    "cancel": ("created", lambda invoice: invoice.cancel()),
    "cancel_on_commit": ("created", lambda invoice: invoice.cancel_on_commit()),
    "repeated request": ("in_doubt", lambda invoice: invoice.reconcile(resubmit=True)),
}


@pytest.fixture
def receiver():
    """Connect a receiver: with one, a claim is read again before its request is sent."""

    def ignore(**kwargs):
        return

    signals.invoice_status_changed.connect(ignore)
    yield
    signals.invoice_status_changed.disconnect(ignore)


@pytest.mark.usefixtures("receiver")
@pytest.mark.parametrize("name", ["cancel", *(pytest.param(name, marks=slow) for name in CALLS if name != "cancel")])
def test_interrupted_claim_is_released(scripted, name):
    status, call = CALLS[name]
    shop = scripted(supports_lookup=False, is_repeat_harmless=True)
    number = 0
    while True:
        number += 1
        invoice = make_invoice(status, provider="shop", age=timedelta(days=2))
        interrupt = Interrupt(invoice, number)
        try:
            with interrupt:
                call(invoice)
        except KeyboardInterrupt:
            assert invoice.status == status, f"line {number}"
            assert status_and_log(invoice)[0] == status, f"line {number}"
            assert [code for *_, code in status_and_log(invoice)[1]][-1] == "given_back"
            assert shop.cancel_count == 0
        else:
            break
    assert number > 20
    assert shop.cancel_count == 1
    assert Invoice.objects.get(pk=invoice.pk).status == "canceled"
