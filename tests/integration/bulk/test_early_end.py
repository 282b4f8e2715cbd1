"""However a run ends, each submitted invoice is recorded or has an abandoned claim. No other invoice is changed."""

import asyncio
import threading
from math import inf

import pytest
from django.db import OperationalError, connection, connections

from django_invoice_cancel.bulk import cancel_invoices, reconcile_invoices
from django_invoice_cancel.bulk.workers import ProviderWorkerPool
from django_invoice_cancel.models import Invoice
from django_invoice_cancel.models.writes.claims import ClaimWriter
from django_invoice_cancel.models.writes.rows import RowWriter
from tests.support.clock import travel_forward
from tests.support.invoices import count_statuses
from tests.support.logs import (
    count_answers,
    count_invoices_by_log_rows,
    count_log_rows,
    invoices_with_broken_log,
    log_entries,
)
from tests.support.results import count_codes

pytestmark = pytest.mark.django_db


def assert_only_sent_requests_are_recorded(shop, total):
    """Sent requests are recorded, other invoices are unchanged, and no claim is left open."""
    sent = shop.cancel_count
    expected = {"canceled": sent, "created": total - sent}
    assert count_statuses() == {status: count for status, count in expected.items() if count}
    assert sorted(Invoice.objects.filter(status="canceled").values_list("external_id", flat=True)) == sorted(
        shop.cancels
    )
    assert all(len(log_entries(invoice)) % 2 == 0 for invoice in Invoice.objects.all())


def test_generator_closed_early_records_the_sent_requests(shop, make):
    results = cancel_invoices(make(300))
    next(results)
    results.close()
    assert 1 <= shop.cancel_count < 200
    assert_only_sent_requests_are_recorded(shop, 300)


def test_last_answers_are_recorded_at_once(shop, make, monkeypatch):
    monkeypatch.setattr("django_invoice_cancel.bulk.cancel.RECORD_AFTER_SECONDS", inf)
    timed_out = threading.Event()
    alarm = threading.Timer(10, timed_out.set)
    alarm.start()
    results = list(cancel_invoices(make(3), stop=timed_out))
    alarm.cancel()
    assert not timed_out.is_set()
    assert count_codes(results) == {"canceled": 3}
    assert shop.cancel_count == 3
    assert count_invoices_by_log_rows() == {2: 3}


def test_generator_that_was_not_started_sends_nothing(shop, make):
    cancel_invoices(make(10)).close()
    assert shop.cancel_count == 0
    assert count_invoices_by_log_rows() == {}


def test_abandoned_generator_ends_like_a_closed_one(shop, make):
    next(cancel_invoices(make(300)))  # there is no other reference to it
    assert 1 <= shop.cancel_count < 200
    assert_only_sent_requests_are_recorded(shop, 300)


def test_exception_in_on_result_is_raised_after_all_answers_are_recorded(shop, make):
    def fail(result):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        make(300).cancel(on_result=fail)
    assert 1 <= shop.cancel_count < 200
    assert_only_sent_requests_are_recorded(shop, 300)


@pytest.fixture
def stopped(monkeypatch):
    """Return a function that stops a run when `count` requests are in flight; it returns the stop event."""
    go = threading.Event()
    close = ProviderWorkerPool.close

    def close_and_go(self):
        self.stop()
        go.set()
        close(self)

    def stopped_with(shop, count):
        stop, in_flight = threading.Event(), threading.Barrier(count)

        def hold(external_id):
            in_flight.wait(10)
            stop.set()
            go.wait(10)

        shop.before_send = hold
        return stop

    monkeypatch.setattr(ProviderWorkerPool, "close", close_and_go)
    return stopped_with


def test_stop_waits_for_requests_in_flight_and_releases_other_claims(scripted, make, stopped):
    shop = scripted(concurrency=3)
    results = list(cancel_invoices(make(300), stop=stopped(shop, 3)))
    assert count_codes(results) == {"canceled": 3}
    assert shop.cancel_count == 3
    assert_only_sent_requests_are_recorded(shop, 300)


def test_stop_before_the_start_sends_nothing(shop, make):
    stop = threading.Event()
    stop.set()
    assert list(cancel_invoices(make(10), stop=stop)) == []
    assert shop.cancel_count == 0
    assert count_statuses() == {"created": 10}
    assert count_invoices_by_log_rows() == {}


def test_stopped_run_reports_invoices_that_were_to_be_retried(scripted, make):
    """Two were not processed; the stop comes before their second try: they have a result all the same."""
    shop = scripted(concurrency=1)
    stop = threading.Event()
    shop.next_cancels("not_processed", "not_processed")
    shop.before_send = lambda external_id: stop.set() if shop.cancel_count == 4 else None
    results = list(cancel_invoices(make(300), stop=stop))
    assert count_codes(results) == {"canceled": shop.cancel_count - 2, "unreachable": 2}
    assert count_statuses() == {"canceled": shop.cancel_count - 2, "created": 302 - shop.cancel_count}
    assert count_answers() == {"canceled": shop.cancel_count - 2, "unreachable": 2}


@pytest.fixture
def few_threads(monkeypatch):
    """Return a function that limits the number of threads that can be started."""
    start, started = threading.Thread.start, []

    def only(count):
        def start_or_fail(self):
            if len(started) == count:
                raise RuntimeError("can't start new thread")
            started.append(self)
            start(self)

        monkeypatch.setattr(threading.Thread, "start", start_or_fail)

    return only


def test_run_uses_the_threads_that_could_be_started(scripted, make, few_threads):
    shop = scripted(concurrency=8)
    few_threads(2)
    assert count_codes(make(120).cancel().results) == {"canceled": 120}
    assert shop.cancel_count == 120
    assert count_statuses() == {"canceled": 120}
    assert count_invoices_by_log_rows() == {2: 120}


def test_run_that_cannot_start_a_thread_leaves_no_claim(shop, make, few_threads):
    few_threads(0)
    with pytest.raises(RuntimeError, match="thread"):
        make(120).cancel()
    assert_only_sent_requests_are_recorded(shop, 120)
    assert shop.cancel_count == 0


@pytest.mark.parametrize("bug", [asyncio.CancelledError, SystemExit])
def test_adapter_that_raises_systemexit_leaves_one_invoice_in_doubt_and_the_run_continues(scripted, make, caplog, bug):
    shop = scripted(concurrency=1)
    shop.next_cancels("canceled", bug)
    run_out_of_time = threading.Timer(20, (stop := threading.Event()).set)
    run_out_of_time.start()
    results = list(cancel_invoices(make(10), stop=stop))
    run_out_of_time.cancel()
    assert count_codes(results) == {"canceled": 9, "adapter_error": 1}
    assert shop.cancel_count == 10
    assert count_statuses() == {"canceled": 9, "in_doubt": 1}
    assert count_answers() == {"canceled": 9, "adapter_error": 1}
    assert "The adapter of shop failed" in caplog.text


def test_adapter_that_always_raises_systemexit_is_paused(scripted, make):
    shop = scripted(concurrency=2)
    shop.all_cancels(SystemExit)
    results = list(cancel_invoices(make(100)))
    assert 5 <= shop.cancel_count <= 6
    assert count_codes(results) == {"adapter_error": shop.cancel_count, "provider_paused": 100 - shop.cancel_count}
    assert count_statuses() == {"in_doubt": shop.cancel_count, "created": 100 - shop.cancel_count}
    assert count_answers() == {"adapter_error": shop.cancel_count}


@pytest.fixture
def failing_database(monkeypatch):
    """Let every statement of this process fail from a moment on, as a lost connection does, and count them."""
    lost = threading.Event()

    def fail(execute, sql, params, many, context):
        if lost.is_set():
            raise OperationalError("server closed the connection unexpectedly")
        return execute(sql, params, many, context)

    with connection.execute_wrapper(fail):
        yield lost


@pytest.mark.slow
@pytest.mark.django_db(transaction=True)
def test_lost_database_leaves_abandoned_claims_that_reconcile_resolves(scripted, make, failing_database):
    shop = scripted(concurrency=2, deadline=30)
    invoices = make(300)
    shop.before_send = lambda external_id: failing_database.set() if shop.cancel_count == 70 else None
    with pytest.raises(OperationalError):
        list(cancel_invoices(invoices))
    failing_database.clear()
    counts = count_statuses()
    assert counts.keys() <= {"created", "canceled", "canceling"}
    assert 0 < counts["canceling"] <= 10
    open_ids = set(invoices.exclude(status="created").values_list("external_id", flat=True))
    assert set(shop.cancels) <= open_ids  # nothing was sent that is not claimed
    assert len(set(shop.cancels)) == shop.cancel_count

    sent = shop.cancel_count
    with travel_forward(minutes=25):
        list(reconcile_invoices(Invoice.objects.due_for_reconciling()))
    assert count_statuses() == {"canceled": sent, "created": 300 - sent}
    assert invoices_with_broken_log() == []
    assert shop.cancel_count == sent


@pytest.mark.django_db(transaction=True)
def test_lost_connection_is_opened_again(shop, make, failing_database):
    """Every write of the engine is tried again; each invoice has its two rows."""
    invoices = make(120)
    run, failed = RowWriter.run, []

    def flaky(self, write, invoices=(), **options):
        def fails_once(is_repeat):
            if len(failed) < 3 and not is_repeat:
                failed.append(1)
                raise OperationalError("server closed the connection unexpectedly")
            return write(is_repeat)

        return run(self, fails_once, invoices, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(RowWriter, "run", flaky)
        report = invoices.cancel()
    assert len(failed) == 3
    assert report.ok is True
    assert shop.cancel_count == 120
    assert count_statuses() == {"canceled": 120}
    assert count_invoices_by_log_rows() == {2: 120}


@pytest.mark.postgres
@pytest.mark.django_db(transaction=True)
def test_killed_database_backend_loses_nothing(scripted, make):
    """The administrator ends our connection; what was sent is recorded over a new one."""
    shop = scripted(concurrency=1)
    invoices = make(300)

    def kill(external_id):
        if shop.cancel_count == 100:
            other = connections["default"].copy()
            with other.cursor() as cursor:
                cursor.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                    "WHERE datname = current_database() AND pid != pg_backend_pid()"
                )
            other.close()

    shop.before_send = kill
    try:
        results = len(list(cancel_invoices(invoices)))
    except OperationalError:
        results = None
    connection.close()
    assert results in (None, 300)
    assert_only_sent_requests_are_recorded(shop, 300)


def test_claims_that_cannot_be_released_are_resolved_by_reconcile(scripted, make, monkeypatch, caplog, stopped):
    def fail(*args, **kwargs):
        raise OperationalError("gone")

    monkeypatch.setattr(ClaimWriter, "give_back", fail)
    shop = scripted(concurrency=3)
    results = list(cancel_invoices(make(100), stop=stopped(shop, 3)))
    assert count_codes(results) == {"canceled": 3}
    assert shop.cancel_count == 3
    assert count_statuses() == {"canceled": 3, "canceling": 27, "created": 70}
    assert count_invoices_by_log_rows() == {1: 27, 2: 3}
    assert "Unsent claims of shop were not released. reconcile_invoices will release them." in caplog.messages


def test_two_interleaved_runs_request_each_invoice_once(shop, make):
    """The second run begins while the first has claims. It reports those as in progress, and cancels the others."""
    invoices = make(150)
    first = cancel_invoices(invoices)
    one = next(first)
    second = list(cancel_invoices(invoices))
    rest = list(first)
    assert shop.cancel_count == len(set(shop.cancels)) == 150
    assert len(second) == 150
    assert 1 + len(rest) == 150
    assert one.code == "canceled"
    assert count_codes(second).keys() <= {"canceled", "in_progress", "already_canceled"}
    assert count_statuses() == {"canceled": 150}
    assert count_invoices_by_log_rows() == {2: 150}
    assert count_log_rows("given_back") == 0
