"""Reconcile and check many: lookups in groups of the provider's size, shared with whoever else reconciles.

Lookups go through the same lanes as cancels: pauses and probes hold for them too. Each answer is recorded on its
own, with its row locked: a webhook may say something else in the same moment.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Iterator
from functools import partial
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING

from ..asking import look_up
from ..intents import Intent
from ..outcomes import CancelResult, Code, LookupReply
from ..results import skipped, standing, told
from ..services import ready_provider, reconciled, result_of_lookup
from ..statuses import Status
from .engine import LONGEST_WAIT_SECONDS
from .lanes import Job, Lane
from .tracks import Track

if TYPE_CHECKING:
    from ..models import Invoice
    from ..models.verbs import InvoiceVerbs
    from ..models.verbs.observations import Seen


class Checker:
    """One bulk reconcile in this process."""

    def __init__(
        self,
        verbs: InvoiceVerbs,
        intent: Intent,
        done: SimpleQueue[Job],
        *,
        resubmit: bool = False,
        stop: threading.Event | None = None,
        limit: int | None = None,
        also: Callable[[CancelResult], None] | None = None,
    ) -> None:
        self.verbs = verbs
        self.intent = intent
        self.resubmit = resubmit
        self.stop = stop or threading.Event()
        self.left = float("inf") if limit is None else limit
        self.also = also
        """Called within each transaction that records an answer, with its result."""
        self._done = done
        self._tracks: list[Track] = []
        self._ready: list[CancelResult] = []

    def run(self, tracks: list[Track]) -> Generator[CancelResult, None, None]:
        """Look up what the tracks bring; yield one result for each invoice, once it is recorded."""
        self._tracks = tracks
        try:
            while not self.stop.is_set() and self._is_busy():
                for track in tracks:
                    self._top_up(track)
                yield from self._told()
                self._collect(timeout=0.2 if any(track.is_busy for track in tracks) else 0.0)
            self._wind_down()
            yield from self._told()
        finally:
            self._wind_down()

    def _is_busy(self) -> bool:
        return bool(self._ready) or any(track.is_busy or not track.is_over for track in self._tracks)

    def _top_up(self, track: Track) -> None:
        lane = track.lane
        if lane is None or not lane.provider.supports_lookup:
            for invoice in self._take(track, 1):
                self._one_by_one(invoice)
            return
        if lane.held_for:
            self._rest(track, lane)
            return
        while not track.is_over and lane.may_feed() and lane.fed < lane.concurrency and not self.stop.is_set():
            lane.learn(self.verbs.provider_state(lane.alias))
            if not lane.may_feed() or (lane.rate and not self.verbs.reserve(lane.alias, 1, lane.rate)):
                return
            self._ask_group(track, lane)

    def _ask_group(self, track: Track, lane: Lane) -> None:
        mine = self._booked(self._take(track, lane.provider.lookup_group_size))
        if mine:
            lane.open += 1
            lane.feed(Job([self.verbs.seen(invoice) for invoice in mine], partial(self._ask, lane)))

    def _booked(self, invoices: list[Invoice]) -> list[Invoice]:
        """Return those to look up now; the others have their result: in progress, or another process has them."""
        abandoned = [invoice for invoice in invoices if invoice.is_abandoned]
        if abandoned:
            self.verbs.abandon(abandoned, self.intent)
        ready = [invoice for invoice in invoices if self._is_ready(invoice)]
        due = [invoice for invoice in ready if invoice.next_check_at is not None]
        won = {invoice.pk for invoice in self.verbs.book_check(due)} if due else set()
        lost = [invoice for invoice in due if invoice.pk not in won]
        self._ready += [skipped(invoice, Code.BEING_CHECKED) for invoice in lost]
        return [invoice for invoice in ready if invoice.pk in won or invoice.next_check_at is None]

    def _is_ready(self, invoice: Invoice) -> bool:
        ready = ready_provider(invoice)
        if isinstance(ready, CancelResult):
            self._ready.append(ready)
            return False
        if invoice.status == Status.CANCELING:
            self._ready.append(skipped(invoice, Code.IN_PROGRESS))
            return False
        return True

    def _one_by_one(self, invoice: Invoice) -> None:
        """Reconcile an invoice that cannot be looked up: by a repeat if that is wanted."""
        if self.resubmit or invoice.is_abandoned:
            self._ready.append(reconciled(invoice, self.intent, resubmit=self.resubmit))
        elif self._is_ready(invoice):
            self._ready.append(standing(invoice, Code.NO_LOOKUP))

    def _ask(self, lane: Lane, job: Job) -> dict[str, LookupReply]:
        """Look up, in a lane's thread, and note at once what the replies say about the provider."""
        seen: list[Seen] = job.subject
        replies = look_up(lane.provider, [one.invoice.external_id for one in seen])
        worst = next((reply for reply in replies.values() if not reply.is_answer), None)
        says_nothing = not any(reply.is_answer for reply in replies.values())
        code, retry_after = (worst.code, worst.retry_after) if worst and says_nothing else ("", None)
        lane.note(job, code, says_nothing=says_nothing, retry_after=retry_after)
        return replies

    def _rest(self, track: Track, lane: Lane) -> None:
        if lane.held_for > LONGEST_WAIT_SECONDS and not track.is_busy:
            for invoice in self._take(track, 100):
                self._ready.append(skipped(invoice, Code.PROVIDER_PAUSED, retry_after=lane.held_for))

    def _take(self, track: Track, count: int) -> list[Invoice]:
        taken = track.walk.take(int(min(count, self.left)))
        self.left -= len(taken)
        if self.left <= 0:
            track.walk.cut()
        return taken

    # -- answers ----------------------------------------------------------------------------------------------

    def _collect(self, timeout: float) -> None:
        try:
            self._take_in(self._done.get(timeout=timeout) if timeout else self._done.get_nowait())
            while True:
                self._take_in(self._done.get_nowait())
        except Empty:
            return

    def _take_in(self, job: Job) -> None:
        """Record a group's answers. Those that came back unsent keep their booking: they are due again soon."""
        lane = job.lane
        if lane is None:
            raise AssertionError("A job came back that no lane was fed with.")
        lane.fed -= 1
        lane.open -= 1
        self._tell_state(lane)
        paused = LookupReply(None, Code.PROVIDER_PAUSED, is_answer=False)
        replies = job.answer or {}
        for seen in job.subject:
            reply = replies.get(seen.invoice.external_id, paused)
            self.verbs.record_lookup(seen, reply, self.intent, also=partial(self._also, seen.invoice, reply))
            self._ready.append(result_of_lookup(seen.invoice, reply))

    def _also(self, invoice: Invoice, reply: LookupReply) -> None:
        if self.also is not None:
            self.also(result_of_lookup(invoice, reply))

    def _tell_state(self, lane: Lane) -> None:
        if lane.has_news:
            lane.has_news = False
            self.verbs.tell_state(lane.alias, seconds=lane.held_for, code=lane.hold_code, failures=lane.failures)

    def _told(self) -> Iterator[CancelResult]:
        ready, self._ready = self._ready, []
        for said in ready:
            yield told(said)

    def _wind_down(self) -> None:
        for track in self._tracks:
            if track.lane is not None:
                track.lane.close()
        self._collect(timeout=0.0)
