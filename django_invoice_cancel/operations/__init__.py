"""Stored bulk operations: store one and start it (``start``), and work on it slice by slice (``advance``)."""

from __future__ import annotations

from typing import Any

from django.core.exceptions import ImproperlyConfigured

from .. import conf, registry
from ..domain.audit import Trigger
from ..domain.numbers import checked_bounds
from ..domain.statuses import Status
from ..models import BulkOperation
from ..models.dispatch import dispatcher
from ..models.operation import Operation
from ..models.queryset import InvoiceQuerySet
from ..models.writes.decisions import refuse_decision
from ..services.call_arguments import checked_intent, checked_text, make_intent
from .slices import Advance, advance

__all__ = ["Advance", "advance", "start"]


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

    Sends nothing itself. If the setting ``DISPATCH`` is set, the workers get their messages after the commit of the
    current transaction; otherwise the caller calls ``advance``, or ``run_bulk_operations`` does the work. An operation
    that could not be dispatched is stored and running, and ``run_bulk_operations`` finds it.

    Args:
        invoices: the selection, in the database of the operations.
        operation: ``"cancel"``, ``"check"`` (ask the provider for the status) or ``"resolve"``.
        actor: who asks: a user, a label or None. It is logged with each invoice.
        reason: why; required if ``REQUIRE_REASON`` is set, and for ``"resolve"``.
        decision: the status that a person decided, for ``"resolve"`` only.
        trigger: the entry point that is logged.
        workers: how many workers are wanted; the setting ``DISPATCH_WORKERS`` by default.

    Returns:
        The operation, with the progress ``running``.

    Raises:
        ValueError: an argument that would be refused for a single invoice, or invoices of another database.
        TypeError: an actor or a text of the wrong type.
        ImproperlyConfigured: ``DISPATCH`` is an async function.
    """
    _refuse_arguments(operation, actor, reason, decision, trigger)
    checked_bounds(workers=workers)
    _refuse_dispatcher()
    operations = BulkOperation.objects
    database = getattr(invoices, "_db", None)
    if database not in (None, operations.db):  # its draft would select invoices with these keys in its own database
        raise ValueError(f"Bulk operations work in {operations.db!r} alone, not on invoices in {database!r}.")
    stored = operations.draft(
        invoices, operation=operation, actor=actor, reason=reason, decision=decision, trigger=trigger
    )
    stored.confirm(workers=workers)
    return stored


def _refuse_arguments(operation: str, actor: Any, reason: str, decision: str, trigger: str) -> None:
    decision = checked_text("decision", decision)
    if decision and operation != Operation.RESOLVE:
        raise ValueError(f"Pass decision with operation={str(Operation.RESOLVE)!r} only.")
    if operation == Operation.RESOLVE:
        refuse_decision(Status(decision), make_intent(actor, trigger, reason))
    elif operation == Operation.CANCEL:
        checked_intent(actor, trigger, reason)
    else:
        make_intent(actor, trigger, reason)


def _refuse_dispatcher() -> None:
    """Raise for a dispatcher that would never run; one that cannot be imported is logged when it is called."""
    path = conf.get().dispatch
    if path is None:
        return
    try:
        registry.resolve(path)
    except ImproperlyConfigured:
        return
    dispatcher(path)
