"""A lane: one provider's threads, window and pause within one run. A slow lane holds up no other.

Threads of a lane speak to the provider and nothing else. What a reply says about the *provider* is noted in the
thread that got it, so that the next one does not send any more; what it says about the *invoice* goes to the engine.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any

from .. import conf
from ..domain.clock import utc_now
from ..domain.outcomes import Code
from ..providers.base import Provider
from ..services.cancel import FAILURES_THAT_PAUSE, PAUSE_SECONDS
from ..services.provider_calls import tell_bug

if TYPE_CHECKING:
    from ..models import ProviderState

logger = logging.getLogger("django_invoice_cancel")

GROUP = 50
"""How many rows are claimed or recorded together: beyond it little is gained."""
RATE_PAUSE_SECONDS = 30.0
"""How long a 429 pauses that names no time."""
LEAST_RATE_PAUSE_SECONDS = 1.0
"""How long it pauses at least; twice as long with each probe in a row that meets another."""
NEAR = timedelta(seconds=1)
"""Nothing is claimed while the next free slot is further away than this."""
LATE_SECONDS = 0.1
"""So long after its slot a job is not sent any more: it gets another."""
UNKNOWN_THAT_END = 10
"""So many unknown invoices, and none that is known, end a run for a provider: the key may be another project's.

In a stored operation its slices and workers count together.
"""
LOOK_AGAIN_SECONDS = 0.1
"""How long after it found no free slot a lane looks for one again."""
REPORT_CHECK_SECONDS = 0.02
"""How often a job that waits for receivers checks whether it still should."""


def slots_at_once(rate: float) -> int:
    """Return how many slots are reserved together at most: no more than the rate lets go in a second."""
    return max(1, min(int(rate), GROUP))


@dataclass
class Job:
    """One thing to ask the provider, and what came back."""

    subject: Any
    """What is asked about."""
    ask: Callable[[Job], Any]
    """Runs in a thread of the lane; raises nothing."""
    stale_at: float = float("inf")
    """Monotonic: not asked after this."""
    not_before: float = 0.0
    """Monotonic: the slot that was reserved for it."""
    epoch: int = 0
    lane: Lane | None = None
    answer: Any = None
    is_sent: bool = False
    reported: threading.Event | None = None
    """Set when the receivers of the claim have been called; None if the request does not wait for them."""
    may_go: Callable[[], bool] = bool
    """Return whether the request no longer waits for the receivers."""
    is_void: bool = False
    """Whether the claim was lost before the request began: it is not sent."""


class Lane:
    """One provider in one run."""

    def __init__(
        self, provider: Provider, done: SimpleQueue[Job], *, concurrency: int | None = None, rate: float | None = None
    ) -> None:
        self.provider = provider
        self.alias = provider.alias
        self.concurrency = concurrency or provider.concurrency
        self.rate = rate or provider.rate
        self.window = self._window()
        """The most rows that may be claimed and not yet recorded: what a crash can leave in doubt."""
        self.open = 0
        """Claimed and not yet recorded."""
        self.fed = 0
        """Handed to the threads and not yet back."""
        self.parked: deque[Job] = deque()
        """Came back unsent."""
        self.is_probing = self.rate is not None
        """Whether one request at a time is sent, until one gets an answer.

        With a rate also at the beginning: while a process warms up, its first requests would leave late and together.
        """
        self.failures = 0
        self.hold_code = ""
        self.has_news = False
        """Whether something about the provider is to be told to the other processes."""
        self.look_again_at = 0.0
        """Monotonic: before this there is no free slot."""
        self.next_own_slot = 0.0
        """Monotonic: this run's own rate, which holds also if another process writes nearer slots at a higher one."""
        self._held_until = 0.0
        self._limited = 0
        """How many probes in a row met a 429."""
        self.knows_none = False
        """Whether the provider does not know the invoices: nothing more is sent in this run."""
        self.knows_some = False
        self._unknown = 0
        self._epoch = 0
        self._lock = threading.Lock()
        self._jobs: SimpleQueue[Job | None] = SimpleQueue()
        self._done = done
        self._threads: list[threading.Thread] = []
        self._stopped = threading.Event()
        self.is_halted = False
        """Whether nothing more is sent, as after ``stop``; set where no lock may be taken."""
        self._process = os.getpid()

    def _window(self) -> int:
        ttl = conf.get().claim_ttl
        bounds = [2 * self.concurrency + GROUP, self.concurrency * (ttl / 2) / self.provider.deadline]
        if self.rate:
            bounds.append(self.rate * ttl / 4)
        return max(1, int(min(bounds)))

    # -- the pause --------------------------------------------------------------------------------------------

    @property
    def held_for(self) -> float:
        """Seconds for which nothing is sent."""
        return max(self._held_until - time.monotonic(), 0.0)

    def may_feed(self) -> bool:
        """Say whether the threads may be given something now."""
        return not self.held_for and not (self.is_probing and self.fed)

    @property
    def most_at_once(self) -> int:
        """How many are claimed and queued together: with a rate no more than it lets go in a second, and than can
        be sent at once.
        """
        return max(1, min(slots_at_once(self.rate), self.idle)) if self.rate else GROUP

    @property
    def idle(self) -> int:
        """How many threads have nothing to do: with a rate no others get slots, they could not keep them."""
        return self.concurrency - self.fed

    @property
    def is_hungry(self) -> bool:
        """Whether the threads will soon have nothing to do, and may have something."""
        if time.monotonic() < self.look_again_at:
            return False
        return self.idle > 0 if self.rate else self.queued <= self.concurrency

    def rest(self) -> None:
        """Look for a free slot again in a moment."""
        self.look_again_at = time.monotonic() + LOOK_AGAIN_SECONDS

    @property
    def epoch(self) -> int:
        """Grows with each pause: what was asked before one says nothing about whether it is over."""
        return self._epoch

    def learn(self, state: ProviderState | None) -> None:
        """Take over what other processes know about the provider."""
        if state is None:
            return
        with self._lock:
            if state.seconds_left > self.held_for:
                self._hold(state.seconds_left, state.pause_code)
            if not self.has_news and not self.fed:
                self.failures = max(self.failures, state.failures)
                self.is_probing = self.is_probing or bool(state.pause_code)
        now = utc_now()
        if self.rate and state.next_slot(self.rate, now) > now + NEAR:
            self.rest()

    def note(self, epoch: int, code: str, *, says_nothing: bool, retry_after: float | None) -> None:
        """Note what a reply says about the provider; ``says_nothing``: nothing about the invoice."""
        if code == Code.LEASE_EXPIRED:
            return  # our own doing
        with self._lock:
            self.has_news = True
            is_new = epoch == self._epoch
            if code == Code.RATE_LIMITED:
                self._limited += is_new
                self._hold(max(RATE_PAUSE_SECONDS if retry_after is None else retry_after, self._least_pause()), code)
                return
            self._count_unknown(code, says_nothing)
            self.failures = self.failures + 1 if says_nothing else 0
            if code == Code.BAD_CREDENTIALS or self.failures >= FAILURES_THAT_PAUSE:
                self._hold(PAUSE_SECONDS, code)
            elif not says_nothing and is_new:
                self.is_probing, self.hold_code, self._limited = False, "", 0

    def add_unknown(self, count: int, knows_some: bool) -> None:
        """Take over how many invoices were unknown in earlier slices and other workers, and whether one was known."""
        with self._lock:
            self._unknown = max(self._unknown, count)
            self.knows_some = self.knows_some or knows_some
            self._end_if_unknown()

    def _count_unknown(self, code: str, says_nothing: bool) -> None:
        """Count answers that the invoice is not known; ten of them, and none other, end the run for this provider."""
        if code == Code.NOT_FOUND:
            self._unknown += 1
        elif not says_nothing:
            self.knows_some = True
        self._end_if_unknown()

    def _end_if_unknown(self) -> None:
        was_ended = self.knows_none
        self.knows_none = self._unknown >= UNKNOWN_THAT_END and not self.knows_some
        if self.knows_none and not was_ended:
            self._epoch += 1  # what is queued comes back unsent

    def _least_pause(self) -> float:
        return float(LEAST_RATE_PAUSE_SECONDS * 2 ** min(max(self._limited - 1, 0), 10))

    def _hold(self, seconds: float, code: str) -> None:
        """Send nothing for so many seconds; what is queued comes back unsent."""
        self._held_until = max(self._held_until, time.monotonic() + seconds)
        self._epoch += 1
        self.hold_code = code
        self.is_probing = True

    # -- the threads ------------------------------------------------------------------------------------------

    def feed(self, job: Job) -> None:
        """Queue a job for the threads."""
        if len(self._threads) < min(self.concurrency, self.fed + 1):
            self._hire()
        job.lane, job.epoch = self, self._epoch
        self.fed += 1
        self._jobs.put(job)

    def _hire(self) -> None:
        """Start one more thread; where the machine has no more to give, those that there are do the work."""
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

    def take_parked(self) -> list[Job]:
        """Return the jobs that came back unsent, and forget them."""
        jobs = list(self.parked)
        self.parked.clear()
        return jobs

    @property
    def queued(self) -> int:
        """How many jobs wait for a thread."""
        return self._jobs.qsize()

    def stop(self) -> None:
        """Send nothing more; what is queued comes back unsent."""
        self._stopped.set()
        self._return_queued()

    def close(self) -> None:
        """Stop, and wait for what is in flight."""
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
            if job.reported is not None and not self.rate:  # with a rate, a job waits for its slot only
                while not job.reported.wait(REPORT_CHECK_SECONDS) and not job.may_go():
                    pass
            if job.not_before:
                self._stopped.wait(job.not_before - time.monotonic())
            try:
                if self._is_wanted(job):
                    job.is_sent = True
                    job.answer = job.ask(job)
            except BaseException as bug:  # noqa: BLE001 - an adapter's CancelledError or exit must not end the thread
                tell_bug(self.provider, bug)
                self.note(job.epoch, Code.ADAPTER_ERROR, says_nothing=True, retry_after=None)
            finally:  # however it went, the engine gets the job back
                self._done.put(job)
            if os.getpid() != self._process:  # the adapter forked, and this is the child
                return

    def _is_wanted(self, job: Job) -> bool:
        now = time.monotonic()
        is_late = job.not_before and now > job.not_before + LATE_SECONDS
        is_stopped = self.is_halted or self._stopped.is_set()
        return not (job.is_void or is_late or is_stopped or job.epoch != self._epoch or now >= job.stale_at)
