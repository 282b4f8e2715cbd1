"""Requests and records use the claimed values: receivers of signals cannot change them (P3, P5, P6)."""

from contextlib import contextmanager

import pytest
from django.db import transaction

from django_invoice_cancel.models import Invoice
from django_invoice_cancel.signals import invoice_paid_after_cancel, invoice_status_changed
from tests.support.clock import travel_forward
from tests.support.invoices import stored
from tests.support.logs import CANCELED_LOG, log_entries, status_and_log
from tests.support.results import cancel_error

pytestmark = pytest.mark.django_db(transaction=True)


@contextmanager
def on_status(status, action):
    """Call ``action(invoice)`` in a receiver, with its argument, each time that an invoice enters this status."""

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
def test_an_edit_in_a_receiver_reaches_neither_the_request_nor_the_record(sandbox, register, edit, status):
    invoice, other = register(), register()
    values = {"external_id": other.external_id} if edit == "id" else EDITS[edit]

    def change(received):
        for name, value in values.items():
            setattr(received, name, value)

    with on_status(status, change):
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
def test_an_edit_of_the_callers_own_instance_reaches_neither(sandbox, register, edit):
    """A receiver may reach the instance on which ``cancel()`` was called by other ways than its argument."""
    invoice, other = register(), register()
    before = stored(invoice)

    def change(received):
        if edit == "id":
            invoice.external_id = other.external_id
        else:
            for name, value in EDITS[edit].items():
                setattr(invoice, name, value)

    with on_status("canceling", change):
        result = invoice.cancel()
    assert result.external_id == before.external_id
    assert result.provider == "cryptocloud"
    assert result.invoice_id == before.pk
    assert status_and_log(before) == ("canceled", CANCELED_LOG)
    assert status_and_log(other) == ("created", [])
    assert sandbox.count("cancel", before.external_id) == 1
    assert sandbox.count("cancel") == 1


def test_a_refused_credential_pauses_the_provider_that_was_asked(sandbox, register):
    sandbox_invoice = register("bad_credentials")

    def change(received):
        sandbox_invoice.provider = "firekassa"

    with on_status("canceling", change):
        cancel_error(sandbox_invoice.cancel)
    writer = Invoice.objects.all()._writer
    assert writer.paused("firekassa") is None
    assert writer.paused("cryptocloud").pause_code == "bad_credentials"


@pytest.mark.parametrize("signal", [invoice_status_changed, invoice_paid_after_cancel])
def test_receivers_get_a_copy_that_carries_the_row(sandbox, register, signal):
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


PAY = {
    "its copy": lambda received, invoice: received.observe_status("paid"),
    "another instance": lambda received, invoice: stored(invoice).observe_status("paid"),
    "the callers instance": lambda received, invoice: invoice.observe_status("paid"),
    "its id": lambda received, invoice: Invoice.objects.observe_status("cryptocloud", invoice.external_id, "paid"),
}


@pytest.mark.parametrize("way", PAY)
def test_a_payment_that_a_receiver_records_stops_the_request(sandbox, register, way):
    invoice = register()
    with on_status("canceling", lambda received: PAY[way](received, invoice)):
        error = cancel_error(invoice.cancel)
    assert error.result.outcome == "skipped"
    assert error.result.code == "has_payment"
    assert error.result.status == "paid"
    assert invoice.status == "paid"
    assert status_and_log(invoice) == ("paid", [CANCELED_LOG[0], ("canceling", "paid", "", "observed")])
    assert stored(invoice).paid_after_cancel_at is None
    assert sandbox.count("cancel") == 0


def test_a_payment_that_a_receiver_records_stops_the_request_on_commit(sandbox, register):
    invoice = register()
    with on_status("canceling", lambda received: received.observe_status("paid")), transaction.atomic():
        invoice.cancel_on_commit()
    assert stored(invoice).status == "paid"
    assert sandbox.count("cancel") == 0


@pytest.mark.parametrize("edit", [{"external_id": "INV-OTHER"}, {"provider": "firekassa"}], ids=["id", "alias"])
def test_an_unsaved_edit_of_the_instance_looks_up_nothing(sandbox, register, edit):
    """The answer about another invoice must not become the status of this one."""
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


def test_an_edit_in_a_receiver_of_an_abandoned_claim_does_not_reach_the_lookup(sandbox, register, settings):
    settings.INVOICE_CANCEL = settings.INVOICE_CANCEL | {"CLAIM_TTL": 60}
    invoice, other = register(), register()
    stored(other).cancel()
    claimed = stored(invoice)
    claimed._writer.claim([claimed], claimed_intent())
    before = stored(invoice)

    def change(received):
        claimed.external_id = other.external_id

    with travel_forward(minutes=30), on_status("in_doubt", change):
        claimed.reconcile()
    assert stored(before).status == "created"
    assert [question.external_ids for question in sandbox.requests if question.operation == "lookup"] == [
        (before.external_id,)
    ]


def claimed_intent():
    from django_invoice_cancel.domain.audit import AuditContext

    return AuditContext("clerk")


# -- a receiver of the claim that is interrupted ----------------------------------------------------------------


class Interruption(BaseException):
    """What no receiver is expected to raise, and Django does not catch."""


def interrupt(received):
    raise Interruption


@pytest.mark.parametrize("repeat", [False, True], ids=["cancel", "repeat of a doubt"])
def test_an_interrupted_receiver_of_the_claim_gives_the_claim_back_first(sandbox, register, repeat):
    """Nothing was sent, so the invoice must not wait until its claim counts as abandoned."""
    invoice = register("error_500_before", provider="firekassa") if repeat else register()
    if repeat:
        cancel_error(invoice.cancel)
    sent, before = sandbox.count("cancel"), stored(invoice).status
    with travel_forward(minutes=16), on_status("canceling", interrupt), pytest.raises(Interruption):
        stored(invoice).reconcile(resubmit=True) if repeat else stored(invoice).cancel()
    assert stored(invoice).status == before
    assert before == ("in_doubt" if repeat else "created")
    assert log_entries(invoice)[-2:] == [
        (before, "canceling", "", ""),
        ("canceling", before, "not_processed", "given_back"),
    ]
    assert sandbox.count("cancel") == sent
