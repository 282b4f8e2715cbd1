"""Texts and actors of every public function: None is empty, lazy texts are evaluated, other types raise an error."""

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


def manager_observes(invoice, **arguments):
    return Invoice.objects.observe_status("shop", invoice.external_id, "paid", **arguments)


def manager_observes_unregistered(invoice, **arguments):
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
    "manager.observe_status": ("created", manager_observes),
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
ONLY_ACTOR = {
    "manager.observe_status of an unregistered id": ("created", manager_observes_unregistered),
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
NO_TEXTS = [5, 0, 1.5, True, False, b"late", ["late"], {"late": 1}, object()]
NO_ACTORS = [5, 0, True, b"Ada", ["Ada"], User, object()]


def type_name(value):
    return type(value).__name__


def facts():
    """Return everything that an argument that raises must leave as it is."""
    return (
        list(Invoice.objects.order_by("pk").values()),
        list(InvoiceTransition.objects.order_by("pk").values()),
        list(BulkOperation.objects.values()),
    )


def reasons():
    """Return the reasons that were stored since the invoice was made."""
    logged = InvoiceTransition.objects.exclude(actor_label="make_invoice").values_list("reason", flat=True)
    return {*logged, *BulkOperation.objects.values_list("reason", flat=True)}


def refuse(shop, status, call, match, **arguments):
    invoice = make_invoice(status, provider="shop")
    before = facts()
    with pytest.raises(TypeError, match=match):
        call(invoice, **arguments)
    assert facts() == before
    assert shop.cancel_count == 0
    assert shop.lookup_count == 0


@pytest.mark.parametrize(("status", "call"), WITH_REASON.values(), ids=WITH_REASON)
def test_reason_none_is_no_reason(shop, status, call):
    call(make_invoice(status, provider="shop"), actor="Ada", reason=None)
    assert reasons() == {""}


@pytest.mark.parametrize(("status", "call"), DECISIONS.values(), ids=DECISIONS)
def test_decision_without_its_reason_is_refused(shop, status, call):
    invoice = make_invoice(status, provider="shop")
    before = facts()
    with pytest.raises(ValueError, match="pass reason"):
        call(invoice, actor="Ada", reason=None)
    assert facts() == before


@pytest.mark.parametrize(
    "text",
    [gettext_lazy("too late"), mark_safe("too late"), SimpleLazyObject(lambda: "too late")],
    ids=["lazy", "safe", "object"],
)
@pytest.mark.parametrize(("status", "call"), (WITH_REASON | DECISIONS).values(), ids=WITH_REASON | DECISIONS)
def test_lazy_reason_is_stored_as_its_text(shop, status, call, text):
    call(make_invoice(status, provider="shop"), actor="Ada", reason=text)
    assert reasons() == {"too late"}


@pytest.mark.parametrize("text", NO_TEXTS, ids=type_name)
@pytest.mark.parametrize(("status", "call"), (WITH_REASON | DECISIONS).values(), ids=WITH_REASON | DECISIONS)
def test_reason_that_is_no_text_does_nothing(shop, status, call, text):
    refuse(shop, status, call, "^reason must be a text", actor="Ada", reason=text)


ALL = WITH_REASON | DECISIONS | ONLY_ACTOR


def with_reason(name):
    return {"reason": "late"} if name in WITH_REASON | DECISIONS else {}


@pytest.mark.parametrize("actor", [*NO_ACTORS, Group()], ids=type_name)
@pytest.mark.parametrize("name", ALL)
def test_actor_that_is_none_does_nothing(shop, name, actor):
    refuse(shop, *ALL[name], "^actor must be a user", actor=actor, **with_reason(name))


@pytest.mark.parametrize(
    "name", [name for name in ALL if not name.startswith(("manager.observe_status of", "register", "reconcile"))]
)
def test_lazy_label_is_an_actor(shop, name):
    status, call = ALL[name]
    call(make_invoice(status, provider="shop"), actor=gettext_lazy("night shift"), **with_reason(name))
    labels = InvoiceTransition.objects.exclude(actor_label="make_invoice").values_list("actor_label", flat=True)
    assert {*labels, *BulkOperation.objects.values_list("actor_label", flat=True)} == {"night shift"}


@pytest.mark.parametrize("name", ["note", "seen"])
@pytest.mark.parametrize("text", NO_TEXTS, ids=type_name)
def test_text_of_mark_handled_that_is_none_does_nothing(shop, name, text):
    texts = {"note": "refunded", "seen": "paid"} | {name: text}
    refuse(
        shop, "paid_after_cancel", lambda invoice: invoice.mark_handled(actor="Ada", **texts), f"^{name} must be a text"
    )


def test_lazy_note_is_stored_as_its_text(shop):
    make_invoice("paid_after_cancel", provider="shop").mark_handled(
        actor="Ada", note=gettext_lazy("refunded"), seen=None
    )
    assert reasons() == {"refunded"}


@pytest.mark.parametrize("word", [b"paid", True, 1.5, ["paid"], {"paid": 1}, object()], ids=type_name)
@pytest.mark.parametrize("name", ["invoice", "manager", "unregistered"])
def test_status_string_of_a_provider_that_is_no_text_does_nothing(shop, name, word):
    def call(invoice):
        if name == "invoice":
            return invoice.observe_status(provider_status=word)
        external_id = invoice.external_id if name == "manager" else "999"
        return Invoice.objects.observe_status("shop", external_id, provider_status=word)

    refuse(shop, "created", call, "^provider_status must be a text")


@pytest.mark.parametrize("word", [gettext_lazy("paid"), mark_safe("paid")], ids=["lazy", "safe"])
def test_lazy_status_string_of_a_provider_is_its_text(shop, word):
    invoice = make_invoice("created", provider="shop")
    invoice.observe_status(provider_status=word)
    assert Invoice.objects.get().status == "paid"


def test_status_string_of_a_provider_may_be_a_whole_number(shop):
    invoice = make_invoice("created", provider="shop")
    invoice.observe_status(provider_status=4)
    assert invoice.transitions.get(code="unknown_status").provider_message == "4"


@pytest.mark.parametrize("decision", [None, ""])
def test_operation_that_decides_nothing_has_no_decision(shop, decision):
    make_invoice("created", provider="shop")
    assert operations.start(Invoice.objects.all(), actor="Ada", decision=decision).decision == ""


@pytest.mark.parametrize("operation", ["cancel", "check"])
@pytest.mark.parametrize("decision", ["canceled", "\0", "\ud800", "x" * 17], ids=ascii)
def test_decision_of_another_operation_is_refused(shop, operation, decision):
    make_invoice("created", provider="shop")
    before = facts()
    with pytest.raises(ValueError, match="Pass decision with operation='resolve' only"):
        operations.start(Invoice.objects.all(), operation=operation, actor="Ada", decision=decision)
    assert facts() == before


@pytest.mark.parametrize("status", [5, b"paid", ["paid"], {"paid": 1}, True], ids=type_name)
def test_status_to_register_with_that_is_no_text_is_refused(shop, status):
    with pytest.raises(ValidationError) as caught:
        Invoice.objects.register(provider="shop", external_id="new", status=status)
    assert list(caught.value.message_dict) == ["status"]
    assert not Invoice.objects.exists()


@pytest.mark.parametrize("provider", [5, b"shop", ["shop"], {"shop": 1}, True], ids=type_name)
def test_alias_that_is_no_text_is_refused(shop, provider):
    with pytest.raises(TypeError, match=r"^provider must be a text"):
        Invoice.objects.observe_status(provider, "7", "paid")


def test_lazy_alias_is_its_text(shop):
    invoice = make_invoice("created", provider="shop")
    assert Invoice.objects.observe_status(gettext_lazy("shop"), invoice.external_id, "paid") == invoice
    assert Invoice.objects.get().status == "paid"


@pytest.mark.parametrize("decision", [5, b"canceled", ["canceled"]], ids=type_name)
def test_decision_that_is_no_text_does_nothing(shop, decision):
    def call(invoice):
        operation = {"operation": "resolve", "decision": decision, "actor": "Ada", "reason": "seen"}
        operations.start(Invoice.objects.all(), **operation)

    refuse(shop, "in_doubt", call, "^decision must be a text")
