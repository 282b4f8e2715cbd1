"""Stored bulk operations: ``start`` stores and starts an operation, ``advance`` works on one slice of it.

Any number of processes may call ``advance`` for the same operation at the same time, such as pages, workers and sweeps.
Modules: ``slices`` (the items of a slice and its end), ``screening`` (items that must not be sent), ``work`` (cancel,
check, resolve), ``pauses`` (the wait before the next slice).
"""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.db import OperationalError

from .. import conf, registry
from ..bulk.selection import check_selection
from ..domain.audit import Trigger
from ..domain.clock import utc_now
from ..domain.numbers import check_run_options
from ..domain.statuses import Status
from ..models import BulkOperation, Invoice
from ..models.dispatch import dispatcher
from ..models.operation import Operation
from ..models.queryset import InvoiceQuerySet
from ..models.writes.decisions import refuse_decision
from ..services.call_arguments import build_audit_context, build_checked_audit_context, checked_text
from .pauses import DISABLED_SECONDS, is_sending_disabled, wait_seconds
from .slices import SLICE_SECONDS, Slice, StopSignal, is_running
from .work import WORK

__all__ = ["Advance", "advance", "start"]

logger = logging.getLogger("django_invoice_cancel")


def start(
    invoices: InvoiceQuerySet[Any],
    *,
    operation: str = Operation.CANCEL,
    actor: Any = None,
    reason: str = "",
    decision: str = "",
    trigger: str = Trigger.API,
    workers: int | None = None,
) -> BulkOperation:
    """Store a bulk operation on the invoices that a query set selects now, and start it.

    Sends no request itself. If the setting ``DISPATCH`` is set, the workers get their messages after the commit of the
    current transaction; otherwise the caller calls ``advance``, or ``run_bulk_operations`` does the work. An operation
    that could not be dispatched is stored and running, and ``run_bulk_operations`` finds it.

    Args:
        invoices: The selection, in the database of the operations.
        operation: ``"cancel"``, ``"check"`` (look up the status at the provider) or ``"resolve"``.
        actor: A user, a label, or None. It is logged with each invoice.
        reason: Required for ``"resolve"``, and for ``"cancel"`` if ``REQUIRE_REASON`` is set. It is logged.
        decision: The status that a person decided, only for ``"resolve"``.
        trigger: The entry point that is logged.
        workers: Number of workers; the setting ``DISPATCH_WORKERS`` by default.

    Returns:
        The operation, with the progress ``running``.

    Raises:
        ValueError: An argument is invalid, the query set is sliced, combined, made of ``values()`` or restricted by
            ``distinct()`` on fields, or the invoices are in another database.
        TypeError: ``invoices`` is not a query set of invoices, or ``actor`` or a text has the wrong type.
        ImproperlyConfigured: ``DISPATCH`` is an async function.
    """
    _refuse_arguments(operation, actor, reason, decision, trigger)
    check_run_options(workers=workers)
    check_selection(invoices, is_read_in_pages=False)  # one statement reads the whole selection
    _refuse_dispatcher()
    operations = BulkOperation.objects
    database = getattr(invoices, "_db", None)
    if database not in (None, operations.db):  # the draft would select invoices with the same keys in its own database
        raise ValueError(
            f"Bulk operations support only the database {operations.db!r}. These invoices are in {database!r}."
        )
    stored = operations.draft(
        invoices,
        operation=operation,
        actor=actor,
        reason=reason,
        decision=decision,
        trigger=trigger,
        is_previewed=False,
    )
    stored.confirm(workers=workers)
    return stored


def _refuse_arguments(operation: str, actor: Any, reason: str, decision: str, trigger: str) -> None:
    decision = checked_text("decision", decision)
    if decision and operation != Operation.RESOLVE:
        raise ValueError(f"Pass decision with operation={str(Operation.RESOLVE)!r} only.")
    if operation == Operation.RESOLVE:
        refuse_decision(Status(decision), build_audit_context(actor, trigger, reason))
    elif operation == Operation.CANCEL:
        build_checked_audit_context(actor, trigger, reason)
    else:
        build_audit_context(actor, trigger, reason)


def _refuse_dispatcher() -> None:
    """Raise if the dispatcher would never run. A failed import is only logged, when the dispatcher is called."""
    path = conf.get().dispatch
    if path is None:
        return
    try:
        registry.resolve(path)
    except ImproperlyConfigured:
        return
    dispatcher(path)


@dataclass(frozen=True)
class Advance:
    """The state of an operation after a slice."""

    has_more: bool
    """True if items remain to be processed."""
    wait_seconds: float = 0.0
    """Seconds to wait before the next slice, if all remaining providers are paused or other workers hold the rest."""
    is_finished: bool = False
    """True if this slice finished the operation."""
    has_enough_workers: bool = False
    """True if nothing was done because enough workers are active."""


def advance(
    operation_id: Any,
    *,
    limit: int = 1000,
    deadline: float = SLICE_SECONDS,
    stop: StopSignal | None = None,
    is_message: bool = True,
) -> Advance:
    """Work on one slice of an operation. An operation that is not running is ignored.

    Args:
        operation_id: The primary key of the operation.
        limit: Maximum number of items.
        deadline: Seconds after which no more items are leased.
        stop: A ``threading.Event``, or an object with its method ``is_set``, that ends the slice. Requests in flight
            are recorded.
        is_message: True if a message of the dispatcher caused the call. A surplus message does nothing.

    Returns:
        The state of the operation after the slice.

    Raises:
        BulkOperation.DoesNotExist: There is no such operation.
        CancelInTransaction: Inside a transaction. Nothing was sent or written.
        ValueError: ``limit`` or ``deadline`` is invalid.
    """
    check_run_options(limit=limit, deadline=deadline)
    operation = BulkOperation.objects.get(pk=operation_id)
    Invoice.objects.all()._writer.refuse_inside_transaction()
    if not is_message:
        return _work_on_slice(operation, limit, deadline, stop)
    if not operation.join_chain():
        return Advance(has_more=False, has_enough_workers=True)
    left = Advance(has_more=False)
    try:
        left = _work_on_slice(operation, limit, deadline, stop)
    finally:
        if not left.has_more:
            operation.leave_chain()
    return left


def _work_on_slice(operation: BulkOperation, limit: int, deadline: float, stop: StopSignal | None) -> Advance:
    if not is_running(operation):
        return Advance(has_more=False)
    if is_sending_disabled(operation) and operation.items.left().exists():
        return Advance(has_more=True, wait_seconds=DISABLED_SECONDS)
    slice_, process_id = Slice(operation, limit, deadline, stop), os.getpid()
    _touch_heartbeat(operation)
    try:
        WORK[Operation(operation.operation)](operation, slice_)
    finally:
        if os.getpid() == process_id:  # the leases do not belong to a forked child
            slice_.release()
            _touch_heartbeat(operation)
    if not operation.items.left().exists():
        return Advance(has_more=False, is_finished=operation.finish())
    return Advance(has_more=is_running(operation), wait_seconds=max(wait_seconds(operation), slice_.wait_seconds))


def _touch_heartbeat(operation: BulkOperation) -> None:
    try:
        BulkOperation.objects.filter(pk=operation.pk).update(worked_at=utc_now())
    except OperationalError:  # the row is locked; a sweep may add a worker
        logger.warning("The heartbeat of bulk operation %s was not written.", operation.pk)
