"""Observe: statuses from webhooks are recorded, are never lost, and never set an older status (rules 1, 9)."""

from decimal import Decimal
from enum import IntEnum
from uuid import UUID

import pytest
from django.db import connection, transaction
from django.db.models import QuerySet
from django.test.utils import CaptureQueriesContext

from django_invoice_cancel.domain.clock import utc_now
from django_invoice_cancel.models import Invoice
from tests.support.invoices import invoice_in_status, set_columns_and_refresh, stored
from tests.support.logs import log_changes
from tests.support.writes import NOON, observe_elsewhere, seconds

pytestmark = pytest.mark.django_db

STATUSES = (
    "created", "canceling", "in_doubt", "canceled", "partially_paid", "paid", "overpaid", "expired", "failed",
)  # fmt: skip
OBSERVED = {
    "created": "canceled expired failed partially_paid paid overpaid",
    "canceling": "canceled expired failed partially_paid paid overpaid",
    "in_doubt": "canceled expired failed partially_paid paid overpaid",
    "canceled": "partially_paid paid overpaid",
    "expired": "partially_paid paid overpaid",
    "failed": "partially_paid paid overpaid",
    "partially_paid": "paid overpaid",
    "paid": "overpaid",
    "overpaid": "",
}
"""The statuses that are recorded, by the status before. A payment never becomes smaller, and "open" is ignored."""


@pytest.mark.parametrize("status", [status for status in STATUSES if status not in ("canceling", "in_doubt")])
@pytest.mark.parametrize("old", STATUSES)
def test_webhook_changes_the_invoice_or_is_ignored(clock, old, status):
    invoice = invoice_in_status(old)
    clock.shift(5)
    moves = status in OBSERVED[old].split()
    assert invoice.observe_status(status) is moves
    row = stored(invoice)
    assert row.status == invoice.status == (status if moves else old)
    assert row.status_changed_at == (NOON + seconds(5) if moves else NOON)
    assert [step[:2] for step in log_changes(invoice) if step[0] != step[1]] == ([(old, status)] if moves else [])


@pytest.mark.parametrize("status", ["paid", "canceled", "expired"])
def test_repeated_status_confirms_it(clock, status):
    invoice = invoice_in_status(status)
    clock.shift(5)
    assert invoice.observe_status(status) is False
    assert stored(invoice).status_confirmed_at == NOON + seconds(5)
    assert log_changes(invoice) == []


@pytest.mark.parametrize("status", ["created", "in_doubt"])
def test_webhook_that_reports_open_confirms_nothing(status):
    """It may have been under way for longer than what is known here."""
    invoice = invoice_in_status(status)
    assert invoice.observe_status("created") is False
    assert stored(invoice).status_confirmed_at is None
    assert log_changes(invoice) == []


def test_closing_clears_a_pending_request():
    invoice = invoice_in_status(cancel_requested_at=NOON, next_check_at=NOON, check_count=2)
    observe_elsewhere(invoice, "expired")
    row = stored(invoice)
    assert row.cancel_requested_at is None
    assert row.next_check_at is None
    assert row.check_count == 0


def test_stale_instance_reports_whether_the_row_changed():
    stale = invoice_in_status()
    observe_elsewhere(stale, "paid")
    assert stale.observe_status("paid") is False
    assert stale.status == "paid"


@pytest.mark.parametrize("status", ["cancelled", "", "PAID", "in_doubt", "canceling"])
def test_unknown_or_internal_status_is_an_error(status):
    invoice = invoice_in_status()
    with pytest.raises(ValueError, match=status or "is not a valid Status"):
        invoice.observe_status(status)
    assert stored(invoice).status == "created"
    assert log_changes(invoice) == []


@pytest.mark.parametrize("both", [{}, {"status": "paid", "provider_status": "paid"}])
def test_status_and_provider_status_are_mutually_exclusive(both):
    with pytest.raises(ValueError, match="Pass either"):
        invoice_in_status().observe_status(**both)


def test_unknown_provider_status_is_only_logged():
    invoice = invoice_in_status("paid")
    assert invoice.observe_status(provider_status="Refunded") is False
    row = invoice.transitions.get()
    assert row.from_status == "paid"
    assert row.to_status == "paid"
    assert row.code == "unknown_status"
    assert row.provider_message == "Refunded"


def test_manager_method_accepts_provider_statuses_and_returns_the_invoice():
    invoice = invoice_in_status(external_id="INV-89UX09KA")
    seen = Invoice.objects.observe_status("cryptocloud", "89ux09ka", provider_status="Partial")
    assert seen == invoice
    assert seen.status == "partially_paid"
    assert stored(invoice).status == "partially_paid"
    assert invoice.transitions.get().trigger == "webhook"


@pytest.mark.parametrize("number", [511727028, IntEnum("Ids", {"PAID": 511727028}).PAID], ids=["int", "IntEnum"])
@pytest.mark.parametrize("reported", [{"status": "paid"}, {"provider_status": "paid"}], ids=["ours", "the provider's"])
def test_number_is_accepted_as_an_id(number, reported):
    """JSON of FireKassa names invoices by numbers."""
    invoice = invoice_in_status(provider="firekassa", external_id="511727028")
    assert Invoice.objects.observe_status("firekassa", number, **reported) == invoice
    assert stored(invoice).status == "paid"


@pytest.mark.parametrize(
    "external_id",
    [True, False, None, 511727028.0, Decimal(511727028), b"511727028", ["511727028"], UUID(int=17)],
    ids=repr,
)
def test_id_of_another_type_is_an_error(external_id):
    with pytest.raises(ValueError, match="external_id must be a string or a whole number, not"):
        Invoice.objects.observe_status("firekassa", external_id, "paid")


LOST = [
    ("INV-404", "'INV-404' is not registered."),
    (404, "404 is not registered."),
    ("../x", "'../x' is not an id of CryptoCloud"),
    ("INV-1\nforged line", r"'INV-1\nforged line' is not an id of CryptoCloud"),
    ("", "'' is not an id of CryptoCloud"),
    (-1, "'-1' is not an id of CryptoCloud"),
    (10**5000, "A number with more than 100 digits cannot be an id"),
]


@pytest.mark.parametrize(("external_id", "problem"), LOST, ids=[problem for _, problem in LOST])
@pytest.mark.parametrize("reported", [{"status": "paid"}, {"provider_status": "success"}, {"provider_status": "odd"}])
def test_payment_of_an_unregistered_invoice_is_logged_as_a_warning(external_id, problem, reported, caplog):
    invoice_in_status()
    assert Invoice.objects.observe_status("cryptocloud", external_id, **reported) is None
    (line,) = caplog.records
    assert line.levelname == "WARNING"
    assert line.provider == "cryptocloud"
    assert line.getMessage().startswith("A payment that cryptocloud reported was not recorded")
    assert problem in line.getMessage()
    assert "\n" not in line.getMessage()
    assert set(Invoice.objects.values_list("status", flat=True)) == {"created"}


@pytest.mark.parametrize("status", ["canceled", "expired", "created"])
def test_any_other_status_of_an_unknown_invoice_is_no_warning(status, caplog):
    assert Invoice.objects.observe_status("cryptocloud", "INV-404", status) is None
    assert caplog.records == []


@pytest.mark.parametrize("status", ["void", "in_doubt"])
def test_status_that_cannot_be_observed_is_an_error_whatever_the_id(status):
    with pytest.raises(ValueError, match=status):
        Invoice.objects.observe_status("cryptocloud", "INV-404", status)


def test_payment_of_a_deleted_or_unsaved_invoice_is_logged_as_a_warning(caplog):
    gone = invoice_in_status()
    Invoice.objects.filter(pk=gone.pk).delete()
    for invoice in (gone, Invoice(provider="firekassa", external_id="9")):
        caplog.clear()
        assert invoice.observe_status("expired") is False
        assert caplog.records == []
        assert invoice.observe_status("paid") is False
        assert [each.levelname for each in caplog.records] == ["WARNING"]
        assert f"'{invoice.external_id}' has no row" in caplog.text
    assert Invoice.objects.count() == 0


def test_payment_of_a_reopened_invoice_that_was_registered_as_canceled_is_flagged():
    invoice = Invoice.objects.create(provider="cryptocloud", external_id="INV-1", status="canceled")
    QuerySet(Invoice).filter(pk=invoice.pk).update(contradicted_at=utc_now())
    invoice = stored(invoice)
    invoice.resolve("created", actor="Ada", reason="still open there")
    assert invoice.observe_status("paid") is True
    left = stored(invoice)
    assert left.status == "paid"
    assert left.paid_after_cancel_at is not None


def test_observe_joins_the_callers_transaction():
    invoice = invoice_in_status()
    with transaction.atomic():
        observe_elsewhere(invoice, "paid")
        assert stored(invoice).status == "paid"
        transaction.set_rollback(True)
    assert stored(invoice).status == "created"
    assert log_changes(invoice) == []


@pytest.mark.parametrize(
    "method",
    [
        pytest.param(lambda invoice: invoice.observe_status("paid"), id="observe"),
        pytest.param(lambda invoice: invoice.resolve("paid", actor="Ada", reason="seen"), id="resolve"),
    ],
)
def test_method_that_depends_on_the_status_writes_before_it_reads(method):
    """Else two of them read the same row, and on SQLite one of them fails (rule 11)."""
    invoice = invoice_in_status("in_doubt")
    with CaptureQueriesContext(connection) as queries:
        method(invoice)
    commands = [
        query["sql"].split()[0] for query in queries if not query["sql"].startswith(("SAVEPOINT", "RELEASE", "BEGIN"))
    ]
    assert commands[:2] == ["UPDATE", "SELECT"]


def test_stored_row_counts_and_not_the_instance_in_memory():
    stale = invoice_in_status()
    set_columns_and_refresh(stored(stale), status="paid")
    assert stale.observe_status("canceled") is False
    assert stored(stale).status == "paid"
