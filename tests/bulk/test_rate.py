"""The rate is kept by reserving slots in the database: whoever sends, the provider sees no more than it was told."""

import subprocess
import sys
import threading

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from django_invoice_cancel.bulk import cancel_invoices
from django_invoice_cancel.clock import utc_now
from django_invoice_cancel.models import ProviderState
from tests.bulk.reading import logged, rows_each, statuses


def most_in_a_second(times):
    return max(sum(start <= time < start + 1 for time in times) for start in times)


@pytest.mark.slow
@pytest.mark.django_db
def test_no_second_has_more_requests_than_the_rate(sandbox, at_sandbox):
    report = at_sandbox(60).cancel()
    assert report.ok  # warm: connections, statements
    results = list(cancel_invoices(at_sandbox(60).filter(status="created"), rate=30))
    times = [time for time, operation, _ in sandbox.timeline() if operation == "cancel"][60:]
    assert (len(results), len(times)) == (60, 60)
    assert most_in_a_second(times) <= 30 * 1.2
    assert times[-1] - times[0] >= 59 / 30 - 0.2


@pytest.mark.slow
@pytest.mark.django_db(transaction=True, databases=["default", "other"])
def test_two_processes_share_the_rate(sandbox, at_sandbox, child_env):
    at_sandbox(60)
    arguments = [sys.executable, "-m", "tests.bulk.child", sandbox.base_url, "cancel_invoices"]
    arguments += ["--provider", "cryptocloud", "--noinput", "--rate", "20", "-v", "0"]
    children = [subprocess.Popen(arguments, env=child_env()) for _ in range(2)]
    assert [child.wait(timeout=60) for child in children] == [0, 0]
    times = [time for time, operation, _ in sandbox.timeline() if operation == "cancel"]
    assert (len(times), statuses(), rows_each()) == (60, {"canceled": 60}, {2: 60})
    assert most_in_a_second(times) <= 20 * 1.2


@pytest.mark.django_db
def test_requests_that_wait_for_a_slot_hold_few_claims(shop, make):
    """At one request in 1000 seconds one invoice is claimed, and nothing is asked in a hurry."""
    stop = threading.Event()
    results = cancel_invoices(make(100), rate=0.001, stop=stop)
    threading.Timer(0.5, stop.set).start()
    with CaptureQueriesContext(connection) as queries:
        asked = list(results)
    assert [result.code for result in asked] == ["canceled"]
    assert (shop.cancel_count, statuses(), rows_each()) == (1, {"canceled": 1, "created": 99}, {2: 1})
    assert (len(queries) < 60, logged("given_back")) == (True, 0)


@pytest.mark.django_db
def test_slots_are_not_spent_on_what_is_not_sent(shop, make):
    """200 paid invoices among the selected ones take no slot from the one that is open."""
    make(200, status="paid")
    invoices = make(1)
    results = list(cancel_invoices(invoices, rate=0.5))
    assert len(results) == 201
    assert (shop.cancel_count, statuses()) == (1, {"canceled": 1, "paid": 200})
    free = ProviderState.objects.get().next_send_at
    assert (free - utc_now()).total_seconds() <= 2
