"""Texts and actors of every public function: None is empty, lazy texts are evaluated, other types are a TypeError."""

import pytest
from django.contrib.auth.models import Group, User
from django.core.exceptions import ValidationError
from django.utils.functional import SimpleLazyObject
from django.utils.safestring import mark_safe
from django.utils.translation import gettext_lazy

from django_invoice_cancel import operations
from django_invoice_cancel.bulk import cancel_invoices, reconcile_invoices
from django_invoice_cancel.models import BulkOperation, Invoice, InvoiceTransition
from django_invoice_cancel.testing import make_invoice

pytestmark = pytest.mark.django_db(transaction=True)


def observe_by_id(invoice, **arguments):
    return Invoice.objects.observe_status("shop", invoice.external_id, "paid", **arguments)


def observe_unregistered_id(invoice, **arguments):
    return Invoice.objects.observe_status("shop", "999", "paid", **arguments)


def start(invoice, **arguments):
    return operations.start(Invoice.objects.all(), **arguments)


def start_resolving(invoice, **arguments):
    return operations.start(Invoice.objects.all(), operation="resolve", decision="canceled", **arguments)


def start_checking(invoice, **arguments):
    return operations.start(Invoice.objects.all(), operation="check", **arguments)


def register(invoice, **arguments):
    return Invoice.objects.register(provider="shop", external_id="new", **arguments)


def register_many(invoice, **arguments):
    return Invoice.objects.register_many([{"provider": "shop", "external_id": "new"}], **arguments)


WITH_REASON = {
    "cancel": ("created", lambda invoice, **arguments: invoice.cancel(**arguments)),
    "cancel_on_commit": ("created", lambda invoice, **arguments: invoice.cancel_on_commit(**arguments)),
    "withdraw": ("requested", lambda invoice, **arguments: invoice.withdraw(**arguments)),
    "observe_status": ("created", lambda invoice, **arguments: invoice.observe_status("paid", **arguments)),
    "manager.observe_status": ("created", observe_by_id),
    "queryset.cancel": ("created", lambda invoice, **arguments: Invoice.objects.all().cancel(**arguments)),
    "cancel_invoices": (
        "created",
        lambda invoice, **arguments: list(cancel_invoices(Invoice.objects.all(), **arguments)),
    ),
    "BulkOperation.start": ("created", start),
    "BulkOperation.start of a check": ("created", start_checking),
}
DECISIONS = {
    "resolve": ("in_doubt", lambda invoice, **arguments: invoice.resolve("canceled", **arguments)),
    "BulkOperation.start of a decision": ("in_doubt", start_resolving),
}
WITH_ACTOR_ONLY = {
    "manager.observe_status of an unregistered id": ("created", observe_unregistered_id),
    "mark_handled": (
        "paid_after_cancel",
        lambda invoice, **arguments: invoice.mark_handled(note="refunded", **arguments),
    ),
    "reconcile": ("in_doubt", lambda invoice, **arguments: invoice.reconcile(**arguments)),
    "reconcile of an abandoned claim": ("abandoned", lambda invoice, **arguments: invoice.reconcile(**arguments)),
    "reconcile_invoices": (
        "in_doubt",
        lambda invoice, **arguments: list(reconcile_invoices(Invoice.objects.all(), **arguments)),
    ),
    "register": ("created", register),
    "register_many": ("created", register_many),
}
NOT_TEXTS = [5, 0, 1.5, True, False, b"late", ["late"], {"late": 1}, object()]
NOT_ACTORS = [5, 0, True, b"Ada", ["Ada"], User, object()]


def type_name(value):
    return type(value).__name__


def all_rows():
    """Return all rows, to compare them before and after a call that must write nothing."""
    return (
        list(Invoice.objects.order_by("pk").values()),
        list(InvoiceTransition.objects.order_by("pk").values()),
        list(BulkOperation.objects.values()),
    )


def stored_reasons():
    """Return the reasons that were stored after the invoice was made."""
    logged = InvoiceTransition.objects.exclude(actor_label="make_invoice").values_list("reason", flat=True)
    return {*logged, *BulkOperation.objects.values_list("reason", flat=True)}


def assert_type_error(shop, status, call, name, values):
    """Call the function with each value. Each raises a TypeError, writes nothing and sends nothing."""
    invoice = make_invoice(status, provider="shop")
    before = all_rows()
    for value in values:
        try:
            call(invoice, value)
        except TypeError as error:
            assert str(error).startswith(f"{name} must be a "), value  # noqa: PT017 - one set-up for all values
        else:
            raise AssertionError(f"{value!r} is accepted as {name}")
        assert all_rows() == before, value
    assert shop.cancel_count == 0
    assert shop.lookup_count == 0


@pytest.mark.parametrize(("status", "call"), WITH_REASON.values(), ids=WITH_REASON)
def test_reason_none_is_stored_as_empty(shop, status, call):
    call(make_invoice(status, provider="shop"), actor="Ada", reason=None)
    assert stored_reasons() == {""}


@pytest.mark.parametrize(("status", "call"), DECISIONS.values(), ids=DECISIONS)
def test_decision_without_a_reason_is_refused(shop, status, call):
    invoice = make_invoice(status, provider="shop")
    before = all_rows()
    with pytest.raises(ValueError, match="Pass reason"):
        call(invoice, actor="Ada", reason=None)
    assert all_rows() == before


@pytest.mark.parametrize(
    "text",
    [
        gettext_lazy("too late"),
        pytest.param(mark_safe("too late"), marks=pytest.mark.slow),
        pytest.param(SimpleLazyObject(lambda: "too late"), marks=pytest.mark.slow),
    ],
    ids=["lazy", "safe", "object"],
)
@pytest.mark.parametrize(("status", "call"), (WITH_REASON | DECISIONS).values(), ids=WITH_REASON | DECISIONS)
def test_lazy_reason_is_stored_as_its_text(shop, status, call, text):
    call(make_invoice(status, provider="shop"), actor="Ada", reason=text)
    assert stored_reasons() == {"too late"}


@pytest.mark.parametrize(("status", "call"), (WITH_REASON | DECISIONS).values(), ids=WITH_REASON | DECISIONS)
def test_reason_of_another_type_is_a_type_error(shop, status, call):
    def call_with(invoice, value):
        return call(invoice, actor="Ada", reason=value)

    assert_type_error(shop, status, call_with, "reason", NOT_TEXTS)


ENTRY_POINTS = WITH_REASON | DECISIONS | WITH_ACTOR_ONLY


def with_reason(name):
    return {"reason": "late"} if name in WITH_REASON | DECISIONS else {}


@pytest.mark.parametrize("name", ENTRY_POINTS)
def test_actor_of_another_type_is_a_type_error(shop, name):
    status, call = ENTRY_POINTS[name]

    def call_with(invoice, value):
        return call(invoice, actor=value, **with_reason(name))

    assert_type_error(shop, status, call_with, "actor", [*NOT_ACTORS, Group()])


@pytest.mark.parametrize(
    "name",
    [name for name in ENTRY_POINTS if not name.startswith(("manager.observe_status of", "register", "reconcile"))],
)
def test_lazy_label_of_an_actor_is_stored_as_its_text(shop, name):
    status, call = ENTRY_POINTS[name]
    call(make_invoice(status, provider="shop"), actor=gettext_lazy("late shift"), **with_reason(name))
    labels = InvoiceTransition.objects.exclude(actor_label="make_invoice").values_list("actor_label", flat=True)
    assert {*labels, *BulkOperation.objects.values_list("actor_label", flat=True)} == {"late shift"}


@pytest.mark.parametrize("name", ["note", "seen"])
def test_text_of_mark_handled_of_another_type_is_a_type_error(shop, name):
    def call_with(invoice, value):
        return invoice.mark_handled(actor="Ada", **{"note": "refunded", "seen": "paid"} | {name: value})

    assert_type_error(shop, "paid_after_cancel", call_with, name, NOT_TEXTS)


def test_lazy_note_is_stored_as_its_text(shop):
    make_invoice("paid_after_cancel", provider="shop").mark_handled(
        actor="Ada", note=gettext_lazy("refunded"), seen=None
    )
    assert stored_reasons() == {"refunded"}


@pytest.mark.parametrize("target", ["invoice", "registered id", "unregistered id"])
def test_status_string_of_another_type_is_a_type_error(shop, target):
    def call_with(invoice, value):
        if target == "invoice":
            return invoice.observe_status(provider_status=value)
        external_id = invoice.external_id if target == "registered id" else "999"
        return Invoice.objects.observe_status("shop", external_id, provider_status=value)

    values = [b"paid", True, 1.5, ["paid"], {"paid": 1}, object()]
    assert_type_error(shop, "created", call_with, "provider_status", values)


@pytest.mark.parametrize("status", [gettext_lazy("paid"), mark_safe("paid")], ids=["lazy", "safe"])
def test_lazy_status_string_is_read_as_its_text(shop, status):
    invoice = make_invoice("created", provider="shop")
    invoice.observe_status(provider_status=status)
    assert Invoice.objects.get().status == "paid"


def test_status_string_may_be_an_integer(shop):
    invoice = make_invoice("created", provider="shop")
    invoice.observe_status(provider_status=4)
    assert invoice.transitions.get(code="unknown_status").provider_message == "4"


@pytest.mark.parametrize("decision", [None, ""])
def test_operation_without_a_decision_stores_an_empty_one(shop, decision):
    make_invoice("created", provider="shop")
    assert operations.start(Invoice.objects.all(), actor="Ada", decision=decision).decision == ""


@pytest.mark.parametrize("operation", ["cancel", "check"])
def test_decision_is_refused_for_another_operation(shop, operation):
    make_invoice("created", provider="shop")
    before = all_rows()
    for decision in ("canceled", "\0", "\ud800", "x" * 17):
        with pytest.raises(ValueError, match="Pass decision with operation='resolve' only"):
            operations.start(Invoice.objects.all(), operation=operation, actor="Ada", decision=decision)
    assert all_rows() == before


def test_registering_with_a_status_of_another_type_is_refused(shop):
    for status in (5, b"paid", ["paid"], {"paid": 1}, True):
        with pytest.raises(ValidationError) as raised:
            Invoice.objects.register(provider="shop", external_id="new", status=status)
        assert list(raised.value.message_dict) == ["status"], status
    assert not Invoice.objects.exists()


def test_alias_of_another_type_is_a_type_error(shop):
    for provider in (5, b"shop", ["shop"], {"shop": 1}, True):
        with pytest.raises(TypeError, match=r"^provider must be a string"):
            Invoice.objects.observe_status(provider, "7", "paid")


def test_lazy_alias_is_read_as_its_text(shop):
    invoice = make_invoice("created", provider="shop")
    assert Invoice.objects.observe_status(gettext_lazy("shop"), invoice.external_id, "paid") == invoice
    assert Invoice.objects.get().status == "paid"


def test_decision_of_another_type_is_a_type_error(shop):
    def call_with(invoice, value):
        fields = {"operation": "resolve", "decision": value, "actor": "Ada", "reason": "seen"}
        return operations.start(Invoice.objects.all(), **fields)

    assert_type_error(shop, "in_doubt", call_with, "decision", [5, b"canceled", ["canceled"]])
