"""Registering through a child class creates the row of the child, for new and for registered invoices."""

import threading

import pytest
from django.core.exceptions import ValidationError

from django_invoice_cancel.models import Invoice, InvoiceTransition
from tests.apps.child_models.models import GiftInvoice, NumberedInvoice, ProxyInvoice, ShopInvoice

pytestmark = pytest.mark.django_db(transaction=True)

CHILDREN = [ShopInvoice, GiftInvoice, NumberedInvoice]
each_child = pytest.mark.parametrize("model", CHILDREN, ids=lambda model: model.__name__)


def register(model, external_id="1", **fields):
    return model.objects.register(provider="shop", external_id=external_id, **fields)


def register_many(model, external_id="1", **fields):
    return model.objects.register_many([{"provider": "shop", "external_id": external_id, **fields}])


each_way = pytest.mark.parametrize("way", [register, register_many], ids=["register", "register_many"])


@each_child
@each_way
def test_new_invoice_is_registered_as_a_child(account, model, way):
    way(model, reference="order-1", status="expired")
    child = model.objects.get()
    assert child.external_id == "1"
    assert child.reference == "order-1"
    assert child.status == "expired"
    assert list(InvoiceTransition.objects.values_list("invoice_id", "from_status", "to_status")) == [
        (Invoice.objects.get().pk, "", "expired")
    ]


@each_child
@each_way
def test_registered_invoice_gets_a_child_row_and_keeps_its_status(account, model, way):
    Invoice.objects.create(provider="shop", external_id="0")
    invoice = Invoice.objects.create(provider="shop", external_id="1", reference="order-1")
    invoice.observe_status("paid")
    way(model, reference="order-2")
    child = model.objects.get()
    assert child.id == invoice.pk
    assert child.external_id == "1"
    assert child.reference == "order-1"
    assert child.status == "paid"
    assert InvoiceTransition.objects.count() == 1
    assert register(model)[1] is False
    assert model.objects.count() == 1
    assert Invoice.objects.count() == 2


@each_child
def test_register_returns_the_child_and_whether_it_is_new(account, model):
    Invoice.objects.create(provider="shop", external_id="1")
    made, is_new = register(model)
    again, is_new_again = register(model)
    assert type(made) is model
    assert made.external_id == "1"
    assert is_new is True
    assert again == made
    assert is_new_again is False
    assert model.objects.register_many([{"provider": "shop", "external_id": each} for each in "123"]) == (2, 1)


def test_grandchild_is_created_from_a_child(account):
    Invoice.objects.create(provider="shop", external_id="0")
    shop, _ = register(ShopInvoice, shop="north")
    gift, is_new = register(GiftInvoice, message="hello")
    assert gift.id == shop.id
    assert gift.shop == "north"
    assert gift.message == "hello"
    assert is_new is True
    assert ShopInvoice.objects.get().shop == "north"
    assert GiftInvoice.objects.get().added_at == shop.added_at


@each_way
def test_register_writes_the_fields_of_the_child(account, way):
    Invoice.objects.create(provider="shop", external_id="0")
    way(ShopInvoice, "0", shop="north")
    way(ShopInvoice, "1", shop="south")
    assert list(ShopInvoice.objects.order_by("id").values_list("external_id", "shop")) == [
        ("0", "north"),
        ("1", "south"),
    ]
    assert None not in ShopInvoice.objects.values_list("added_at", flat=True)


@each_way
@pytest.mark.parametrize(
    ("fields", "field"),
    [({"shop": "x" * 21}, "shop"), ({"message": "x"}, "message"), ({"invoice_ptr": 1}, "invoice_ptr")],
)
def test_invalid_value_of_a_child_field_is_refused(account, way, fields, field):
    Invoice.objects.create(provider="shop", external_id="1")
    with pytest.raises(ValidationError) as caught:
        way(ShopInvoice, **fields)
    assert list(caught.value.message_dict) == [field]
    assert not ShopInvoice.objects.exists()


def test_register_through_a_proxy_returns_the_proxy(account):
    made, is_new = register(ProxyInvoice)
    again, _ = register(ProxyInvoice)
    assert type(made) is ProxyInvoice
    assert type(again) is ProxyInvoice
    assert is_new is True
    assert Invoice.objects.count() == 1


@each_child
def test_payment_of_an_invoice_without_a_child_row_is_recorded(account, model):
    invoice = Invoice.objects.create(provider="shop", external_id="1")
    found = model.objects.observe_status("shop", "1", "paid")
    assert found == invoice
    assert Invoice.objects.get().status == "paid"
    child, _ = register(model)
    assert model.objects.observe_status("shop", "1", "overpaid") == child
    assert Invoice.objects.get().status == "overpaid"


@each_child
def test_concurrent_registrations_create_one_child(account, model, in_thread):
    Invoice.objects.create(provider="shop", external_id="0")
    barrier = threading.Barrier(4, timeout=20)

    def register_at_the_same_time(external_id):
        barrier.wait()
        return register(model, external_id)

    for external_id in ("0", "1"):  # one that is registered already, and one that is not
        found = [thread.result() for thread in [in_thread(register_at_the_same_time, external_id) for _ in range(4)]]
        assert sorted(is_new for _, is_new in found) == [False, False, False, True]
        assert len({child.pk for child, _ in found}) == 1
    assert model.objects.count() == 2
    assert Invoice.objects.count() == 2
