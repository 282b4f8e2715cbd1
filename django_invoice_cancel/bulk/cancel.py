"""The bulk cancellation: a sliding window of claims that is refilled while requests are in flight.

At every end, an invoice whose request was sent is recorded or an abandoned claim, and any other keeps its status.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from functools import partial
from queue import SimpleQueue
from typing import Any
from uuid import UUID

from ..domain.audit import AuditContext, Wanted
from ..domain.claims import Answer, Claim
from ..domain.interruptions import is_interruption
from ..domain.outcomes import LAST_REFUSED, CancelResult, Code, Outcome, ProviderReply
from ..domain.ports import InvoicePort, NoticePort, WriterPort
from ..domain.statuses import PAID_STATUSES
from ..registry import ConfigurationUnavailable
from ..services.cancel import ineligible_result, record_answer, result_of_answer, unclaimed_result
from ..services.eligibility import find_obstacle
from ..services.provider_calls import submit
from ..services.results import log_result, skipped_result
from .queues import ProviderQueue
from .run import DATABASE_ERRORS, MAX_PAUSE_WAIT_SECONDS, SLOW_SIGNAL_SECONDS, BulkRun
from .workers import INVOICE_BATCH_SIZE, Job, ProviderWorkerPool

logger = logging.getLogger("django_invoice_cancel")

RECORD_AFTER_SECONDS = 0.25
"""An answer waits up to this for more answers of its batch; the last ones do not wait."""
GIVE_BACK_AFTER_SECONDS = 5.0
"""Unsent claims are given back if a pause is longer than this."""
MAX_RECEIVER_WAIT_SECONDS = 1.0
"""A request waits up to this for the receivers of its claim, so that a payment that one of them records stops it. It
does not wait for a slow receiver."""


class CancelRun(BulkRun):
    """One bulk cancellation in this process."""

    def __init__(
        self,
        writer: WriterPort,
        audit: AuditContext,
        done: SimpleQueue[Job],
        *,
        on_recorded: Callable[[Sequence[Answer]], None] | None = None,
        count_unknown: Callable[[str], tuple[int, bool]] | None = None,
        leave_when_paused: bool = False,
        max_tries: int = 2,
        **bounds: Any,
    ) -> None:
        super().__init__(writer, audit, done, **bounds)
        self.on_recorded = on_recorded
        """Called in each transaction that records answers."""
        self.count_unknown = count_unknown
        """Returns the number of unknown invoices of an alias in other slices and workers, and whether one was known."""
        self.leave_when_paused = leave_when_paused
        """Leave the invoices of a paused provider untried and without a result, instead of skipping them."""
        self.max_tries = max_tries
        """Number of attempts for an invoice if nothing was processed: one or two."""
        self._answers: list[Answer] = []
        self._oldest_answer_at = 0.0
        self._awaiting_receivers: dict[tuple[Any, Any], Job] = {}
        """Jobs that wait for the receivers of their claim, by attempt and invoice."""
        self._may_be_written = False
        """True if an interrupted attempt to record may have written some of the answers."""

    # -- claiming ---------------------------------------------------------------------------------------------

    def _fill_pool(self, queue: ProviderQueue) -> bool:
        """Claim and queue invoices as the window, the pause and the rate allow."""
        pool = queue.pool
        if pool is None:
            if self.leave_when_paused and isinstance(queue.account, ConfigurationUnavailable):
                queue.is_left_untried = True
            return self._skip_batch(queue, Code.PROVIDER_PAUSED, 0.0)
        if pool.paused_seconds:
            return self._handle_pause(queue, pool)
        if pool.has_only_unknown_invoices and not self._sync_unknown_count(pool):
            return self._skip_unknown(queue, pool)
        if pool.pending:
            return self._enqueue_pending(queue, pool)
        if (
            queue.is_exhausted
            or queue.must_wait
            or self._has_signal_backlog
            or not pool.can_send()
            or not pool.needs_jobs
        ):
            return False
        if self._answers and pool.window - pool.unrecorded < INVOICE_BATCH_SIZE:
            self._record()
        if pool.unrecorded >= pool.window:
            return False
        self._sync_state(pool)
        self._sync_unknown_count(pool)
        if pool.has_only_unknown_invoices or not pool.can_send() or not pool.needs_jobs:
            return bool(pool.paused_seconds or pool.has_only_unknown_invoices)
        return self._take_probe(pool) and self._claim_batch(queue, pool)

    def _sync_unknown_count(self, pool: ProviderWorkerPool) -> bool:
        """Apply the counts of other slices and workers; return whether the provider knew an invoice."""
        if self.count_unknown is not None and not pool.has_known_invoice:
            with suppress(*DATABASE_ERRORS):
                pool.add_unknown_count(*self.writer.repeat(partial(self.count_unknown, pool.alias)))
        return pool.has_known_invoice

    def _claim_batch(self, queue: ProviderQueue, pool: ProviderWorkerPool) -> bool:
        size = 1 if pool.is_probing else min(pool.window - pool.unrecorded, INVOICE_BATCH_SIZE, pool.batch_limit)
        invoices = [invoice for invoice in self._take(queue, size) if self._is_sendable(queue, invoice)]
        if not invoices:
            return True
        won: set[Any] = set()
        try:
            for claim in self._claim(invoices):
                pool.unrecorded += len(claim.invoices)
                pool.pending.extend(self._make_jobs(pool, claim))
                won |= {invoice.pk for invoice in claim.invoices}
                self._enqueue_pending(queue, pool)  # before the receivers of the claim are called
        except DATABASE_ERRORS as error:
            self._raise_if_database_is_lost(queue.alias)
            self._on_claim_error(queue, [invoice for invoice in invoices if invoice.pk not in won], error)
            return True
        for invoice in invoices:
            if invoice.pk not in won:
                self._finish(queue, invoice, self._unclaimed_result(queue, invoice))
        return True

    def _claim(self, invoices: list[InvoicePort]) -> Iterable[Claim]:
        """Claim a batch; return its claims."""
        return [self.writer.claim(invoices, self.audit, unless_paused=False, unless_refused=True)]

    def _on_claim_error(self, queue: ProviderQueue, invoices: list[InvoicePort], error: Exception) -> None:
        """Queue invoices whose claim the database refused, to claim them one by one.

        An invoice that is refused separately is deferred if invoices are tried twice, else skipped.
        """
        if len(invoices) > 1:
            logger.info("A batch of invoices was not claimed (%s). They are claimed one by one.", type(error).__name__)
            queue.one_by_one.extend(invoices)
            return
        for invoice in invoices:
            logger.warning("An invoice was not claimed (%s): %s.", type(error).__name__, invoice)
            result = skipped_result(invoice, Code.DATABASE_ERROR)
            if self.max_tries > 1 and invoice.pk not in queue.earlier_results:
                queue.earlier_results[invoice.pk] = log_result(result)
                queue.deferred.append(invoice)
            else:
                self._finish(queue, invoice, result)

    def _make_jobs(self, pool: ProviderWorkerPool, claim: Claim) -> list[Job]:
        """Return the jobs of a claim; they wait a moment for the receivers of the claim."""
        stale_at = claim.opened_monotonic + claim.ttl / 2
        jobs = [Job((claim, each), partial(self._submit, pool), stale_at=stale_at) for each in claim.invoices]
        if self.outbox and not self._is_receiver_slow:
            is_wait_over = partial(self._is_wait_over, time.monotonic() + MAX_RECEIVER_WAIT_SECONDS)
            for job in jobs:
                job.receivers_called, job.is_wait_over = threading.Event(), is_wait_over
                self._awaiting_receivers[claim.attempt, job.subject[1].pk] = job
        return jobs

    def _is_wait_over(self, latest: float) -> bool:
        """Return whether requests stop waiting for receivers. Called in worker threads."""
        now = time.monotonic()
        return now >= latest or now - self._signal_started_at >= SLOW_SIGNAL_SECONDS or self._is_shutting_down

    def _on_signal_sent(self, notice: NoticePort) -> None:
        """Release the request of a claim unless a receiver recorded a payment."""
        if not notice.is_claim:
            return
        job = self._awaiting_receivers.pop((notice.transition.attempt, notice.invoice.pk), None)
        if job is None or job.receivers_called is None:
            return
        if not job.is_sent:
            with suppress(*DATABASE_ERRORS):
                job.is_claim_lost = not self.writer.is_claimed(*job.subject)
        job.receivers_called.set()

    def _read_unclaimed_result(self, queue: ProviderQueue, invoice: InvoicePort) -> CancelResult:
        """Return the result of an invoice that could not be claimed, from its row."""
        return unclaimed_result(invoice, queue.account)

    def _unclaimed_result(self, queue: ProviderQueue, invoice: InvoicePort) -> CancelResult:
        try:
            seen = invoice.attempt
            result = self._read_unclaimed_result(queue, invoice)
            if result.code == Code.IN_PROGRESS and invoice.last_outcome in LAST_REFUSED and invoice.attempt != seen:
                return skipped_result(invoice, Code.CHANGED)  # refused since it was read
            # The instance is as it was read, so its row was changed to another account or id.
            return skipped_result(invoice, Code.CHANGED) if result.code == Code.MISCONFIGURED else result
        except DATABASE_ERRORS as error:
            logger.warning("An invoice was not read (%s): %s.", type(error).__name__, invoice)
            return skipped_result(invoice, Code.DATABASE_ERROR)

    def _enqueue_pending(self, queue: ProviderQueue, pool: ProviderWorkerPool) -> bool:
        """Queue claimed jobs; after a pause one as a probe, then the rest.

        Slots are reserved here and not before the claim, so that none has passed. Stale claims are given back.
        """
        now = time.monotonic()
        stale = [job for job in pool.pending if now >= job.stale_at]
        if stale:
            pool.pending = deque(job for job in pool.pending if now < job.stale_at)
            self._give_back_or_skip(queue, pool, stale)
            return True
        count = (
            1
            if pool.is_probing
            else min(len(pool.pending), pool.idle_threads if pool.rate else INVOICE_BATCH_SIZE, pool.batch_limit)
        )
        if not pool.pending or not pool.can_send() or not pool.needs_jobs or not self._take_probe(pool):
            return False
        slot = self._reserve_slots(pool, count)
        if slot is None:
            return False
        for number in range(count):
            job = pool.pending[0]
            job.send_at = slot + number / pool.rate if pool.rate else 0.0
            pool.enqueue(job)  # may fail without a thread: then the job stays pending
            pool.pending.popleft()
        return True

    def _submit(self, pool: ProviderWorkerPool, job: Job) -> Answer:
        """Submit, in a worker thread, and update the state of the provider."""
        claim, invoice = job.subject
        answer = submit(pool.provider, claim, invoice)
        reply = answer.reply
        is_inconclusive = (
            reply.outcome in (Outcome.IN_DOUBT, Outcome.NOT_PROCESSED) and reply.named_status not in PAID_STATUSES
        )
        pool.update_from_reply(
            job.pause_generation, reply.code, is_inconclusive=is_inconclusive, retry_after=reply.retry_after
        )
        return answer

    def _is_sendable(self, queue: ProviderQueue, invoice: InvoicePort) -> bool:
        code = find_obstacle(Wanted.CANCEL, invoice, queue.account)
        if code:
            self._finish(queue, invoice, ineligible_result(Wanted.CANCEL, invoice, code, queue.account))
        return not code

    def _finish(self, queue: ProviderQueue, invoice: InvoicePort, result: CancelResult) -> None:
        """Add the final result of an invoice."""
        queue.earlier_results.pop(invoice.pk, None)
        self._add_result(result)

    # -- pauses -----------------------------------------------------------------------------------------------

    def _handle_pause(self, queue: ProviderQueue, pool: ProviderWorkerPool) -> bool:
        """Handle a paused provider: give back claims that would wait too long; skip the rest during a long pause."""
        if pool.pending and pool.paused_seconds > GIVE_BACK_AFTER_SECONDS:
            self._give_back_or_skip(queue, pool, pool.take_pending())
        if pool.paused_seconds <= MAX_PAUSE_WAIT_SECONDS or queue.is_busy or queue.is_exhausted:
            return self._wait_for_pause(pool)
        if not self.leave_when_paused:
            return self._skip_batch(queue, Code.PROVIDER_PAUSED, pool.paused_seconds)
        queue.is_left_untried = True
        self._results += queue.take_unreported()
        return True

    def _skip_unknown(self, queue: ProviderQueue, pool: ProviderWorkerPool) -> bool:
        """Skip the remaining invoices of a provider that does not know any of them."""
        if pool.pending:
            self._give_back_or_skip(queue, pool, pool.take_pending())
        if queue.is_busy or queue.is_exhausted:
            return False
        return self._skip_batch(queue, Code.UNKNOWN_INVOICES)

    def _skip_batch(self, queue: ProviderQueue, code: Code, seconds: float | None = None) -> bool:
        """Report a batch of invoices that cannot be sent; return whether there were any."""
        invoices = self._take(queue, INVOICE_BATCH_SIZE)
        for invoice in invoices:
            if invoice.pk in queue.earlier_results:
                self._results.append(queue.earlier_results.pop(invoice.pk))
            elif self._is_sendable(queue, invoice):
                self._finish(queue, invoice, skipped_result(invoice, code, retry_after=seconds))
        return bool(invoices)

    def _give_back_or_skip(self, queue: ProviderQueue, pool: ProviderWorkerPool, jobs: Sequence[Job]) -> None:
        """Give back unsent claims; skip the invoices for which that failed."""
        for invoice in self._give_back(queue, pool, jobs):
            self._finish(queue, invoice, skipped_result(invoice, Code.DATABASE_ERROR))

    def _give_back(self, queue: ProviderQueue, pool: ProviderWorkerPool, jobs: Sequence[Job]) -> list[InvoicePort]:
        """Give back unsent claims; return the invoices whose rows the database refused.

        The others are retried in this run, unless their status has changed concurrently; then it is reported.
        """
        self._write_provider_states()  # before receivers of the claims, which may cancel again
        pool.unrecorded -= len(jobs)
        groups: dict[UUID, tuple[Claim, list[InvoicePort]]] = {}
        for job in jobs:
            claim, invoice = job.subject
            groups.setdefault(claim.attempt, (claim, []))[1].append(invoice)
        failed: list[InvoicePort] = []
        for claim, invoices in groups.values():
            _, kept = self._write_each(partial(self.writer.give_back, claim), invoices)
            failed += kept
            for invoice in invoices:
                if invoice.status == claim.before:
                    queue.retries.append(invoice)
                elif invoice not in kept:
                    self._finish(queue, invoice, self._unclaimed_result(queue, invoice))
        return failed

    # -- answers ----------------------------------------------------------------------------------------------

    def _handle_job(self, job: Job, pool: ProviderWorkerPool, queue: ProviderQueue) -> None:
        claim, invoice = job.subject
        if job.is_claim_lost and not job.is_sent:
            pool.unrecorded -= 1
            self._finish(queue, invoice, self._unclaimed_result(queue, invoice))
            return
        if not job.is_sent:
            pool.pending.append(job)
            return
        if not self._answers:
            self._oldest_answer_at = time.monotonic()
        lost = ProviderReply(Outcome.IN_DOUBT, Code.ADAPTER_ERROR)
        self._answers.append(job.answer or Answer(claim, invoice, lost, 0))

    def _record_if_due(self) -> None:
        if not self._answers:
            return
        is_due = time.monotonic() - self._oldest_answer_at >= RECORD_AFTER_SECONDS
        if is_due or len(self._answers) >= INVOICE_BATCH_SIZE or self._has_all_answers():
            self._record()

    def _has_all_answers(self) -> bool:
        """Return whether no further answers are expected."""
        return all(queue.is_exhausted for queue in self._queues.values()) and not any(
            pool.in_flight or pool.pending for pool in self._pools()
        )

    def _record(self) -> None:
        """Record the answers and keep the results. After an interruption the shutdown records them."""
        answers, self._answers = self._answers, []
        try:
            self._write_provider_states()  # before receivers of the record, which may cancel again
            results = self._write_answers(answers)
        except BaseException:  # Ctrl-C without a handler, a worker's SystemExit
            self._answers = answers + self._answers
            self._may_be_written = True
            raise
        for answer, result in zip(answers, results, strict=True):
            self._handle_result(answer.invoice, result)
        for pool in self._pools():
            self._sync_unknown_count(pool)

    def _write_answers(self, answers: Sequence[Answer]) -> list[CancelResult]:
        """Write answers as one batch; if that fails, one by one. Return their results."""
        try:
            written = self.writer.record(answers, on_recorded=self.on_recorded, may_be_written=self._may_be_written)
            return [result_of_answer(answer) for answer in written]
        except Exception as error:  # the providers have answered: write each row separately
            if is_interruption(error):
                raise
            logger.warning(
                "A batch of answers was not recorded (%s). They are recorded one by one.", type(error).__name__
            )
            return [
                record_answer(answer, self.writer, on_recorded=self.on_recorded, may_be_written=True)
                for answer in answers
            ]

    def _handle_result(self, invoice: InvoicePort, result: CancelResult) -> None:
        """Add the result, or queue the invoice for a retry."""
        queue = self._queues[invoice.provider]
        if queue.pool is not None:
            queue.pool.unrecorded -= 1
        if self.max_tries > 1 and queue.should_retry(result, invoice.pk):
            queue.earlier_results[invoice.pk] = log_result(result)
            queue.retries.append(invoice)
        else:
            self._finish(queue, invoice, result)

    def _record_rest(self) -> None:
        if self._answers:
            self._record()
        for queue in self._queues.values():
            if queue.pool is not None and queue.pool.pending:
                self._give_back_at_end(queue, queue.pool)
            self._results += queue.take_unreported()

    def _give_back_at_end(self, queue: ProviderQueue, pool: ProviderWorkerPool) -> None:
        try:
            has_failed = bool(self._give_back(queue, pool, pool.take_pending()))
        except DATABASE_ERRORS:
            has_failed = True
        if has_failed:
            logger.error("Unsent claims of %s were not released. reconcile_invoices will release them.", queue.alias)
