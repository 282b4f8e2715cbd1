"""P3, P5, P6: a receiver of a signal cannot change which invoice is requested or recorded, and can record payments."""

from contextlib import contextmanager

import pytest
from django.db import transaction

from django_invoice_cancel.domain.audit import AuditContext
from django_invoice_cancel.models import Invoice
from django_invoice_cancel.signals import invoice_paid_after_cancel, invoice_status_changed
from tests.support.clock import travel_forward
from tests.support.invoices import stored
from tests.support.logs import CANCELED_LOG, log_entries, status_and_log
from tests.support.results import cancel_error

pytestmark = pytest.mark.django_db(transaction=True)


@contextmanager
def receiver_on(status, action):
    """Connect a receiver that calls ``action(invoice)`` each time an invoice enters this status."""

    def receive(invoice, new_status, **kwargs):
        if new_status == status:
            action(invoice)

    invoice_status_changed.connect(receive)
    try:
        yield
    finally:
        invoice_status_changed.disconnect(receive)


EDITS = {
    "id": {"external_id": "INV-OTHER"},
    "alias": {"provider": "firekassa"},
    "key": {"pk": 10**9},
    "database": {"_state": None},
    "status": {"status": "created", "attempt": None},
}


@pytest.mark.parametrize("edit", EDITS)
@pytest.mark.parametrize("status", ["canceling", "canceled"])
def test_edit_by_a_receiver_changes_neither_the_request_nor_the_record(sandbox, register, edit, status):
    invoice, other = register(), register()
    values = {"external_id": other.external_id} if edit == "id" else EDITS[edit]

    def change(received):
        for name, value in values.items():
            setattr(received, name, value)

    with receiver_on(status, change):
        result = invoice.cancel()
    assert result.external_id == invoice.external_id
    assert result.provider == "cryptocloud"
    assert result.invoice_id == invoice.pk
    assert invoice.status == "canceled"
    assert status_and_log(invoice) == ("canceled", CANCELED_LOG)
    assert status_and_log(other) == ("created", [])
    assert sandbox.count("cancel", invoice.external_id) == 1
    assert sandbox.count("cancel") == 1


@pytest.mark.parametrize("edit", ["id", "alias", "key"])
def test_edit_of_the_callers_instance_changes_neither_the_request_nor_the_record(sandbox, register, edit):
    """A receiver may hold the instance on which ``cancel()`` was called, besides its argument."""
    invoice, other = register(), register()
    before = stored(invoice)

    def change(received):
        if edit == "id":
            invoice.external_id = other.external_id
        else:
            for name, value in EDITS[edit].items():
                setattr(invoice, name, value)

    with receiver_on("canceling", change):
        result = invoice.cancel()
    assert result.external_id == before.external_id
    assert result.provider == "cryptocloud"
    assert result.invoice_id == before.pk
    assert status_and_log(before) == ("canceled", CANCELED_LOG)
    assert status_and_log(other) == ("created", [])
    assert sandbox.count("cancel", before.external_id) == 1
    assert sandbox.count("cancel") == 1


def test_rejected_credentials_pause_the_provider_of_the_request(sandbox, register):
    invoice = register("bad_credentials")

    def change(received):
        invoice.provider = "firekassa"

    with receiver_on("canceling", change):
        cancel_error(invoice.cancel)
    writer = Invoice.objects.all()._writer
    assert writer.paused("firekassa") is None
    assert writer.paused("cryptocloud").pause_code == "bad_credentials"


@pytest.mark.parametrize("signal", [invoice_status_changed, invoice_paid_after_cancel])
def test_receivers_get_a_copy_with_all_columns(sandbox, register, signal):
    invoice, received = register(), []

    def receive(sender, **kwargs):
        received.append(kwargs["invoice"])

    invoice.cancel()
    signal.connect(receive)
    try:
        invoice.observe_status("paid")
    finally:
        signal.disconnect(receive)
    (copy,) = received
    assert copy == invoice
    assert copy is not invoice
    assert copy.status == "paid"
    assert copy.reference == "order-17"
    assert copy.paid_after_cancel_at == invoice.paid_after_cancel_at
    assert copy._state.db == "default"
    assert copy._state.adding is False


RECORD_PAYMENT = {
    "the receiver's copy": lambda received, invoice: received.observe_status("paid"),
    "another instance": lambda received, invoice: stored(invoice).observe_status("paid"),
    "the caller's instance": lambda received, invoice: invoice.observe_status("paid"),
    "the manager": lambda received, invoice: Invoice.objects.observe_status("cryptocloud", invoice.external_id, "paid"),
}


@pytest.mark.parametrize("recorder", RECORD_PAYMENT)
def test_payment_that_a_receiver_records_prevents_the_request(sandbox, register, recorder):
    invoice = register()
    with receiver_on("canceling", lambda received: RECORD_PAYMENT[recorder](received, invoice)):
        error = cancel_error(invoice.cancel)
    assert error.result.outcome == "skipped"
    assert error.result.code == "has_payment"
    assert error.result.status == "paid"
    assert invoice.status == "paid"
    assert status_and_log(invoice) == ("paid", [CANCELED_LOG[0], ("canceling", "paid", "", "observed")])
    assert stored(invoice).paid_after_cancel_at is None
    assert sandbox.count("cancel") == 0


def test_payment_that_a_receiver_records_prevents_the_request_on_commit(sandbox, register):
    invoice = register()
    with receiver_on("canceling", lambda received: received.observe_status("paid")), transaction.atomic():
        invoice.cancel_on_commit()
    assert stored(invoice).status == "paid"
    assert sandbox.count("cancel") == 0


@pytest.mark.parametrize("edit", [{"external_id": "INV-OTHER"}, {"provider": "firekassa"}], ids=["id", "alias"])
def test_instance_with_an_unsaved_edit_is_not_looked_up(sandbox, register, edit):
    """The status of another invoice must not be stored for this one."""
    invoice, other = register("error_500_before"), register()
    cancel_error(invoice.cancel)
    stored(other).cancel()
    edited = stored(invoice)
    edited.provider = edit.get("provider", edited.provider)
    edited.external_id = other.external_id if "external_id" in edit else edited.external_id
    with travel_forward(minutes=16):
        result = edited.reconcile()
    assert result.outcome == "skipped"
    assert result.code == "misconfigured"
    assert stored(invoice).status == "in_doubt"
    assert len(log_entries(invoice)) == 2
    assert sandbox.count("lookup") == 0


def test_edit_by_a_receiver_of_an_abandoned_claim_does_not_change_the_lookup(sandbox, register, settings):
    settings.INVOICE_CANCEL = settings.INVOICE_CANCEL | {"CLAIM_TTL": 60}
    invoice, other = register(), register()
    stored(other).cancel()
    claimed = stored(invoice)
    claimed._writer.claim([claimed], AuditContext("clerk"))
    before = stored(invoice)

    def change(received):
        claimed.external_id = other.external_id

    with travel_forward(minutes=30), receiver_on("in_doubt", change):
        claimed.reconcile()
    assert stored(before).status == "created"
    assert [request.external_ids for request in sandbox.requests if request.operation == "lookup"] == [
        (before.external_id,)
    ]


class Interruption(BaseException):
    """An exception that Django does not catch in receivers."""


def interrupt(received):
    raise Interruption


@pytest.mark.parametrize("is_repeated_request", [False, True], ids=["first request", "repeated request"])
def test_claim_is_released_if_its_receiver_is_interrupted(sandbox, register, is_repeated_request):
    """Nothing was sent, so the invoice must not wait until its claim counts as abandoned."""
    invoice = register("error_500_before", provider="firekassa") if is_repeated_request else register()
    if is_repeated_request:
        cancel_error(invoice.cancel)
    sent, before = sandbox.count("cancel"), stored(invoice).status
    with travel_forward(minutes=16), receiver_on("canceling", interrupt), pytest.raises(Interruption):
        stored(invoice).reconcile(resubmit=True) if is_repeated_request else stored(invoice).cancel()
    assert stored(invoice).status == before
    assert before == ("in_doubt" if is_repeated_request else "created")
    assert log_entries(invoice)[-2:] == [
        (before, "canceling", "", ""),
        ("canceling", before, "not_processed", "given_back"),
    ]
    assert sandbox.count("cancel") == sent
