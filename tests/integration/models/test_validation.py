"""A value that any database or reader would reject is rejected, with the field and a remedy."""

from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal

import pytest
from django.contrib.admin.sites import site
from django.core.exceptions import ValidationError
from django.db import connection, transaction

from django_invoice_cancel.admin.invoices.forms import InvoiceForm
from django_invoice_cancel.models import Invoice
from tests.support.writes import LOCAL_NOON, NOON

pytestmark = pytest.mark.django_db

with_zones = pytest.mark.usefixtures("zones")


@pytest.fixture(autouse=True)
def zones(request, settings):
    if request.node.get_closest_marker("usefixtures"):
        settings.USE_TZ = True


def register(**fields):
    return Invoice.objects.register(**{"provider": "cryptocloud", "external_id": "1"} | fields)


def register_many(**fields):
    return Invoice.objects.register_many([{"provider": "cryptocloud", "external_id": "1"} | fields])


each_way = pytest.mark.parametrize("way", [register, register_many], ids=["register", "register_many"])

NOT_AMOUNTS = [
    pytest.param(True, id="True"),
    pytest.param(False, id="False"),
    pytest.param("1_000.50", id="underscore"),
    pytest.param("１００", id="full-width digits"),  # noqa: RUF001
    pytest.param("١٢", id="Arabic digits"),
    pytest.param("1,000.50", id="comma"),
    pytest.param("1 000", id="space"),
    pytest.param("100\n", id="line break"),
    pytest.param("0x10", id="hexadecimal"),
    pytest.param("", id="empty"),
    pytest.param(".", id="point"),
    pytest.param("1e", id="cut exponent"),
    pytest.param("1e99999999999", id="huge exponent"),
    pytest.param("9" * 5000, id="5000 digits"),
    pytest.param(10**5000, id="a number of 5001 digits"),
    pytest.param(b"100", id="bytes"),
    pytest.param((0, (1, 0), 0), id="tuple"),
    pytest.param(1.5, id="float"),
    pytest.param(Decimal("NaN"), id="NaN"),
    pytest.param(Decimal("-1"), id="negative"),
]


@each_way
@pytest.mark.parametrize("amount", NOT_AMOUNTS)
def test_invalid_amount_is_rejected(way, amount):
    with pytest.raises(ValidationError) as caught:
        way(amount=amount)
    assert list(caught.value.message_dict) == ["amount"]
    assert not Invoice.objects.exists()


@pytest.mark.parametrize(
    ("amount", "stored"),
    [("1000.50", "1000.50"), (" 7 ", "7"), ("+7", "7"), (".5", "0.5"), ("5.", "5"), ("1e3", "1000"), (12, "12")],
)
def test_amount_in_plain_digits_is_stored_unchanged(amount, stored):
    register(amount=amount)
    assert Invoice.objects.get().amount == Decimal(stored)


ETHER = "12345678901234567890.123456789012345678"
"""As many digits as an amount in Ether may have: its smallest part is the 18th decimal place."""


def create(**fields):
    with transaction.atomic():
        Invoice.objects.create(provider="cryptocloud", external_id="INV-1", **fields)


@pytest.mark.parametrize("amount", [ETHER, "1234567890123456", "0.1234567890123456"])
@pytest.mark.parametrize("way", [register, register_many, create], ids=lambda way: way.__name__)
def test_amount_is_stored_exactly_or_rejected(way, amount):
    """SQLite keeps numbers as floats."""
    amount = Decimal(amount)
    if connection.vendor == "sqlite":
        with pytest.raises(ValidationError, match="SQLite stores 15 digits") as caught:
            way(amount=amount)
        assert list(caught.value.message_dict) == ["amount"]
        assert not Invoice.objects.exists()
    else:
        way(amount=amount)
        assert Invoice.objects.get().amount == amount


@pytest.mark.parametrize("amount", ["999999999999.999", "0.000123456789012345", "12345678901234500000"])
def test_up_to_fifteen_digits_are_exact_on_every_database(amount):
    register(amount=amount)
    assert Invoice.objects.get().amount == Decimal(amount)


UNSTORABLE = {"NUL": "order\0-17", "high surrogate": "order-\ud83d", "low surrogate": "\udc00"}


@each_way
@pytest.mark.parametrize("name", ["reference", "currency"])
@pytest.mark.parametrize("text", UNSTORABLE.values(), ids=UNSTORABLE)
def test_text_that_a_database_cannot_store_is_rejected(way, name, text):
    with pytest.raises(ValidationError, match="cannot be stored") as caught:
        way(**{name: text})
    assert list(caught.value.message_dict) == [name]
    assert not Invoice.objects.exists()


@each_way
@pytest.mark.parametrize("value", [b"order-17", True, 1.5, ["order-17"], {"number": 17}], ids=repr)
def test_reference_that_is_not_a_string_is_rejected(way, value):
    with pytest.raises(ValidationError, match="is not a string") as caught:
        way(reference=value)
    assert list(caught.value.message_dict) == ["reference"]


def test_number_is_accepted_as_a_reference():
    assert register(reference=17)[0].reference == "17"


NOT_TIMES = [
    1780315200,
    1780315200.5,
    True,
    date(2026, 6, 1),
    "1780315200",
    "2026-02-30T12:00",
    "now",
    b"",
]


@each_way
@pytest.mark.parametrize("name", ["issued_at", "expires_at"])
@pytest.mark.parametrize("value", NOT_TIMES, ids=repr)
def test_invalid_time_is_rejected(way, name, value):
    with pytest.raises(ValidationError, match=r"is not a valid time\. Pass a datetime") as caught:
        way(**{name: value})
    assert list(caught.value.message_dict) == [name]
    assert not Invoice.objects.exists()


@with_zones
@each_way
@pytest.mark.parametrize("value", [datetime(2026, 6, 1, 12), "2026-06-01T12:00", "2026-06-01"], ids=str)  # noqa: DTZ001
def test_naive_time_is_rejected(way, value):
    with pytest.raises(ValidationError, match=r"has no time zone\. Pass an aware datetime") as caught:
        way(issued_at=value)
    assert list(caught.value.message_dict) == ["issued_at"]
    assert not Invoice.objects.exists()


@pytest.mark.parametrize("value", [NOON, NOON.isoformat(), NOON.astimezone(timezone(timedelta(hours=9)))], ids=str)
def test_aware_time_is_stored_as_its_instant(value):
    assert register(issued_at=value)[0].issued_at == LOCAL_NOON
    assert Invoice.objects.get().issued_at == LOCAL_NOON


EDGES = [
    datetime.max.replace(tzinfo=UTC),
    datetime.min.replace(tzinfo=UTC),
    datetime.max.replace(tzinfo=timezone(timedelta(hours=-12))),
    datetime.min.replace(tzinfo=timezone(timedelta(hours=14))),
    "9999-12-31T23:59:59Z",
]


@each_way
@pytest.mark.parametrize("value", EDGES, ids=str)
def test_time_outside_the_supported_range_is_rejected(way, value):
    with pytest.raises(ValidationError, match="cannot be shown in every time zone") as caught:
        way(expires_at=value)
    assert list(caught.value.message_dict) == ["expires_at"]
    assert not Invoice.objects.exists()


# -- forms ------------------------------------------------------------------------------------------------------

FORM = {"provider": "cryptocloud", "external_id": "1", "status": "created"}
FORM |= {"issued_at_0": "2026-01-01", "issued_at_1": "12:00", "issued_at": "2026-01-01 12:00"}
WRONG = {
    "amount": ["1_000.50", "１００", "-1", "NaN", "1e30"],  # noqa: RUF001
    "reference": ["order-\ud83d", "order\0-17"],
    "currency": ["\udc00"],
    "expires_at": ["9999-12-31 12:00", "0001-01-01 00:00"],
}


@pytest.mark.parametrize(
    ("name", "value"), [(name, value) for name, values in WRONG.items() for value in values], ids=ascii
)
def test_model_form_rejects_the_same_values(name, value):
    form = InvoiceForm(FORM | {name: value})
    assert not form.is_valid()
    assert list(form.errors) == [name]


def test_admin_form_rejects_the_same_values(rf, admin_user):
    request = rf.get("/")
    request.user = admin_user
    form = site.get_model_admin(Invoice).get_form(request)(FORM | {"amount": "1_000.50", "reference": "a\udc00"})
    assert sorted(form.errors) == ["amount", "reference"]


@pytest.mark.skipif(connection.vendor != "sqlite", reason="only SQLite rounds")
def test_model_form_rejects_an_amount_that_sqlite_would_round():
    assert list(InvoiceForm(FORM | {"amount": ETHER}).errors) == ["amount"]


@pytest.mark.parametrize("value", [1780315200, True, 1.5], ids=repr)
def test_full_clean_rejects_an_invalid_time(value):
    with pytest.raises(ValidationError) as caught:
        Invoice(provider="cryptocloud", external_id="1", issued_at=value).full_clean()
    assert list(caught.value.message_dict) == ["issued_at"]
