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
    Invoice.objects.filter(pk=invoice.pk).update(provider="unconfigured")


def pause(invoice):
    invoice._writer.pause(invoice.provider, "rate_limited", 60)


def close(invoice):
    invoice.observe_status("canceled")


def claim(invoice):
    invoice._writer.claim([invoice], AuditContext("another process"))


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("context", [transaction.atomic, nested, autocommit_off], ids=["atomic", "nested", "manual"])
def test_cancel_and_reconcile_are_refused_in_a_transaction(sandbox, register, context):
    """Also for invoices that would be skipped: the caller has to notice the mistake at the first call."""
    for prepare in (leave_open, misconfigure, close, claim, pause):
        invoice = register()
        prepare(invoice)
        invoice = stored(invoice)
        before, log = vars(invoice).copy(), log_entries(invoice)
        for method in (invoice.cancel, invoice.reconcile):
            with context(), pytest.raises(CancelInTransaction) as raised:
                method()
            text = str(raised.value)
            assert -1 < text.find("cancel_on_commit") < text.find("non_atomic_requests")
            assert vars(invoice) == before, prepare
            assert log_entries(invoice) == log, prepare
            assert vars(stored(invoice)) | {"_state": None} == before | {"_state": None}, prepare
    assert sandbox.requests == []


@pytest.fixture
def atomic_requests(monkeypatch):
    monkeypatch.setitem(connections["default"].settings_dict, "ATOMIC_REQUESTS", True)


@pytest.mark.django_db(transaction=True)
def test_view_under_atomic_requests_is_refused(sandbox, register, client, atomic_requests):
    invoice = register()
    with pytest.raises(CancelInTransaction):
        client.post(f"/cancel/{invoice.pk}/")
    assert stored(invoice).status == "created"
    assert log_entries(invoice) == []
    assert sandbox.requests == []


@pytest.mark.django_db(transaction=True)
def test_non_atomic_view_cancels(sandbox, register, client, atomic_requests):
    invoice = register()
    assert client.post(f"/exempt/{invoice.pk}/").json()["outcome"] == "canceled"
    assert log_entries(invoice) == CANCELED_LOG
    assert sandbox.count("cancel") == 1


@pytest.mark.django_db
def test_cancel_works_with_the_db_fixture(sandbox, register):
    """The outer transaction belongs to the test."""
    assert connection.in_atomic_block
    invoice = register()
    assert invoice.cancel().ok
    assert sandbox.count("cancel") == 1


@pytest.mark.django_db
def test_callers_transaction_is_refused_with_the_db_fixture(sandbox, register):
    invoice = register()
    with transaction.atomic(), pytest.raises(CancelInTransaction):
        invoice.cancel()
    assert status_and_log(invoice) == ("created", [])
    assert sandbox.requests == []


class TestInTestCase(TestCase):
    def test_cancel_works_in_a_test_case(self):
        with ProviderSandbox() as sandbox, self.settings(INVOICE_CANCEL={"PROVIDERS": sandbox.settings()}):
            invoice = Invoice.objects.create(provider="firekassa", external_id=sandbox.new_id("firekassa"))
            assert invoice.cancel().ok
            assert sandbox.count("cancel") == 1
        assert log_entries(invoice) == CANCELED_LOG


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("provider", ["firekassa", "cryptocloud"])
def test_no_transaction_and_no_row_lock_is_open_during_the_request(sandbox, register, in_thread, provider):
    """While the provider holds the request, another connection writes the row."""
    invoice = register(provider=provider)
    connections_of_caller = []

    def cancel():
        connections_of_caller.append(connections["default"])
        return invoice.cancel()

    def write():
        return Invoice.objects.filter(pk=invoice.pk).update(reference="written during the request")

    with sandbox.hold(invoice.external_id) as held:
        running = in_thread(cancel)
        held.wait_arrived()
        in_atomic_block, autocommit = connections_of_caller[0].in_atomic_block, connections_of_caller[0].autocommit
        written = in_thread(write).result(timeout=15)
    assert running.result().ok
    assert in_atomic_block is False
    assert autocommit is True
    assert written == 1
    assert stored(invoice).reference == "written during the request"
    assert status_and_log(invoice) == ("canceled", CANCELED_LOG)
    assert sandbox.count("cancel") == 1
