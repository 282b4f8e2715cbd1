"""Register: an existing invoice is registered once, with valid texts and amounts."""

import threading
from decimal import Decimal
from enum import IntEnum

import pytest
from django.core.exceptions import ValidationError
from django.db import IntegrityError, connection, transaction

from django_invoice_cancel.models import Invoice, InvoiceTransition
from tests.support.invoices import invoice_in_status
from tests.support.logs import log_changes
from tests.support.writes import LOCAL_NOON, observe_elsewhere, seconds

pytestmark = pytest.mark.django_db


def register(**fields):
    return Invoice.objects.register(**{"provider": "cryptocloud", "external_id": "89UX09KA"} | fields)


def test_invoice_is_registered_with_all_values():
    invoice, created = register(
        reference="order-17",
        amount="100.00",
        currency="USD",
        issued_at=LOCAL_NOON,
        expires_at=LOCAL_NOON + seconds(60),
    )
    row = Invoice.objects.get()
    assert created is True
    assert row.pk == invoice.pk
    assert row.external_id == "INV-89UX09KA"
    assert row.reference == "order-17"
    assert row.amount == Decimal(100)
    assert row.currency == "USD"
    assert row.status == "created"
    assert row.issued_at == LOCAL_NOON
    assert row.expires_at == LOCAL_NOON + seconds(60)
    assert log_changes(row) == []


@pytest.mark.parametrize("number", [17, IntEnum("Ids", {"ID": 17}).ID], ids=["int", "IntEnum"])
def test_number_is_accepted_as_an_id(number):
    invoice, _ = Invoice.objects.register(provider="firekassa", external_id=number)
    again, is_new = Invoice.objects.register(provider="firekassa", external_id="17")
    assert invoice.external_id == "17"
    assert again == invoice
    assert is_new is False
    assert Invoice.objects.register_many([{"provider": "firekassa", "external_id": number}]) == (0, 1)


def test_registering_again_changes_nothing():
    first, _ = register(reference="order-17", amount="100")
    observe_elsewhere(first, "paid")
    second, created = register(external_id="inv-89ux09ka", reference="order-18", amount="5", status="expired")
    assert second.pk == first.pk
    assert created is False
    assert second.reference == "order-17"
    assert second.amount == 100
    assert second.status == "paid"
    assert Invoice.objects.count() == 1


@pytest.mark.parametrize(
    ("fields", "field", "words"),
    [
        ({"amount": 1.5}, "amount", "An amount cannot be a float"),
        ({"amount": "abc"}, "amount", "'abc' is not a valid amount"),
        ({"amount": ""}, "amount", "is not a valid amount"),
        ({"amount": ["1"]}, "amount", "is not a valid amount"),
        ({"amount": "NaN"}, "amount", "NaN is not a valid amount"),
        ({"amount": "sNaN"}, "amount", "is not a valid amount"),
        ({"amount": "Infinity"}, "amount", "Infinity is not a valid amount"),
        ({"amount": "-0.01"}, "amount", "at least 0"),
        ({"amount": "0.1234567890123456789"}, "amount", "no more than 18 decimal places"),
        ({"amount": "1e40"}, "amount", "no more than 38 digits"),
        ({"status": "cancelled"}, "status", "'cancelled' is not a valid status"),
        ({"status": "in_doubt"}, "status", "'in_doubt' is not a valid status for registration"),
        ({"status": "canceling"}, "status", "'canceling' is not a valid status for registration"),
        ({"external_id": "../x"}, "external_id", "is not an id of CryptoCloud"),
        ({"external_id": True}, "external_id", "True is not an id of CryptoCloud"),
        ({"external_id": 17.0}, "external_id", "17.0 is not an id of CryptoCloud"),
        ({"external_id": -17}, "external_id", "'-17' is not an id of CryptoCloud"),
        ({"external_id": 10**5000}, "external_id", "A number with more than 100 digits cannot be an id"),
        ({"external_id": None}, "external_id", "None is not an id of CryptoCloud"),
        ({"provider": "stripe"}, "provider", "Provider 'stripe' is not configured"),
        ({"currency": "A" * 17}, "currency", "at most 16 characters"),
        ({"issued_at": "yesterday"}, "issued_at", "'yesterday' is not a valid time"),
        ({"attempt": "x"}, "attempt", "Unknown field"),
    ],
)
@pytest.mark.parametrize("many", [False, True], ids=["register", "register_many"])
def test_unacceptable_value_is_rejected(fields, field, words, many):
    values = {"provider": "cryptocloud", "external_id": "1"} | fields
    with pytest.raises(ValidationError) as caught:
        Invoice.objects.register_many([values]) if many else Invoice.objects.register(**values)
    assert words in str(caught.value.message_dict[field])
    assert not Invoice.objects.exists()


@pytest.mark.parametrize("status", ["canceling", "in_doubt"])
def test_form_rejects_a_new_invoice_with_an_internal_status(status):
    with pytest.raises(ValidationError, match="cannot be in doubt or being canceled"):
        Invoice(provider="cryptocloud", external_id="89UX09KA", status=status).full_clean()


@pytest.mark.parametrize("amount", ["0", 12, Decimal("0.000000000000000001"), "9999999.99999999"])
def test_amount_is_stored_to_the_last_digit(amount):
    register(amount=amount)
    assert Invoice.objects.get().amount == Decimal(amount)


@pytest.mark.parametrize("status", ["canceled", "paid", "partially_paid", "overpaid", "expired", "failed"])
def test_invoice_registered_in_another_status_has_a_log_row(status):
    invoice, _ = register(status=status, actor="import", trigger="command")
    row = invoice.transitions.get()
    assert row.from_status == ""
    assert row.to_status == status
    assert row.actor_label == "import"
    assert row.trigger == "command"


def test_payment_of_an_invoice_that_was_registered_as_canceled_is_flagged():
    invoice, _ = register(status="canceled")
    observe_elsewhere(invoice, "paid")
    assert Invoice.objects.paid_after_cancel().get() == invoice


def test_duplicate_leaves_the_callers_transaction_usable():
    """The insert that hits the constraint has a savepoint of its own."""
    with transaction.atomic():
        with connection.execute_wrapper(AfterFirstSelect(lambda: invoice_in_status(external_id="INV-1"))):
            invoice, created = register(external_id="INV-1")
        Invoice.objects.filter(pk=invoice.pk).update(reference="written after the duplicate")
    assert created is False
    assert Invoice.objects.get().reference == "written after the duplicate"


class AfterFirstSelect:
    """A wrapper of queries that calls a function once, after the first SELECT."""

    def __init__(self, function):
        self.functions = [function]

    def __call__(self, execute, sql, params, many, context):
        found = execute(sql, params, many, context)
        if sql.startswith("SELECT") and self.functions:
            self.functions.pop()()
        return found


@pytest.mark.django_db(transaction=True)
def test_two_concurrent_registrations_return_the_same_invoice(in_thread):
    both_have_looked = threading.Barrier(2, timeout=20)

    def register_at_the_same_time():
        with connection.execute_wrapper(AfterFirstSelect(both_have_looked.wait)):
            return register()

    found = [call.result() for call in [in_thread(register_at_the_same_time) for _ in range(2)]]
    assert sorted(created for _, created in found) == [False, True]
    assert {invoice.pk for invoice, _ in found} == {Invoice.objects.get().pk}
    assert Invoice.objects.get().status == "created"
    assert InvoiceTransition.objects.count() == 0


def test_other_integrity_errors_are_not_treated_as_duplicates():
    def refuse(execute, sql, params, many, context):
        if sql.startswith("INSERT"):
            raise IntegrityError("a trigger of the project refuses the row")
        return execute(sql, params, many, context)

    with connection.execute_wrapper(refuse), pytest.raises(IntegrityError, match="a trigger"):
        register()
    assert not Invoice.objects.exists()


# -- many -------------------------------------------------------------------------------------------------------


def test_register_many_counts_new_and_known_invoices():
    invoice_in_status(external_id="INV-1", reference="order-1")
    rows = [{"provider": "cryptocloud", "external_id": i, "reference": "new"} for i in ("1", "2", "inv-2", "3")]
    rows.append({"provider": "firekassa", "external_id": "1"})
    assert Invoice.objects.register_many(rows) == (3, 2)
    assert sorted(Invoice.objects.values_list("provider", "external_id", "reference")) == [
        ("cryptocloud", "INV-1", "order-1"),
        ("cryptocloud", "INV-2", "new"),
        ("cryptocloud", "INV-3", "new"),
        ("firekassa", "1", ""),
    ]


def test_one_bad_row_among_many_registers_none():
    rows = [{"provider": "cryptocloud", "external_id": "1"}, {"provider": "cryptocloud", "external_id": "2/3"}]
    with pytest.raises(ValidationError):
        Invoice.objects.register_many(rows)
    assert not Invoice.objects.exists()


def test_register_many_logs_only_invoices_in_another_status():
    statuses = {"1": "created", "2": "paid", "3": "canceled"}
    rows = [{"provider": "cryptocloud", "external_id": i, "status": s} for i, s in statuses.items()]
    Invoice.objects.register_many(rows)
    Invoice.objects.register_many(rows)
    births = InvoiceTransition.objects.values_list("invoice__external_id", "from_status", "to_status")
    assert sorted(births) == [("INV-2", "", "paid"), ("INV-3", "", "canceled")]


def test_register_many_makes_few_queries(django_assert_max_num_queries):
    rows = [{"provider": "firekassa", "external_id": str(i)} for i in range(1, 1101)]
    with django_assert_max_num_queries(50):
        assert Invoice.objects.register_many(rows) == (1100, 0)


# -- another database -------------------------------------------------------------------------------------------


@pytest.mark.django_db(databases=["default", "other"])
def test_invoice_is_registered_in_the_database_of_the_query_set():
    invoice, _ = Invoice.objects.db_manager("other").register(
        provider="cryptocloud", external_id="1", status="canceled"
    )
    Invoice.objects.db_manager("other").register_many([{"provider": "cryptocloud", "external_id": "2"}])
    assert invoice._state.db == "other"
    assert sorted(Invoice.objects.using("other").values_list("external_id", flat=True)) == ["INV-1", "INV-2"]
    assert log_changes(invoice) == [("", "canceled", "")]
    assert not Invoice.objects.exists()
