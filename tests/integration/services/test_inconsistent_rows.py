"""Rows with columns that no writer stores (a raw UPDATE, a restored backup) are listed and reconciled."""

from datetime import timedelta

import pytest
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command
from django.db import connection
from django.db.models import QuerySet
from django.urls import reverse

from django_invoice_cancel.bulk import reconcile_invoices
from django_invoice_cancel.checks import check_reconciling
from django_invoice_cancel.domain.audit import AuditContext
from django_invoice_cancel.domain.clock import utc_now
from django_invoice_cancel.models import Invoice
from django_invoice_cancel.testing import make_invoice
from tests.support.clock import travel_forward
from tests.support.invoices import set_columns_and_refresh, stored
from tests.support.results import cancel_error

pytestmark = pytest.mark.django_db(transaction=True)

YEAR = timedelta(days=365)
MAX_COUNT = connection.ops.integer_field_range("PositiveIntegerField")[1]
INCONSISTENT = {
    # status of the row, its inconsistent columns
    "claimed, no end of the claim": ("canceling", {"claim_expires_at": None}),
    "claimed, no end and no attempt": ("canceling", {"claim_expires_at": None, "attempt": None}),
    "claimed until next year": ("canceling", {"claim_expires_at": YEAR}),
    "in doubt, no next check": ("in_doubt", {"next_check_at": None}),
    "in doubt, no next check and no claim": ("in_doubt", {"next_check_at": None, "claim_expires_at": None}),
    "in doubt, no attempt": ("in_doubt", {"next_check_at": None, "attempt": None}),
    "in doubt, next check in a year": ("in_doubt", {"next_check_at": YEAR}),
    "in doubt until next year": ("in_doubt", {"next_check_at": YEAR, "claim_expires_at": YEAR}),
    "in doubt, checked as often as the column holds": ("in_doubt", {"check_count": MAX_COUNT, "next_check_at": None}),
}
each_row = pytest.mark.parametrize("row", INCONSISTENT)


def make_inconsistent(row, **fields):
    """Store an invoice with these columns, past everything that guards them."""
    status, columns = INCONSISTENT[row]
    invoice = make_invoice(status, **fields)
    set_columns_and_refresh(invoice, **at_instants(columns))
    return invoice


def at_instants(columns):
    return {name: utc_now() + value if isinstance(value, timedelta) else value for name, value in columns.items()}


def run_reconcile_command(*arguments):
    try:
        call_command("reconcile_invoices", *arguments, verbosity=0)
    except CommandError as error:
        return error.returncode
    return 0


@each_row
def test_row_is_listed_and_due(shop, row):
    invoice = make_inconsistent(row)
    others = [make_invoice(), make_invoice("canceling"), make_invoice("paid")]
    assert list(Invoice.objects.needing_attention()) == [invoice]
    assert list(Invoice.objects.due_for_reconciling()) == [invoice]
    assert list(Invoice.objects.abandoned() | Invoice.objects.in_doubt()) == [invoice]
    assert invoice.is_abandoned is (invoice.status == "canceling")
    assert not any(stored(other).is_abandoned for other in others)


@pytest.mark.parametrize("caller", ["command", "bulk"])
def test_rows_are_reconciled_in_one_run(shop, caller):
    invoices = {row: make_inconsistent(row) for row in INCONSISTENT}
    shop.all_lookups("canceled")
    if caller == "command":
        assert run_reconcile_command() == 0
    else:
        results = reconcile_invoices(Invoice.objects.due_for_reconciling())
        assert [result.ok for result in results] == [True] * len(INCONSISTENT)
    for row, invoice in invoices.items():
        assert stored(invoice).status == "canceled", row
    looked_up = [external_id for group in shop.lookups for external_id in group]
    assert sorted(looked_up) == sorted(invoice.external_id for invoice in invoices.values())
    assert shop.cancel_count == 0


@each_row
def test_row_is_reconciled(shop, row):
    invoice = make_inconsistent(row)
    shop.set_status(invoice.external_id, "canceled")
    assert invoice.reconcile().ok
    assert stored(invoice).status == "canceled"
    assert shop.lookup_count == 1
    assert shop.cancel_count == 0


@each_row
def test_row_that_stays_in_doubt_waits_for_its_next_lookup(shop, row):
    invoice = make_inconsistent(row)
    shop.all_lookups("unknown_status")
    for _number in range(3):
        run_reconcile_command()
    after = stored(invoice)
    assert after.status == "in_doubt"
    assert shop.lookup_count == 1
    assert shop.cancel_count == 0
    assert utc_now() < after.next_check_at <= utc_now() + timedelta(days=1)
    assert 0 < after.check_count <= 1_000_000


@each_row
def test_row_is_canceled_only_after_a_whole_doubt_period(shop, row):
    """It is unknown when its request was sent; it may have been a moment before."""
    invoice = make_inconsistent(row)
    run_reconcile_command()
    for minutes in (1, 14):
        with travel_forward(minutes=minutes):
            assert stored(invoice).reconcile().status == "in_doubt"
            assert cancel_error(stored(invoice).cancel).result.code == "in_doubt"
    with travel_forward(minutes=21):
        assert stored(invoice).reconcile().status == "created"
        assert stored(invoice).cancel().ok
    assert shop.cancel_count == 1


@each_row
def test_row_at_a_provider_without_lookup_is_resolved_by_an_operator_only(scripted, row):
    shop = scripted(supports_lookup=False)
    invoice = make_inconsistent(row)
    run_reconcile_command("--resubmit")
    assert stored(invoice).reconcile().status == "in_doubt"
    stored(invoice).resolve("canceled", actor="Ada", reason="seen in the dashboard")
    assert stored(invoice).status == "canceled"
    assert shop.cancel_count == 0


@each_row
def test_concurrent_reconcile_runs_look_a_row_up_once(shop, row):
    first = make_inconsistent(row)
    second = stored(first)
    if first.status == "canceling":
        assert [len(first._writer.mark_abandoned([each], AuditContext())) for each in (first, second)] == [1, 0]
        return
    assert [len(each._writer.book_check([each])) for each in (first, second)] == [1, 0]


def test_admin_pages_show_the_rows(shop, client):
    invoices = {row: make_inconsistent(row) for row in INCONSISTENT}
    client.force_login(User.objects.create_superuser("ada"))
    listed = client.get(reverse("admin:invoice_cancel_invoice_changelist") + "?attention=any").content.decode()
    for row, invoice in invoices.items():
        assert invoice.external_id in listed, row
        for page in ("change", "check", "resolve"):
            response = client.get(reverse(f"admin:invoice_cancel_invoice_{page}", args=[invoice.pk]))
            assert response.status_code == 200, (row, page)
            assert invoice.external_id in response.content.decode(), (row, page)


INCONSISTENT_REQUESTS = {
    "no time of the next try": {"cancel_try_at": None},
    "next try in a year": {"cancel_try_at": YEAR},
    "requested in a year": {"cancel_try_at": YEAR, "cancel_requested_at": YEAR},
    "tried as often as the column holds": {"cancel_try_at": None, "cancel_try_count": MAX_COUNT},
}


@pytest.mark.parametrize("columns", INCONSISTENT_REQUESTS.values(), ids=INCONSISTENT_REQUESTS)
@pytest.mark.parametrize("answer", ["canceled", "rate_limited", "in_doubt"])
def test_inconsistent_cancel_request_is_sent(shop, columns, answer):
    invoice = make_invoice("requested")
    set_columns_and_refresh(invoice, **at_instants(columns))
    shop.all_cancels(answer)
    run_reconcile_command()
    status = {"canceled": "canceled", "rate_limited": "created", "in_doubt": "in_doubt"}[answer]
    assert stored(invoice).status == status
    assert shop.cancel_count == 1
    assert stored(invoice).cancel_try_count <= max(1_000_000, columns.get("cancel_try_count", 0))


def test_system_check_counts_all_inconsistent_rows(shop):
    for row in INCONSISTENT:
        make_inconsistent(row)
    QuerySet(Invoice).update(status_changed_at=utc_now() - timedelta(hours=2))
    [message] = check_reconciling(None, ["default"])
    assert message.id == "invoice_cancel.W004"
    assert f"({len(INCONSISTENT)} in 'default')" in message.msg
