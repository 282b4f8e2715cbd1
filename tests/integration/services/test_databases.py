"""Several databases: all rows are written to the database of the invoice."""

import pytest
from django.db import connections, transaction

from django_invoice_cancel.exceptions import CancelInTransaction
from django_invoice_cancel.models import Invoice, InvoiceTransition, ProviderState
from tests.support.clock import travel_forward
from tests.support.invoices import stored
from tests.support.logs import CANCELED_LOG, log_entries, status_and_log
from tests.support.results import cancel_error

pytestmark = pytest.mark.django_db(transaction=True, databases=["default", "other"])


class WriteToOther:
    """A router that reads from "default" and writes to "other"."""

    def db_for_read(self, model, **hints):
        return "default" if model._meta.app_label == "invoice_cancel" else None

    def db_for_write(self, model, **hints):
        return "other" if model._meta.app_label == "invoice_cancel" else None

    def allow_relation(self, *args, **hints):
        return True


def count_rows(using):
    return [model.objects.using(using).count() for model in (Invoice, InvoiceTransition, ProviderState)]


IN_DOUBT = [CANCELED_LOG[0], ("canceling", "in_doubt", "in_doubt", "provider_error")]


def cancel(invoice, sandbox):
    assert invoice.cancel().ok
    assert log_entries(invoice) == CANCELED_LOG


def cancel_on_commit(invoice, sandbox):
    with transaction.atomic(using="other"):
        assert invoice.cancel_on_commit()
        assert sandbox.count("cancel") == 0
    assert stored(invoice).status == "canceled"


def observe(invoice, sandbox):
    assert invoice.observe_status("paid")
    assert stored(invoice).status == "paid"


def observe_by_id(invoice, sandbox):
    seen = Invoice.objects.using("other").all()
    assert seen.get() == invoice
    manager = Invoice.objects.db_manager("other")
    assert manager.observe_status("cryptocloud", invoice.external_id, "paid") == invoice
    assert stored(invoice).status == "paid"


def reconcile(invoice, sandbox):
    sandbox.script(invoice.external_id, ["error_500_after"])
    cancel_error(invoice.cancel)
    with travel_forward(minutes=16):
        assert invoice.reconcile().status == "canceled"
    assert status_and_log(invoice) == (
        "canceled",
        [*IN_DOUBT, ("in_doubt", "canceled", "already_canceled", "observed")],
    )


def resolve(invoice, sandbox):
    sandbox.script(invoice.external_id, ["error_500_after"])
    cancel_error(invoice.cancel)
    invoice.resolve("expired", actor="ada", reason="seen in the dashboard")
    assert status_and_log(invoice) == ("expired", [*IN_DOUBT, ("in_doubt", "expired", "", "resolved")])


def cancel_at_a_paused_provider(invoice, sandbox):
    sandbox.script(invoice.external_id, ["rate_limited"])
    cancel_error(invoice.cancel)
    assert cancel_error(invoice.cancel).result.code == "provider_paused"
    answered = ("canceling", "created", "not_processed", "rate_limited")
    assert status_and_log(invoice) == ("created", [CANCELED_LOG[0], answered])


@pytest.mark.parametrize(
    "method",
    [cancel, cancel_on_commit, observe, observe_by_id, reconcile, resolve, cancel_at_a_paused_provider],
    ids=lambda method: method.__name__,
)
def test_method_writes_to_the_database_of_the_invoice(sandbox, register, method):
    invoice = register(using="other")
    method(invoice, sandbox)
    assert count_rows("default") == [0, 0, 0]
    assert count_rows("other")[:2] == [1, len(log_entries(invoice))]
    assert len(log_entries(invoice)) > 0
    assert sandbox.count("cancel") == (0 if method in (observe, observe_by_id) else 1)


def test_register_writes_to_the_database_of_the_manager(sandbox):
    external_id = sandbox.new_id("firekassa")
    manager = Invoice.objects.db_manager("other")
    invoice, created = manager.register(provider="firekassa", external_id=external_id)
    assert created is True
    assert invoice._state.db == "other"
    assert count_rows("default") == [0, 0, 0]
    assert invoice.cancel().ok
    assert count_rows("default") == [0, 0, 0]


@pytest.mark.parametrize(("alias", "is_refused"), [("other", True), ("default", False)])
def test_only_a_transaction_in_the_invoices_database_is_refused(sandbox, register, alias, is_refused):
    invoice = register(using="other")
    with transaction.atomic(using=alias):
        if is_refused:
            with pytest.raises(CancelInTransaction):
                invoice.cancel()
        else:
            assert invoice.cancel().ok
    assert status_and_log(invoice) == (("created", []) if is_refused else ("canceled", CANCELED_LOG))
    assert sandbox.count("cancel") == (0 if is_refused else 1)


def test_router_determines_the_database_of_every_write(sandbox, settings, django_assert_num_queries):
    settings.DATABASE_ROUTERS = [f"{__name__}.WriteToOther"]
    external_id = sandbox.new_id("cryptocloud")
    invoice, _ = Invoice.objects.register(provider="cryptocloud", external_id=external_id)
    with django_assert_num_queries(0, using="default"):
        assert invoice.cancel().ok
        invoice.observe_status("paid")
        assert Invoice.objects.observe_status("cryptocloud", external_id, "overpaid") == invoice
    assert count_rows("default") == [0, 0, 0]
    assert count_rows("other")[:2] == [1, 4]
    assert connections["other"].in_atomic_block is False
    assert sandbox.count("cancel") == 1
