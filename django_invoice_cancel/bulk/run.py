"""The base of bulk runs: fill the worker pools, collect the answers, and shut down.

All database work is done in the caller's thread; worker threads only send requests. At the end of a run, when it is
stopped or closed, and after an exception, nothing more is sent, and the requests in flight are awaited and recorded.

Signals of written changes are sent between the other work, a few at a time, so that slow receivers delay no claim.
"""

from __future__ import annotations

import logging
import os
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Iterator, Sequence
from queue import Empty, SimpleQueue
from typing import Any

from django.db import DatabaseError, InterfaceError, connections

from ..domain.audit import AuditContext
from ..domain.outcomes import CancelResult, Code
from ..domain.ports import InvoicePort, NoticePort, WriterPort
from ..services.results import log_result, skipped_result
from .garbage import is_collecting, run_in_background, watch_collections
from .queues import ProviderQueue
from .workers import INVOICE_BATCH_SIZE, PROBE_RETRY_SECONDS, SLOT_HORIZON, Job, ProviderWorkerPool

logger = logging.getLogger("django_invoice_cancel")

DATABASE_ERRORS = (DatabaseError, InterfaceError)
POLL_SECONDS = 0.05
"""Maximum wait for an answer before a run checks for other work."""
MAX_PAUSE_WAIT_SECONDS = 60.0
"""A run waits for a pause up to this; during a longer one the provider's other invoices are skipped."""
SIGNAL_SECONDS = 0.05
"""Time for signals before the run returns to its requests; at least one signal is sent."""
SLOW_SIGNAL_SECONDS = 0.1
"""If a signal took longer, the next ones are sent when no claim is unrecorded, so that no answer waits for them."""
FINAL_SIGNAL_SECONDS = 5.0
"""Time for signals after an exception ended the run."""


ShouldStop = Callable[[], bool]
"""Return whether a run should stop. A run calls it between its steps, in the caller's thread only."""


def never() -> bool:
    """Return False: the run is not stopped."""
    return False


class BulkRun(ABC):
    """One bulk run in this process."""

    def __init__(
        self,
        writer: WriterPort,
        audit: AuditContext,
        done: SimpleQueue[Job],
        *,
        should_stop: ShouldStop = never,
        limit: int | None = None,
    ) -> None:
        self.writer = writer
        self.audit = audit
        self.should_stop = should_stop
        self.remaining = float("inf") if limit is None else limit
        self.outbox = writer.in_bulk()
        self._done = done
        self._queues: dict[str, ProviderQueue] = {}
        self._results: list[CancelResult] = []
        self._process_id = 0
        self._is_receiver_slow = False
        """True if the last signal was slow."""
        self._signal_started_at = float("inf")
        """Monotonic start of the current call of receivers; infinite if no receiver is called now."""
        self._has_failed = False
        self._is_shutting_down = False

    def run(self, queues: Sequence[ProviderQueue]) -> Generator[CancelResult, None, None]:
        """Process the queues; yield one result for each invoice after it is recorded."""
        self._process_id, is_collected = os.getpid(), False
        self._queues = {queue.alias: queue for queue in queues}
        self._apply_limit()
        watch_collections()
        try:
            while not self.should_stop() and self._has_work():
                has_moved = [self._fill_pool(queue) for queue in queues]
                yield from self._yield_results()
                self._collect_jobs(0.0 if any(has_moved) or self._can_send_signals else POLL_SECONDS)
                self._record_if_due()
                self._send_signals()
            self._shut_down()
            yield from self._yield_results()
        except GeneratorExit:
            is_collected = is_collecting()
            raise
        except BaseException:
            self._has_failed = True
            raise
        finally:
            if self._is_own_process and is_collected:
                self._shut_down_in_background()
            elif self._is_own_process:  # a forked child has no threads, and the claims belong to its parent
                self._shut_down()

    # -- to be implemented by a kind of run ---------------------------------------------------------------------------

    @abstractmethod
    def _fill_pool(self, queue: ProviderQueue) -> bool:
        """Queue jobs for the provider if possible; return whether anything was done."""

    @abstractmethod
    def _handle_job(self, job: Job, pool: ProviderWorkerPool, queue: ProviderQueue) -> None:
        """Process a job that was returned by a worker thread."""

    def _record_if_due(self) -> None:  # noqa: B027 - reconciliation records at once
        """Record collected answers if it is time."""

    def _on_signal_sent(self, notice: NoticePort) -> None:  # noqa: B027 - only bulk cancellations use it
        """Called after a signal was sent."""

    @abstractmethod
    def _record_rest(self) -> None:
        """Record all answers and give back the rest, after the pools are closed."""

    # -- common to all runs ----------------------------------------------------------------------------------

    @property
    def _is_own_process(self) -> bool:
        """True in the process that started the run."""
        return os.getpid() == self._process_id

    def _has_work(self) -> bool:
        is_at_work = any(queue.is_busy or not queue.is_exhausted for queue in self._queues.values())
        return is_at_work or bool(self._results or self.outbox)

    def _take(self, queue: ProviderQueue, count: int) -> list[InvoicePort]:
        """Take the next invoices of a queue, within the limit.

        Invoices that have moved to another account are skipped.
        """
        taken, fresh = queue.take(count, self.remaining)
        self.remaining -= fresh
        self._apply_limit()
        moved = [invoice for invoice in taken if invoice.provider != queue.alias]
        for invoice in moved:
            queue.earlier_results.pop(invoice.pk, None)
            self._add_result(skipped_result(invoice, Code.CHANGED))
        return [invoice for invoice in taken if invoice not in moved] if moved else taken

    def _apply_limit(self) -> None:
        if self.remaining <= 0:
            for queue in self._queues.values():
                queue.reader.discard_rest()

    def _sync_state(self, pool: ProviderWorkerPool) -> None:
        """Apply the provider's state that other processes have written."""
        pool.sync_state(self.writer.repeat(lambda: self.writer.provider_state(pool.alias)))

    def _wait_for_pause(self, pool: ProviderWorkerPool) -> bool:
        """Read from time to time whether a person has ended the pause, and return it."""
        if pool.is_sync_due():
            self._sync_state(pool)
        return not pool.paused_seconds

    def _take_probe(self, pool: ProviderWorkerPool) -> bool:
        """Return whether a request may be sent: after a pause, only one process at a time may send one."""
        if not pool.needs_probe or pool.probe is not None:
            return True
        self._write_provider_states()
        try:
            pool.probe = self.writer.take_probe(pool.alias, options_digest=pool.provider.options_digest)
        except DATABASE_ERRORS as error:
            self._raise_if_database_is_lost(pool.alias)
            logger.warning("The state of provider %s was not written (%s).", pool.alias, type(error).__name__)
        if pool.probe is None:
            pool.retry_slot_later(PROBE_RETRY_SECONDS)
            self._sync_state(pool)
        return pool.probe is not None

    def _release_probes(self) -> None:
        """Release the right to probe of each provider that has answered or gets no request."""
        for pool in self._pools():
            if pool.probe is not None and not pool.in_flight:
                try:
                    self.writer.release_probe(pool.probe)
                except DATABASE_ERRORS:
                    logger.exception("The probe of provider %s was not released.", pool.alias)
                pool.probe = None

    def _reserve_slots(self, pool: ProviderWorkerPool, count: int) -> float | None:
        """Reserve slots for ``count`` requests; return the first (monotonic; 0: now), or None if none is near."""
        if not pool.rate:
            return 0.0
        if pool.next_own_slot > time.monotonic() + SLOT_HORIZON.total_seconds():
            pool.retry_slot_later()
            return None
        try:
            start = self.writer.reserve(pool.alias, count, pool.rate)
        except DATABASE_ERRORS as error:
            self._raise_if_database_is_lost(pool.alias)
            logger.warning("No slot could be reserved for %s (%s).", pool.alias, type(error).__name__)
            start = 0.0
        if start:
            slot = time.monotonic() + start - time.time()
            pool.next_own_slot = slot + count / pool.rate
            return slot
        pool.retry_slot_later()
        return None

    def _write_each(
        self, write: Callable[[list[InvoicePort]], Any], invoices: list[InvoicePort]
    ) -> tuple[list[Any], list[InvoicePort]]:
        """Write a batch; if the database refuses it, row by row.

        Returns the results of ``write``, concatenated, and the invoices that the database refused.
        """
        try:
            return list(write(invoices) or ()), []
        except DATABASE_ERRORS as error:
            self._raise_if_database_is_lost(invoices[0].provider)
            if len(invoices) == 1:
                logger.warning("The database refused to write an invoice (%s): %s.", type(error).__name__, invoices[0])
                return [], invoices
        pairs = [self._write_each(write, [invoice]) for invoice in invoices]
        return [each for done, _ in pairs for each in done], [each for _, refused in pairs for each in refused]

    def _raise_if_database_is_lost(self, alias: str) -> None:
        """Raise the database's error if the database is unreachable, and not only a row was refused."""
        self.writer.provider_state(alias)

    def _add_result(self, result: CancelResult) -> None:
        """Log a result and keep it for the caller, who may close the run before it is yielded."""
        self._results.append(log_result(result))

    def _skip_paused(self, invoice: InvoicePort, seconds: float) -> None:
        self._add_result(skipped_result(invoice, Code.PROVIDER_PAUSED, retry_after=seconds))

    def _yield_results(self) -> Iterator[CancelResult]:
        ready, self._results = self._results, []
        for each in ready:
            yield each
            if not self._is_own_process:
                raise RuntimeError("A bulk run cannot continue in a forked child of the process that started it.")

    def _collect_jobs(self, timeout: float) -> None:
        """Wait up to ``timeout`` seconds for a returned job, and handle all returned jobs."""
        try:
            self._receive(self._done.get(timeout=timeout) if timeout else self._done.get_nowait())
            while True:
                self._receive(self._done.get_nowait())
        except Empty:
            return

    def _receive(self, job: Job) -> None:
        pool = job.pool
        if pool is None:
            raise AssertionError("A job was returned that was never queued.")
        pool.in_flight -= 1
        self._handle_job(job, pool, self._queues[pool.alias])

    def _write_provider_states(self) -> None:
        """Write the changed states of providers for other processes; errors are only logged."""
        for pool in self._pools():
            if not pool.has_unsaved_state:
                continue
            pool.has_unsaved_state = False
            try:
                self.writer.update_provider_state(
                    pool.alias,
                    seconds=pool.paused_seconds,
                    code=pool.pause_code,
                    failures=pool.failures,
                    retry_after=pool.retry_after,
                    options_digest=pool.provider.options_digest,
                )
            except DATABASE_ERRORS:
                logger.exception("The state of provider %s was not written.", pool.alias)
        self._release_probes()

    def _pools(self) -> Iterator[ProviderWorkerPool]:
        return (queue.pool for queue in self._queues.values() if queue.pool is not None)

    def _shut_down(self) -> None:
        """Send nothing more, wait for the requests in flight, record them, give back the rest. Idempotent."""
        for pool in self._pools():
            pool.stop()
        self._is_shutting_down = True  # after the stop: jobs that wait for receivers are returned unsent
        for pool in self._pools():
            pool.close()
        self._collect_jobs(0.0)
        self._record_rest()
        self._write_provider_states()
        self._send_remaining_signals()

    def _shut_down_in_background(self) -> None:
        """Shut down in another thread. Takes no lock and logs nothing: this thread may hold locks."""
        for pool in self._pools():
            pool.is_halted = True
        run_in_background(self._shut_down_unclosed)

    def _shut_down_unclosed(self) -> None:
        """Shut down a run that the garbage collector closed, in a separate thread."""
        logger.warning("A bulk run was not closed and is finished in the background. Close its generator.")
        try:
            self._shut_down()
        except Exception:
            logger.exception("An unclosed bulk run was not finished. reconcile_invoices will complete it.")
        finally:
            connections.close_all()

    # -- signals ----------------------------------------------------------------------------------------------

    @property
    def _has_signal_backlog(self) -> bool:
        """True if too many signals wait. Then no more invoices are claimed, so that memory stays constant."""
        return len(self.outbox) >= INVOICE_BATCH_SIZE

    @property
    def _can_send_signals(self) -> bool:
        return bool(self.outbox) and not (self._is_receiver_slow and any(pool.unrecorded for pool in self._pools()))

    def _send_signals(self) -> None:
        until = time.monotonic() + SIGNAL_SECONDS
        while self._can_send_signals:
            self._send_signal()
            if time.monotonic() >= until:
                return

    def _send_signal(self) -> None:
        notice = self.outbox.take()
        began = self._signal_started_at = time.monotonic()
        try:
            notice.send()
        finally:
            self._signal_started_at = float("inf")
            self._is_receiver_slow = time.monotonic() - began >= SLOW_SIGNAL_SECONDS
        self._on_signal_sent(notice)

    def _send_remaining_signals(self) -> None:
        """Send all remaining signals, after an exception for a limited time; raise the first interruption."""
        until = time.monotonic() + FINAL_SIGNAL_SECONDS if self._has_failed else float("inf")
        interruption: Exception | None = None
        while self.outbox and time.monotonic() < until:
            try:
                self._send_signal()
            except Exception as error:  # noqa: BLE001 - raised below; any other BaseException ends it at once
                interruption = interruption or error
                until = min(until, time.monotonic() + FINAL_SIGNAL_SECONDS)
        if interruption is not None and not self._has_failed:
            raise interruption
