"""Django's ImmediateBackend runs a task when it is enqueued: the slices of an operation are not nested."""

import inspect
from importlib import import_module

import pytest

from django_invoice_cancel import operations
from django_invoice_cancel.models import BulkOperation, Invoice
from django_invoice_cancel.operations import Advance
from django_invoice_cancel.signals import invoice_status_changed
from tests.integration.tasks.conftest import TASKS, cancels
from tests.support.logs import count_invoices_by_log_rows

pytestmark = pytest.mark.django_db(transaction=True)
DISPATCH = "django_invoice_cancel.tasks.dispatch"


@pytest.fixture
def slices(settings, fresh_tasks, dispatch, monkeypatch):
    """Tasks run immediately, one invoice in each slice; return the depth of the stack at each slice."""
    try:
        import django.tasks  # noqa: F401 - Django 6

        backend = "django.tasks.backends.immediate.ImmediateBackend"
    except ImportError:
        backend = "django_tasks.backends.immediate.ImmediateBackend"
    settings.TASKS = {"default": {"BACKEND": backend}}
    dispatch(DISPATCH, DISPATCH_WORKERS=2)
    depths = []

    def advance(operation_id):
        depths.append(len(inspect.stack(0)))
        return operations.advance(operation_id, limit=1)

    monkeypatch.setattr(import_module(TASKS), "advance", advance)
    return depths


@pytest.mark.slow
def test_slices_of_a_large_operation_are_not_nested(invoices, slices):
    operation = operations.start(invoices(60))
    operation.refresh_from_db()
    assert operation.progress == "finished"
    assert cancels() == 60
    assert len(slices) >= 60
    assert max(slices) - min(slices) <= 1
    assert operation.chains == 0
    assert set(Invoice.objects.values_list("status", flat=True)) == {"canceled"}
    assert count_invoices_by_log_rows() == {2: 60}


@pytest.mark.slow
def test_operation_started_by_a_receiver_within_a_slice_is_processed(invoices, slices):
    waiting, started = [invoices(5, "cryptocloud")], []
    first = list(invoices(5))

    def start(new_status, **kwargs):
        if new_status == "canceled" and waiting:
            started.append(operations.start(waiting.pop()))

    invoice_status_changed.connect(start)
    try:
        operation = operations.start(Invoice.objects.filter(pk__in=[each.pk for each in first]))
    finally:
        invoice_status_changed.disconnect(start)
    for each in (operation, *started):
        each.refresh_from_db()
        assert each.progress == "finished"
    assert set(Invoice.objects.values_list("status", flat=True)) == {"canceled"}
    assert len(started) == 1
    assert count_invoices_by_log_rows() == {2: 10}


@pytest.mark.slow
def test_resuming_within_a_slice_adds_no_depth(invoices, slices):
    resumed = []

    def resume(new_status, **kwargs):
        if new_status == "canceled" and len(resumed) < 20:
            operation = BulkOperation.objects.get()
            operation.stop()
            resumed.append(operation.pk)
            operation.resume()

    invoice_status_changed.connect(resume)
    try:
        operation = operations.start(invoices(30))
    finally:
        invoice_status_changed.disconnect(resume)
    operation.refresh_from_db()
    assert operation.progress == "finished"
    assert cancels() == 30
    assert len(resumed) == 20
    assert max(slices) - min(slices) <= 1


def test_error_in_a_slice_does_not_block_the_next_operation(invoices, slices, monkeypatch):
    tasks = import_module(TASKS)
    advance = tasks.advance

    def fail(operation_id):
        raise ZeroDivisionError

    monkeypatch.setattr(tasks, "advance", fail)
    failed = operations.start(invoices(3))
    assert cancels() == 0
    monkeypatch.setattr(tasks, "advance", advance)
    for key in (failed.pk, operations.start(Invoice.objects.all()).pk):
        tasks.dispatch(key)
        assert BulkOperation.objects.get(pk=key).progress == "finished"
    assert cancels() == 3
    assert count_invoices_by_log_rows() == {2: 3}


def test_task_leaves_a_long_wait_to_the_sweep(invoices, slices, monkeypatch):
    tasks = import_module(TASKS)
    monkeypatch.setattr(tasks, "advance", lambda key: slices.append(key) or Advance(has_more=True, wait_seconds=300.0))
    operation = operations.start(invoices(2))
    operation.refresh_from_db()
    assert operation.progress == "running"
    assert len(slices) == 2
    assert cancels() == 0
