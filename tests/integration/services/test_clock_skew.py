"""Times that a fast clock wrote, or a clock that was set back later, do not block for the whole clock error."""

from datetime import UTC, datetime, timedelta

import pytest
import time_machine
from django.core.management import CommandError, call_command
from django.db.models import QuerySet

from django_invoice_cancel import operations
from django_invoice_cancel.bulk import cancel_invoices, reconcile_invoices
from django_invoice_cancel.checks import check_reconciling
from django_invoice_cancel.domain.clock import TOLERANCE
from django_invoice_cancel.models import BulkOperation, Invoice, ProviderState
from django_invoice_cancel.operations import advance
from django_invoice_cancel.testing import make_invoice
from tests.support.invoices import stored
from tests.support.results import cancel_error

pytestmark = pytest.mark.django_db(transaction=True)

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)
AHEAD = {
    "seconds": timedelta(seconds=6),
    "ten minutes": timedelta(minutes=10),
    "an hour": timedelta(hours=1),
    "a year": timedelta(days=365),
}
each_clock_error = pytest.mark.parametrize("ahead", AHEAD.values(), ids=AHEAD)


def at(seconds=0.0, *, ahead=timedelta()):
    """Move the clock to ``seconds`` after noon, on a machine whose clock is ``ahead``."""
    return time_machine.travel((NOON + timedelta(seconds=seconds) + ahead).timestamp(), tick=False)


def pause(seconds=0.0, *, ahead=timedelta(), length=300.0):
    with at(seconds, ahead=ahead):
        Invoice.objects.all()._writer.pause("shop", "bad_credentials", length)


def codes(results):
    return [result.code for result in results]


def cancel_one():
    return cancel_error(Invoice.objects.get().cancel).result.code


def reconcile_one():
    return Invoice.objects.get().reconcile().code


def cancel_in_bulk():
    [code] = codes(cancel_invoices(Invoice.objects.all()))
    return code


def reconcile_in_bulk():
    [code] = codes(reconcile_invoices(Invoice.objects.all()))
    return code


def run_operation():
    left = advance(operations.start(Invoice.objects.all(), actor="Ada").pk)
    assert left.has_more is True
    assert left.wait_seconds == 300
    return "provider_paused"


ENTRY_POINTS = {
    "cancel": cancel_one,
    "reconcile": reconcile_one,
    "bulk": cancel_in_bulk,
    "bulk reconcile": reconcile_in_bulk,
    "operation": run_operation,
}


@each_clock_error
@pytest.mark.parametrize("entry_point", ENTRY_POINTS)
def test_pause_begins_at_its_first_reader_and_keeps_its_length(shop, ahead, entry_point):
    make_invoice()
    pause(ahead=ahead)
    with at():
        assert ENTRY_POINTS[entry_point]() == "provider_paused"
        state = ProviderState.objects.get()
        assert state.paused_at == NOON
        assert state.paused_until == NOON + timedelta(seconds=300)
    with at(299):
        assert cancel_one() == "provider_paused"
    assert shop.cancel_count == 0
    assert shop.lookup_count == 0
    with at(301):
        assert Invoice.objects.get().cancel().ok
    assert shop.cancel_count == 1


def test_dispatcher_ends_a_pause_of_a_fast_clock_after_its_length(shop, settings):
    settings.INVOICE_CANCEL = settings.INVOICE_CANCEL | {"DISPATCH": "builtins.str"}
    make_invoice()
    with at(-3600):
        operation = operations.start(Invoice.objects.all(), actor="Ada")
    pause(ahead=timedelta(hours=1))
    with at(10):
        call_command("run_bulk_operations", dispatch=True)
    operation.refresh_from_db()
    assert operation.worked_at is None  # not dispatched: it could only wait
    with at(311):
        call_command("run_bulk_operations", dispatch=True)
    operation.refresh_from_db()
    assert operation.worked_at is not None


def test_run_on_a_machine_that_is_an_hour_ahead_pauses_the_others_for_as_long_as_itself(shop):
    make_invoice()
    shop.next_cancels("bad_credentials")
    with at(ahead=timedelta(hours=1)):
        assert codes(cancel_invoices(Invoice.objects.all(), rate=5)) == ["bad_credentials"]
    with at():
        assert cancel_one() == "provider_paused"
    with at(301):
        assert codes(cancel_invoices(Invoice.objects.all(), rate=5)) == ["canceled"]
    assert shop.cancel_count == 2


def test_pause_written_before_the_clock_was_set_back_lasts_at_most_its_length(shop):
    make_invoice()
    pause(3600)
    with at():
        assert cancel_one() == "provider_paused"
    with at(301):
        assert Invoice.objects.get().cancel().ok


@pytest.mark.parametrize("difference", [-4.9, 0, 4.9])
def test_difference_within_the_tolerance_changes_no_pause(shop, difference):
    make_invoice()
    pause(ahead=timedelta(seconds=difference))
    before = ProviderState.objects.get()
    with at():
        assert cancel_one() == "provider_paused"
    after = ProviderState.objects.get()
    assert after.paused_at == before.paused_at
    assert after.paused_until == before.paused_until
    assert timedelta(seconds=abs(difference)) < TOLERANCE


def test_concurrent_readers_correct_a_pause_once(shop):
    """The second reader read the row before the first one corrected it."""
    make_invoice()
    pause(ahead=timedelta(hours=1))
    late = ProviderState.objects.get()
    with at():
        cancel_one()
    with at(100):
        Invoice.objects.all()._writer.correct_pauses([late])
        assert ProviderState.objects.get().seconds_left == 200
    with at(301):
        assert Invoice.objects.get().cancel().ok


def test_new_pause_replaces_a_shorter_one_of_a_fast_clock(shop):
    make_invoice()
    pause(ahead=timedelta(hours=1), length=60)
    pause(length=300)
    with at(299):
        assert cancel_one() == "provider_paused"
    with at(301):
        assert Invoice.objects.get().cancel().ok


def test_pause_without_a_start_ends_at_its_end(shop):
    make_invoice()
    ProviderState.objects.create(alias="shop", paused_until=NOON + timedelta(seconds=600), pause_code="rate_limited")
    with at(599):
        assert cancel_one() == "provider_paused"
    with at(601):
        assert Invoice.objects.get().cancel().ok


def test_pause_that_ends_before_it_begins_is_over(shop):
    make_invoice()
    ahead = NOON + timedelta(hours=1)
    ProviderState.objects.create(alias="shop", paused_at=ahead, paused_until=ahead - timedelta(seconds=1))
    with at():
        cancel_error(Invoice.objects.get().cancel)  # corrects it
        assert Invoice.objects.get().cancel().ok
    assert shop.cancel_count == 1


@each_clock_error
def test_claim_of_a_fast_clock_expires_after_its_lifetime_or_at_once_if_impossible(shop, ahead):
    """Never early, because its request may be sent at this moment. At most a day late."""
    with at(ahead=ahead):
        invoice = make_invoice("canceling")
    is_impossible = ahead > timedelta(days=1, minutes=1)
    with at(ahead=timedelta() if is_impossible else ahead + timedelta(seconds=300)):
        assert stored(invoice).is_abandoned is is_impossible
        assert Invoice.objects.abandoned().exists() is is_impossible
    with at(361, ahead=timedelta() if is_impossible else ahead):
        assert list(Invoice.objects.due_for_reconciling()) == [invoice]
        assert codes(reconcile_invoices(Invoice.objects.due_for_reconciling())) == ["still_open"]
    assert stored(invoice).status == "in_doubt"
    assert shop.cancel_count == 0
    assert shop.lookup_count == 1


def test_claim_that_is_a_year_ahead_is_reopened_after_the_doubt_period(shop):
    with at(ahead=timedelta(days=365)):
        invoice = make_invoice("canceling")
    with at(10):
        call_reconcile()
        assert stored(invoice).status == "in_doubt"
    with at(10 + 300 + 899, ahead=timedelta()):
        call_reconcile()
        assert stored(invoice).status == "in_doubt"
    with at(10 + 300 + 902):
        call_reconcile()
    assert stored(invoice).status == "created"
    assert shop.cancel_count == 0


@pytest.mark.parametrize("caller", ["command", "reconcile", "resolve"])
@pytest.mark.parametrize("supports_lookup", [True, False], ids=["lookup", "no lookup"])
def test_doubt_that_is_a_year_ahead_ends_a_doubt_period_after_its_first_reader(scripted, caller, supports_lookup):
    shop = scripted(supports_lookup=supports_lookup)
    with at(ahead=timedelta(days=365)):
        invoice = make_invoice("in_doubt")
    with at(10):
        assert not supports_lookup or Invoice.objects.due_for_reconciling().exists()
        if caller == "reconcile":
            invoice.reconcile()
        else:
            call_reconcile()
        assert stored(invoice).status == "in_doubt"
    with at(909):
        assert stored(invoice).reconcile().outcome == "in_doubt"
    with at(911):
        if supports_lookup and caller != "resolve":
            assert stored(invoice).reconcile().status == "created"
        else:
            stored(invoice).resolve("created", actor="Ada", reason="seen in the dashboard")
    assert stored(invoice).status == "created"
    assert shop.cancel_count == 0


def call_reconcile():
    try:
        call_command("reconcile_invoices", verbosity=0)
    except CommandError as error:
        assert error.returncode in (3, 4)  # noqa: PT017 - in doubt, or not possible


@pytest.mark.parametrize("status", ["in_doubt", "created"])
def test_lookup_that_is_due_in_a_year_is_due_now_and_then_at_usual_intervals(shop, status):
    with at():
        invoice = make_invoice(status)
    write_columns(next_check_at=NOON + timedelta(days=365))
    with at(60):
        assert codes(reconcile_invoices(Invoice.objects.due_for_reconciling())) == ["still_open"]
        assert not Invoice.objects.due_for_reconciling().exists()
    assert stored(invoice).status == status
    assert shop.lookup_count == 1
    assert shop.cancel_count == 0


def test_invoice_that_a_fast_clock_reopened_has_one_last_lookup(shop):
    with at():
        make_invoice()
    write_columns(status_changed_at=NOON + timedelta(days=365), next_check_at=NOON + timedelta(days=365))
    with at(60):
        list(reconcile_invoices(Invoice.objects.due_for_reconciling()))
        assert not Invoice.objects.due_for_reconciling().exists()
    assert shop.lookup_count == 1


def test_cancel_request_that_is_a_year_ahead_is_listed_and_sent(shop):
    with at(ahead=timedelta(days=365)):
        invoice = make_invoice("requested")
    with at(ahead=timedelta()):
        assert list(Invoice.objects.needing_attention()) == [invoice]
        assert list(Invoice.objects.requested_long_ago()) == [invoice]
        call_reconcile()
    assert stored(invoice).status == "canceled"
    assert shop.cancel_count == 1


def write_columns(**columns):
    """Write columns past everything that guards them."""
    QuerySet(Invoice).update(**columns)


@each_clock_error
def test_lease_of_a_dead_worker_lasts_its_length_after_its_first_reader(shop, ahead):
    make_invoice()
    with at():
        operation = operations.start(Invoice.objects.all(), actor="Ada")
    with at(ahead=ahead):
        assert len(operation.items.lease(5, seconds=80)) == 1
    for seconds in (0, 79):
        with at(seconds):
            assert advance(operation.pk).has_more
    assert shop.cancel_count == 0
    with at(81):
        assert advance(operation.pk).is_finished
    assert shop.cancel_count == 1


def test_lease_of_a_correct_clock_is_not_changed(shop):
    make_invoice()
    with at():
        operation = operations.start(Invoice.objects.all(), actor="Ada")
        operation.items.lease(5, seconds=3600)
    with at(3599):
        assert advance(operation.pk).has_more
    assert shop.cancel_count == 0


@each_clock_error
@pytest.mark.parametrize("column", ["worked_at", "started_at"])
def test_operation_of_a_dead_worker_is_dispatched_two_minutes_after_its_first_reader(shop, settings, ahead, column):
    settings.INVOICE_CANCEL = settings.INVOICE_CANCEL | {"DISPATCH": f"{__name__}.dispatched.append"}
    make_invoice()
    with at():
        operation = operations.start(Invoice.objects.all(), actor="Ada")
    BulkOperation.objects.update(**{column: NOON + ahead})
    dispatched.clear()
    with at():
        call_command("run_bulk_operations", dispatch=True)
    assert dispatched == []
    with at(121):
        call_command("run_bulk_operations", dispatch=True)
    assert dispatched == [str(operation.pk)]


dispatched: list[str] = []


@pytest.mark.parametrize("ahead", [timedelta(hours=2), timedelta(days=365)], ids=str)
def test_heartbeat_of_a_fast_clock_does_not_hide_that_reconcile_does_not_run(shop, ahead):
    with at(-7200):
        make_invoice("in_doubt")
    with at(ahead=ahead):
        Invoice.objects.all()._writer.touch_heartbeat("shop")
    with at():
        assert [message.id for message in check_reconciling(None, ["default"])] == ["invoice_cancel.W004"]
        Invoice.objects.all()._writer.touch_heartbeat("shop")
        assert check_reconciling(None, ["default"]) == []


def test_doubt_of_a_fast_clock_is_reported_if_reconcile_does_not_run(shop):
    with at(ahead=timedelta(days=365)):
        make_invoice("in_doubt")
    with at():
        assert [message.id for message in check_reconciling(None, ["default"])] == ["invoice_cancel.W004"]
