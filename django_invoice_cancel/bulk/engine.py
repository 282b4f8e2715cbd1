"""The engine of a bulk cancel: a sliding window of claims, topped up while requests are in flight.

All database work is done in the caller's thread, in groups; the lanes' threads only speak to providers. However it
ends - at its end, stopped, closed, by an exception - every invoice that was submitted is recorded or an abandoned
claim, and every other one has the status it had.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from functools import partial
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING

from ..asking import submit
from ..attempts import Answer, Claim
from ..intents import Intent
from ..outcomes import CancelResult, Code, Outcome, ProviderReply
from ..results import WHY_NOT, result, skipped, told
from ..services import not_claimed, ready_provider, recorded, result_of
from ..statuses import Status
from .lanes import GROUP, Job, Lane
from .tracks import Track

if TYPE_CHECKING:
    from ..models import Invoice
    from ..models.verbs import InvoiceVerbs

logger = logging.getLogger("django_invoice_cancel")

RECORD_AFTER_SECONDS = 0.25
"""An answer waits no longer than this for its group to fill."""
LONGEST_WAIT_SECONDS = 60.0
"""A pause up to this is waited for; a longer one skips the provider's other invoices."""
GIVEN_BACK_SECONDS = 5.0
"""Claims that meet a pause longer than this are given back."""


class Engine:
    """One bulk cancel in this process."""

    def __init__(
        self,
        verbs: InvoiceVerbs,
        intent: Intent,
        done: SimpleQueue[Job],
        *,
        stop: threading.Event | None = None,
        limit: int | None = None,
        also: Callable[[Sequence[Answer]], None] | None = None,
        leave_when_paused: bool = False,
        tries: int = 2,
    ) -> None:
        self.verbs = verbs
        self.intent = intent
        self.stop = stop or threading.Event()
        self.left = float("inf") if limit is None else limit
        self.also = also
        """Called within each transaction that records answers."""
        self.leave_when_paused = leave_when_paused
        """Leave the invoices of a paused provider untried and without a result, rather than skip them."""
        self.tries = tries
        """How often an invoice is sent of which nothing was processed: once or twice."""
        self._done = done
        self._tracks: dict[str, Track] = {}
        self._answers: list[Answer] = []
        self._waiting_since = 0.0
        self._ready: list[CancelResult] = []

    def run(self, tracks: dict[str, Track]) -> Generator[CancelResult, None, None]:
        """Cancel what the tracks bring; yield one result for each invoice, once it is recorded."""
        self._tracks = tracks
        try:
            while not self.stop.is_set() and self._is_busy():
                for track in tracks.values():
                    self._top_up(track)
                yield from self._told()
                self._collect()
                self._record_if_due()
            self._wind_down()
            yield from self._told()
        finally:
            self._wind_down()

    def _is_busy(self) -> bool:
        tracks = self._tracks.values()
        return bool(self._answers or self._ready) or any(track.is_busy or not track.is_over for track in tracks)

    # -- claiming ---------------------------------------------------------------------------------------------

    def _top_up(self, track: Track) -> None:
        """Claim and queue as many as the window, the pause and the rate allow."""
        lane = track.lane
        if lane is None:
            self._skip(track, 0.0)
        elif lane.held_for:
            self._rest(track, lane)
        elif lane.parked:
            self._resume(track, lane)
        elif not track.is_over and lane.may_feed() and lane.queued <= lane.concurrency:
            lane.learn(self.verbs.provider_state(lane.alias))
            if lane.may_feed():
                self._claim_group(track, lane)

    def _claim_group(self, track: Track, lane: Lane) -> None:
        if self._answers and lane.window - lane.open < GROUP:
            self._record()
        size = 1 if lane.is_probing else min(lane.window - lane.open, GROUP)
        start = 0.0
        if lane.rate and size > 0:
            size = min(size, max(1, int(lane.rate)))
            start = self.verbs.reserve(lane.alias, size, lane.rate)
            if not start:
                return
        invoices = [invoice for invoice in self._take(track, size) if self._is_sendable(invoice)]
        if not invoices:
            return
        claim = self.verbs.claim(invoices, self.intent, unless_paused=False)
        won = {invoice.pk for invoice in claim.invoices}
        self._ready += [not_claimed(invoice) for invoice in invoices if invoice.pk not in won]
        lane.open += len(won)
        for number, invoice in enumerate(claim.invoices):
            slot = start + number / lane.rate if lane.rate else 0.0
            stale_at = claim.opened_monotonic + claim.ttl / 2
            lane.feed(Job((claim, invoice), partial(self._ask, lane), stale_at=stale_at, not_before=slot))

    def _ask(self, lane: Lane, job: Job) -> Answer:
        """Submit, in a lane's thread, and note at once what the reply says about the provider."""
        claim, invoice = job.subject
        answer = submit(lane.provider, claim, invoice)
        reply = answer.reply
        says_nothing = reply.outcome in (Outcome.IN_DOUBT, Outcome.NOT_PROCESSED)
        lane.note(job, reply.code, says_nothing=says_nothing, retry_after=reply.retry_after)
        return answer

    def _take(self, track: Track, count: int) -> list[Invoice]:
        """Take the next invoices: of the selection as far as the limit goes, then those that come again."""
        taken = track.walk.take(int(min(count, self.left)))
        self.left -= len(taken)
        while len(taken) < count and track.again:
            taken.append(track.again.popleft())
        if self.left <= 0:
            track.walk.cut()
        return taken

    def _is_sendable(self, invoice: Invoice) -> bool:
        why_not = why_not_sendable(invoice)
        if why_not is not None:
            self._ready.append(why_not)
        return why_not is None

    # -- pauses -----------------------------------------------------------------------------------------------

    def _resume(self, track: Track, lane: Lane) -> None:
        """Queue again what came back unsent: one as a probe, then the rest; too old, it is claimed anew."""
        while lane.parked and lane.may_feed():
            job = lane.parked.popleft()
            if time.monotonic() < job.stale_at:
                lane.feed(job)
            else:
                self._give_back(track, lane, [job])

    def _rest(self, track: Track, lane: Lane) -> None:
        """Let a paused provider alone: give back what would wait too long; pass over the rest where it is long."""
        if lane.parked and lane.held_for > GIVEN_BACK_SECONDS:
            jobs = list(lane.parked)
            lane.parked.clear()
            self._give_back(track, lane, jobs)
        if lane.held_for > LONGEST_WAIT_SECONDS and not track.is_busy:
            if self.leave_when_paused:
                self._leave(track)
            else:
                self._skip(track, lane.held_for)

    def _skip(self, track: Track, seconds: float) -> None:
        """Give a group of invoices their results where nothing can be sent."""
        for invoice in self._take(track, GROUP):
            if invoice.pk in track.earlier:
                self._ready.append(track.earlier.pop(invoice.pk))
            elif self._is_sendable(invoice):
                self._ready.append(skipped(invoice, Code.PROVIDER_PAUSED, retry_after=seconds))

    def _leave(self, track: Track) -> None:
        track.is_left = True
        self._ready += track.untold()

    def _give_back(self, track: Track, lane: Lane, jobs: list[Job]) -> None:
        """Give back claims for which nothing was sent; their invoices come again later in this run."""
        groups: dict[int, tuple[Claim, list[Invoice]]] = {}
        for job in jobs:
            claim, invoice = job.subject
            groups.setdefault(id(claim), (claim, []))[1].append(invoice)
        for claim, invoices in groups.values():
            self.verbs.give_back(claim, invoices)
            track.again.extend(invoices)
        lane.open -= len(jobs)

    # -- answers ----------------------------------------------------------------------------------------------

    def _collect(self) -> None:
        """Wait for something to come back, not longer than until something else is due."""
        try:
            self._take_in(self._done.get(timeout=self._patience()))
            while True:
                self._take_in(self._done.get_nowait())
        except Empty:
            return

    def _patience(self) -> float:
        """Return for how many seconds there is nothing to do but wait."""
        if any(track.is_busy for track in self._tracks.values()):
            return 0.05
        holds = [track.lane.held_for for track in self._tracks.values() if track.lane and not track.is_over]
        return min(0.2, *holds, 0.2) if holds and not self._ready else 0.0

    def _take_in(self, job: Job) -> None:
        lane = job.lane
        if lane is None:
            raise AssertionError("A job came back that no lane was fed with.")
        lane.fed -= 1
        if not job.is_sent:
            lane.parked.append(job)
            return
        claim, invoice = job.subject
        if not self._answers:
            self._waiting_since = time.monotonic()
        lost = ProviderReply(Outcome.IN_DOUBT, Code.ADAPTER_ERROR)
        self._answers.append(job.answer or Answer(claim, invoice, lost, 0))

    def _record_if_due(self) -> None:
        is_due = time.monotonic() - self._waiting_since >= RECORD_AFTER_SECONDS
        if self._answers and (is_due or len(self._answers) >= GROUP):
            self._record()

    def _record(self) -> None:
        """Record what came back, as one group; where that fails, one by one, and say which failed."""
        answers, self._answers = self._answers, []
        self._tell_states()
        try:
            self.verbs.record(answers, also=self.also)
            results = [result_of(answer) for answer in answers]
        except Exception as error:  # noqa: BLE001 - the providers have answered: each row gets its own try
            logger.warning("A group of answers was not recorded (%s): row by row.", type(error).__name__)
            results = [recorded(answer, also=self.also) for answer in answers]
        for answer, said in zip(answers, results, strict=True):
            self._keep(answer.invoice, said)

    def _keep(self, invoice: Invoice, said: CancelResult) -> None:
        """Keep a result for the caller, or for the one more try that follows."""
        track = self._tracks[invoice.provider]
        if track.lane is not None:
            track.lane.open -= 1
        if self.tries > 1 and track.wants_another_try(said, invoice.pk):
            track.earlier[invoice.pk] = said
            track.again.append(invoice)
        else:
            track.earlier.pop(invoice.pk, None)
            self._ready.append(said)

    def _tell_states(self) -> None:
        """Tell the other processes what this one learned about its providers."""
        for lane in (track.lane for track in self._tracks.values()):
            if lane is not None and lane.has_news:
                lane.has_news = False
                self.verbs.tell_state(lane.alias, seconds=lane.held_for, code=lane.hold_code, failures=lane.failures)

    def _told(self) -> Iterator[CancelResult]:
        ready, self._ready = self._ready, []
        for said in ready:
            yield told(said)

    def _wind_down(self) -> None:
        """Send nothing more, wait for what is in flight, record it, give the rest back. Idempotent."""
        for track in self._tracks.values():
            if track.lane is not None:
                track.lane.close()
        while not self._done.empty():
            self._take_in(self._done.get())
        for track in self._tracks.values():
            if track.lane is not None and track.lane.parked:
                jobs = list(track.lane.parked)
                track.lane.parked.clear()
                self._give_back(track, track.lane, jobs)
        if self._answers:
            self._record()
        self._tell_states()
        for track in self._tracks.values():
            self._ready += track.untold()


def why_not_sendable(invoice: Invoice) -> CancelResult | None:
    """Return the result of an invoice, as it was just read, that cannot be claimed; None for one that can."""
    ready = ready_provider(invoice)
    if isinstance(ready, CancelResult):
        return ready
    if invoice.status == Status.CREATED:
        return None
    if invoice.status == Status.CANCELED:
        return result(invoice, Outcome.ALREADY_CANCELED, Code.ALREADY_CANCELED)
    return skipped(invoice, WHY_NOT[Status(invoice.status)])
