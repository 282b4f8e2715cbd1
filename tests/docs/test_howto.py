"""The Python code of the how-to guides does what its page describes."""

import pytest
from asgiref.sync import async_to_sync
from django.contrib.auth.models import AnonymousUser
from django.db import transaction
from django.test import RequestFactory
from django.utils import timezone

from django_invoice_cancel.exceptions import ResolveNotPossible
from django_invoice_cancel.models import Invoice
from django_invoice_cancel.testing import make_invoice
from django_invoice_cancel.testing.sandbox import invoice_id

from .conftest import EXTERNAL_ID
from .pages import block_with

CANCEL, ORDERS, ACCOUNTS = "docs/howto/cancel.md", "docs/howto/orders.md", "docs/howto/accounts.md"
SIGNALS = "docs/reference/signals.md"


@pytest.fixture
def view(reader):
    """Return the guarded view of the page and its namespace."""
    namespace = block_with(CANCEL, "def cancel_order").run(reader())
    return namespace["cancel_order"], namespace


def test_guarded_view_cancels_after_the_commit(view, sandbox):
    cancel_order, namespace = view
    request = RequestFactory().post("/")
    request.user = namespace["request"].user

    with transaction.atomic():
        cancel_order(request, "order-17")
        sent_before_the_commit = sandbox.count("cancel")

    assert sent_before_the_commit == 0
    assert sandbox.count("cancel") == 1
    assert Invoice.objects.get().status == "canceled"


def test_guarded_view_refuses_get(view, sandbox):
    cancel_order, namespace = view
    request = RequestFactory().get("/")
    request.user = namespace["request"].user

    assert cancel_order(request, "order-17").status_code == 405
    assert sandbox.count("cancel") == 0
    assert Invoice.objects.get().cancel_requested_at is None


def test_guarded_view_asks_for_a_login(view, sandbox):
    cancel_order, _ = view
    request = RequestFactory().post("/")
    request.user = AnonymousUser()

    assert cancel_order(request, "order-17").status_code == 302
    assert sandbox.count("cancel") == 0


def test_async_view_returns_the_status(reader, sandbox):
    namespace = block_with(CANCEL, "async def cancel_now").run(reader())

    status = async_to_sync(namespace["cancel_now"])(namespace["request"], namespace["invoice"])

    assert status == "canceled"
    assert sandbox.count("cancel") == 1


def test_customer_sees_a_text_for_every_status(reader):
    namespace = block_with(CANCEL, "def text_for_customer").run(reader())

    assert list(namespace["TEXTS"]) == list(Invoice.Status)


def test_customer_sees_that_a_cancellation_is_pending(reader, sandbox):
    namespace = block_with(CANCEL, "def text_for_customer").run(reader())
    invoice = namespace["invoice"]
    before = namespace["text_for_customer"](invoice)
    invoice.cancel_requested_at = timezone.now()

    assert before == "The invoice is open."
    assert namespace["text_for_customer"](invoice).startswith("The cancellation was requested")


def test_customer_sees_that_the_cancellation_was_refused(reader, sandbox):
    namespace = block_with(CANCEL, "def text_for_customer").run(reader())
    invoice = make_invoice(provider="firekassa", external_id=invoice_id("firekassa", 1, "echo"))

    invoice.cancel_on_commit()
    invoice.refresh_from_db()

    assert invoice.status == "created"
    assert namespace["text_for_customer"](invoice).startswith("The provider refused the cancellation.")
    assert sandbox.count("cancel") == 1


def test_all_invoices_of_an_order_are_canceled(reader, sandbox):
    namespace = block_with(ORDERS, "def follow_invoice").run(reader())
    namespace = block_with(ORDERS, "def cancel_all").run(namespace)
    make_invoice(provider="firekassa", external_id="511727000", reference="order-17")
    make_invoice(provider="firekassa", external_id="511728000", reference="order-18")
    may_close_before = namespace["may_close"]("order-17")

    namespace["cancel_all"](namespace["order"], namespace["request"].user)

    assert may_close_before is False
    assert namespace["may_close"]("order-17") is True
    assert namespace["Order"].order["state"] == "canceled"
    assert sandbox.count("cancel") == 2
    assert Invoice.objects.get(reference="order-18").status == "created"


@pytest.mark.parametrize("status", ["in_doubt", "paid", "partially_paid", "created"])
def test_order_with_an_invoice_that_is_not_closed_stays_open(reader, status):
    namespace = block_with(ORDERS, "def follow_invoice").run(reader("canceled"))
    make_invoice(status, provider="firekassa", external_id="511727000", reference="order-17")

    assert namespace["may_close"]("order-17") is False


def test_references_are_changed_in_bulk(reader):
    block_with(ORDERS, "Concat").run(reader("paid"))

    invoice = Invoice.objects.get()
    assert invoice.reference == "eu-order-17"
    assert invoice.status == "paid"


def test_refund_is_recorded(reader):
    namespace = block_with(ORDERS, "def record_refund").run(reader("paid_after_cancel"))

    namespace["record_refund"](namespace["invoice"], namespace["request"].user)

    assert not Invoice.objects.paid_after_cancel().exists()
    assert Invoice.objects.get().transitions.last().reason == "returned 100 USDT"


def test_partial_refund_is_not_recorded(reader):
    namespace = block_with(ORDERS, "def record_refund").run(reader("paid_after_cancel"))
    Invoice.objects.get().observe_status("overpaid")

    with pytest.raises(ResolveNotPossible):
        namespace["record_refund"](namespace["invoice"], namespace["request"].user)

    assert Invoice.objects.paid_after_cancel().exists()


def test_alias_is_not_renamed_for_invoices_in_flight(reader):
    namespace = reader("in_doubt")
    make_invoice(provider="cryptocloud", external_id="INV-ABCDEF00")
    Invoice.objects.update(provider="shop-south")

    namespace = block_with(ACCOUNTS, "moved =").run(namespace)

    assert namespace["moved"] == 1
    assert Invoice.objects.get(external_id=EXTERNAL_ID).provider == "shop-south"
    assert Invoice.objects.get(external_id="INV-ABCDEF00").provider == "shop-17"


def test_scheduled_job_repeats_a_lost_signal(reader):
    namespace = reader("canceled")

    block_with(SIGNALS, "status_changed_at__gte").run(namespace)

    assert namespace["Order"].order["state"] == "canceled"
