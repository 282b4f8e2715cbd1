"""Bulk reconciliation: lookups in groups of the provider's size, shared with other processes that reconcile.

Lookups use the same worker pools as cancellations, with their pauses and probes. Each answer is recorded separately
with its row locked, since a webhook may report another status at the same time.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from queue import SimpleQueue
from typing import Any

from ..domain.audit import AuditContext, Wanted
from ..domain.claims import Seen
from ..domain.interruptions import is_interruption
from ..domain.outcomes import CancelResult, Code, LookupReply, Outcome
from ..domain.ports import InvoicePort, WriterPort
from ..services.cancel import ineligible_result
from ..services.eligibility import find_obstacle
from ..services.provider_calls import look_up
from ..services.reconcile import is_to_be_booked, reconcile_one, result_of_lookup
from ..services.results import skipped_result
from .queues import ProviderQueue
from .run import DATABASE_ERRORS, MAX_PAUSE_WAIT_SECONDS, BulkRun
from .workers import INVOICE_BATCH_SIZE, Job, ProviderWorkerPool

logger = logging.getLogger("django_invoice_cancel")


class ReconcileRun(BulkRun):
    """One bulk reconciliation in this process."""

    def __init__(
        self,
        writer: WriterPort,
        audit: AuditContext,
        done: SimpleQueue[Job],
        *,
        resubmit: bool = False,
        on_recorded: Callable[[CancelResult], None] | None = None,
        **bounds: Any,
    ) -> None:
        super().__init__(writer, audit, done, **bounds)
        self.resubmit = resubmit
        self.wanted = Wanted.REPEAT if resubmit else Wanted.CHECK
        self.on_recorded = on_recorded
        """Called in each transaction that records an answer, with its result."""

    # -- lookups -----------------------------------------------------------------------------------------------

    def _fill_pool(self, queue: ProviderQueue) -> bool:
        pool = queue.pool
        if queue.is_exhausted or self._has_signal_backlog:
            return False
        if pool is None:
            return self._skip_unconfigured(queue)
        if pool.paused_seconds:
            return self._handle_pause(queue, pool)
        if not pool.can_send() or pool.in_flight >= pool.concurrency or time.monotonic() < pool.retry_slot_at:
            return False
        self._sync_state(pool)
        if not pool.can_send():
            return True
        return self._look_up_batch(queue, pool) if pool.provider.supports_lookup else self._reconcile_next(queue, pool)

    def _look_up_batch(self, queue: ProviderQueue, pool: ProviderWorkerPool) -> bool:
        if not self._take_probe(pool):
            return False
        slot = self._reserve_slots(pool, 1)
        if slot is None:
            return False
        booked = self._book_checks(self._take(queue, pool.provider.lookup_group_size))
        if booked:
            pool.unrecorded += 1
            pool.enqueue(
                Job(
                    [Seen.now(invoice) for invoice in booked],
                    partial(self._look_up, pool),
                    send_at=slot,
                )
            )
        return True

    def _skip_unconfigured(self, queue: ProviderQueue) -> bool:
        """Report invoices of an alias that is not configured; abandoned claims still become in doubt."""
        self._book_checks(self._take(queue, INVOICE_BATCH_SIZE))
        return True

    def _book_checks(self, invoices: list[InvoicePort]) -> list[InvoicePort]:
        """Return the invoices to look up now; report the others, which are in progress or booked by another process."""
        refused: list[InvoicePort] = []
        abandoned = [invoice for invoice in invoices if invoice.is_abandoned]
        if abandoned:
            _, refused = self._write_each(partial(self.writer.mark_abandoned, audit=self.audit), abandoned)
        ready = [invoice for invoice in invoices if invoice not in refused and self._is_ready(invoice)]
        due = [invoice for invoice in ready if is_to_be_booked(invoice)]
        booked, not_booked = self._write_each(self.writer.book_check, due) if due else ([], [])
        won = {invoice.pk for invoice in booked}
        for invoice in [*refused, *not_booked]:
            self._add_result(skipped_result(invoice, Code.DATABASE_ERROR))
        for invoice in due:
            if invoice.pk not in won and invoice not in not_booked:
                self._add_result(skipped_result(invoice, Code.BEING_CHECKED))
        return [invoice for invoice in ready if invoice.pk in won or not is_to_be_booked(invoice)]

    def _is_ready(self, invoice: InvoicePort) -> bool:
        if invoice.is_abandoned:  # another process has just taken it
            self._add_result(skipped_result(invoice, Code.BEING_CHECKED))
            return False
        account = self._queues[invoice.provider].account
        code = find_obstacle(self.wanted, invoice, account)
        if code:
            self._add_result(ineligible_result(self.wanted, invoice, code, account))
        return not code

    def _look_up(self, pool: ProviderWorkerPool, job: Job) -> dict[str, LookupReply]:
        """Look up, in a worker thread, and update the state of the provider."""
        seen: list[Seen] = job.subject
        replies = look_up(pool.provider, [one.target.external_id for one in seen])
        is_inconclusive = not any(reply.is_answer for reply in replies.values())
        first = next(iter(replies.values()))
        code, retry_after = (first.code, first.retry_after) if is_inconclusive else ("", None)
        pool.update_from_reply(job.pause_generation, code, is_inconclusive=is_inconclusive, retry_after=retry_after)
        return replies

    def _reconcile_next(self, queue: ProviderQueue, pool: ProviderWorkerPool) -> bool:
        """Reconcile an invoice without lookup, by a repeat in this thread if ``resubmit`` is set."""
        for invoice in self._take(queue, 1):
            if not self.resubmit and not invoice.is_abandoned and not self._is_ready(invoice):
                continue
            # ``reconcile_one`` asks the shop for its veto, after the wait.
            code = find_obstacle(self.wanted, invoice, pool.provider, find_veto=lambda invoice: None)
            if not code and not self._wait_for_slot(pool):
                queue.retries.append(invoice)
                return False
            pause_generation = pool.pause_generation
            result = self._reconcile_one(invoice)
            self._add_result(result)
            if result.attempt:  # something was sent
                is_inconclusive = result.outcome in (Outcome.IN_DOUBT, Outcome.NOT_PROCESSED)
                pool.update_from_reply(
                    pause_generation, result.code, is_inconclusive=is_inconclusive, retry_after=result.retry_after
                )
                self._write_provider_states()
        return True

    def _reconcile_one(self, invoice: InvoicePort) -> CancelResult:
        try:
            return reconcile_one(invoice, self.audit, resubmit=self.resubmit)
        except DATABASE_ERRORS as error:
            self._raise_if_database_is_lost(invoice.provider)
            logger.warning("The database refused to write an invoice (%s): %s.", type(error).__name__, invoice)
            return skipped_result(invoice, Code.DATABASE_ERROR)

    def _wait_for_slot(self, pool: ProviderWorkerPool) -> bool:
        """Reserve a slot and wait for it; return False if none is near or the run was stopped."""
        slot = self._reserve_slots(pool, 1)
        if slot:
            time.sleep(max(slot - time.monotonic(), 0.0))
        return slot is not None and not self.should_stop()

    def _handle_pause(self, queue: ProviderQueue, pool: ProviderWorkerPool) -> bool:
        if pool.paused_seconds <= MAX_PAUSE_WAIT_SECONDS or queue.is_busy:
            return self._wait_for_pause(pool)
        invoices = self._take(queue, INVOICE_BATCH_SIZE)
        for invoice in invoices:
            self._skip_paused(invoice, pool.paused_seconds)
        return bool(invoices)

    # -- answers ----------------------------------------------------------------------------------------------

    def _handle_job(self, job: Job, pool: ProviderWorkerPool, queue: ProviderQueue) -> None:
        """Record the answers of a lookup; unsent ones are retried."""
        pool.unrecorded -= 1
        seen: list[Seen] = job.subject
        if not job.is_sent:
            queue.retries.extend(one.invoice for one in seen)
            return
        none = LookupReply(None, Code.ADAPTER_ERROR, is_answer=False)
        replies = job.answer or {}
        self._write_provider_states()  # before receivers of the record, which may send again
        for one in seen:
            self._add_result(self._record_lookup(one, replies.get(one.target.external_id, none)))
        self._write_provider_states()

    def _record_lookup(self, seen: Seen, reply: LookupReply) -> CancelResult:
        """Record the reply about one invoice; an error does not stop the others."""
        invoice, is_recorded = seen.invoice, True
        try:
            if not self.writer.record_lookup(
                seen, reply, self.audit, on_recorded=partial(self._call_on_recorded, invoice, reply)
            ):
                return skipped_result(invoice, Code.CHANGED)
        except Exception as error:
            if is_interruption(error):
                raise
            logger.exception("The reply to a lookup was not recorded: %s.", invoice)
            is_recorded = False
        return replace(result_of_lookup(invoice, reply), is_recorded=is_recorded)

    def _call_on_recorded(self, invoice: InvoicePort, reply: LookupReply) -> None:
        if self.on_recorded is not None:
            self.on_recorded(result_of_lookup(invoice, reply))

    def _record_rest(self) -> None:
        for queue in self._queues.values():
            queue.take_unreported()  # booked but not looked up: they are due again later
