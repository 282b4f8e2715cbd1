"""Only the writer changes status and bookkeeping (rule 2). A stale instance or an old key overwrites nothing."""

from datetime import timedelta
from uuid import uuid4

import pytest
from asgiref.sync import async_to_sync
from django.contrib import admin
from django.db import IntegrityError, connection, transaction
from django.test.utils import CaptureQueriesContext
from django.urls import path

from django_invoice_cancel.models import Invoice
from django_invoice_cancel.models.writes.transactions import WRITER_FIELDS
from tests.support.invoices import invoice_in_status, set_columns_and_refresh, stored
from tests.support.logs import log_changes
from tests.support.writes import LOCAL_NOON, NOON, observe_elsewhere

pytestmark = pytest.mark.django_db

BOOKKEEPING = {
    "status": "paid",
    "attempt": uuid4(),
    "claim_expires_at": NOON,
    "cancel_requested_at": NOON,
    "cancel_try_at": NOON,
    "cancel_try_count": 2,
    "next_check_at": NOON,
    "check_count": 4,
    "last_outcome": "refused",
    "status_changed_at": NOON,
    "status_confirmed_at": NOON,
    "contradicted_at": NOON,
    "paid_after_cancel_at": NOON,
    "paid_after_cancel_handled_at": NOON,
    "paid_after_cancel_handled_by_id": 7,
}
"""Each field that only the writer changes, with a value that no new invoice has."""

each_field = pytest.mark.parametrize("name", sorted(BOOKKEEPING))


def test_table_of_this_module_lists_the_fields_of_the_writer():
    assert sorted(BOOKKEEPING) == sorted(WRITER_FIELDS)


def test_stale_save_does_not_change_status_and_bookkeeping():
    stale = invoice_in_status()
    set_columns_and_refresh(stored(stale), **BOOKKEEPING)
    stale.reference = "order-17"
    stale.save()
    row = stored(stale)
    assert {name: getattr(row, name) for name in BOOKKEEPING} == BOOKKEEPING
    assert row.reference == "order-17"


def test_stale_asave_does_not_change_the_status():
    stale = invoice_in_status()
    observe_elsewhere(stale, "paid")
    async_to_sync(stale.asave)()
    assert stored(stale).status == "paid"


@each_field
def test_edit_in_memory_is_not_saved(name):
    invoice = invoice_in_status()
    before = getattr(stored(invoice), name)
    setattr(invoice, name, BOOKKEEPING[name])
    invoice.save()
    assert getattr(stored(invoice), name) == before


@each_field
def test_save_with_update_fields_of_the_writer_raises(name):
    invoice = invoice_in_status()
    setattr(invoice, name, BOOKKEEPING[name])
    with pytest.raises(ValueError, match=f"Only the methods .* write '{name}'"):
        invoice.save(update_fields=["reference", name])
    assert getattr(stored(invoice), name) != BOOKKEEPING[name]


def _update(invoice, values):
    Invoice.objects.filter(pk=invoice.pk).update(reference="r", **values)


def _aupdate(invoice, values):
    async_to_sync(Invoice.objects.filter(pk=invoice.pk).aupdate)(**values)


def _bulk_update(invoice, values):
    for name, value in values.items():
        setattr(invoice, name, value)
    Invoice.objects.bulk_update([invoice], ["reference", *values])


def _update_or_create(invoice, values):
    key = {"provider": invoice.provider, "external_id": invoice.external_id}
    Invoice.objects.update_or_create(**key, defaults=values)


def _bulk_create(invoice, values):
    again = Invoice(pk=invoice.pk, provider=invoice.provider, external_id=invoice.external_id, **values)
    Invoice.objects.bulk_create([again], update_conflicts=True, update_fields=[*values], unique_fields=["id"])


def _bulk_create_by_position(invoice, values):
    again = Invoice(pk=invoice.pk, provider=invoice.provider, external_id=invoice.external_id, **values)
    Invoice.objects.bulk_create([again], None, False, True, [*values], ["id"])


@each_field
@pytest.mark.parametrize(
    "write", [_update, _aupdate, _bulk_update, _update_or_create, _bulk_create, _bulk_create_by_position]
)
def test_query_set_cannot_write_fields_of_the_writer(write, name):
    invoice = invoice_in_status()
    with pytest.raises(ValueError, match=f"Only the methods .* write '{name}'"), transaction.atomic():
        write(invoice, {name: BOOKKEEPING[name]})
    assert getattr(stored(invoice), name) != BOOKKEEPING[name]


def test_query_set_can_write_fields_of_the_host():
    invoice = invoice_in_status()
    assert Invoice.objects.filter(pk=invoice.pk).update(reference="order-17") == 1
    invoice.currency = "USD"
    assert Invoice.objects.bulk_update([invoice], ["currency"]) == 1
    Invoice.objects.update_or_create(pk=invoice.pk, defaults={"amount": "5"})
    row = stored(invoice)
    assert row.reference == "order-17"
    assert row.currency == "USD"
    assert row.amount == 5


@pytest.mark.parametrize("only", [["id"], ["id", "reference"], ["id", "status"]])
def test_instance_with_deferred_fields_saves_only_loaded_fields(only):
    invoice = invoice_in_status(reference="order-1")
    partial = Invoice.objects.only(*only).get(pk=invoice.pk)
    observe_elsewhere(invoice, "paid")
    Invoice.objects.filter(pk=invoice.pk).update(currency="USD")
    with CaptureQueriesContext(connection) as queries:
        partial.save()
    row = stored(invoice)
    assert not [query["sql"] for query in queries if query["sql"].startswith("SELECT")]
    assert row.status == "paid"
    assert row.currency == "USD"
    assert row.reference == "order-1"


def test_new_instance_with_an_old_key_does_not_overwrite():
    invoice = invoice_in_status(external_id="INV-1", reference="order-1")
    with pytest.raises(IntegrityError), transaction.atomic():
        Invoice(pk=invoice.pk, provider="cryptocloud", external_id="INV-2").save()
    row = stored(invoice)
    assert row.external_id == "INV-1"
    assert row.reference == "order-1"


@pytest.mark.django_db(databases=["default", "other"])
def test_save_to_another_database_inserts_there_or_fails():
    invoice = invoice_in_status(reference="order-1")
    invoice.save(using="other")
    again = Invoice.objects.using("default").get(pk=invoice.pk)
    again.reference = "order-2"
    with pytest.raises(IntegrityError), transaction.atomic(using="other"):
        again.save(using="other")
    assert Invoice.objects.using("other").get().reference == "order-1"


# -- the admin of a host that knows nothing of this -------------------------------------------------------------

site = admin.AdminSite(name="host")
site.register(Invoice, type("HostInvoiceAdmin", (admin.ModelAdmin,), {"list_display": ["external_id"]}))
urlpatterns = [path("host/", site.urls)]


def _form(response):
    form = response.context["adminform"].form
    return {name: form[name].value() or "" for name in form.fields} | _split_times(form)


def _split_times(form):
    times = {}
    for name in ("issued_at", "expires_at"):
        value = form[name].value()
        local = value.strftime("%Y-%m-%d %H:%M:%S").split() if value else ["", ""]
        times |= {f"{name}_0": local[0], f"{name}_1": local[1]}
    return times


@pytest.mark.urls("tests.integration.models.test_guarded_fields")
def test_stale_change_form_does_not_undo_a_payment(admin_client):
    invoice = invoice_in_status(issued_at=LOCAL_NOON - timedelta(days=1))
    url = f"/host/invoice_cancel/invoice/{invoice.pk}/change/"
    form = _form(admin_client.get(url))
    observe_elsewhere(invoice, "paid")
    response = admin_client.post(url, form | {"reference": "order-17"})
    assert response.status_code == 302, response.context["errors"]
    row = stored(invoice)
    assert row.status == "paid"
    assert row.reference == "order-17"
    assert log_changes(invoice) == [("created", "paid", "observed")]


@pytest.mark.urls("tests.integration.models.test_guarded_fields")
@pytest.mark.parametrize("status", ["in_doubt", "canceling"])
def test_add_form_rejects_a_status_that_only_a_claim_sets(admin_client, status):
    url = "/host/invoice_cancel/invoice/add/"
    form = _form(admin_client.get(url))
    response = admin_client.post(url, form | {"provider": "cryptocloud", "external_id": "INV-1", "status": status})
    assert "cannot be in doubt" in str(response.context["errors"])
    assert not Invoice.objects.exists()
