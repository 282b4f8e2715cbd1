"""Stored intervals have their usual length when daylight saving time begins or ends."""

from datetime import datetime, timedelta

import pytest
import time_machine

from django_invoice_cancel import operations
from django_invoice_cancel.domain.clock import utc_now
from django_invoice_cancel.exceptions import CancelNotPossible
from django_invoice_cancel.models import BulkOperation, Invoice, ProviderState
from django_invoice_cancel.testing import make_invoice
from tests.support.clock import CLOCK_CHANGES
from tests.support.invoices import stored
from tests.support.results import cancel_error

pytestmark = pytest.mark.django_db(transaction=True)

SECONDS_BEFORE = (0, 30, 1810)
"""Seconds before the change at which an interval begins. 1810 is in the hour that is repeated."""
IN_MAKE_TEST = {
    ("Berlin, forward", 30, False),
    ("Berlin, back", 1810, False),
    ("Berlin, back", 30, True),
    ("Lord Howe, half an hour back", 0, False),
}
"""The combinations that are not slow: both directions, both sizes of a change, and USE_TZ."""


def parametrize_clock_change(*, seconds_before=SECONDS_BEFORE):
    cases = [
        pytest.param(
            (change, seconds, use_tz),
            id=f"{change}, {seconds} s before, USE_TZ={use_tz}",
            marks=() if (change, seconds, use_tz) in IN_MAKE_TEST or seconds_before == (0,) else pytest.mark.slow,
        )
        for change in CLOCK_CHANGES
        for seconds in seconds_before
        for use_tz in (True, False)
    ]
    return pytest.mark.parametrize("begin", cases, indirect=True)


@pytest.fixture
def begin(request, settings):
    """Set the time zone and USE_TZ, and return the instant at which an interval begins."""
    change, seconds, settings.USE_TZ = request.param
    settings.TIME_ZONE, instant = CLOCK_CHANGES[change]
    return instant - timedelta(seconds=seconds)


def at(begin: datetime, seconds: float = 0.0) -> time_machine.travel:
    """Move the clock to ``begin`` plus ``seconds``. By a timestamp: a datetime would also set the time zone."""
    return time_machine.travel((begin + timedelta(seconds=seconds)).timestamp(), tick=False)


@parametrize_clock_change()
def test_claim_counts_as_abandoned_after_its_lifetime_and_a_minute(shop, begin):
    """CLAIM_TTL is 300 s; a minute is added for clocks that differ."""
    with at(begin):
        invoice = make_invoice("canceling")
    with at(begin, 359):
        assert not stored(invoice).is_abandoned
        assert not Invoice.objects.abandoned().exists()
        assert not Invoice.objects.due_for_reconciling().exists()
        assert stored(invoice).reconcile().code == "in_progress"
        assert cancel_error(stored(invoice).cancel).result.code == "in_progress"
    with at(begin, 361):
        assert stored(invoice).is_abandoned
        assert Invoice.objects.abandoned().exists()
    assert shop.cancel_count == 0
    assert shop.lookup_count == 0
    assert stored(invoice).status == "canceling"


@parametrize_clock_change()
def test_doubt_period_lasts_900_seconds(shop, begin):
    """It begins at the last moment at which the request can have been sent. After it, the answer "open" counts."""
    with at(begin):
        invoice = make_invoice("in_doubt")
    with at(begin, 899):
        assert stored(invoice).reconcile().outcome == "in_doubt"
        assert cancel_error(stored(invoice).cancel).result.code == "in_doubt"
    assert stored(invoice).status == "in_doubt"
    with at(begin, 901):
        assert stored(invoice).reconcile().status == "created"
        assert stored(invoice).cancel().ok
    assert shop.cancel_count == 1
    assert shop.lookup_count == 2
    assert stored(invoice).status == "canceled"


@parametrize_clock_change()
def test_doubt_period_of_an_abandoned_claim_begins_at_the_end_of_the_claim(shop, begin):
    """The request can have been sent until the end of the claim, 300 s after its begin."""
    with at(begin):
        invoice = make_invoice("canceling")
    with at(begin, 361):
        assert stored(invoice).reconcile().outcome == "in_doubt"
    with at(begin, 1199):
        assert stored(invoice).reconcile().outcome == "in_doubt"
    with at(begin, 1201):
        assert stored(invoice).reconcile().status == "created"
    assert shop.cancel_count == 0
    assert shop.lookup_count == 3


@parametrize_clock_change()
def test_pause_of_a_minute_lasts_a_minute(shop, begin):
    with at(begin):
        invoice = make_invoice()
        invoice._writer.pause("shop", "rate_limited", 60)
    with at(begin, 59):
        error = cancel_error(stored(invoice).cancel)
        assert type(error) is CancelNotPossible
        assert error.result.code == "provider_paused"
        assert error.result.retry_after == 1
        assert ProviderState.objects.get().seconds_left == 1
        assert stored(invoice).reconcile().code == "provider_paused"
    assert shop.cancel_count == 0
    assert shop.lookup_count == 0
    with at(begin, 61):
        assert stored(invoice).cancel().ok
    assert shop.cancel_count == 1
    assert stored(invoice).status == "canceled"


@parametrize_clock_change()
def test_lookups_in_doubt_keep_their_intervals(shop, begin):
    with at(begin):
        invoice = make_invoice("in_doubt")
        assert stored(invoice).next_check_at == begin + timedelta(minutes=1)
    shop.all_lookups("unknown_status")
    minutes, now = [], begin
    for _number in range(6):
        now = stored(invoice).next_check_at
        with at(now, -1):
            assert not Invoice.objects.due_for_reconciling().exists()
        with at(now):
            assert Invoice.objects.due_for_reconciling().exists()
            stored(invoice).reconcile()
        minutes.append(round((stored(invoice).next_check_at - now).total_seconds() / 60))
    assert minutes == [5, 9, 60, 360, 1440, 1440]


@parametrize_clock_change()
def test_lease_of_items_lasts_its_number_of_seconds(shop, begin):
    with at(begin):
        make_invoice()
        operation = operations.start(Invoice.objects.all(), actor="Ada")
        assert len(operation.items.lease(5, seconds=70)) == 1
    with at(begin, 69):
        assert operation.items.lease(5, seconds=70) == []
        assert not BulkOperation.objects.unattended().filter(worked_at__isnull=False).exists()
    with at(begin, 71):
        assert len(operation.items.lease(5, seconds=70)) == 1
    assert shop.cancel_count == 0


@parametrize_clock_change()
def test_operation_counts_as_interrupted_after_two_minutes_without_a_heartbeat(shop, begin):
    with at(begin):
        make_invoice()
        operation = operations.start(Invoice.objects.all(), actor="Ada")
    for seconds, is_interrupted in ((119, False), (121, True)):
        with at(begin, seconds):
            operation.refresh_from_db()
            assert operation.is_interrupted is is_interrupted
            assert BulkOperation.objects.interrupted().exists() is is_interrupted


@parametrize_clock_change()
def test_requests_keep_the_interval_of_the_rate_limit(shop, begin):
    with at(begin):
        writer = make_invoice()._writer
        assert writer.reserve("shop", 1, 0.1) == begin.timestamp()
        assert writer.reserve("shop", 1, 0.1) == 0
    with at(begin, 8):
        assert writer.reserve("shop", 1, 0.1) == 0
    with at(begin, 9.5):
        assert writer.reserve("shop", 1, 0.1) == pytest.approx(begin.timestamp() + 10)
    with at(begin, 25):
        assert writer.reserve("shop", 1, 0.1) == begin.timestamp() + 25


@parametrize_clock_change(seconds_before=(0,))
def test_age_is_counted_in_elapsed_hours(shop, begin):
    """``issued_at`` is a plain column: without USE_TZ it is ambiguous within a repeated hour, so begin before it."""
    issued = begin - timedelta(hours=2)
    with at(issued):
        make_invoice()
    for age in (timedelta(hours=6), timedelta(days=2)):
        with at(issued, age.total_seconds() - 1):
            assert not Invoice.objects.unpaid_since(age).exists(), age
        with at(issued, age.total_seconds() + 1):
            assert Invoice.objects.unpaid_since(age).exists(), age


@parametrize_clock_change()
def test_utc_clock_does_not_jump(begin):
    with at(begin, -1):
        earlier = utc_now()
    with at(begin, 7200):
        assert (utc_now() - earlier).total_seconds() == 7201
