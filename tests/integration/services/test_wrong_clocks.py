"""Times written by a clock that was ahead, or was set back later, do not block for the whole clock error."""

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
each_wrong_clock = pytest.mark.parametrize("ahead", AHEAD.values(), ids=AHEAD)


def at(seconds=0.0, *, ahead=timedelta()):
    """Travel so many seconds past noon, on a machine whose clock is ahead by so much."""
    return time_machine.travel((NOON + timedelta(seconds=seconds) + ahead).timestamp(), tick=False)


def pause(seconds=0.0, *, ahead=timedelta(), length=300.0):
    with at(seconds, ahead=ahead):
        Invoice.objects.all()._writer.pause("shop", "bad_credentials", length)


def codes(results):
    return [result.code for result in results]


# -- pauses ---------------------------------------------------------------------------------------------------


def single():
    return cancel_error(Invoice.objects.get().cancel).result.code


def check():
    return Invoice.objects.get().reconcile().code


def run():
    [code] = codes(cancel_invoices(Invoice.objects.all()))
    return code


def check_run():
    [code] = codes(reconcile_invoices(Invoice.objects.all()))
    return code


def operation():
    left = advance(operations.start(Invoice.objects.all(), actor="Ada").pk)
    assert left.has_more is True
    assert left.wait_seconds == 300
    return "provider_paused"


READERS = {"cancel": single, "reconcile": check, "bulk": run, "bulk reconcile": check_run, "operation": operation}


@each_wrong_clock
@pytest.mark.parametrize("reader", READERS)
def test_pause_counts_from_its_first_reader_and_keeps_its_length(shop, ahead, reader):
    make_invoice()
    pause(ahead=ahead)
    with at():
        assert READERS[reader]() == "provider_paused"
        state = ProviderState.objects.get()
        assert state.paused_at == NOON
        assert state.paused_until == NOON + timedelta(seconds=300)
    with at(299):
        assert single() == "provider_paused"
    assert shop.cancel_count == 0
    assert shop.lookup_count == 0
    with at(301):
        assert Invoice.objects.get().cancel().ok
    assert shop.cancel_count == 1


def test_sweep_does_not_wait_for_a_pause_that_a_wrong_clock_wrote(shop, settings):
    settings.INVOICE_CANCEL = settings.INVOICE_CANCEL | {"DISPATCH": "builtins.str"}
    make_invoice()
    with at(-3600):
        running = operations.start(Invoice.objects.all(), actor="Ada")
    pause(ahead=timedelta(hours=1))
    with at(10):
        call_command("run_bulk_operations", dispatch=True)
    running.refresh_from_db()
    assert running.worked_at is None  # not dispatched: it could only wait
    with at(311):
        call_command("run_bulk_operations", dispatch=True)
    running.refresh_from_db()
    assert running.worked_at is not None


def test_run_on_a_machine_that_is_an_hour_ahead_pauses_the_others_for_as_long_as_itself(shop):
    make_invoice()
    shop.next_cancels("bad_credentials")
    with at(ahead=timedelta(hours=1)):
        assert codes(cancel_invoices(Invoice.objects.all(), rate=5)) == ["bad_credentials"]
    with at():
        assert single() == "provider_paused"
    with at(301):
        assert codes(cancel_invoices(Invoice.objects.all(), rate=5)) == ["canceled"]
    assert shop.cancel_count == 2


def test_clock_that_is_set_back_lengthens_its_own_pause_by_no_more_than_its_length(shop):
    make_invoice()
    pause(3600)
    with at():
        assert single() == "provider_paused"
    with at(301):
        assert Invoice.objects.get().cancel().ok


@pytest.mark.parametrize("difference", [-4.9, 0, 4.9])
def test_clocks_that_differ_by_less_than_the_tolerance_change_nothing(shop, difference):
    make_invoice()
    pause(ahead=timedelta(seconds=difference))
    before = ProviderState.objects.get()
    with at():
        assert single() == "provider_paused"
    after = ProviderState.objects.get()
    assert after.paused_at == before.paused_at
    assert after.paused_until == before.paused_until
    assert timedelta(seconds=abs(difference)) < TOLERANCE


def test_two_readers_correct_a_pause_once(shop):
    """The second has read the row before the first corrected it."""
    make_invoice()
    pause(ahead=timedelta(hours=1))
    late = ProviderState.objects.get()
    with at():
        single()
    with at(100):
        Invoice.objects.all()._writer.correct_pauses([late])
        assert ProviderState.objects.get().seconds_left == 200
    with at(301):
        assert Invoice.objects.get().cancel().ok


def test_new_pause_is_longer_than_one_that_a_wrong_clock_wrote(shop):
    make_invoice()
    pause(ahead=timedelta(hours=1), length=60)
    pause(length=300)
    with at(299):
        assert single() == "provider_paused"
    with at(301):
        assert Invoice.objects.get().cancel().ok


def test_pause_without_a_start_ends_when_it_ends(shop):
    make_invoice()
    ProviderState.objects.create(alias="shop", paused_until=NOON + timedelta(seconds=600), pause_code="rate_limited")
    with at(599):
        assert single() == "provider_paused"
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


# -- invoices -------------------------------------------------------------------------------------------------


@each_wrong_clock
def test_claim_of_a_wrong_clock_is_taken_up_when_it_is_over_or_at_once(shop, ahead):
    """Never early: what is sent now may be its request. Late by a day at the most."""
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


def test_claim_that_is_a_year_ahead_ends_as_open_after_its_doubt_period(shop):
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


@pytest.mark.parametrize("way", ["cron", "reconcile", "resolve"])
@pytest.mark.parametrize("supports_lookup", [True, False], ids=["lookup", "no lookup"])
def test_doubt_of_a_clock_that_is_a_year_ahead_is_over_a_doubt_period_after_it_is_seen(scripted, way, supports_lookup):
    shop = scripted(supports_lookup=supports_lookup)
    with at(ahead=timedelta(days=365)):
        invoice = make_invoice("in_doubt")
    with at(10):
        assert not supports_lookup or Invoice.objects.due_for_reconciling().exists()
        if way == "reconcile":
            invoice.reconcile()
        else:
            call_reconcile()
        assert stored(invoice).status == "in_doubt"
    with at(909):
        assert stored(invoice).reconcile().outcome == "in_doubt"
    with at(911):
        if supports_lookup and way != "resolve":
            assert stored(invoice).reconcile().status == "created"
        else:
            stored(invoice).resolve("created", actor="Ada", reason="seen in the dashboard")
    assert stored(invoice).status == "created"
    assert shop.cancel_count == 0


def call_reconcile():
    try:
        call_command("reconcile_invoices", verbosity=0)
    except CommandError as error:
        assert error.returncode in (3, 4)  # noqa: PT017 - in doubt, or not to be asked


@pytest.mark.parametrize("status", ["in_doubt", "created"])
def test_check_that_is_due_in_a_year_is_due_now_and_then_as_often_as_others(shop, status):
    with at():
        invoice = make_invoice(status)
    write(next_check_at=NOON + timedelta(days=365))
    with at(60):
        assert codes(reconcile_invoices(Invoice.objects.due_for_reconciling())) == ["still_open"]
        assert not Invoice.objects.due_for_reconciling().exists()
    assert stored(invoice).status == status
    assert shop.lookup_count == 1
    assert shop.cancel_count == 0


def test_last_lookup_of_an_invoice_that_a_wrong_clock_reopened_is_the_last(shop):
    with at():
        make_invoice()
    write(status_changed_at=NOON + timedelta(days=365), next_check_at=NOON + timedelta(days=365))
    with at(60):
        list(reconcile_invoices(Invoice.objects.due_for_reconciling()))
        assert not Invoice.objects.due_for_reconciling().exists()
    assert shop.lookup_count == 1


def test_request_of_a_clock_that_is_a_year_ahead_is_carried_out_and_listed(shop):
    with at(ahead=timedelta(days=365)):
        invoice = make_invoice("requested")
    with at(ahead=timedelta()):
        assert list(Invoice.objects.needing_attention()) == [invoice]
        assert list(Invoice.objects.requested_long_ago()) == [invoice]
        call_reconcile()
    assert stored(invoice).status == "canceled"
    assert shop.cancel_count == 1


def write(**columns):
    """Write columns past everything that guards them."""
    QuerySet(Invoice).update(**columns)


# -- operations -----------------------------------------------------------------------------------------------


@each_wrong_clock
def test_lease_of_a_dead_worker_lasts_for_its_length_after_it_is_seen(shop, ahead):
    make_invoice()
    with at():
        running = operations.start(Invoice.objects.all(), actor="Ada")
    with at(ahead=ahead):
        assert len(running.items.lease(5, seconds=80)) == 1
    for seconds in (0, 79):
        with at(seconds):
            assert advance(running.pk).has_more
    assert shop.cancel_count == 0
    with at(81):
        assert advance(running.pk).is_finished
    assert shop.cancel_count == 1


def test_lease_of_a_clock_that_is_right_is_left_as_it_is(shop):
    make_invoice()
    with at():
        running = operations.start(Invoice.objects.all(), actor="Ada")
        running.items.lease(5, seconds=3600)
    with at(3599):
        assert advance(running.pk).has_more
    assert shop.cancel_count == 0


@each_wrong_clock
@pytest.mark.parametrize("column", ["worked_at", "started_at"])
def test_operation_that_a_dead_worker_left_is_found_two_minutes_after_the_sweep_saw_it(shop, settings, ahead, column):
    settings.INVOICE_CANCEL = settings.INVOICE_CANCEL | {"DISPATCH": f"{__name__}.dispatched.append"}
    make_invoice()
    with at():
        running = operations.start(Invoice.objects.all(), actor="Ada")
    BulkOperation.objects.update(**{column: NOON + ahead})
    dispatched.clear()
    with at():
        call_command("run_bulk_operations", dispatch=True)
    assert dispatched == []
    with at(121):
        call_command("run_bulk_operations", dispatch=True)
    assert dispatched == [str(running.pk)]


dispatched: list[str] = []


# -- signs of life --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ahead", [timedelta(hours=2), timedelta(days=365)], ids=str)
def test_sign_of_life_of_a_wrong_clock_hides_no_missing_reconcile(shop, ahead):
    with at(-7200):
        make_invoice("in_doubt")
    with at(ahead=ahead):
        Invoice.objects.all()._writer.touch_heartbeat("shop")
    with at():
        assert [message.id for message in check_reconciling(None, ["default"])] == ["invoice_cancel.W004"]
        Invoice.objects.all()._writer.touch_heartbeat("shop")
        assert check_reconciling(None, ["default"]) == []


def test_doubt_of_a_wrong_clock_is_reported_if_nothing_reconciles(shop):
    with at(ahead=timedelta(days=365)):
        make_invoice("in_doubt")
    with at():
        assert [message.id for message in check_reconciling(None, ["default"])] == ["invoice_cancel.W004"]
