"""Many invoices of a child class or a proxy: bulk runs, stored operations and their pages."""

import threading

import pytest
from django.contrib import admin
from django.contrib.auth.models import User
from django.urls import path, reverse

from django_invoice_cancel import operations
from django_invoice_cancel.admin import BulkOperationAdmin, InvoiceAdmin
from django_invoice_cancel.bulk import reconcile_invoices
from django_invoice_cancel.models import BulkOperation, Invoice
from django_invoice_cancel.operations import advance
from tests.apps.child_models.models import GiftInvoice, NumberedInvoice, ProxyInvoice, ShopInvoice

pytestmark = pytest.mark.django_db

CLASSES = [ShopInvoice, GiftInvoice, NumberedInvoice, ProxyInvoice]
each_class = pytest.mark.parametrize("model", CLASSES, ids=lambda model: model.__name__)

site = admin.AdminSite(name="children")
site.register(CLASSES, InvoiceAdmin)
site.register(Invoice, InvoiceAdmin)
site.register(BulkOperation, BulkOperationAdmin)
urlpatterns = [path("admin/", site.urls)]


def make(model, count, start=0):
    Invoice.objects.create(provider="shop", external_id=f"before-{start}")  # the keys of NumberedInvoice differ
    for number in range(start, start + count):
        model.objects.create(provider="shop", external_id=f"{number:03}")
    return model.objects.filter(external_id__lt="9").order_by("external_id")


def statuses():
    return dict(Invoice.objects.exclude(external_id__startswith="before").values_list("external_id", "status"))


@each_class
def test_query_set_of_the_class_is_canceled(account, model):
    invoices = make(model, 60)
    chosen = invoices.filter(external_id__lt="055")
    report = chosen.cancel()
    keys = set(Invoice.objects.filter(external_id__lt="055").values_list("pk", flat=True))
    assert report.ok is True
    assert len(report.results) == 55
    assert {result.invoice_id for result in report.results} == keys
    assert statuses() == {f"{n:03}": "canceled" if n < 55 else "created" for n in range(60)}
    assert sorted(account.cancels) == [f"{n:03}" for n in range(55)]


def test_filter_on_columns_of_the_child_selects_the_invoices(account):
    make(ShopInvoice, 4)
    ShopInvoice.objects.filter(external_id__in=["001", "002"]).update(shop="north")
    ShopInvoice.objects.filter(shop="north").select_related("invoice_ptr").only("shop").cancel(limit=5)
    assert sorted(account.cancels) == ["001", "002"]


@pytest.mark.django_db(transaction=True)
@each_class
def test_concurrent_bulk_runs_request_each_invoice_once(account, model, in_thread):
    invoices, barrier = make(model, 16), threading.Barrier(4, timeout=60)

    def run():
        barrier.wait()
        return invoices.all().cancel()

    for thread in [in_thread(run) for _ in range(4)]:
        thread.result()
    assert sorted(account.cancels) == [f"{n:03}" for n in range(16)]
    assert set(statuses().values()) == {"canceled"}


@each_class
def test_query_set_of_the_class_is_reconciled(account, model):
    invoices = make(model, 3)
    account.all_cancels("in_doubt")
    assert not invoices.cancel().ok
    for external_id in statuses():
        account.set_status(external_id, "canceled")
    results = list(reconcile_invoices(invoices.in_doubt()))
    assert [result.outcome for result in results] == ["already_canceled"] * 3
    assert statuses() == dict.fromkeys(["000", "001", "002"], "canceled")


@each_class
def test_stored_operation_cancels_the_selected_invoices(account, model):
    invoices = make(model, 5)
    operation = operations.start(invoices.filter(external_id__gte="002"), actor="Ada")
    assert advance(operation.pk).is_finished
    assert dict(operation.items.values_list("invoice__external_id", "outcome")) == dict.fromkeys(
        ["002", "003", "004"], "canceled"
    )
    assert sorted(account.cancels) == ["002", "003", "004"]


# -- the admin --------------------------------------------------------------------------------------------------


@pytest.fixture
def browser(client):
    client.force_login(User.objects.create_superuser("ada"))
    return client


def address(model, page, *args):
    return reverse(f"admin:child_models_{model._meta.model_name}_{page}", args=args)


@pytest.mark.urls("tests.integration.child_models.test_many_invoices")
@each_class
def test_admin_of_the_class_cancels_an_invoice(account, browser, model):
    invoice = make(model, 1).get()
    assert browser.get(address(model, "change", invoice.pk)).status_code == 200
    answer = browser.post(address(model, "cancel", invoice.pk), {"reason": "asked by the customer"})
    assert answer.status_code == 302
    assert answer.headers["Location"] == address(model, "change", invoice.pk)
    assert statuses() == {"000": "canceled"}
    assert account.cancels == ["000"]


@pytest.mark.urls("tests.integration.child_models.test_many_invoices")
@each_class
def test_admin_of_the_class_selects_invoices_for_an_operation(account, browser, model):
    chosen = make(model, 4).filter(external_id__in=["001", "003"])
    keys = [str(invoice.pk) for invoice in chosen]
    data = {"action": "cancel_selected_invoices", "_selected_action": keys, "index": "0"}
    assert browser.post(address(model, "changelist"), data).status_code == 302
    operation = BulkOperation.objects.get()
    assert sorted(operation.items.values_list("invoice__external_id", flat=True)) == ["001", "003"]
    operation.confirm()
    advance(operation.pk)
    assert sorted(account.cancels) == ["001", "003"]


@pytest.mark.urls("tests.integration.child_models.test_many_invoices")
@each_class
def test_admin_of_the_class_registers_an_invoice(account, browser, model):
    form = {"provider": "shop", "external_id": "1", "status": "created", "issued_at_0": "2026-01-01"}
    form |= {"issued_at_1": "12:00:00", "reference": "order-1"}
    answer = browser.post(address(model, "add"), form)
    assert answer.status_code == 302, answer.context["errors"]
    assert model.objects.get().external_id == "1"
    assert Invoice.objects.count() == 1
