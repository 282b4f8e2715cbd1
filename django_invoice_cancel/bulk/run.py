"""What a bulk cancel and a bulk reconcile have in common: topping up, collecting, and an orderly end.

All database work is done in the caller's thread; the lanes' threads only speak to providers. However a run ends - at
its end, stopped, closed, by an exception - it sends nothing more, waits for what is in flight and records it.

The signals of what is written are sent between the other work, a few at a time: receivers may take as long as they
like, and no claim waits for them.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Iterator, Sequence
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any

from django.db import DatabaseError, InterfaceError, connections

from ..domain.audit import Intent
from ..domain.outcomes import CancelResult, Code
from ..services.results import skipped, told
from .garbage import is_collecting, run_in_background, watch_collections
from .queues import Track
from .workers import GROUP, NEAR, Job, Lane

if TYPE_CHECKING:
    from ..models import Invoice
    from ..models.writes import InvoiceWriter
    from ..models.writes.notices import Notice

logger = logging.getLogger("django_invoice_cancel")

DATABASE_ERRORS = (DatabaseError, InterfaceError)
TICK_SECONDS = 0.05
"""How long a run waits for an answer before it looks again whether there is something to do."""
LONGEST_WAIT_SECONDS = 60.0
"""A pause up to this is waited for; a longer one passes over the provider's other invoices."""
REPORT_SECONDS = 0.05
"""How long signals are sent before the run looks after its requests again; one signal is sent at least."""
SLOW_SECONDS = 0.1
"""If a signal took longer, the next ones are sent when no request is in flight: answers do not wait for receivers."""
LAST_REPORT_SECONDS = 5.0
"""How long signals are still sent after an exception ended the run."""


class Run(ABC):
    """One bulk run in this process."""

    def __init__(
        self,
        writer: InvoiceWriter,
        intent: Intent,
        done: SimpleQueue[Job],
        *,
        stop: threading.Event | None = None,
        limit: int | None = None,
    ) -> None:
        self.writer = writer
        self.intent = intent
        self.stop = stop or threading.Event()
        self.left = float("inf") if limit is None else limit
        self.outbox = writer.in_bulk()
        self._done = done
        self._tracks: dict[str, Track] = {}
        self._ready: list[CancelResult] = []
        self._process = 0
        self._is_slow = False
        """Whether the last signal took long."""
        self._reporting_since = float("inf")
        """Monotonic: when the call of the receivers began that is under way."""
        self._has_failed = False

    def run(self, tracks: Sequence[Track]) -> Generator[CancelResult, None, None]:
        """Do what the tracks bring; yield one result for each invoice, once it is recorded."""
        self._process, is_collected = os.getpid(), False
        self._tracks = {track.alias: track for track in tracks}
        self._cut_at_limit()
        watch_collections()
        try:
            while not self.stop.is_set() and self._is_busy():
                has_moved = [self._top_up(track) for track in tracks]
                yield from self._results()
                self._collect(0.0 if any(has_moved) or self._may_report else TICK_SECONDS)
                self._record_if_due()
                self._report_some()
            self._wind_down()
            yield from self._results()
        except GeneratorExit:
            is_collected = is_collecting()
            raise
        except BaseException:
            self._has_failed = True
            raise
        finally:
            if self._is_own and is_collected:
                self._leave_to_background()
            elif self._is_own:  # a forked child has none of the threads, and the claims are its parent's
                self._wind_down()

    # -- what a kind of run decides ---------------------------------------------------------------------------

    @abstractmethod
    def _top_up(self, track: Track) -> bool:
        """Give the track's lane something to do, if it may; return whether anything moved."""

    @abstractmethod
    def _take_in(self, job: Job, lane: Lane, track: Track) -> None:
        """Take in what came back from a lane's thread."""

    def _record_if_due(self) -> None:  # noqa: B027 - a reconcile records at once
        """Record what is taken in, where that is not done at once."""

    def _on_reported(self, notice: Notice) -> None:  # noqa: B027 - only a bulk cancel needs it
        """Take note that a signal was sent."""

    @abstractmethod
    def _conclude(self) -> None:
        """Record all that was taken in and put back the rest; the lanes are closed."""

    # -- what all of them do ----------------------------------------------------------------------------------

    @property
    def _is_own(self) -> bool:
        """Whether this is the process that began the run."""
        return os.getpid() == self._process

    def _is_busy(self) -> bool:
        is_at_work = any(track.is_busy or not track.is_over for track in self._tracks.values())
        return is_at_work or bool(self._ready or self.outbox)

    def _take(self, track: Track, count: int) -> list[Invoice]:
        """Take a track's next invoices, of its selection as far as the limit goes.

        Those that belong to another account by now are skipped: this one must not be asked about them.
        """
        taken, fresh = track.take(count, self.left)
        self.left -= fresh
        self._cut_at_limit()
        moved = [invoice for invoice in taken if invoice.provider != track.alias]
        for invoice in moved:
            track.earlier.pop(invoice.pk, None)
            self._tell(skipped(invoice, Code.CHANGED))
        return [invoice for invoice in taken if invoice not in moved] if moved else taken

    def _cut_at_limit(self) -> None:
        if self.left <= 0:
            for track in self._tracks.values():
                track.walk.cut()

    def _learn(self, lane: Lane) -> None:
        """Take over what other processes know about the provider."""
        lane.learn(self.writer.repeat(lambda: self.writer.provider_state(lane.alias)))

    def _slot(self, lane: Lane, count: int) -> float | None:
        """Reserve slots for so many requests; return the first (monotonic; 0: at once), None where none is near."""
        if not lane.rate:
            return 0.0
        if lane.next_own_slot > time.monotonic() + NEAR.total_seconds():
            lane.rest()
            return None
        try:
            start = self.writer.reserve(lane.alias, count, lane.rate)
        except DATABASE_ERRORS as error:
            self._refuse_lost_database(lane.alias)
            logger.warning("No slot could be reserved for %s (%s).", lane.alias, type(error).__name__)
            start = 0.0
        if start:
            slot = time.monotonic() + start - time.time()
            lane.next_own_slot = slot + count / lane.rate
            return slot
        lane.rest()
        return None

    def _each(self, write: Callable[[list[Invoice]], Any], invoices: list[Invoice]) -> tuple[list[Any], list[Invoice]]:
        """Write a group; if the database refuses it, row by row.

        Returns the results of ``write``, concatenated, and the invoices that the database refused.
        """
        try:
            return list(write(invoices) or ()), []
        except DATABASE_ERRORS as error:
            self._refuse_lost_database(invoices[0].provider)
            if len(invoices) == 1:
                logger.warning("The database refused to write an invoice (%s): %s.", type(error).__name__, invoices[0])
                return [], invoices
        pairs = [self._each(write, [invoice]) for invoice in invoices]
        return [each for done, _ in pairs for each in done], [each for _, refused in pairs for each in refused]

    def _refuse_lost_database(self, alias: str) -> None:
        """Raise the database's error if it is out of reach: then it is not about a single row."""
        self.writer.provider_state(alias)

    def _tell(self, said: CancelResult) -> None:
        """Keep a result for the caller; its line of the log file is written now: who closes us gets no more results."""
        self._ready.append(told(said))

    def _pass_over(self, invoice: Invoice, seconds: float) -> None:
        self._tell(skipped(invoice, Code.PROVIDER_PAUSED, retry_after=seconds))

    def _results(self) -> Iterator[CancelResult]:
        ready, self._ready = self._ready, []
        for each in ready:
            yield each
            if not self._is_own:
                raise RuntimeError("A bulk run goes on only in the process that began it, not in a forked child.")

    def _collect(self, patience: float) -> None:
        """Wait for something to come back, so long at most, and take in all that has."""
        try:
            self._came_back(self._done.get(timeout=patience) if patience else self._done.get_nowait())
            while True:
                self._came_back(self._done.get_nowait())
        except Empty:
            return

    def _came_back(self, job: Job) -> None:
        lane = job.lane
        if lane is None:
            raise AssertionError("A job came back that no lane was fed with.")
        lane.fed -= 1
        self._take_in(job, lane, self._tracks[lane.alias])

    def _tell_states(self) -> None:
        """Tell the other processes what this one learned about its providers; they can do without."""
        for lane in self._lanes():
            if not lane.has_news:
                continue
            lane.has_news = False
            try:
                self.writer.update_provider_state(
                    lane.alias, seconds=lane.held_for, code=lane.hold_code, failures=lane.failures
                )
            except DATABASE_ERRORS:
                logger.exception("What was learned about %s was not written.", lane.alias)

    def _lanes(self) -> Iterator[Lane]:
        return (track.lane for track in self._tracks.values() if track.lane is not None)

    def _wind_down(self) -> None:
        """Send nothing more, wait for what is in flight, record it, put back the rest. Idempotent."""
        for lane in self._lanes():
            lane.stop()
        for lane in self._lanes():
            lane.close()
        self._collect(0.0)
        self._conclude()
        self._tell_states()
        self._report_rest()

    def _leave_to_background(self) -> None:
        """End the run in another thread. Takes no lock and logs nothing: this thread may be anywhere."""
        for lane in self._lanes():
            lane.is_halted = True
        run_in_background(self._finish_abandoned)

    def _finish_abandoned(self) -> None:
        """Wind down a run that the garbage collector ended, in a thread of its own."""
        logger.warning("A bulk run was abandoned and is finished in the background: close its generator.")
        try:
            self._wind_down()
        except Exception:
            logger.exception("An abandoned bulk run was not finished: reconcile_invoices completes it.")
        finally:
            connections.close_all()

    # -- signals ----------------------------------------------------------------------------------------------

    @property
    def _is_behind(self) -> bool:
        """Whether so many signals wait that nothing new is claimed: memory stays flat."""
        return len(self.outbox) >= GROUP

    @property
    def _may_report(self) -> bool:
        return bool(self.outbox) and not (self._is_slow and any(lane.open for lane in self._lanes()))

    def _report_some(self) -> None:
        until = time.monotonic() + REPORT_SECONDS
        while self._may_report:
            self._report()
            if time.monotonic() >= until:
                return

    def _report(self) -> None:
        notice = self.outbox.take()
        began = self._reporting_since = time.monotonic()
        try:
            notice.send()
        finally:
            self._reporting_since = float("inf")
            self._is_slow = time.monotonic() - began >= SLOW_SECONDS
        self._on_reported(notice)

    def _report_rest(self) -> None:
        """Send all signals that are left, after an exception for a moment only; raise the first interruption."""
        until = time.monotonic() + LAST_REPORT_SECONDS if self._has_failed else float("inf")
        interruption: Exception | None = None
        while self.outbox and time.monotonic() < until:
            try:
                self._report()
            except Exception as error:  # noqa: BLE001 - raised below; any other BaseException ends it at once
                interruption = interruption or error
                until = min(until, time.monotonic() + LAST_REPORT_SECONDS)
        if interruption is not None and not self._has_failed:
            raise interruption
