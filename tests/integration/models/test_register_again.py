"""Registering a known invoice: empty fields are filled in; different values are kept and reported."""

from decimal import Decimal

import pytest

from django_invoice_cancel.models import Invoice
from tests.support.invoices import invoice_in_status, stored
from tests.support.logs import log_changes
from tests.support.writes import LOCAL_NOON, observe_elsewhere, seconds

pytestmark = pytest.mark.django_db

EARLIER = LOCAL_NOON - seconds(86400)
VALUES = {
    "reference": "order-17",
    "amount": Decimal("100.50"),
    "currency": "USD",
    "issued_at": EARLIER,
    "expires_at": LOCAL_NOON,
}
OTHERS = {
    "reference": "order-18",
    "amount": Decimal("120"),
    "currency": "EUR",
    "issued_at": EARLIER - seconds(60),
    "expires_at": LOCAL_NOON + seconds(60),
}


def register(**fields):
    return Invoice.objects.register(provider="cryptocloud", external_id="INV-1", **fields)


def register_many(**fields):
    options = {"on_conflict": fields.pop("on_conflict")} if "on_conflict" in fields else {}
    Invoice.objects.register_many([{"provider": "cryptocloud", "external_id": "INV-1", **fields}], **options)
    return Invoice.objects.get(), False


each_way = pytest.mark.parametrize("way", [register, register_many], ids=["register", "register_many"])


@each_way
@pytest.mark.parametrize("name", VALUES)
def test_empty_value_is_filled_in(way, name, caplog):
    invoice = invoice_in_status(external_id="INV-1")
    known, is_new = way(**{name: VALUES[name]})
    assert known == invoice
    assert is_new is False
    assert getattr(known, name) == VALUES[name]
    row = stored(invoice)
    assert {each: getattr(row, each) for each in VALUES if each != name} == {
        each: getattr(invoice, each) for each in VALUES if each != name
    }
    assert getattr(row, name) == VALUES[name]
    assert log_changes(invoice) == []
    assert caplog.records == []


@each_way
@pytest.mark.parametrize("name", VALUES)
def test_differing_stored_value_is_kept_and_reported(way, name, caplog):
    register(**VALUES)
    conflicts = []
    known, _ = way(**{name: OTHERS[name]}, on_conflict=conflicts.append)
    (conflict,) = conflicts
    assert conflict.external_id == "INV-1"
    assert dict(conflict.values) == {name: (VALUES[name], OTHERS[name])}
    assert getattr(known, name) == VALUES[name]
    assert getattr(Invoice.objects.get(), name) == VALUES[name]
    assert caplog.records == []


@each_way
def test_conflict_is_logged_once_without_on_conflict(way, caplog):
    register(**VALUES)
    way(**OTHERS)
    (line,) = caplog.records
    assert line.levelname == "WARNING"
    assert "amount is 100.5" in line.getMessage()
    assert "and not 120" in line.getMessage()


@each_way
@pytest.mark.parametrize("given", [VALUES, {}, {"reference": "", "amount": None}], ids=["the same", "none", "empty"])
def test_same_and_empty_values_are_no_conflict(way, given, caplog):
    register(**VALUES)
    way(**given)
    assert caplog.records == []
    assert {name: getattr(Invoice.objects.get(), name) for name in VALUES} == VALUES


@pytest.mark.parametrize(
    ("status", "given", "is_conflict"),
    [
        ("created", "created", False),
        ("paid", "created", False),
        ("created", "paid", True),
        ("paid", "canceled", True),
        ("canceled", "paid", True),
        ("paid", "partially_paid", False),
        ("canceled", "canceled", False),
    ],
)
def test_status_that_differs_is_reported_and_never_written(status, given, is_conflict):
    invoice = invoice_in_status(external_id="INV-1")
    if status != "created":
        observe_elsewhere(invoice, status)
    conflicts = []
    register(status=given, on_conflict=conflicts.append)
    assert [dict(conflict.values) for conflict in conflicts] == ([{"status": (status, given)}] if is_conflict else [])
    assert stored(invoice).status == status


def test_rows_of_one_call_that_name_an_invoice_twice_are_merged_and_compared():
    rows = [
        {"provider": "cryptocloud", "external_id": "1", "reference": "order-1"},
        {"provider": "cryptocloud", "external_id": "INV-1", "reference": "order-2", "currency": "USD"},
    ]
    conflicts = []
    assert Invoice.objects.register_many(rows, on_conflict=conflicts.append) == (1, 1)
    invoice = Invoice.objects.get()
    assert invoice.reference == "order-1"
    assert invoice.currency == "USD"
    assert [dict(conflict.values) for conflict in conflicts] == [{"reference": ("order-1", "order-2")}]


def test_many_conflicts_are_logged_in_one_line(caplog):
    rows = [{"provider": "cryptocloud", "external_id": f"INV-{n}", "reference": "old"} for n in range(9)]
    Invoice.objects.register_many(rows)
    Invoice.objects.register_many([row | {"reference": "new"} for row in rows])
    (line,) = caplog.records
    assert "INV-4: reference is old and not new; and 4 more" in line.getMessage()


# -- copies -----------------------------------------------------------------------------------------------------


def _save(copied):
    copied.save()


def _bulk_create(copied):
    Invoice.objects.bulk_create([copied])


@pytest.mark.parametrize("insert", [_save, _bulk_create], ids=["save", "bulk_create"])
@pytest.mark.parametrize("is_read", [True, False], ids=["read from the database", "saved before"])
def test_copied_instance_is_saved_as_a_new_invoice(insert, is_read):
    """The copy of an instance as Django's documentation describes it: no key, and ``_state.adding``."""
    invoice = invoice_in_status(external_id="INV-1", reference="order-17")
    invoice.cancel_on_commit()
    observe_elsewhere(invoice, "paid")
    copied = stored(invoice) if is_read else invoice
    copied.refresh_from_db()
    key = copied.pk
    copied.pk, copied._state.adding, copied.external_id = None, True, "INV-2"
    insert(copied)
    row = Invoice.objects.get(external_id="INV-2")
    new = Invoice(provider="cryptocloud", external_id="INV-3")
    assert row.reference == "order-17"
    assert row.status == "created"
    assert copied.status == "created"
    for name in ("attempt", "cancel_requested_at", "next_check_at", "last_outcome", "paid_after_cancel_at"):
        assert getattr(row, name) == getattr(new, name)
    assert Invoice.objects.get(pk=key).status == "paid"
    assert log_changes(row) == []


def test_copy_of_a_claimed_invoice_carries_no_attempt():
    invoice = invoice_in_status(
        "in_doubt", external_id="INV-1", attempt="12345678-1234-5678-1234-567812345678", check_count=3
    )
    invoice.pk, invoice._state.adding, invoice.external_id = None, True, "INV-2"
    invoice.save()
    assert stored(invoice).status == "created"
    assert stored(invoice).attempt is None
    assert stored(invoice).check_count == 0


def test_new_invoice_may_be_inserted_with_a_status():
    Invoice(provider="cryptocloud", external_id="INV-1", status="expired").save()
    assert Invoice.objects.get().status == "expired"
