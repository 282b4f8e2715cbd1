"""What a bulk cancel and a bulk reconcile have in common: topping up, collecting, and an orderly end.

All database work is done in the caller's thread; the lanes' threads only speak to providers. However a run ends - at
its end, stopped, closed, by an exception - it sends nothing more, waits for what is in flight and records it.
"""

from __future__ import annotations

import logging
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Generator, Iterator, Sequence
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING

from django.db import DatabaseError

from ..intents import Intent
from ..outcomes import CancelResult, Code
from ..results import skipped, told
from .lanes import Job, Lane
from .tracks import Track

if TYPE_CHECKING:
    from ..models import Invoice
    from ..models.verbs import InvoiceVerbs

logger = logging.getLogger("django_invoice_cancel")

TICK_SECONDS = 0.05
"""How long a run waits for an answer before it looks again whether there is something to do."""
LONGEST_WAIT_SECONDS = 60.0
"""A pause up to this is waited for; a longer one passes over the provider's other invoices."""


class Run(ABC):
    """One bulk run in this process."""

    def __init__(
        self,
        verbs: InvoiceVerbs,
        intent: Intent,
        done: SimpleQueue[Job],
        *,
        stop: threading.Event | None = None,
        limit: int | None = None,
    ) -> None:
        self.verbs = verbs
        self.intent = intent
        self.stop = stop or threading.Event()
        self.left = float("inf") if limit is None else limit
        self._done = done
        self._tracks: dict[str, Track] = {}
        self._ready: list[CancelResult] = []

    def run(self, tracks: Sequence[Track]) -> Generator[CancelResult, None, None]:
        """Do what the tracks bring; yield one result for each invoice, once it is recorded."""
        self._tracks = {track.alias: track for track in tracks}
        self._cut_at_limit()
        try:
            while not self.stop.is_set() and self._is_busy():
                has_moved = [self._top_up(track) for track in tracks]
                yield from self._results()
                self._collect(0.0 if any(has_moved) else TICK_SECONDS)
                self._record_if_due()
            self._wind_down()
            yield from self._results()
        finally:
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

    @abstractmethod
    def _conclude(self) -> None:
        """Record all that was taken in and put back the rest; the lanes are closed."""

    # -- what all of them do ----------------------------------------------------------------------------------

    def _is_busy(self) -> bool:
        return bool(self._ready) or any(track.is_busy or not track.is_over for track in self._tracks.values())

    def _take(self, track: Track, count: int) -> list[Invoice]:
        """Take a track's next invoices, of its selection as far as the limit goes."""
        taken, fresh = track.take(count, self.left)
        self.left -= fresh
        self._cut_at_limit()
        return taken

    def _cut_at_limit(self) -> None:
        if self.left <= 0:
            for track in self._tracks.values():
                track.walk.cut()

    def _slot(self, lane: Lane, count: int) -> float | None:
        """Reserve slots for so many requests; return the first (monotonic; 0: at once), None where none is near."""
        if not lane.rate:
            return 0.0
        start = self.verbs.reserve(lane.alias, count, lane.rate)
        if start:
            return time.monotonic() + start - time.time()
        lane.rest()
        return None

    def _tell(self, said: CancelResult) -> None:
        """Keep a result for the caller; its line of the log file is written now: who closes us gets no more results."""
        self._ready.append(told(said))

    def _pass_over(self, invoice: Invoice, seconds: float) -> None:
        self._tell(skipped(invoice, Code.PROVIDER_PAUSED, retry_after=seconds))

    def _results(self) -> Iterator[CancelResult]:
        ready, self._ready = self._ready, []
        yield from ready

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
                self.verbs.tell_state(lane.alias, seconds=lane.held_for, code=lane.hold_code, failures=lane.failures)
            except DatabaseError:
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
