"""The invoice as a model: values that the database and ``full_clean`` reject, and the stored form."""

import json
from uuid import uuid4

import pytest
from django.core import serializers
from django.core.exceptions import ValidationError
from django.core.management import call_command
from django.db import IntegrityError, transaction
from django.db.models import ProtectedError

from django_invoice_cancel.models import Invoice, InvoiceTransition
from tests.support.invoices import invoice_in_status, set_columns_and_refresh, stored
from tests.support.writes import NOON, open_claim

pytestmark = pytest.mark.django_db


def test_id_is_unique_for_each_provider():
    invoice_in_status(external_id="INV-1")
    with pytest.raises(IntegrityError), transaction.atomic():
        invoice_in_status(external_id="INV-1")
    invoice_in_status(provider="firekassa", external_id="INV-1")
    assert Invoice.objects.count() == 2


@pytest.mark.parametrize("status", ["", "cancelled", "CANCELED", "refunded"])
def test_database_rejects_an_unknown_status(status):
    invoice = invoice_in_status()
    with pytest.raises(IntegrityError), transaction.atomic():
        set_columns_and_refresh(invoice, status=status)
    assert stored(invoice).status == "created"


@pytest.mark.parametrize(
    ("values", "field", "words"),
    [
        ({"provider": "stripe", "external_id": "INV-1"}, "provider", "Provider 'stripe' is not configured"),
        ({"provider": "cryptocloud", "external_id": "INV-../1"}, "external_id", "is not an id of CryptoCloud"),
        ({"provider": "firekassa", "external_id": "1?a=b"}, "external_id", "is not an id of FireKassa"),
        ({"provider": "firekassa", "external_id": "1" * 20}, "external_id", "is not an id of FireKassa"),
        ({"provider": "firekassa", "external_id": "1\n"}, "external_id", "is not an id of FireKassa"),
        ({"provider": "firekassa", "external_id": "1", "status": "in_doubt"}, "status", "cannot be in doubt"),
        ({"provider": "firekassa", "external_id": "1", "status": "canceling"}, "status", "cannot be in doubt"),
        ({"provider": "firekassa", "external_id": "1", "status": "void"}, "status", "is not a valid choice"),
    ],
)
def test_full_clean_rejects_invalid_values(values, field, words):
    with pytest.raises(ValidationError) as caught:
        Invoice(**values).full_clean()
    assert words in str(caught.value.message_dict[field])


def test_full_clean_normalizes_the_id():
    invoice = Invoice(provider="cryptocloud", external_id=" 89ux09ka ")
    invoice.full_clean()
    assert invoice.external_id == "INV-89UX09KA"


def test_full_clean_accepts_a_stored_invoice_in_doubt():
    invoice_in_status("in_doubt").full_clean()


def test_invoice_with_history_is_not_deleted():
    invoice = invoice_in_status()
    open_claim(invoice)
    with pytest.raises(ProtectedError):
        invoice.delete()
    with pytest.raises(ProtectedError):
        Invoice.objects.all().delete()
    assert Invoice.objects.count() == 1
    assert InvoiceTransition.objects.count() == 1


def test_invoice_without_history_is_deleted():
    invoice_in_status().delete()
    assert not Invoice.objects.exists()


def test_loaddata_restores_status_and_bookkeeping(tmp_path):
    attempt = uuid4()
    invoice = invoice_in_status("in_doubt", attempt=attempt, claim_expires_at=NOON, check_count=3)
    file = tmp_path / "invoices.json"
    file.write_text(serializers.serialize("json", [invoice]))
    set_columns_and_refresh(invoice, status="created", attempt=None, claim_expires_at=None, check_count=0)
    call_command("loaddata", str(file), verbosity=0)
    row = stored(invoice)
    assert row.status == "in_doubt"
    assert row.attempt == attempt
    assert row.claim_expires_at == NOON
    assert row.check_count == 3
    assert json.loads(file.read_text())[0]["model"] == "invoice_cancel.invoice"


@pytest.mark.parametrize(
    ("status", "is_closed", "has_payment"),
    [
        ("created", False, False), ("canceling", False, False), ("in_doubt", False, False),
        ("canceled", True, False), ("expired", True, False), ("failed", True, False),
        ("partially_paid", False, True), ("paid", False, True), ("overpaid", False, True),
    ],
)  # fmt: skip
def test_is_closed_and_has_payment_follow_the_status(status, is_closed, has_payment):
    invoice = invoice_in_status(status)
    assert invoice.is_closed == is_closed
    assert invoice.has_payment == has_payment


def test_str_contains_provider_and_id():
    assert str(invoice_in_status(external_id="INV-7")) == "cryptocloud INV-7"
