"""Start a bulk run, for a query set or for the readers of a selection."""

from __future__ import annotations

import threading
from collections.abc import Generator, Mapping
from queue import SimpleQueue
from typing import Any

from django.core.exceptions import ImproperlyConfigured

from .. import registry
from ..domain.audit import AuditContext, Trigger, Wanted
from ..domain.numbers import check_run_options
from ..domain.outcomes import CancelResult, Code
from ..domain.ports import SelectionPort, WriterPort
from ..services.call_arguments import build_audit_context, build_checked_audit_context
from ..services.cancel import ineligible_result
from ..services.eligibility import account_of, find_obstacle
from ..services.results import skipped_result
from .cancel import CancelRun
from .queues import ProviderQueue
from .reconcile import ReconcileRun
from .requested import RequestedCancelRun
from .run import ShouldStop, never
from .selection import InvoiceReader, QuerySetReader, SelectionReader, iter_aliases, prepare_selection
from .workers import INVOICE_BATCH_SIZE, Job, ProviderWorkerPool


def cancel_invoices(
    invoices: SelectionPort,
    *,
    actor: Any = None,
    trigger: Trigger = Trigger.API,
    reason: str = "",
    limit: int | None = None,
    stop: threading.Event | None = None,
    concurrency: int | None = None,
    rate: float | None = None,
) -> Generator[CancelResult, None, None]:
    """Cancel every invoice of a query set, in constant memory. Errors of a provider or of one row never raise.

    Args:
        invoices: A query set of ``Invoice``.
        actor: A user, a label, or None. It is logged with each invoice.
        trigger: The entry point that is logged.
        reason: Required if ``REQUIRE_REASON`` is set. It is logged.
        limit: Maximum number of invoices.
        stop: An event that ends the run. Requests in flight are recorded, and the other invoices keep their status.
            Closing the generator has the same effect.
        concurrency: Maximum number of requests in flight for each provider; by default that of the provider.
        rate: Maximum number of requests a second for each provider, of all processes together; by default that of the
            provider.

    Yields:
        One result for each invoice, after it is recorded.

    Raises:
        CancelInTransaction: Inside a transaction. Nothing was sent or written.
        TypeError: ``invoices`` is not a query set of invoices, or another argument has the wrong type.
        ValueError: The query set is sliced, combined, made of ``values()``, or restricted by ``distinct()`` on fields
            or by a window function. Or a number is invalid, or a required reason is missing.
    """
    audit = build_checked_audit_context(actor, trigger, reason)
    selection = prepare_selection(invoices)
    writer = selection._writer
    writer.refuse_inside_transaction()
    readers = make_readers(selection.using(writer.using))
    should_stop = never if stop is None else stop.is_set
    return cancel_selection(
        writer, readers, audit, limit=limit, should_stop=should_stop, concurrency=concurrency, rate=rate
    )


def reconcile_invoices(
    invoices: SelectionPort,
    *,
    actor: Any = None,
    trigger: Trigger = Trigger.RECONCILE,
    resubmit: bool = False,
    limit: int | None = None,
    stop: threading.Event | None = None,
) -> Generator[CancelResult, None, None]:
    """Look up every invoice of a query set, usually ``due_for_reconciling()``. Concurrent runs share the work.

    Args:
        invoices: A query set of ``Invoice``.
        actor: A user, a label, or None. It is logged.
        trigger: The entry point that is logged.
        resubmit: Repeat the cancel request after the doubt period, if the provider has no lookup and its adapter
            declares a repeat harmless.
        limit: Maximum number of invoices.
        stop: An event that ends the run. Requests in flight are recorded.

    Yields:
        One result for each invoice, after it is recorded. Invoices that are not in doubt only get the status that the
        provider reports.

    Raises:
        CancelInTransaction: Inside a transaction. Nothing was sent or written.
        TypeError: ``invoices`` is not a query set of invoices, or ``actor`` has the wrong type.
        ValueError: The query set is one that ``cancel_invoices`` refuses, or the limit is invalid.
    """
    audit = build_audit_context(actor, trigger)
    selection = prepare_selection(invoices)
    writer = selection._writer
    writer.refuse_inside_transaction()
    writer.correct_times()
    readers = make_readers(selection.using(writer.using))
    should_stop = never if stop is None else stop.is_set
    return reconcile_selection(writer, readers, audit, resubmit=resubmit, limit=limit, should_stop=should_stop)


# -- by the readers of a selection ----------------------------------------------------------------------------


def cancel_selection(
    writer: WriterPort,
    readers: Mapping[str, InvoiceReader],
    audit: AuditContext,
    *,
    limit: int | None = None,
    should_stop: ShouldStop = never,
    concurrency: int | None = None,
    rate: float | None = None,
    **options: Any,
) -> Generator[CancelResult, None, None]:
    """Cancel the invoices of readers, by alias. ``options`` are those of ``CancelRun``."""
    check_run_options(limit=limit, concurrency=concurrency, rate=rate)
    done: SimpleQueue[Job] = SimpleQueue()
    run = CancelRun(writer, audit, done, limit=limit, should_stop=should_stop, **options)
    return run.run(_make_queues(readers, done, concurrency=concurrency, rate=rate))


def cancel_requested_selection(
    writer: WriterPort,
    readers: Mapping[str, InvoiceReader],
    *,
    limit: int | None = None,
    should_stop: ShouldStop = never,
    concurrency: int | None = None,
    rate: float | None = None,
) -> Generator[CancelResult, None, None]:
    """Carry out the requested cancellations of readers, by alias."""
    check_run_options(limit=limit, concurrency=concurrency, rate=rate)
    done: SimpleQueue[Job] = SimpleQueue()
    run = RequestedCancelRun(writer, done, limit=limit, should_stop=should_stop)
    return run.run(_make_queues(readers, done, concurrency=concurrency, rate=rate))


def reconcile_selection(
    writer: WriterPort,
    readers: Mapping[str, InvoiceReader],
    audit: AuditContext,
    *,
    limit: int | None = None,
    should_stop: ShouldStop = never,
    **options: Any,
) -> Generator[CancelResult, None, None]:
    """Look up the invoices of readers, by alias. ``options`` are those of ``ReconcileRun``."""
    check_run_options(limit=limit)
    done: SimpleQueue[Job] = SimpleQueue()
    run = ReconcileRun(writer, audit, done, limit=limit, should_stop=should_stop, **options)
    return run.run(_make_queues(readers, done))


def preview_selection(
    readers: Mapping[str, InvoiceReader], *, limit: int | None = None, wanted: Wanted = Wanted.CANCEL
) -> Generator[CancelResult, None, None]:
    """Yield the results of a dry run: ``dry_run`` for an invoice that a run would send, else the reason."""
    left = float("inf") if limit is None else limit
    for alias, reader in readers.items():
        account = account_of(alias)
        while left > 0 and (invoices := reader.take(int(min(left, INVOICE_BATCH_SIZE)))):
            left -= len(invoices)
            for invoice in invoices:
                code = find_obstacle(wanted, invoice, account)
                yield (
                    ineligible_result(wanted, invoice, code, account) if code else skipped_result(invoice, Code.DRY_RUN)
                )


def make_readers(selection: SelectionPort) -> dict[str, SelectionReader]:
    """Return a reader for each provider of a selection, by alias."""
    selection = prepare_selection(selection)
    return {alias: QuerySetReader(selection, alias) for alias in iter_aliases(selection)}


def aliases_without_lookup(invoices: SelectionPort) -> list[str]:
    """Return the aliases in a query set whose provider has no lookup."""
    return [alias for alias in iter_aliases(invoices) if not registry.can_look_up(alias)]


def _make_queues(readers: Mapping[str, InvoiceReader], done: SimpleQueue[Job], **bounds: Any) -> list[ProviderQueue]:
    return [_make_queue(alias, reader, done, **bounds) for alias, reader in readers.items()]


def _make_queue(alias: str, reader: InvoiceReader, done: SimpleQueue[Job], **bounds: Any) -> ProviderQueue:
    account = account_of(alias)  # the configuration is read once for each run
    pool = None if isinstance(account, ImproperlyConfigured) else ProviderWorkerPool(account, done, **bounds)
    return ProviderQueue(alias, reader, pool, account)
