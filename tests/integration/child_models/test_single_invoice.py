"""One invoice of a child class or a proxy: every writer works on the row of ``Invoice`` (P3, P6)."""

import threading
from uuid import uuid4

import pytest
from django.db import IntegrityError, transaction

from django_invoice_cancel.exceptions import CancelError
from django_invoice_cancel.models import Invoice, InvoiceTransition
from django_invoice_cancel.signals import invoice_paid_after_cancel, invoice_status_changed
from tests.apps.child_models.models import GiftInvoice, NumberedInvoice, ProxyInvoice, ShopInvoice

pytestmark = pytest.mark.django_db

CLASSES = [ShopInvoice, GiftInvoice, NumberedInvoice, ProxyInvoice]
each_class = pytest.mark.parametrize("model", CLASSES, ids=lambda model: model.__name__)
each_child = pytest.mark.parametrize("model", CLASSES[:-1], ids=lambda model: model.__name__)


def make(model, external_id="1", **fields):
    """Insert an invoice of a class. A plain one before it lets the keys of ``NumberedInvoice`` differ."""
    Invoice.objects.create(provider="shop", external_id=f"before-{uuid4().hex[:8]}")
    return model.objects.create(provider="shop", external_id=external_id, **fields)


def row(invoice):
    return Invoice.objects.get(provider=invoice.provider, external_id=invoice.external_id)


def history(invoice):
    log = InvoiceTransition.objects.filter(invoice_id=row(invoice).pk).order_by("id")
    return list(log.values_list("from_status", "to_status"))


CANCELED = [("created", "canceling"), ("canceling", "canceled")]


@each_class
def test_cancel_writes_the_row_of_this_invoice_and_of_no_other(account, model):
    invoice = make(model)
    result = invoice.cancel()
    assert result.outcome == "canceled"
    assert result.invoice_id == row(invoice).pk
    assert invoice.status == "canceled"
    assert row(invoice).status == "canceled"
    assert history(invoice) == CANCELED
    assert set(Invoice.objects.exclude(pk=row(invoice).pk).values_list("status", flat=True)) == {"created"}
    assert account.cancels == ["1"]


@each_child
def test_guarded_write_is_one_update_of_the_invoice_table(account, model, django_assert_num_queries):
    """Through a child Django would turn it into a SELECT and an UPDATE of what the SELECT found."""
    invoice = make(model)
    with django_assert_num_queries(8) as queries:  # as many as for an Invoice: two transactions of four statements
        invoice.cancel()
    updates = [query["sql"] for query in queries.captured_queries if query["sql"].startswith("UPDATE")]
    assert len(updates) == 2
    assert not any("child_models" in sql for sql in updates)


@each_class
def test_every_writer_works_with_the_class(account, model):
    account.next_cancels("in_doubt")
    invoice = make(model)
    with pytest.raises(CancelError):
        invoice.cancel()
    assert row(invoice).status == "in_doubt"
    account.set_status("1", "canceled")
    assert invoice.reconcile().outcome == "already_canceled"
    assert invoice.observe_status("paid") is True
    assert row(invoice).status == "paid"
    assert row(invoice).paid_after_cancel_at is not None
    assert invoice.mark_handled(actor="Ada", note="delivered") is True
    assert row(invoice).paid_after_cancel_handled_at is not None
    assert account.cancels == ["1"]


@pytest.mark.django_db(transaction=True)
@each_class
def test_resolve_and_cancel_on_commit_work_with_the_class(account, model):
    doubtful, wanted = make(model, "1"), make(model, "2")
    account.next_cancels("in_doubt")
    with pytest.raises(CancelError):
        doubtful.cancel()
    with transaction.atomic():
        doubtful.resolve("expired", actor="Ada", reason="seen in the dashboard")
        assert wanted.cancel_on_commit(actor="Ada") is True
    assert row(doubtful).status == "expired"
    assert row(wanted).status == "canceled"
    assert account.cancels == ["1", "2"]


@pytest.mark.django_db(transaction=True)
@each_class
def test_signals_are_sent_by_invoice(account, model):
    received = []

    def receive(sender, invoice, transition, **kwargs):
        received.append((sender, type(invoice), invoice.external_id, transition.to_status))

    for signal in (invoice_status_changed, invoice_paid_after_cancel):
        signal.connect(receive, sender=Invoice)
    try:
        invoice = make(model)
        invoice.cancel()
        invoice.observe_status("paid")
    finally:
        for signal in (invoice_status_changed, invoice_paid_after_cancel):
            signal.disconnect(receive, sender=Invoice)
    statuses = ["canceling", "canceled", "paid", "paid"]
    assert received == [(Invoice, model, "1", status) for status in statuses]


@pytest.mark.django_db(transaction=True)
@each_class
def test_concurrent_cancellations_request_each_invoice_once_and_overwrite_no_payment(account, model, in_thread):
    """Each thread has an instance of its own. Every fourth invoice is paid while the others are canceled."""
    ids = [f"{number:02}" for number in range(16)]
    paid = ids[::4]
    for external_id in ids:
        make(model, external_id)
    barrier = threading.Barrier(5, timeout=60)

    def cancel_all():
        own = list(model.objects.filter(provider="shop", external_id__in=ids).order_by("external_id"))
        barrier.wait()
        for invoice in own:
            try:
                invoice.cancel()
            except CancelError:
                continue

    def pay():
        barrier.wait()
        for external_id in paid:
            model.objects.observe_status("shop", external_id, "paid")

    threads = [in_thread(cancel_all) for _ in range(4)] + [in_thread(pay)]
    for thread in threads:
        thread.result()
    assert sorted(account.cancels) == sorted(set(account.cancels))
    assert set(account.cancels) | set(paid) == set(ids)
    statuses = dict(Invoice.objects.filter(external_id__in=ids).values_list("external_id", "status"))
    assert statuses == {each: "paid" if each in paid else "canceled" for each in ids}


# -- columns of the project ---------------------------------------------------------------------------------------


@each_class
def test_stale_save_does_not_change_the_status(account, model):
    stale = make(model)
    row(stale).observe_status("paid")
    stale.reference = "order-17"
    stale.save()
    assert row(stale).status == "paid"
    assert row(stale).reference == "order-17"


@each_child
def test_new_child_with_an_existing_key_overwrites_nothing(account, model):
    invoice = Invoice.objects.create(provider="shop", external_id="1", reference="order-1")
    invoice.observe_status("paid")
    for fields in ({"id": invoice.pk}, {model._meta.get_ancestor_link(Invoice).attname: invoice.pk}):
        with pytest.raises(IntegrityError), transaction.atomic():
            model(provider="shop", external_id="2", **fields).save()
    assert list(Invoice.objects.values_list("external_id", "status", "reference")) == [("1", "paid", "order-1")]


@pytest.mark.django_db(databases=["default", "other"])
@each_child
def test_saving_a_child_to_another_database_overwrites_nothing_there(account, model):
    there = Invoice.objects.using("other").create(provider="shop", external_id="9", reference="there")
    there.observe_status("paid")
    here = model.objects.create(id=there.pk, provider="shop", external_id="1")
    with pytest.raises(IntegrityError), transaction.atomic(using="other"):
        here.save(using="other")
    assert Invoice.objects.using("other").values_list("external_id", "status").get() == ("9", "paid")


WRITES = {
    "update": lambda model, invoice: model.objects.filter(pk=invoice.pk).update(status="canceled"),
    "bulk_update": lambda model, invoice: model.objects.bulk_update([invoice], ["status"]),
    "update_or_create": lambda model, invoice: model.objects.update_or_create(
        pk=invoice.pk, defaults={"status": "canceled"}
    ),
    "save": lambda model, invoice: invoice.save(update_fields=["status"]),
}


@each_class
@pytest.mark.parametrize("write", WRITES)
def test_write_of_the_status_is_refused(account, model, write):
    invoice = make(model)
    invoice.status = "canceled"
    with pytest.raises(ValueError, match=r"Only the methods .* write 'status'"):
        WRITES[write](model, invoice)
    assert row(invoice).status == "created"


@each_class
def test_project_may_write_other_columns(account, model):
    invoice = make(model)
    row(invoice).observe_status("paid")
    assert model.objects.filter(pk=invoice.pk).update(reference="a") == 1
    invoice.currency = "USD"
    if model is not NumberedInvoice:  # Django looks for the child's key in the table of the parent
        assert model.objects.bulk_update([invoice], ["currency"]) == 1
    model.objects.update_or_create(pk=invoice.pk, defaults={"amount": "5"})
    after = row(invoice)
    assert after.status == "paid"
    assert after.reference == "a"
    assert after.amount == 5
