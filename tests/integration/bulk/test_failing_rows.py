"""F8: a row that the database rejects is skipped or delayed. The other rows are canceled and recorded."""

import threading
from contextlib import contextmanager
from datetime import timedelta

import pytest
from django.db import OperationalError, connection, connections
from django.db.backends.signals import connection_created

from django_invoice_cancel.bulk import cancel_invoices, reconcile_invoices
from django_invoice_cancel.domain.clock import utc_now
from django_invoice_cancel.models import Invoice
from django_invoice_cancel.testing import ScriptedProvider
from tests.support.clock import travel_forward
from tests.support.database import SHORT_LOCK_TIMEOUT, set_short_lock_timeout
from tests.support.invoices import count_statuses
from tests.support.logs import count_invoices_by_log_rows, count_log_rows, invoices_with_broken_log
from tests.support.results import count_codes

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def locked():
    """Return a function that locks invoices by another transaction, and sets a short lock timeout for this one."""
    if connection.vendor not in SHORT_LOCK_TIMEOUT:
        pytest.skip("SQLite locks no rows")
    connection_created.connect(set_short_lock_timeout)
    opened = []

    def lock(*external_ids):
        connection.close()  # the next one has the time-out, as all that replace it
        other = connections["default"].copy()
        opened.append(other)
        other.set_autocommit(False)
        with other.cursor() as cursor:
            for key in [key_of(each) for each in external_ids]:  # by key: MariaDB locks all rows that it reads
                cursor.execute("SELECT id FROM invoice_cancel_invoice WHERE id = %s FOR UPDATE", [key])
        return other

    yield lock
    connection_created.disconnect(set_short_lock_timeout)
    for other in opened:
        other.close()
    connection.close()


@pytest.fixture
def refused():
    """Return a context manager in which the database refuses statements of one kind about some invoices."""

    @contextmanager
    def refuse(kind, *keys, error=OperationalError, times=10**6):
        remaining = [times]

        def fail(execute, sql, params, many, context):
            parameters = [str(each) for each in (params or ())]
            is_meant = sql.startswith(kind) and "invoice_cancel_invoice" in sql and {*map(str, keys)} & {*parameters}
            if is_meant and remaining[0] > 0:
                remaining[0] -= 1
                raise error("canceling statement due to lock timeout")
            return execute(sql, params, many, context)

        with connection.execute_wrapper(fail):
            yield

    return refuse


def key_of(external_id):
    return Invoice.objects.get(external_id=external_id).pk


# -- claims ---------------------------------------------------------------------------------------------------


def test_locked_row_among_400_of_two_accounts_is_skipped_and_the_others_are_canceled(scripted, make, locked):
    shop, kiosk = scripted("shop", "kiosk"), ScriptedProvider.of("kiosk")
    make(200, "shop")
    make(200, "kiosk")
    locked("000117")
    report = Invoice.objects.all().cancel()
    assert count_codes(report.results) == {"canceled": 399, "database_error": 1}
    [skipped] = [result for result in report.results if result.code == "database_error"]
    assert skipped.external_id == "000117"
    assert skipped.outcome == "skipped"
    assert skipped.status == "created"
    assert shop.cancel_count + kiosk.cancel_count == 399
    assert count_statuses() == {"canceled": 399, "created": 1}
    assert count_invoices_by_log_rows() == {2: 399}
    assert invoices_with_broken_log() == []


def test_row_that_is_unlocked_in_time_is_canceled_in_the_same_run(scripted, make, locked):
    shop = scripted()
    invoices = make(120)
    other = locked("000007")
    results = []
    for result in cancel_invoices(invoices):
        results.append(result)
        if len(results) == 1:
            other.rollback()
    assert count_codes(results) == {"canceled": 120}
    assert shop.cancel_count == 120
    assert count_statuses() == {"canceled": 120}
    assert count_invoices_by_log_rows() == {2: 120}


@pytest.mark.parametrize(
    "failing",
    [
        pytest.param(["000000"], id="first"),
        pytest.param(["000049", "000050"], id="two groups", marks=pytest.mark.slow),
        pytest.param(["000119"], id="last"),
        pytest.param(["000003", "000055", "000110"], id="three groups", marks=pytest.mark.slow),
    ],
)
def test_rows_whose_claims_fail_do_not_skip_other_rows(scripted, make, refused, failing):
    shop = scripted()
    invoices = make(120)
    with refused("UPDATE", *[key_of(each) for each in failing]):
        results = list(cancel_invoices(invoices))
    assert count_codes(results) == {"canceled": 120 - len(failing), "database_error": len(failing)}
    assert sorted(result.external_id for result in results if result.code == "database_error") == failing
    assert shop.cancel_count == 120 - len(failing)
    assert count_statuses() == {"canceled": 120 - len(failing), "created": len(failing)}
    assert count_invoices_by_log_rows() == {2: 120 - len(failing)}


def test_database_trigger_that_rejects_one_row_does_not_stop_the_others(scripted, make):
    """No lock and no lost connection: the database has a rule of its own."""
    if connection.vendor != "sqlite":
        pytest.skip("the trigger is SQLite's")
    shop = scripted()
    invoices = make(60)
    trigger = (
        "CREATE TRIGGER refuse BEFORE UPDATE ON invoice_cancel_invoice WHEN OLD.external_id = '000017' "
        "AND NEW.status = 'canceling' BEGIN SELECT RAISE(ABORT, 'not this one'); END"
    )
    with connection.cursor() as cursor:
        cursor.execute(trigger)
    try:
        results = list(cancel_invoices(invoices))
    finally:
        with connection.cursor() as cursor:
            cursor.execute("DROP TRIGGER refuse")
    assert count_codes(results) == {"canceled": 59, "database_error": 1}
    assert shop.cancel_count == 59
    assert count_statuses() == {"canceled": 59, "created": 1}


@pytest.mark.parametrize("options", [{"concurrency": 1}, {"rate": 50.0}], ids=["one thread", "a rate"])
def test_failing_row_does_not_stop_a_run_that_claims_single_rows(scripted, make, refused, options):
    shop = scripted(**options)
    invoices = make(4)
    with refused("UPDATE", key_of("000001")):
        results = list(cancel_invoices(invoices))
    assert count_codes(results) == {"canceled": 3, "database_error": 1}
    assert shop.cancel_count == 3
    assert count_statuses() == {"canceled": 3, "created": 1}


@pytest.mark.slow
def test_run_of_rows_that_all_fail_ends_with_a_result_for_each(scripted, make, refused):
    shop = scripted()
    invoices = make(5)
    with refused("UPDATE", *invoices.values_list("pk", flat=True)):
        results = list(cancel_invoices(invoices))
    assert count_codes(results) == {"database_error": 5}
    assert shop.cancel_count == 0
    assert count_statuses() == {"created": 5}


def test_answers_are_recorded_while_the_run_waits_for_locked_rows(scripted, make, locked):
    """Each of the ten costs a lock time-out. What was sent is recorded between them, not after the last one."""
    shop = scripted()
    make(60)
    locked(*[f"{number:06d}" for number in range(10)])
    seen = [result.code for result in cancel_invoices(Invoice.objects.all())]
    assert seen.count("canceled") == 50
    assert seen.count("database_error") == 10
    assert shop.cancel_count == 50
    assert set(seen[:50]) == {"canceled"}
    assert count_statuses() == {"canceled": 50, "created": 10}


# -- refresh, give back, record -------------------------------------------------------------------------------


def test_row_that_cannot_be_read_again_is_skipped(scripted, make, refused):
    """It is paid by the time of its claim; the query for the reason is what fails."""
    shop = scripted(concurrency=1)
    invoices = make(60)

    def pay_the_last(external_id):
        if external_id == "000000":
            Invoice.objects.observe_status("shop", "000059", "paid")
            connections.close_all()  # those of the thread that sends

    shop.before_send = pay_the_last
    with refused("SELECT", key_of("000059")):
        codes = {result.external_id: result.code for result in cancel_invoices(invoices)}
    assert codes.pop("000059") == "database_error"
    assert len(codes) == 59
    assert set(codes.values()) == {"canceled"}
    assert shop.cancel_count == 59
    assert count_statuses() == {"canceled": 59, "paid": 1}


def test_claim_that_cannot_be_released_does_not_skip_other_rows(scripted, make, refused, clock):
    """The claims got old; one of them is locked when they are given back. Reconcile finds it later."""
    shop = scripted(concurrency=1, deadline=15, CLAIM_TTL=300)
    invoices = make(10)
    key, stalled = key_of("000004"), threading.Event()

    def stall(external_id):
        if not stalled.is_set():
            stalled.set()
            clock.advance(160)

    shop.before_send = stall

    def fail(execute, sql, params, many, context):
        if stalled.is_set() and sql.startswith("UPDATE") and key in params and "canceling" in params[1:]:
            raise OperationalError("canceling statement due to lock timeout")
        return execute(sql, params, many, context)

    with connection.execute_wrapper(fail):
        results = list(cancel_invoices(invoices))
    assert count_codes(results) == {"canceled": 9, "database_error": 1}
    assert shop.cancel_count == 9
    assert count_statuses() == {"canceled": 9, "canceling": 1}
    assert count_log_rows("given_back") == 8
    with travel_forward(minutes=10):
        list(reconcile_invoices(Invoice.objects.due_for_reconciling()))
    assert Invoice.objects.get(pk=key).status == "in_doubt"
    assert invoices_with_broken_log() == []


# -- reconcile ------------------------------------------------------------------------------------------------


HOUR_AGO = timedelta(hours=1)


@pytest.mark.parametrize("status", ["in_doubt", "canceling"], ids=["in doubt", "abandoned"])
def test_reconcile_with_a_failing_row_looks_up_the_others(scripted, make, refused, status):
    shop = scripted()
    past = utc_now() - HOUR_AGO
    invoices = make(30, status=status, claim_expires_at=past, next_check_at=past)
    for invoice in invoices:
        shop.set_status(invoice.external_id, "canceled")
    with refused("UPDATE", key_of("000011")):
        results = list(reconcile_invoices(Invoice.objects.due_for_reconciling()))
    assert count_codes(results) == {"already_canceled": 29, "database_error": 1}
    assert count_statuses() == {"canceled": 29, status: 1}
    assert shop.cancel_count == 0


def test_locked_row_is_reconciled_later_and_the_others_now(scripted, make, locked):
    shop = scripted()
    past = utc_now() - HOUR_AGO
    invoices = make(30, status="in_doubt", claim_expires_at=past, next_check_at=past)
    for invoice in invoices:
        shop.set_status(invoice.external_id, "canceled")
    other = locked("000011")
    assert count_codes(reconcile_invoices(Invoice.objects.due_for_reconciling())) == {
        "already_canceled": 29,
        "database_error": 1,
    }
    other.rollback()
    assert count_codes(reconcile_invoices(Invoice.objects.due_for_reconciling())) == {"already_canceled": 1}
    assert count_statuses() == {"canceled": 30}
    assert shop.cancel_count == 0


def test_row_whose_repeated_request_fails_does_not_stop_the_others(scripted, make, refused):
    """Without lookup each invoice is reconciled by a repeat of its cancel request."""
    shop = scripted(supports_lookup=False, is_repeat_harmless=True)
    past = utc_now() - HOUR_AGO
    make(5, status="in_doubt", claim_expires_at=past, next_check_at=past)
    with refused("UPDATE", key_of("000002")):
        results = list(reconcile_invoices(Invoice.objects.due_for_reconciling(), resubmit=True))
    assert count_codes(results) == {"canceled": 4, "database_error": 1}
    assert shop.cancel_count == 4
    assert count_statuses() == {"canceled": 4, "in_doubt": 1}
