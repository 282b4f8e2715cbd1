"""The self-enqueuing messages of an operation are limited to the number of its workers, whatever was dispatched."""

from collections import deque
from datetime import timedelta

import pytest
import time_machine
from django.core.management import call_command

from django_invoice_cancel import operations
from django_invoice_cancel.domain.clock import utc_now
from django_invoice_cancel.models import Invoice
from tests.integration.tasks.conftest import cancels
from tests.support.logs import count_invoices_by_log_rows

pytestmark = pytest.mark.django_db(transaction=True)

WORKERS = 4


class Queue:
    """A queue of a broker: first in, first out; messages carry only an id, and cannot be distinguished."""

    def __init__(self, dispatched):
        self.messages = dispatched
        self.put_back = 0

    def work(self, arrivals, workers=1, limit=2):
        """Receive `count` messages, ``workers`` of them at once, and put back those that have more to do."""
        waiting = deque(self.messages)
        for _ in range(arrivals):
            if not waiting:
                break
            operation_id = waiting.popleft()
            if operations.advance(operation_id, limit=limit).has_more:
                waiting.append(operation_id)
                self.put_back += 1
        self.messages[:] = waiting

    def drain(self, limit=2):
        """Work until every message was received, then return how many put themselves back."""
        self.work(len(self.messages), limit=limit)
        return len(self.messages)

    def finish(self):
        while self.messages:
            self.work(1, limit=1000)


@pytest.fixture
def queue(dispatched):
    return Queue(dispatched)


@pytest.fixture
def operation(invoices, dispatch, queue):
    dispatch("tests.integration.tasks.conftest.note", DISPATCH_WORKERS=WORKERS)
    return operations.start(invoices(120))


def sweep_each_minute(minutes, after_each=lambda minute: None):
    now = utc_now()
    for minute in range(1, minutes + 1):
        with time_machine.travel((now + timedelta(minutes=minute)).timestamp(), tick=False):
            call_command("run_bulk_operations", "--dispatch", verbosity=0)
            after_each(minute)


def assert_done(operation):
    operation.refresh_from_db()
    assert operation.progress == "finished"
    assert cancels() == 120
    assert count_invoices_by_log_rows() == {2: 120}
    assert set(Invoice.objects.values_list("status", flat=True)) == {"canceled"}


@pytest.mark.slow
def test_sweeps_of_an_hour_with_busy_workers_keep_the_number_of_chains(operation, queue):
    sweep_each_minute(60)
    assert len(queue.messages) <= 3 * WORKERS
    assert queue.drain() == WORKERS
    assert queue.drain() == WORKERS
    queue.finish()
    assert_done(operation)


@pytest.mark.slow
def test_sweeps_with_slow_workers_keep_the_number_of_chains(operation, queue):
    sweep_each_minute(60, after_each=lambda minute: queue.work(1 if minute % 5 == 0 else 0, limit=1))
    queue.drain(limit=1)
    assert queue.drain(limit=1) <= WORKERS
    assert operation.items.left().count() > 40  # the chains did not end with the work
    queue.finish()
    sweep_each_minute(10, after_each=lambda minute: queue.finish())
    assert_done(operation)


@pytest.mark.slow
@pytest.mark.parametrize("arrivals", [0, 1, 3, 4, 9])
def test_stop_and_continue_keep_the_number_of_chains(operation, queue, arrivals):
    for _ in range(5):
        operation.stop()
        queue.work(arrivals)
        operation.resume()
    queue.drain()
    assert queue.drain() == WORKERS
    queue.finish()
    assert_done(operation)


def test_named_dispatches_add_no_chains(operation, queue):
    for _ in range(10):
        call_command("run_bulk_operations", "--dispatch", str(operation.pk), verbosity=0)
    assert queue.drain() == WORKERS
    queue.finish()
    assert_done(operation)


@pytest.mark.slow
@pytest.mark.parametrize("losses", [1, 2, 3])
def test_operation_whose_messages_were_lost_is_finished_by_the_sweep(operation, queue, losses):
    for _ in range(losses):
        queue.messages.clear()
        sweep_each_minute(3)
        queue.work(5)
        queue.drain()
    sweep_each_minute(130, after_each=lambda minute: queue.drain())
    assert_done(operation)


def test_surplus_message_does_nothing_and_is_reported(operation, queue):
    operation.stop()
    operation.resume()
    queue.work(4)
    before = cancels()
    left = operations.advance(operation.pk)
    assert left.has_more is False
    assert left.has_enough_workers is True
    assert cancels() == before


def test_caller_that_was_not_dispatched_is_never_surplus(operation, queue):
    operation.stop()
    operation.resume()
    while operations.advance(operation.pk, is_message=False).has_more:
        pass
    assert_done(operation)
