"""make_invoice: each status with the matching log, and consistent times at any age."""

import re
from datetime import timedelta
from decimal import Decimal

import pytest
from django.core.exceptions import ValidationError
from django.test import override_settings
from django.utils import timezone

from django_invoice_cancel.domain.clock import utc_now
from django_invoice_cancel.domain.statuses import Status
from django_invoice_cancel.models import Invoice
from django_invoice_cancel.providers.base import Provider
from django_invoice_cancel.testing import make_invoice
from django_invoice_cancel.testing.factories import SCENARIOS

pytestmark = pytest.mark.django_db

HOUR = timedelta(hours=1)

LOGS = {
    "created": ("created", []),
    "requested": ("created", [("created", "created", "")]),
    "refused": ("created", [("created", "canceling", ""), ("canceling", "created", "refused")]),
    "canceling": ("canceling", [("created", "canceling", "")]),
    "abandoned": ("canceling", [("created", "canceling", "")]),
    "in_doubt": ("in_doubt", [("created", "canceling", ""), ("canceling", "in_doubt", "in_doubt")]),
    "canceled": ("canceled", [("created", "canceling", ""), ("canceling", "canceled", "canceled")]),
    "partially_paid": ("partially_paid", [("created", "partially_paid", "")]),
    "paid": ("paid", [("created", "paid", "")]),
    "overpaid": ("overpaid", [("created", "overpaid", "")]),
    "expired": ("expired", [("created", "expired", "")]),
    "failed": ("failed", [("created", "failed", "")]),
    "paid_after_cancel": (
        "paid",
        [("created", "canceling", ""), ("canceling", "canceled", "canceled"), ("canceled", "paid", "")],
    ),
}


@pytest.mark.parametrize("status", LOGS)
def test_status_has_the_log_that_leads_to_it(status):
    invoice = make_invoice(status)
    expected_status, expected_log = LOGS[status]
    rows = invoice.transitions.values_list("from_status", "to_status", "outcome")
    assert invoice.status == expected_status
    assert list(rows) == expected_log


def test_every_status_can_be_made():
    assert set(LOGS) == set(SCENARIOS) > set(Status)


@pytest.mark.parametrize("age", [timedelta(), 3 * HOUR], ids=["now", "aged"])
@pytest.mark.parametrize("status", SCENARIOS)
def test_instance_has_the_values_of_its_row(status, age):
    invoice = make_invoice(status, age=age)
    row = Invoice.objects.get()
    for field in Invoice._meta.concrete_fields:
        assert getattr(invoice, field.attname) == getattr(row, field.attname), field.name


QUESTIONS = {
    "cancelable": {"created", "requested"},
    "requested": {"requested"},
    "in_doubt": {"in_doubt"},
    "abandoned": {"abandoned"},
    "paid_after_cancel": {"paid_after_cancel"},
    "needing_attention": {"in_doubt", "abandoned", "paid_after_cancel"},
}


@pytest.mark.parametrize("question", QUESTIONS)
def test_made_invoices_are_selected_by_the_query_set_methods(question):
    made = {make_invoice(status).pk: status for status in SCENARIOS}
    answer = getattr(Invoice.objects.all(), question)()
    assert {made[invoice.pk] for invoice in answer} == QUESTIONS[question]


def test_invoice_in_doubt_is_due_only_after_its_wait():
    make_invoice("in_doubt")
    old = make_invoice("in_doubt", age=HOUR)
    assert list(Invoice.objects.due_for_reconciling()) == [old]


def test_age_moves_all_times_of_the_invoice_and_its_log():
    now, local_now = utc_now(), timezone.now()
    invoice = make_invoice("in_doubt", age=3 * HOUR)
    for time in (invoice.status_changed_at, invoice.claim_expires_at):
        assert now - 3 * HOUR <= time < now - 2 * HOUR
    for time in (invoice.created_at, invoice.issued_at):
        assert local_now - 3 * HOUR <= time < local_now - 2 * HOUR
    assert {now - 3 * HOUR <= row.created_at < now - 2 * HOUR for row in invoice.transitions.all()} == {True}


def test_times_that_are_given_are_not_moved():
    issued_at = timezone.now() - timedelta(days=5)
    invoice = make_invoice(age=HOUR, issued_at=issued_at)
    assert Invoice.objects.get().issued_at == invoice.issued_at == issued_at


def test_fields_are_those_of_register():
    invoice = make_invoice("paid", external_id=" 17 ", reference="order-1", amount="10.50", currency="USD")
    assert invoice.external_id == "17"
    assert invoice.reference == "order-1"
    assert invoice.amount == Decimal("10.50")
    assert invoice.currency == "USD"
    with pytest.raises(ValidationError):
        make_invoice(order="1")


def test_generated_ids_fit_the_provider():
    made = [make_invoice(provider=alias).external_id for alias in ("firekassa", "firekassa", "cryptocloud")]
    assert len(set(made)) == 3
    assert made[2].startswith("INV-")


@pytest.mark.django_db(databases=["default", "other"])
def test_invoice_is_made_in_the_database_that_is_named():
    make_invoice("paid_after_cancel", using="other", age=HOUR)
    assert Invoice.objects.count() == 0
    assert Invoice.objects.using("other").count() == 1


def test_invoice_is_made_for_a_paused_provider():
    invoice = make_invoice()
    invoice._writer.pause("firekassa", "rate_limited", 60)
    assert make_invoice("in_doubt").status == "in_doubt"


@pytest.mark.parametrize(
    ("status", "fields", "told"),
    [
        ("cancelled", {}, "'cancelled' is not a status for make_invoice"),
        ("created", {"external_id": "17"}, "firekassa 17 already"),
    ],
    ids=["unknown-status", "known-invoice"],
)
def test_wrong_argument_is_reported(status, fields, told):
    make_invoice(external_id="17")
    with pytest.raises(ValueError, match=told):
        make_invoice(status, **fields)


class OddIds(Provider):
    verbose_name = "Odd"
    id_form = "two letters and eleven digits"
    id_pattern = re.compile(r"[a-z]{2}\d{11}")

    def cancel(self, external_id, *, lease):
        raise AssertionError("nobody is asked here")


def test_id_that_cannot_be_generated_is_required():
    odd = {"BACKEND": f"{__name__}.OddIds"}
    with override_settings(INVOICE_CANCEL={"PROVIDERS": {"odd": odd}}):
        with pytest.raises(ValueError, match=r"Pass external_id\. An id of Odd is two letters"):
            make_invoice()
        assert make_invoice("in_doubt", external_id="ab12345678901").provider == "odd"
