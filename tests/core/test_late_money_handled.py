"""Late money is handled once, by a named person, with a note; the status and everything else stays."""

import pytest
from django.contrib.auth.models import User

from django_invoice_cancel.exceptions import ResolveNotPossible
from django_invoice_cancel.models import Invoice
from tests.core.steps import make, observe, stored

pytestmark = pytest.mark.django_db


@pytest.fixture
def late() -> Invoice:
    """An invoice that was canceled, then paid."""
    invoice = make()
    observe(invoice, "canceled")
    observe(invoice, "paid")
    return invoice


def test_handled_money_leaves_the_list_and_the_log_says_who_and_why(late):
    ada = User.objects.create_user("ada")
    assert late.mark_handled(actor=ada, note="paid back") is True
    row = stored(late)
    assert (row.status, row.paid_after_cancel_handled_by) == ("paid", ada)
    assert row.paid_after_cancel_handled_at is not None
    assert late.paid_after_cancel_handled_at == row.paid_after_cancel_handled_at
    assert not Invoice.objects.paid_after_cancel().exists()
    told = row.transitions.last()
    assert (told.code, told.trigger, told.reason, told.actor) == ("handled", "operator", "paid back", ada)
    assert (told.from_status, told.to_status) == ("paid", "paid")


def test_the_second_to_handle_it_changes_nothing(late):
    late.mark_handled(actor="ada", note="paid back")
    first = stored(late)
    assert late.mark_handled(actor="bob", note="me too") is False
    row = stored(late)
    assert row.paid_after_cancel_handled_at == first.paid_after_cancel_handled_at
    assert row.transitions.filter(code="handled").count() == 1


def test_a_stale_save_does_not_bring_it_back(late):
    stale = stored(late)
    late.mark_handled(actor=User.objects.create_user("ada"), note="paid back")
    stale.save()
    row = stored(late)
    assert row.paid_after_cancel_handled_at is not None
    assert row.paid_after_cancel_handled_by.get_username() == "ada"


def test_money_without_a_cancellation_is_nothing_to_handle():
    invoice = make()
    observe(invoice, "paid")
    with pytest.raises(ResolveNotPossible, match="was not paid after a cancellation") as refused:
        invoice.mark_handled(actor="ada", note="x")
    assert refused.value.code == "no_late_money"
    assert not stored(invoice).transitions.filter(code="handled").exists()


@pytest.mark.parametrize(
    ("actor", "note", "missing"),
    [(None, "paid back", "pass actor"), ("", "paid back", "pass actor"), ("ada", "  ", "pass note")],
    ids=["nobody", "no name", "no note"],
)
def test_a_named_person_says_why(late, actor, note, missing):
    with pytest.raises(ValueError, match=missing):
        late.mark_handled(actor=actor, note=note)
    assert stored(late).paid_after_cancel_handled_at is None


def test_the_host_cannot_write_who_handled_it(late):
    with pytest.raises(ValueError, match="Only the verbs"):
        Invoice.objects.filter(pk=late.pk).update(paid_after_cancel_handled_by=User.objects.create_user("ada"))
    assert stored(late).paid_after_cancel_handled_by is None
