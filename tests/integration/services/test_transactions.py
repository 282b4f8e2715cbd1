"""P2: no transaction and no row lock is open during a request. Inside a transaction nothing is sent or written."""

from contextlib import contextmanager

import pytest
from django.db import connection, connections, transaction
from django.test import TestCase

from django_invoice_cancel.domain.audit import AuditContext
from django_invoice_cancel.exceptions import CancelInTransaction
from django_invoice_cancel.models import Invoice
from django_invoice_cancel.testing.sandbox import ProviderSandbox
from tests.support.invoices import stored
from tests.support.logs import CANCELED_LOG, log_entries, status_and_log

pytestmark = pytest.mark.urls("tests.integration.services.urls")


@contextmanager
def autocommit_off():
    transaction.set_autocommit(False)
    try:
        yield
    finally:
        transaction.rollback()
        transaction.set_autocommit(True)


@contextmanager
def nested():
    with transaction.atomic(), transaction.atomic():
        yield


def leave_open(invoice):
    pass


def misconfigure(invoice):
    Invoice.objects.filter(pk=invoice.pk).update(provider="nobody")


def pause(invoice):
    invoice._writer.pause(invoice.provider, "rate_limited", 60)


def cancel_it(invoice):
    invoice.observe_status("canceled")


def claim(invoice):
    invoice._writer.claim([invoice], AuditContext("somebody else"))


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("prepare", [leave_open, misconfigure, pause, cancel_it, claim], ids=lambda one: one.__name__)
@pytest.mark.parametrize("method", ["cancel", "reconcile"])
@pytest.mark.parametrize("context", [transaction.atomic, nested, autocommit_off], ids=["atomic", "nested", "manual"])
def test_refuses_inside_a_transaction(sandbox, register, prepare, method, context):
    """Also where nothing would be claimed: who calls it so would learn it only once it matters."""
    invoice = register()
    prepare(invoice)
    invoice = stored(invoice)
    before, log = vars(invoice).copy(), log_entries(invoice)
    with context(), pytest.raises(CancelInTransaction) as caught:
        getattr(invoice, method)()
    text = str(caught.value)
    assert -1 < text.find("cancel_on_commit") < text.find("non_atomic_requests")
    assert vars(invoice) == before
    assert log_entries(invoice) == log
    assert vars(stored(invoice)) | {"_state": None} == before | {"_state": None}
    assert sandbox.requests == []


@pytest.fixture
def atomic_requests(monkeypatch):
    monkeypatch.setitem(connections["default"].settings_dict, "ATOMIC_REQUESTS", True)


@pytest.mark.django_db(transaction=True)
def test_refuses_in_a_view_under_atomic_requests(sandbox, register, client, atomic_requests):
    invoice = register()
    with pytest.raises(CancelInTransaction):
        client.post(f"/cancel/{invoice.pk}/")
    assert stored(invoice).status == "created"
    assert log_entries(invoice) == []
    assert sandbox.requests == []


@pytest.mark.django_db(transaction=True)
def test_works_in_an_exempted_view(sandbox, register, client, atomic_requests):
    invoice = register()
    assert client.post(f"/exempt/{invoice.pk}/").json()["outcome"] == "canceled"
    assert log_entries(invoice) == CANCELED_LOG
    assert sandbox.count("cancel") == 1


@pytest.mark.django_db
def test_works_under_pytest_djangos_db(sandbox, register):
    """Its outer transaction is the test's, not the caller's."""
    assert connection.in_atomic_block
    invoice = register()
    assert invoice.cancel().ok
    assert sandbox.count("cancel") == 1


@pytest.mark.django_db
def test_refuses_a_callers_transaction_under_pytest_djangos_db(sandbox, register):
    invoice = register()
    with transaction.atomic(), pytest.raises(CancelInTransaction):
        invoice.cancel()
    assert (*status_and_log(invoice), sandbox.requests) == ("created", [], [])


class TestInTestCase(TestCase):
    def test_works_in_a_test_case(self):
        with ProviderSandbox() as sandbox, self.settings(INVOICE_CANCEL={"PROVIDERS": sandbox.settings()}):
            invoice = Invoice.objects.create(provider="firekassa", external_id=sandbox.new_id("firekassa"))
            assert invoice.cancel().ok
            assert sandbox.count("cancel") == 1
        assert log_entries(invoice) == CANCELED_LOG


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("provider", ["firekassa", "cryptocloud"])
def test_no_transaction_and_no_row_lock_is_open_while_the_provider_is_asked(sandbox, register, in_thread, provider):
    """Seen from the provider's side: it holds the request, another connection writes the row."""
    invoice = register(provider=provider)
    asking = []

    def cancel():
        asking.append(connections["default"])
        return invoice.cancel()

    def write():
        return Invoice.objects.filter(pk=invoice.pk).update(reference="written meanwhile")

    with sandbox.hold(invoice.external_id) as held:
        running = in_thread(cancel)
        held.wait_arrived()
        in_atomic_block, autocommit = asking[0].in_atomic_block, asking[0].autocommit
        written = in_thread(write).result(timeout=15)
    assert running.result().ok
    assert in_atomic_block is False
    assert autocommit is True
    assert written == 1
    assert stored(invoice).reference == "written meanwhile"
    assert (*status_and_log(invoice), sandbox.count("cancel")) == ("canceled", CANCELED_LOG, 1)
