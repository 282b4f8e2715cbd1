"""The dispatch of an operation: its messages, their time, and the consequences of a failed dispatch."""

from datetime import timedelta
from io import StringIO

import pytest
from django.core.management import CommandError, call_command
from django.db import transaction

from django_invoice_cancel import operations
from django_invoice_cancel.domain.clock import utc_now
from django_invoice_cancel.models import BulkOperation, Invoice, ProviderState
from django_invoice_cancel.operations import Advance, advance
from django_invoice_cancel.signals import invoice_status_changed
from tests.integration.tasks.conftest import cancels
from tests.support.logs import count_invoices_by_log_rows

pytestmark = pytest.mark.django_db(transaction=True)

NOTE, REFUSE = "tests.integration.tasks.conftest.note", "tests.integration.tasks.conftest.refuse"


def sweep(*arguments):
    out, err = StringIO(), StringIO()
    call_command("run_bulk_operations", *arguments, stdout=out, stderr=err)
    return out.getvalue() + err.getvalue()


def worked(operation, **ago):
    then = utc_now() - timedelta(**ago)
    BulkOperation.objects.filter(pk=operation.pk).update(worked_at=then, dispatched_at=then)


def pause(minutes=10):
    until = utc_now() + timedelta(minutes=minutes)
    ProviderState.objects.update_or_create(alias="firekassa", defaults={"paused_until": until})


def statuses():
    return set(Invoice.objects.values_list("status", flat=True))


def test_start_dispatches_the_wanted_number_of_messages_after_the_commit(invoices, dispatch, dispatched):
    dispatch(NOTE, DISPATCH_WORKERS=3)
    with transaction.atomic():
        operation = operations.start(invoices(5), actor="clerk", reason="season over")
        assert dispatched == []
    assert dispatched == [str(operation.pk)] * 3
    assert cancels() == 0


def test_rolled_back_start_dispatches_nothing(invoices, dispatch, dispatched):
    dispatch(NOTE)
    with transaction.atomic():
        operations.start(invoices(5))
        transaction.set_rollback(True)
    assert dispatched == []
    assert BulkOperation.objects.count() == 0


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"reason": " "}, "REQUIRE_REASON"),
        ({"trigger": "nightly", "reason": "season over"}, "nightly"),
        ({"operation": "check", "trigger": "nightly"}, "nightly"),
        ({"operation": "resolve", "actor": "Ada", "reason": "seen"}, "'' is not a valid Status"),
        ({"operation": "resolve", "actor": "Ada", "reason": "seen", "decision": "canceling"}, "canceling"),
        ({"operation": "resolve", "actor": "Ada", "decision": "canceled"}, "Pass reason"),
        ({"operation": "resolve", "reason": "seen", "decision": "canceled"}, "Pass actor"),
    ],
)
def test_operation_with_invalid_arguments_is_not_started(invoices, dispatch, dispatched, wrong, message):
    """Each worker would fail without a report, and the operation would never end."""
    dispatch(NOTE, REQUIRE_REASON=True)
    with pytest.raises(ValueError, match=message):
        operations.start(invoices(2), **wrong)
    assert BulkOperation.objects.count() == 0
    assert dispatched == []
    assert cancels() == 0
    assert count_invoices_by_log_rows() == {}


@pytest.mark.parametrize("workers", [0, -1, 2.5, "2"])
def test_invalid_number_of_workers_starts_nothing(invoices, dispatch, dispatched, workers):
    dispatch(NOTE)
    with pytest.raises(ValueError, match=f"workers must be .* not {workers!r}"):
        operations.start(invoices(2), workers=workers)
    assert BulkOperation.objects.count() == 0
    assert dispatched == []
    assert cancels() == 0
    assert count_invoices_by_log_rows() == {}


def test_number_of_workers_can_be_set_for_one_operation(invoices, dispatch, dispatched):
    dispatch(NOTE, DISPATCH_WORKERS=3)
    operations.start(invoices(5), workers=2)
    assert len(dispatched) == 2


def test_resume_dispatches_again(invoices, dispatch, dispatched):
    dispatch(NOTE)
    operation = operations.start(invoices(5))
    operation.stop()
    operation.resume()
    assert len(dispatched) == 2


class TimeLimit(Exception):
    """Stands for Celery's, which is known by its name."""

    __module__, __qualname__ = "billiard.exceptions", "SoftTimeLimitExceeded"


def interrupt(operation_id):
    raise TimeLimit


def test_time_limit_of_a_task_that_dispatches_is_raised_and_leaves_the_operation_to_the_sweep(invoices, dispatch):
    dispatch(f"{__name__}.interrupt")
    with pytest.raises(TimeLimit):
        operations.start(invoices(5))
    operation = BulkOperation.objects.get()
    assert operation.progress == "running"
    assert statuses() == {"created"}
    assert cancels() == 0

    dispatch(None)
    sweep()

    operation.refresh_from_db()
    assert operation.progress == "finished"
    assert statuses() == {"canceled"}
    assert cancels() == 5


def test_unreachable_broker_leaves_the_operation_to_the_sweep(invoices, dispatch, caplog):
    dispatch(REFUSE)
    operation = operations.start(invoices(5))
    operation.refresh_from_db()
    assert operation.progress == "running"
    assert "the broker is down" in caplog.text

    sweep()

    operation.refresh_from_db()
    assert operation.progress == "finished"
    assert statuses() == {"canceled"}
    assert cancels() == 5
    assert count_invoices_by_log_rows() == {2: 5}


def test_sweep_skips_operations_with_active_workers(invoices):
    """Every minute, for an operation of hours: it must not pile up."""
    operation = operations.start(invoices(5))
    worked(operation, seconds=30)
    assert "1 other operation has active workers. Pass an id to add this process as a worker." in sweep()
    assert cancels() == 0

    sweep(str(operation.pk))  # named: it joins in
    assert statuses() == {"canceled"}
    assert cancels() == 5
    assert count_invoices_by_log_rows() == {2: 5}


@pytest.mark.parametrize(
    ("count", "dispatched"),
    [(1, "1 operation waits, because a provider is paused."), (2, "2 operations wait, because a provider is paused.")],
)
def test_sweep_reports_operations_that_wait_for_a_paused_provider(invoices, count, dispatched):
    selected = invoices(5)
    for _ in range(count):
        operations.start(selected)
    pause()
    with pytest.raises(CommandError) as raised:
        sweep()
    assert str(raised.value) == dispatched
    assert raised.value.returncode == 4
    assert cancels() == 0


def test_sweep_continues_if_an_operation_is_deleted(invoices):
    """In the middle of its work: what is in flight is recorded, and the operations after it have their turn."""
    selected = invoices(5)
    first = operations.start(selected.filter(external_id="100"))
    second = operations.start(selected.exclude(external_id="100"))

    def remove(**kwargs):
        BulkOperation.objects.filter(pk=first.pk).delete()

    invoice_status_changed.connect(remove)
    try:
        dispatched = sweep()
    finally:
        invoice_status_changed.disconnect(remove)

    assert dispatched.splitlines() == [f"{first.pk}: was deleted", f"{second.pk}: 4 of 4, finished"]
    assert statuses() == {"canceled"}
    assert cancels() == 5
    assert count_invoices_by_log_rows() == {2: 5}


def test_slice_of_a_deleted_operation_ends(invoices):
    operation = operations.start(invoices(5))

    def remove(**kwargs):
        BulkOperation.objects.filter(pk=operation.pk).delete()

    invoice_status_changed.connect(remove)
    try:
        left = advance(operation.pk)
    finally:
        invoice_status_changed.disconnect(remove)

    assert left == Advance(has_more=False)
    assert statuses() == {"canceled"}
    assert cancels() == 5
    assert count_invoices_by_log_rows() == {2: 5}


def test_sweep_continues_an_operation_whose_worker_has_ended(invoices):
    operation = operations.start(invoices(5))
    worked(operation, minutes=3)
    sweep()
    assert statuses() == {"canceled"}
    assert cancels() == 5
    assert count_invoices_by_log_rows() == {2: 5}


def test_dispatching_sweep_waits_before_it_dispatches_again(invoices, dispatch, dispatched):
    dispatch(NOTE, DISPATCH_WORKERS=2)
    operation = operations.start(invoices(5))
    del dispatched[:]
    worked(operation, minutes=3)
    for _ in range(2):
        sweep("--dispatch")
    assert dispatched == [str(operation.pk)] * 2
    assert cancels() == 0


def test_sweep_does_not_dispatch_while_the_provider_is_paused(invoices, dispatch, dispatched):
    """A Celery task waits for the end of the pause: a sweep each minute would add more each time."""
    dispatch(NOTE, DISPATCH_WORKERS=2)
    operation = operations.start(invoices(5))
    del dispatched[:]
    worked(operation, minutes=3)
    pause()
    assert sweep("--dispatch") == ""
    assert dispatched == []

    sweep("--dispatch", str(operation.pk))  # named explicitly
    assert dispatched == [str(operation.pk)] * 2
    del dispatched[:]
    worked(operation, minutes=3)
    pause(minutes=-1)  # over
    sweep("--dispatch")
    assert dispatched == [str(operation.pk)] * 2


def test_operation_with_one_provider_that_is_not_paused_is_dispatched(invoices, dispatch, dispatched):
    dispatch(NOTE)
    invoices(2), invoices(2, provider="cryptocloud")
    operation = operations.start(Invoice.objects.all())
    worked(operation, minutes=3)
    pause()
    del dispatched[:]
    sweep("--dispatch")
    assert dispatched == [str(operation.pk)]


@pytest.mark.parametrize("progress", ["draft", "stopped", "finished"])
def test_stopped_operation_is_not_dispatched(invoices, dispatch, dispatched, progress):
    dispatch(NOTE)
    operation = BulkOperation.objects.draft(invoices(2))
    BulkOperation.objects.update(progress=progress)
    assert sweep("--dispatch", str(operation.pk)) == f"{operation.pk}: not dispatched, because it is {progress}\n"
    assert dispatched == []
    assert BulkOperation.objects.get().worked_at is None


def test_failed_dispatch_of_a_sweep_is_reported_and_may_be_repeated(invoices, dispatch, dispatched):
    dispatch(NOTE)
    operation = operations.start(invoices(5))
    worked(operation, minutes=3)
    dispatch(REFUSE)
    with pytest.raises(CommandError, match="dispatching failed with ConnectionError"):
        sweep("--dispatch")
    dispatch(NOTE)
    del dispatched[:]
    sweep("--dispatch")
    assert dispatched == [str(operation.pk)]
    assert statuses() == {"created"}
    assert cancels() == 0
    assert count_invoices_by_log_rows() == {}


def test_dispatching_needs_a_dispatcher(invoices):
    operations.start(invoices(5))
    with pytest.raises(CommandError, match="requires INVOICE_CANCEL\\['DISPATCH'\\]"):
        sweep("--dispatch")
