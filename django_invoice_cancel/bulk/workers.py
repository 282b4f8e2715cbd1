"""The worker pool of one provider within one run, with its window and its pause. A slow provider delays no other.

Worker threads only send requests; they use no database. A thread updates the state of the *provider* as soon as it has
a reply, so that the next request is not sent during a pause. The answer about the *invoice* is returned to the run.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from queue import Empty, SimpleQueue
from typing import Any

from .. import conf
from ..domain.claims import Probe
from ..domain.clock import utc_now
from ..domain.outcomes import Code
from ..domain.ports import ProviderStatePort
from ..providers.base import Provider
from ..services.cancel import FAILURES_THAT_PAUSE, PAUSE_SECONDS
from ..services.provider_calls import log_adapter_error

logger = logging.getLogger("django_invoice_cancel")

INVOICE_BATCH_SIZE = 50
"""Number of rows that are claimed or recorded together; larger groups gain little."""
RATE_PAUSE_SECONDS = 30.0
"""Pause after a 429 without a Retry-After header."""
MIN_RATE_PAUSE_SECONDS = 1.0
"""Minimum pause after a 429; it doubles with each consecutive probe that gets a 429."""
SLOT_HORIZON = timedelta(seconds=1)
"""Nothing is claimed if the next free slot is later than this."""
SLOT_TOLERANCE_SECONDS = 0.1
"""A job that is later than this for its slot gets another one."""
UNKNOWN_INVOICES_LIMIT = 10
"""A run ends for a provider after this number of unknown invoices without a known one: the key may belong to another
project. The slices and workers of a stored operation count together.
"""
PROBE_RETRY_SECONDS = 0.5
"""Time until the next attempt to take the right to probe, while another process has it."""
PAUSE_SYNC_SECONDS = 2.0
"""Interval at which a run that waits for a pause reads whether a person has ended it."""
SLOT_RETRY_SECONDS = 0.1
"""Time until the next attempt to reserve a slot."""
RECEIVER_POLL_SECONDS = 0.02
"""Interval at which a job that waits for receivers checks whether to go on."""


def max_slots(rate: float) -> int:
    """Return how many slots are reserved together: at most the requests of one second."""
    return max(1, min(int(rate), INVOICE_BATCH_SIZE))


@dataclass
class Job:
    """One request to the provider, and its answer."""

    subject: Any
    """The claim and invoice, or the invoices to look up."""
    call: Callable[[Job], Any]
    """Sends the request, in a worker thread."""
    stale_at: float = float("inf")
    """Monotonic time after which it is not sent."""
    send_at: float = 0.0
    """Monotonic time of its reserved slot."""
    pause_generation: int = 0
    """The pool's generation when the job was queued."""
    pool: ProviderWorkerPool | None = None
    answer: Any = None
    is_sent: bool = False
    receivers_called: threading.Event | None = None
    """Set after the receivers of the claim were called; None if the request does not wait for them."""
    is_wait_over: Callable[[], bool] = bool
    """Return whether the request stops waiting for the receivers."""
    is_claim_lost: bool = False
    """True if the claim was lost before the request was sent."""


class ProviderWorkerPool:
    """The threads that send the requests of one provider in one run."""

    def __init__(
        self, provider: Provider, done: SimpleQueue[Job], *, concurrency: int | None = None, rate: float | None = None
    ) -> None:
        self.provider = provider
        self.alias = provider.alias
        self.concurrency = concurrency or provider.concurrency
        self.rate = rate or provider.rate
        self.window = self._window()
        """Maximum number of claimed and unrecorded rows, which is what a crash can leave in doubt."""
        self.unrecorded = 0
        """Number of claimed and unrecorded rows."""
        self.in_flight = 0
        """Number of jobs that are queued or being sent."""
        self.pending: deque[Job] = deque()
        """Claimed jobs that are not queued: new ones, and those that were returned unsent."""
        self.is_probing = self.rate is not None
        """True if requests are sent one at a time, until one gets an answer.

        With a rate it is also True at the start. Otherwise the first requests of a process would be late and be sent
        together.
        """
        self.needs_probe = False
        """True if the provider was paused and has given no usable answer since: a request needs the right to probe."""
        self.probe: Probe | None = None
        """The right to probe, while this run has it."""
        self.failures = 0
        self.pause_code = ""
        self.has_unsaved_state = False
        """True if the state of the provider has changed and must be written for other processes."""
        self.retry_slot_at = 0.0
        """Monotonic time before which no slot is free."""
        self.next_own_slot = 0.0
        """Monotonic time of the next slot at this run's rate; another process may use a higher rate."""
        self._paused_until = 0.0
        self._retry_after_until = 0.0
        """Monotonic end of the provider's own Retry-After."""
        self._resumed_at: datetime | None = None
        """The last time at which a person ended a pause, as it was last read."""
        self._sync_pause_at = 0.0
        """Monotonic time at which the state is read again during a pause."""
        self._rate_limited_probes = 0
        """Number of consecutive probes that got a 429."""
        self.has_only_unknown_invoices = False
        """True if the limit of unknown invoices is reached: nothing more is sent in this run."""
        self.has_known_invoice = False
        self._unknown_count = 0
        self._pause_generation = 0
        self._lock = threading.Lock()
        self._jobs: SimpleQueue[Job | None] = SimpleQueue()
        self._done = done
        self._threads: list[threading.Thread] = []
        self._stopped = threading.Event()
        self.is_halted = False
        """True if nothing more is sent. Like ``stop``, but without a lock."""
        self._process_id = os.getpid()

    def _window(self) -> int:
        ttl = conf.get().claim_ttl
        bounds = [2 * self.concurrency + INVOICE_BATCH_SIZE, self.concurrency * (ttl / 2) / self.provider.deadline]
        if self.rate:
            bounds.append(self.rate * ttl / 4)
        return max(1, int(min(bounds)))

    # -- pause and rate --------------------------------------------------------------------------------------------

    @property
    def paused_seconds(self) -> float:
        """Remaining seconds of the pause."""
        return max(self._paused_until - time.monotonic(), 0.0)

    @property
    def retry_after(self) -> float | None:
        """Remaining seconds of the provider's own Retry-After, or None."""
        return max(self._retry_after_until - time.monotonic(), 0.0) or None

    def is_sync_due(self) -> bool:
        """Return, once in an interval, whether a run that waits for the pause should read the state again."""
        now = time.monotonic()
        if self.has_unsaved_state or now < self._sync_pause_at:
            return False
        self._sync_pause_at = now + PAUSE_SYNC_SECONDS
        return True

    def can_send(self) -> bool:
        """Return whether a job may be queued now."""
        return not self.paused_seconds and not (self.is_probing and self.in_flight)

    @property
    def batch_limit(self) -> int:
        """Maximum number of rows to claim and queue together."""
        return max(1, min(max_slots(self.rate), self.idle_threads)) if self.rate else INVOICE_BATCH_SIZE

    @property
    def idle_threads(self) -> int:
        """Number of idle threads. With a rate only these get slots: a busy thread would miss its slot."""
        return self.concurrency - self.in_flight

    @property
    def needs_jobs(self) -> bool:
        """True if the threads will soon be idle."""
        if time.monotonic() < self.retry_slot_at:
            return False
        return self.idle_threads > 0 if self.rate else self.queued_count <= self.concurrency

    def retry_slot_later(self, seconds: float = SLOT_RETRY_SECONDS) -> None:
        """Wait a moment before the next attempt to reserve a slot, or to take the right to probe."""
        self.retry_slot_at = time.monotonic() + seconds

    @property
    def pause_generation(self) -> int:
        """The number of pauses so far. The reply to a request from before a pause does not end the pause."""
        return self._pause_generation

    def sync_state(self, state: ProviderStatePort | None) -> None:
        """Apply the state that other processes have written."""
        if state is None:
            return
        with self._lock:
            seconds = state.seconds_left_for(self.provider.options_digest)
            is_resumed, self._resumed_at = state.resumed_at != self._resumed_at, state.resumed_at
            if is_resumed and not seconds and not self.has_unsaved_state:
                self._paused_until = 0.0
            if seconds > self.paused_seconds:
                self._pause(seconds, state.pause_code)
            if not self.has_unsaved_state and not self.in_flight:
                self.failures = max(self.failures, state.failures)
                self.needs_probe = state.needs_probe
                self.is_probing = self.is_probing or self.needs_probe
        now = utc_now()
        if self.rate and state.next_slot(self.rate, now) > now + SLOT_HORIZON:
            self.retry_slot_later()

    def update_from_reply(
        self, pause_generation: int, code: str, *, is_inconclusive: bool, retry_after: float | None
    ) -> None:
        """Update the state of the provider from a reply.

        ``is_inconclusive``: the reply is not about the invoice, such as a time-out.
        """
        if code == Code.LEASE_EXPIRED:
            return  # not caused by the provider
        with self._lock:
            self.has_unsaved_state = True
            is_new = pause_generation == self._pause_generation
            if code == Code.RATE_LIMITED:
                self._rate_limited_probes += is_new
                seconds = max(RATE_PAUSE_SECONDS if retry_after is None else retry_after, self._min_rate_pause())
                self._pause(seconds, code, retry_after)
                return
            self._count_unknown(code, is_inconclusive)
            self.failures = self.failures + 1 if is_inconclusive else 0
            if code == Code.BAD_CREDENTIALS or self.failures >= FAILURES_THAT_PAUSE:
                self._pause(PAUSE_SECONDS, code, retry_after)
            elif not is_inconclusive and is_new:
                self.is_probing, self.pause_code, self._rate_limited_probes = False, "", 0
                self.needs_probe = False

    def add_unknown_count(self, count: int, has_known_invoice: bool) -> None:
        """Apply the count of unknown invoices of earlier slices and other workers, and whether one was known."""
        with self._lock:
            self._unknown_count = max(self._unknown_count, count)
            self.has_known_invoice = self.has_known_invoice or has_known_invoice
            self._check_unknown_limit()

    def _count_unknown(self, code: str, is_inconclusive: bool) -> None:
        """Count an answer with an unknown invoice."""
        if code == Code.NOT_FOUND:
            self._unknown_count += 1
        elif not is_inconclusive:
            self.has_known_invoice = True
        self._check_unknown_limit()

    def _check_unknown_limit(self) -> None:
        was_ended = self.has_only_unknown_invoices
        self.has_only_unknown_invoices = self._unknown_count >= UNKNOWN_INVOICES_LIMIT and not self.has_known_invoice
        if self.has_only_unknown_invoices and not was_ended:
            self._pause_generation += 1  # queued jobs are returned unsent

    def _min_rate_pause(self) -> float:
        return float(MIN_RATE_PAUSE_SECONDS * 2 ** min(max(self._rate_limited_probes - 1, 0), 10))

    def _pause(self, seconds: float, code: str, retry_after: float | None = None) -> None:
        """Pause for ``seconds``; queued jobs are returned unsent."""
        now = time.monotonic()
        self._paused_until = max(self._paused_until, now + seconds)
        self._retry_after_until = max(self._retry_after_until, now + (retry_after or 0.0))
        self._sync_pause_at = now + PAUSE_SYNC_SECONDS
        self._pause_generation += 1
        self.pause_code = code
        self.is_probing = self.needs_probe = True

    # -- threads ------------------------------------------------------------------------------------------

    def enqueue(self, job: Job) -> None:
        """Queue a job for the threads."""
        if len(self._threads) < min(self.concurrency, self.in_flight + 1):
            self._start_thread()
        job.pool, job.pause_generation = self, self._pause_generation
        self.in_flight += 1
        self._jobs.put(job)

    def _start_thread(self) -> None:
        """Start another thread. If the system refuses, the existing threads do the work."""
        thread = threading.Thread(target=self._work, name=f"invoice-cancel-{self.alias}", daemon=True)
        try:
            thread.start()
        except RuntimeError:
            if not self._threads:
                raise
            self.concurrency = len(self._threads)
            logger.warning("No more than %d threads could be started for %s.", self.concurrency, self.alias)
        else:
            self._threads.append(thread)

    def take_pending(self) -> list[Job]:
        """Remove and return the pending jobs."""
        jobs = list(self.pending)
        self.pending.clear()
        return jobs

    @property
    def queued_count(self) -> int:
        """Number of jobs that wait for a thread."""
        return self._jobs.qsize()

    def stop(self) -> None:
        """Send nothing more; queued jobs are returned unsent."""
        self._stopped.set()
        self._return_queued()

    def close(self) -> None:
        """Stop, and wait for the requests in flight."""
        self.stop()
        for _ in self._threads:
            self._jobs.put(None)
        for thread in self._threads:
            thread.join()
        self._threads.clear()

    def _return_queued(self) -> None:
        while True:
            try:
                job = self._jobs.get_nowait()
            except Empty:
                return
            if job is not None:
                self._done.put(job)

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            if job.receivers_called is not None and not self.rate:  # with a rate, a job waits for its slot only
                while not job.receivers_called.wait(RECEIVER_POLL_SECONDS) and not job.is_wait_over():
                    pass
            if job.send_at:
                self._stopped.wait(job.send_at - time.monotonic())
            try:
                if self._should_send(job):
                    job.is_sent = True
                    job.answer = job.call(job)
            except BaseException as bug:  # noqa: BLE001 - an adapter's CancelledError or exit must not end the thread
                log_adapter_error(self.provider, bug)
                self.update_from_reply(job.pause_generation, Code.ADAPTER_ERROR, is_inconclusive=True, retry_after=None)
            finally:  # the run always gets the job back
                self._done.put(job)
            if os.getpid() != self._process_id:  # the adapter forked, and this is the child
                return

    def _should_send(self, job: Job) -> bool:
        now = time.monotonic()
        is_late = job.send_at and now > job.send_at + SLOT_TOLERANCE_SECONDS
        is_stopped = self.is_halted or self._stopped.is_set()
        return not (
            job.is_claim_lost
            or is_late
            or is_stopped
            or job.pause_generation != self._pause_generation
            or now >= job.stale_at
        )
