"""A run that is garbage-collected, at any point, ends like a closed run and never hangs."""

import gc
import threading

import pytest
from django.db import connection, connections, transaction

from django_invoice_cancel import signals
from django_invoice_cancel.bulk import cancel_invoices, reconcile_invoices
from django_invoice_cancel.models import Invoice
from tests.support.invoices import count_statuses, set_columns
from tests.support.logs import count_log_rows, invoices_with_broken_log

pytestmark = pytest.mark.django_db(transaction=True)

PATIENCE_SECONDS = 10


class Marker:
    """A parameter whose conversion by the driver collects garbage, while the driver holds the connection."""


def inside_a_driver_call():
    connection.ensure_connection()
    driver, sql, params = connection.connection, "SELECT %s", [Marker()]
    if connection.vendor == "postgresql":
        from psycopg.adapt import Dumper

        class Collecting(Dumper):
            def dump(self, obj):
                gc.collect()
                return b"1"

        driver.adapters.register_dumper(Marker, Collecting)
    elif connection.vendor == "mysql":
        driver.encoders[Marker] = lambda value, mapping=None: b"%d" % gc.collect()
    else:
        driver.create_function("collect_garbage", 0, gc.collect)
        sql, params = "SELECT collect_garbage()", []
    with connection.cursor() as cursor:
        cursor.execute(sql, params)


def inside_a_transaction():
    with transaction.atomic():
        Invoice.objects.exists()
        gc.collect()


def put_into_a_cycle(results):
    """Let nothing but the garbage collector find the generator."""
    cycle = [results]
    cycle.append(cycle)


@pytest.fixture
def in_time():
    """Return a function that runs another in a thread of its own, and fails if it does not end in time."""
    gc.disable()

    def run(body):
        failures = []

        def guarded():
            try:
                body()
            except BaseException as error:  # noqa: BLE001 - compared below
                failures.append(error)
            finally:
                connections.close_all()

        thread = threading.Thread(target=guarded, daemon=True)
        thread.start()
        thread.join(PATIENCE_SECONDS)
        assert not thread.is_alive()
        assert failures == []

    yield run
    gc.enable()


@pytest.fixture
def until_canceled():
    """Return a function that waits for `count` signals of cancellations, and then for the background."""
    seen = threading.Semaphore(0)

    def note(*, new_status, **kwargs):
        if new_status == "canceled":
            seen.release()

    signals.invoice_status_changed.connect(note)

    def wait(count):
        assert all(seen.acquire(timeout=PATIENCE_SECONDS) for _ in range(count))
        for thread in threading.enumerate():
            if thread.name == "invoice-cancel-abandoned":
                thread.join(PATIENCE_SECONDS)

    yield wait
    signals.invoice_status_changed.disconnect(note)


@pytest.mark.parametrize("collect", [inside_a_driver_call, inside_a_transaction])
def test_garbage_collected_run_is_finished_in_the_background(scripted, make, in_time, until_canceled, caplog, collect):
    shop, invoices = scripted(concurrency=2), make(100)
    opened, in_flight = threading.Event(), threading.Barrier(3)

    def hold(external_id):
        if external_id != "000000":
            in_flight.wait(PATIENCE_SECONDS)
            opened.wait(PATIENCE_SECONDS)

    def abandon():
        results = cancel_invoices(invoices)
        assert next(results).external_id == "000000"
        in_flight.wait(PATIENCE_SECONDS)
        put_into_a_cycle(results)
        del results
        collect()
        opened.set()

    shop.before_send = hold
    in_time(abandon)
    until_canceled(3)
    assert sorted(shop.cancels) == ["000000", "000001", "000002"]
    assert count_statuses() == {"canceled": 3, "created": 97}
    assert invoices_with_broken_log() == []
    assert "A bulk run was not closed" in caplog.text


def test_run_that_its_own_worker_thread_collects_is_finished(scripted, make, in_time, until_canceled, caplog):
    shop, invoices = scripted(concurrency=1), make(100)
    may_continue, collected = threading.Event(), threading.Event()

    def collect(external_id):
        if external_id != "000000":
            may_continue.wait(PATIENCE_SECONDS)
            gc.collect()
            collected.set()

    def abandon():
        results = cancel_invoices(invoices)
        assert next(results).external_id == "000000"
        put_into_a_cycle(results)
        del results
        may_continue.set()
        assert collected.wait(PATIENCE_SECONDS)

    shop.before_send = collect
    in_time(abandon)
    until_canceled(2)
    assert shop.cancels == ["000000", "000001"]
    assert count_statuses() == {"canceled": 2, "created": 98}
    assert invoices_with_broken_log() == []
    assert "A bulk run was not closed" in caplog.text


def test_garbage_collected_reconciliation_records_the_lookup_in_flight(scripted, make, in_time, until_canceled, caplog):
    shop, invoices = scripted(concurrency=1, lookup_group_size=1), make(3)
    for invoice in invoices:
        set_columns(invoice, status="in_doubt", next_check_at=invoice.created_at)
    opened, in_flight = threading.Event(), threading.Event()

    def hold(external_id):
        in_flight.set()
        opened.wait(PATIENCE_SECONDS)
        return "canceled"

    def abandon():
        results = reconcile_invoices(invoices)
        assert next(results).external_id == "000000"
        assert in_flight.wait(PATIENCE_SECONDS)
        put_into_a_cycle(results)
        del results
        inside_a_driver_call()
        opened.set()

    shop.next_lookups("canceled")
    shop.all_lookups(hold)
    in_time(abandon)
    until_canceled(2)
    assert shop.lookups == [("000000",), ("000001",)]
    assert count_statuses() == {"canceled": 2, "in_doubt": 1}
    assert count_log_rows("observed") == 2
    assert "A bulk run was not closed" in caplog.text
