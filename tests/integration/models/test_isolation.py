"""REPEATABLE READ: a payment during a cancellation that the snapshot of the caller's transaction does not show (P6)."""

import pytest
from django.db import connection, transaction

from django_invoice_cancel.models import Invoice
from tests.support.invoices import invoice_in_status, set_columns_and_refresh, stored
from tests.support.logs import status_history
from tests.support.writes import open_claim, record_answer

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.mysql]


@pytest.fixture
def repeatable_read():
    """The isolation level of the server, which Django changes for its own connections."""
    with connection.cursor() as cursor:
        cursor.execute("SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ")
    yield
    connection.close()


def _cancel(invoice):
    record_answer(open_claim(invoice), invoice, "canceled")


def _cancel_and_reopen(invoice):
    """Leave the cancellation in the log only."""
    _cancel(invoice)
    set_columns_and_refresh(invoice, status="created")


def _cancel_and_expire(invoice):
    _cancel(invoice)
    set_columns_and_refresh(invoice, status="expired")


@pytest.mark.parametrize("concurrent_change", [_cancel, _cancel_and_reopen, _cancel_and_expire])
@pytest.mark.parametrize("by_id", [True, False], ids=["by its id", "on the instance"])
def test_payment_after_a_cancellation_outside_the_snapshot_is_flagged_and_signalled(
    repeatable_read, in_thread, sent_signals, concurrent_change, by_id
):
    invoice = invoice_in_status()
    with transaction.atomic():
        assert list(invoice.transitions.all()) == []  # the snapshot: from here on, plain reads show this
        in_thread(concurrent_change, stored(invoice)).result()
        del sent_signals[:]
        if by_id:
            Invoice.objects.observe_status(invoice.provider, invoice.external_id, "paid")
        else:
            assert invoice.observe_status("paid") is True
    assert stored(invoice).paid_after_cancel_at is not None
    assert status_history(invoice)[-1].endswith("> paid")
    assert sent_signals[-1] == "paid_after_cancel"


def test_invoice_that_another_process_registers_after_the_snapshot_is_found(repeatable_read, in_thread):
    """A webhook that registers first, in a view under ATOMIC_REQUESTS."""
    with transaction.atomic():
        assert not Invoice.objects.exists()
        other = in_thread(invoice_in_status, external_id="INV-1").result()
        invoice, is_new = Invoice.objects.register(provider="cryptocloud", external_id="INV-1")
        invoice.observe_status("paid")
    assert is_new is False
    assert invoice.pk == other.pk
    assert stored(other).status == "paid"


def test_payment_finds_an_invoice_that_was_registered_after_the_snapshot(repeatable_read, in_thread):
    with transaction.atomic():
        assert not Invoice.objects.exists()
        other = in_thread(invoice_in_status, external_id="INV-1").result()
        assert Invoice.objects.observe_status("cryptocloud", "INV-1", "paid") == other
    assert stored(other).status == "paid"
