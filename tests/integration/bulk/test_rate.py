"""Requests reserve slots in the database, so all senders together never exceed the provider's rate."""

import subprocess
import sys
import threading
import time
from datetime import UTC, datetime, timedelta

import pytest
import time_machine
from django.db import connection
from django.test.utils import CaptureQueriesContext

from django_invoice_cancel.bulk import cancel_invoices
from django_invoice_cancel.domain.clock import utc_now
from django_invoice_cancel.models import Invoice, ProviderState
from tests.support.invoices import count_statuses
from tests.support.logs import count_invoices_by_log_rows, count_log_rows


def most_in_a_second(times):
    return max(sum(start <= time < start + 1 for time in times) for start in times)


@pytest.mark.slow
@pytest.mark.django_db
def test_no_second_has_more_requests_than_the_rate(sandbox, at_sandbox):
    report = at_sandbox(60).cancel()
    assert report.ok  # warm: connections, statements
    results = list(cancel_invoices(at_sandbox(60).filter(status="created"), rate=30))
    times = [time for time, operation, _ in sandbox.timeline() if operation == "cancel"][60:]
    assert len(results) == 60
    assert len(times) == 60
    assert most_in_a_second(times) <= 30 * 1.2
    assert times[-1] - times[0] >= 59 / 30 - 0.2


@pytest.mark.slow
@pytest.mark.django_db(transaction=True, databases=["default", "other"])
def test_two_processes_share_the_rate(sandbox, at_sandbox, child_env):
    at_sandbox(60)
    arguments = [sys.executable, "-m", "tests.integration.bulk.child", sandbox.base_url, "cancel_invoices"]
    arguments += ["--provider", "cryptocloud", "--noinput", "--rate", "20", "-v", "0"]
    children = [subprocess.Popen(arguments, env=child_env()) for _ in range(2)]
    assert [child.wait(timeout=60) for child in children] == [0, 0]
    times = [time for time, operation, _ in sandbox.timeline() if operation == "cancel"]
    assert len(times) == 60
    assert count_statuses() == {"canceled": 60}
    assert count_invoices_by_log_rows() == {2: 60}
    assert most_in_a_second(times) <= 20 * 1.2


@pytest.mark.django_db
def test_requests_that_wait_for_the_rate_have_few_claims(shop, make):
    """At one request in 1000 seconds one invoice is claimed, and no request is sent too early."""
    stop = threading.Event()
    results = cancel_invoices(make(100), rate=0.001, stop=stop)
    threading.Timer(0.5, stop.set).start()
    with CaptureQueriesContext(connection) as queries:
        first = list(results)
    assert [result.code for result in first] == ["canceled"]
    assert shop.cancel_count == 1
    assert count_statuses() == {"canceled": 1, "created": 99}
    assert count_invoices_by_log_rows() == {2: 1}
    assert len(queries) < 60
    assert count_log_rows("given_back") == 0


@pytest.mark.django_db
def test_invoices_that_are_not_sent_use_no_slot_of_the_rate(shop, make):
    """200 paid invoices among the selected ones take no slot from the one that is open."""
    make(200, status="paid")
    invoices = make(1)
    results = list(cancel_invoices(invoices, rate=0.5))
    assert len(results) == 201
    assert shop.cancel_count == 1
    assert count_statuses() == {"canceled": 1, "paid": 200}
    free = ProviderState.objects.get().next_send_at
    assert (free - utc_now()).total_seconds() <= 2


# -- slots that a wrong clock wrote ---------------------------------------------------------------------------


FAR_AHEAD = {
    "ten minutes ahead": timedelta(minutes=10),
    "an hour ahead": timedelta(hours=1),
    "a year ahead": timedelta(days=365),
}


@pytest.mark.django_db
@pytest.mark.parametrize("rate", [0.01, 0.5, 1, 7.5, 100, 1000])
@pytest.mark.parametrize("ahead", FAR_AHEAD.values(), ids=FAR_AHEAD)
def test_impossible_slot_blocks_no_process(shop, make, clock, ahead, rate):
    """A run on a machine whose clock is ahead leaves its last slot behind."""
    ProviderState.objects.create(alias="shop", next_send_at=utc_now() + ahead)
    assert [result.code for result in cancel_invoices(make(1), rate=rate)] == ["canceled"]
    assert clock.moved == 0
    assert shop.cancel_count == 1
    assert count_statuses() == {"canceled": 1}
    free = (ProviderState.objects.get().next_send_at - utc_now()).total_seconds()
    assert free <= 1 / rate


@pytest.mark.django_db
@pytest.mark.parametrize("ahead", [timedelta.max, None], ids=["the last instant", "none"])
def test_slot_at_the_end_of_the_calendar_blocks_no_process(shop, make, ahead):
    last = datetime.max.replace(tzinfo=UTC) if ahead else None
    ProviderState.objects.create(alias="shop", next_send_at=last)
    assert [result.code for result in cancel_invoices(make(1), rate=10)] == ["canceled"]
    assert shop.cancel_count == 1


@pytest.mark.django_db
@pytest.mark.parametrize(("rate", "most"), [(0.001, 1), (0.5, 1), (1, 1), (10, 10), (49.5, 49), (1000, 50)])
def test_every_possible_slot_is_respected(make, rate, most):
    """The last slot of a group that was reserved a second ahead is the furthest."""
    writer = make(0)._writer
    with time_machine.travel(utc_now().timestamp(), tick=False) as traveller:
        assert writer.reserve("shop", most, rate) == time.time()
        traveller.shift(max(most / rate - 1, 0.0))  # from here on the next slot is near
        while writer.reserve("shop", most, rate):
            pass
        free = ProviderState.objects.get().next_send_at
        assert free > utc_now() + timedelta(seconds=1)
        assert ProviderState.objects.get().next_slot(rate, utc_now()) == free


@pytest.mark.django_db
def test_clock_set_back_during_a_run_delays_it_by_at_most_its_slots(shop, make):
    shop.before_send = lambda external_id: traveller.shift(-3600) if external_id == "000002" else None
    with time_machine.travel(utc_now().timestamp(), tick=True) as traveller:
        results = list(cancel_invoices(make(6), rate=20))
    assert {result.code for result in results} == {"canceled"}
    assert shop.cancel_count == 6


@pytest.mark.django_db
def test_slow_process_does_not_block_a_fast_one_and_keeps_its_own_rate(shop, make):
    stop = threading.Event()
    slow = cancel_invoices(make(3), rate=0.001, stop=stop)
    assert next(slow).code == "canceled"
    fast = list(cancel_invoices(make(20).filter(pk__gt=Invoice.objects.order_by("pk")[2].pk), rate=500))
    assert {result.code for result in fast} == {"canceled"}
    threading.Timer(0.5, stop.set).start()
    assert list(slow) == []
    assert shop.cancel_count == 21
    assert count_statuses() == {"canceled": 21, "created": 2}
