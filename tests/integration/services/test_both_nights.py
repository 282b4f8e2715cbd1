"""In the nights of a clock change, every stored interval has the same length as on any other day."""

from datetime import datetime, timedelta

import pytest
import time_machine

from django_invoice_cancel import operations
from django_invoice_cancel.domain.clock import utc_now
from django_invoice_cancel.exceptions import CancelNotPossible
from django_invoice_cancel.models import BulkOperation, Invoice, ProviderState
from django_invoice_cancel.testing import make_invoice
from tests.support.invoices import stored
from tests.support.results import cancel_error

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("use_tz")]

BEFORE_THE_CHANGE = [0, 30, 1810]
"""Seconds before the change of the clocks at which a span begins: those around it, and those in the repeated hour."""


@pytest.fixture(params=BEFORE_THE_CHANGE, ids=lambda seconds: f"{seconds} s before")
def begin(request, night):
    return night - timedelta(seconds=request.param)


def at(begin: datetime, seconds: float = 0.0) -> time_machine.travel:
    """Travel so many seconds past ``begin``; by a timestamp, which leaves the machine's time zone alone."""
    return time_machine.travel((begin + timedelta(seconds=seconds)).timestamp(), tick=False)


def test_a_live_claim_is_not_abandoned(shop, begin):
    """CLAIM_TTL 300 s and a minute for clocks that differ."""
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


def test_the_doubt_period_is_over_when_it_is_over(shop, begin):
    """900 s after the request could last have been sent; "still open" counts from then on."""
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


def test_an_abandoned_claim_is_not_sent_again_before_its_doubt_period_is_over(shop, begin):
    """The last byte can have gone out at the end of the claim, 300 s after it was won."""
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


def test_a_pause_of_a_minute_lasts_a_minute(shop, begin):
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


def test_the_back_off_keeps_its_steps(shop, begin):
    with at(begin):
        invoice = make_invoice("in_doubt")
        assert stored(invoice).next_check_at == begin + timedelta(minutes=1)
    shop.all_lookups("unknown_status")
    gaps, now = [], begin
    for _number in range(6):
        now = stored(invoice).next_check_at
        with at(now, -1):
            assert not Invoice.objects.due_for_reconciling().exists()
        with at(now):
            assert Invoice.objects.due_for_reconciling().exists()
            stored(invoice).reconcile()
        gaps.append(round((stored(invoice).next_check_at - now).total_seconds() / 60))
    assert gaps == [5, 9, 60, 360, 1440, 1440]


def test_a_lease_of_items_lasts_as_long_as_it_was_taken_for(shop, begin):
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


def test_an_operation_is_interrupted_after_two_quiet_minutes(shop, begin):
    with at(begin):
        make_invoice()
        operation = operations.start(Invoice.objects.all(), actor="Ada")
    for seconds, is_interrupted in ((119, False), (121, True)):
        with at(begin, seconds):
            operation.refresh_from_db()
            assert operation.is_interrupted is is_interrupted
            assert BulkOperation.objects.interrupted().exists() is is_interrupted


def test_slots_of_a_rate_are_as_far_apart_as_it_demands(shop, begin):
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


@pytest.mark.parametrize("age", [timedelta(hours=6), timedelta(days=2)], ids=str)
def test_an_age_is_counted_in_hours_that_have_passed(shop, night, age):
    """``issued_at`` is a plain column: without ``USE_TZ`` it cannot tell the halves of a repeated hour apart."""
    issued = night - timedelta(hours=2)
    with at(issued):
        make_invoice()
    with at(issued, age.total_seconds() - 1):
        assert not Invoice.objects.unpaid_since(age).exists()
    with at(issued, age.total_seconds() + 1):
        assert Invoice.objects.unpaid_since(age).exists()


def test_the_clock_of_the_bookkeeping_does_not_jump(begin):
    with at(begin, -1):
        earlier = utc_now()
    with at(begin, 7200):
        assert (utc_now() - earlier).total_seconds() == 7201
