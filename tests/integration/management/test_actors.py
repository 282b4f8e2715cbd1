"""``--actor``: the user with this name, for every type of user name, or else a label."""

import pytest
from django.contrib.auth.models import User

from django_invoice_cancel.models import InvoiceTransition

pytestmark = pytest.mark.django_db(transaction=True)

ALL = ("cancel_invoices", "--all", "--noinput")
NAMES = {
    "id": ("17", "ada", "99999999999999999999", "17.5", "१७", "a\0b"),
    "last_login": ("2026-11-22T12:00Z", "ada", "2026-13-45", "9999-12-31T23:59:59-14:00"),
    "is_staff": ("True", "ada"),
    "username": ("ada", "a\0b", "n" * 200),
    None: ("ada", "17"),
}
"""Values of ``--actor`` by the field that is the name."""


@pytest.mark.parametrize(("field", "name"), [(field, name) for field, names in NAMES.items() for name in names])
def test_actor_that_is_not_a_user_name_is_logged_as_a_label(shop, make, manage, monkeypatch, field, name):
    monkeypatch.setattr(User, "USERNAME_FIELD", field)
    make(1)
    ended = manage(*ALL, "--actor", name)
    assert ended.code == 0
    assert shop.cancel_count == 1
    row = InvoiceTransition.objects.last()
    assert row.actor_id is None
    assert row.actor_label == name.replace("\0", "")[:150]
    assert row.to_status == "canceled"


def test_actor_is_found_by_a_name_that_is_a_number(shop, make, manage, monkeypatch):
    ada = User.objects.create_user("ada")
    monkeypatch.setattr(User, "USERNAME_FIELD", "id")
    make(1)
    assert manage(*ALL, "--actor", str(ada.pk)).code == 0
    row = InvoiceTransition.objects.last()
    assert row.actor == ada
    assert row.actor_label == str(ada.pk)
    assert shop.cancel_count == 1
