"""The log names actors of every kind: names that are no strings, long names, users without a row."""

import uuid

import pytest
from django.contrib.auth.models import User

from django_invoice_cancel import operations
from django_invoice_cancel.models import BulkOperation, Invoice
from django_invoice_cancel.testing import make_invoice

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.scripted_providers("shop")]


class PhoneNumber:
    """A user name that is an object, as phonenumber_field returns it."""

    def __init__(self, text):
        self.text = text

    def __str__(self):
        return self.text


class TokenUser:
    """A user that is built from a token, as by simplejwt: it has no row and no model. All other attributes are None."""

    is_anonymous = False
    is_authenticated = True

    def __init__(self, username, pk):
        self.username = username
        self.pk = self.id = pk

    def get_username(self):
        return self.username

    def __getattr__(self, name):
        return None


class UserWithoutNameField(User):
    """A user model without a field for the name."""

    USERNAME_FIELD = None

    class Meta:
        proxy = True
        app_label = "auth"


def user_named(name):
    """Return a stored user whose name is ``name``: the value that USERNAME_FIELD has on its instance."""
    user = User.objects.create(username=f"row-{uuid.uuid4()}")
    user.get_username = lambda: name
    return user


def user_without_name_field():
    return UserWithoutNameField.objects.create(username="unused")


KEY = object()
"""Stands for the user's primary key."""
ACTORS = {
    "number": (lambda: user_named(4711), "4711"),
    "zero": (lambda: user_named(0), "0"),
    "UUID": (lambda: user_named(uuid.UUID(int=7)), "00000000-0000-0000-0000-000000000007"),
    "phone number": (lambda: user_named(PhoneNumber("+49301234567")), "+49301234567"),
    "None": (lambda: user_named(None), KEY),
    "empty": (lambda: user_named(""), KEY),
    "blank": (lambda: user_named("  "), KEY),
    "200 characters": (lambda: user_named("n" * 200), "n" * 150),
    "NUL, which PostgreSQL refuses": (lambda: user_named("a\0da"), "ada"),
    "no field for the name": (user_without_name_field, KEY),
    "token with a name": (lambda: TokenUser("ada", "17"), "ada"),
    "token without a name": (lambda: TokenUser("", "17"), "17"),
    "token with a number": (lambda: TokenUser(None, 17), "17"),
    "label of 200 characters": (lambda: "n" * 200, "n" * 150),
}


def cancel(actor):
    invoice = make_invoice()
    invoice.cancel(actor=actor)
    return invoice.transitions.filter(code="canceled")


def cancel_many(actor):
    invoice = make_invoice()
    Invoice.objects.filter(pk=invoice.pk).cancel(actor=actor)
    return invoice.transitions.filter(code="canceled")


def cancel_on_commit(actor):
    invoice = make_invoice()
    assert invoice.cancel_on_commit(actor=actor)
    return invoice.transitions.filter(code="canceled")


def observe(actor):
    invoice = make_invoice()
    assert invoice.observe_status("paid", actor=actor)
    return invoice.transitions.filter(to_status="paid")


def observe_by_id(actor):
    invoice = make_invoice()
    found = Invoice.objects.observe_status("shop", invoice.external_id, "paid", actor=actor)
    assert found.status == "paid"
    return invoice.transitions.filter(to_status="paid")


def register(actor):
    invoice, _ = Invoice.objects.register(provider="shop", external_id=uuid.uuid4().hex, status="paid", actor=actor)
    return invoice.transitions.all()


def register_many(actor):
    external_id = uuid.uuid4().hex
    Invoice.objects.register_many([{"provider": "shop", "external_id": external_id, "status": "paid"}], actor=actor)
    return Invoice.objects.get(external_id=external_id).transitions.all()


def reconcile(actor, scripted_provider):
    invoice = make_invoice("in_doubt")
    scripted_provider.set_status(invoice.external_id, "canceled")
    invoice.reconcile(actor=actor)
    return invoice.transitions.filter(to_status="canceled")


def resolve(actor):
    invoice = make_invoice("in_doubt")
    invoice.resolve("canceled", actor=actor, reason="seen")
    return invoice.transitions.filter(code="resolved")


def mark_handled(actor):
    invoice = make_invoice("paid_after_cancel")
    assert invoice.mark_handled(actor=actor, note="paid back")
    return invoice.transitions.filter(code="handled")


def start(actor):
    make_invoice()
    return BulkOperation.objects.filter(pk=operations.start(Invoice.objects.all(), actor=actor).pk)


def draft(actor):
    return BulkOperation.objects.filter(pk=BulkOperation.objects.draft(Invoice.objects.none(), actor=actor).pk)


ENTRY_POINTS = [
    cancel, cancel_many, cancel_on_commit, observe, observe_by_id, register, register_many, resolve, mark_handled,
    start, draft,
]  # fmt: skip


def assert_logged_as_text(act, actors):
    for name in actors:
        make_actor, label = ACTORS[name]
        actor = make_actor()
        row = act(actor).get()
        assert row.actor_label == (str(actor.pk) if label is KEY else label), name
        assert row.actor_id == (actor.pk if isinstance(actor, User) else None), name


def test_every_actor_is_logged_as_text(scripted_provider):
    assert_logged_as_text(cancel, ACTORS)


@pytest.mark.parametrize("act", ENTRY_POINTS, ids=lambda act: act.__name__)
def test_actor_is_logged_as_text_at_every_entry_point(scripted_provider, act):
    assert_logged_as_text(act, ["phone number", "None", "200 characters", "token with a number"])


def test_lookup_logs_a_user_that_is_built_from_a_token(scripted_provider):
    row = reconcile(TokenUser(None, 17), scripted_provider).get()
    assert row.actor_id is None
    assert row.actor_label == "17"
    assert scripted_provider.lookup_count == 1
    assert scripted_provider.cancel_count == 0
