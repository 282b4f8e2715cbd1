"""The engine of a bulk cancel: a sliding window of claims, topped up while requests are in flight.

However it ends, every invoice that was submitted is recorded or an abandoned claim, and every other one has the
status it had.
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
from typing import TYPE_CHECKING, Any
from uuid import UUID

from ..domain.audit import Intent, Wanted
from ..domain.claims import Answer, Claim
from ..domain.interruptions import is_interruption
from ..domain.outcomes import LAST_REFUSED, CancelResult, Code, Outcome, ProviderReply
from ..domain.statuses import MONEY
from ..registry import ConfigurationUnavailable
from ..services.cancel import not_claimed, not_done, recorded, result_of
from ..services.eligibility import why_not
from ..services.provider_calls import submit
from ..services.results import skipped, told
from .queues import Track
from .run import DATABASE_ERRORS, LONGEST_WAIT_SECONDS, SLOW_SECONDS, Run
from .workers import GROUP, Job, Lane

if TYPE_CHECKING:
    from ..models import Invoice
    from ..models.writes import InvoiceWriter
    from ..models.writes.notices import Notice

logger = logging.getLogger("django_invoice_cancel")

RECORD_AFTER_SECONDS = 0.25
"""An answer waits no longer than this for its group to fill; the last ones do not wait."""
GIVEN_BACK_SECONDS = 5.0
"""Claims that meet a pause longer than this are given back."""
LONGEST_REPORT_SECONDS = 1.0
"""A claimed request waits for the receivers of its claim, so that a payment that one of them records stops it: but no
longer than this, and not while one of them is slow."""


class Engine(Run):
    """One bulk cancel in this process."""

    def __init__(
        self,
        writer: InvoiceWriter,
        intent: Intent,
        done: SimpleQueue[Job],
        *,
        also: Callable[[Sequence[Answer]], None] | None = None,
        unknown_so_far: Callable[[str], tuple[int, bool]] | None = None,
        leave_when_paused: bool = False,
        tries: int = 2,
        **bounds: Any,
    ) -> None:
        super().__init__(writer, intent, done, **bounds)
        self.also = also
        """Called within each transaction that records answers."""
        self.unknown_so_far = unknown_so_far
        """Return for an alias how many invoices were unknown before and elsewhere, and whether one was known."""
        self.leave_when_paused = leave_when_paused
        """Leave the invoices of a paused provider untried and without a result, rather than skip them."""
        self.tries = tries
        """How often an invoice is sent of which nothing was processed: once or twice."""
        self._answers: list[Answer] = []
        self._waiting_since = 0.0
        self._unreported: dict[tuple[Any, Any], Job] = {}
        """Jobs that wait for the receivers of their claim, by attempt and invoice."""
        self._may_be_written = False
        """Whether answers are recorded anew, of which an interrupted try may have written some."""

    # -- claiming ---------------------------------------------------------------------------------------------

    def _top_up(self, track: Track) -> bool:
        """Claim and queue as many as the window, the pause and the rate allow."""
        lane = track.lane
        if lane is None:
            if self.leave_when_paused and isinstance(track.account, ConfigurationUnavailable):
                track.is_left = True
            return self._skip(track, Code.PROVIDER_PAUSED, 0.0)
        if lane.held_for:
            return self._rest(track, lane)
        if lane.knows_none and not self._knows_some(lane):
            return self._end_unknown(track, lane)
        if lane.parked:
            return self._send_parked(track, lane)
        if track.is_over or track.must_wait or self._is_behind or not lane.may_feed() or not lane.is_hungry:
            return False
        if self._answers and lane.window - lane.open < GROUP:
            self._record()
        if lane.open >= lane.window:
            return False
        self._learn(lane)
        self._knows_some(lane)
        if lane.knows_none or not lane.may_feed() or not lane.is_hungry:
            return bool(lane.held_for or lane.knows_none)
        return self._claim_group(track, lane)

    def _knows_some(self, lane: Lane) -> bool:
        """Return whether the provider knew an invoice, also in what other slices and workers recorded."""
        if self.unknown_so_far is not None and not lane.knows_some:
            with suppress(*DATABASE_ERRORS):
                lane.add_unknown(*self.writer.repeat(partial(self.unknown_so_far, lane.alias)))
        return lane.knows_some

    def _claim_group(self, track: Track, lane: Lane) -> bool:
        size = 1 if lane.is_probing else min(lane.window - lane.open, GROUP, lane.most_at_once)
        invoices = [invoice for invoice in self._take(track, size) if self._is_sendable(track, invoice)]
        if not invoices:
            return True
        won: set[Any] = set()
        try:
            for claim in self._claims(invoices):
                lane.open += len(claim.invoices)
                lane.parked.extend(self._jobs(lane, claim))
                won |= {invoice.pk for invoice in claim.invoices}
                self._send_parked(track, lane)  # before the receivers of the claim are called
        except DATABASE_ERRORS as error:
            self._refuse_lost_database(track.alias)
            self._on_refused(track, [invoice for invoice in invoices if invoice.pk not in won], error)
            return True
        for invoice in invoices:
            if invoice.pk not in won:
                self._finish(track, invoice, self._why_not_claimed(track, invoice))
        return True

    def _claims(self, invoices: list[Invoice]) -> Iterable[Claim]:
        """Claim a group; return its claims."""
        return [self.writer.claim(invoices, self.intent, unless_paused=False, unless_refused=True)]

    def _on_refused(self, track: Track, invoices: list[Invoice], error: Exception) -> None:
        """Put invoices that the database refused to claim back, to be claimed one by one.

        One that is refused alone comes again later in this run, if invoices are tried twice, or else is skipped.
        """
        if len(invoices) > 1:
            logger.info("A group of invoices was not claimed (%s): row by row.", type(error).__name__)
            track.singles.extend(invoices)
            return
        for invoice in invoices:
            logger.warning("An invoice was not claimed (%s): %s.", type(error).__name__, invoice)
            said = skipped(invoice, Code.DATABASE_ERROR)
            if self.tries > 1 and invoice.pk not in track.earlier:
                track.earlier[invoice.pk] = told(said)
                track.later.append(invoice)
            else:
                self._finish(track, invoice, said)

    def _jobs(self, lane: Lane, claim: Claim) -> list[Job]:
        """Return the jobs of a claim; those that receivers are to be called for wait for them for a moment."""
        stale_at = claim.opened_monotonic + claim.ttl / 2
        jobs = [Job((claim, each), partial(self._ask, lane), stale_at=stale_at) for each in claim.invoices]
        if self.outbox and not self._is_slow:
            may_go = partial(self._may_go, time.monotonic() + LONGEST_REPORT_SECONDS)
            for job in jobs:
                job.reported, job.may_go = threading.Event(), may_go
                self._unreported[claim.attempt, job.subject[1].pk] = job
        return jobs

    def _may_go(self, latest: float) -> bool:
        """Return whether requests no longer wait for receivers; called in the threads."""
        now = time.monotonic()
        return now >= latest or now - self._reporting_since >= SLOW_SECONDS or self.stop.is_set()

    def _on_reported(self, notice: Notice) -> None:
        """Let the request of a claim begin, unless a receiver recorded a payment."""
        if not notice.is_claim:
            return
        job = self._unreported.pop((notice.transition.attempt, notice.invoice.pk), None)
        if job is None or job.reported is None:
            return
        if not job.is_sent:
            with suppress(*DATABASE_ERRORS):
                job.is_void = not self.writer.is_claimed(*job.subject)
        job.reported.set()

    def _not_claimed(self, track: Track, invoice: Invoice) -> CancelResult:
        """Return why an invoice of a group could not be claimed."""
        return not_claimed(invoice, track.account)

    def _why_not_claimed(self, track: Track, invoice: Invoice) -> CancelResult:
        try:
            seen = invoice.attempt
            said = self._not_claimed(track, invoice)
            if said.code == Code.IN_PROGRESS and invoice.last_outcome in LAST_REFUSED and invoice.attempt != seen:
                return skipped(invoice, Code.CHANGED)  # refused since it was read
            # The instance is as it was read, so its row names another account or id since.
            return skipped(invoice, Code.CHANGED) if said.code == Code.MISCONFIGURED else said
        except DATABASE_ERRORS as error:
            logger.warning("An invoice was not read (%s): %s.", type(error).__name__, invoice)
            return skipped(invoice, Code.DATABASE_ERROR)

    def _send_parked(self, track: Track, lane: Lane) -> bool:
        """Queue what is claimed and not queued: after a pause one as a probe, then the rest.

        Slots are reserved now and not before the claim: one that had passed by then would have to be made up for.
        What is too old is claimed anew.
        """
        now = time.monotonic()
        stale = [job for job in lane.parked if now >= job.stale_at]
        if stale:
            lane.parked = deque(job for job in lane.parked if now < job.stale_at)
            self._put_back(track, lane, stale)
            return True
        count = 1 if lane.is_probing else min(len(lane.parked), lane.idle if lane.rate else GROUP, lane.most_at_once)
        if not lane.parked or not lane.may_feed() or not lane.is_hungry:
            return False
        slot = self._slot(lane, count)
        if slot is None:
            return False
        for number in range(count):
            job = lane.parked[0]
            job.not_before = slot + number / lane.rate if lane.rate else 0.0
            lane.feed(job)  # may fail for want of threads: until then it is to be given back
            lane.parked.popleft()
        return True

    def _ask(self, lane: Lane, job: Job) -> Answer:
        """Submit, in a lane's thread, and note at once what the reply says about the provider."""
        claim, invoice = job.subject
        answer = submit(lane.provider, claim, invoice)
        reply = answer.reply
        says_nothing = reply.outcome in (Outcome.IN_DOUBT, Outcome.NOT_PROCESSED) and reply.named_status not in MONEY
        lane.note(job.epoch, reply.code, says_nothing=says_nothing, retry_after=reply.retry_after)
        return answer

    def _is_sendable(self, track: Track, invoice: Invoice) -> bool:
        code = why_not(Wanted.CANCEL, invoice, track.account)
        if code:
            self._finish(track, invoice, not_done(Wanted.CANCEL, invoice, code, track.account))
        return not code

    def _finish(self, track: Track, invoice: Invoice, said: CancelResult) -> None:
        """Keep the last word about an invoice."""
        track.earlier.pop(invoice.pk, None)
        self._tell(said)

    # -- pauses -----------------------------------------------------------------------------------------------

    def _rest(self, track: Track, lane: Lane) -> bool:
        """Let a paused provider alone: give back what would wait too long; pass over the rest where it is long."""
        if lane.parked and lane.held_for > GIVEN_BACK_SECONDS:
            self._put_back(track, lane, lane.take_parked())
        if lane.held_for <= LONGEST_WAIT_SECONDS or track.is_busy or track.is_over:
            return False
        if not self.leave_when_paused:
            return self._skip(track, Code.PROVIDER_PAUSED, lane.held_for)
        track.is_left = True
        self._ready += track.untold()
        return True

    def _end_unknown(self, track: Track, lane: Lane) -> bool:
        """Send nothing more to a provider that knows none of the invoices; the rest is skipped and stays as it is."""
        if lane.parked:
            self._put_back(track, lane, lane.take_parked())
        if track.is_busy or track.is_over:
            return False
        return self._skip(track, Code.UNKNOWN_INVOICES)

    def _skip(self, track: Track, code: Code, seconds: float | None = None) -> bool:
        """Give a group of invoices their results where nothing can be sent; return whether there were any."""
        invoices = self._take(track, GROUP)
        for invoice in invoices:
            if invoice.pk in track.earlier:
                self._ready.append(track.earlier.pop(invoice.pk))
            elif self._is_sendable(track, invoice):
                self._finish(track, invoice, skipped(invoice, code, retry_after=seconds))
        return bool(invoices)

    def _put_back(self, track: Track, lane: Lane, jobs: Sequence[Job]) -> None:
        """Give back claims for which nothing was sent; skip the invoices for which that failed."""
        for invoice in self._give_back(track, lane, jobs):
            self._finish(track, invoice, skipped(invoice, Code.DATABASE_ERROR))

    def _give_back(self, track: Track, lane: Lane, jobs: Sequence[Job]) -> list[Invoice]:
        """Give back claims for which nothing was sent; return the invoices whose rows the database refused.

        The others come again later in this run, unless their status has changed concurrently: then it is reported.
        """
        self._tell_states()  # receivers of a claim that is given back may cancel again too
        lane.open -= len(jobs)
        groups: dict[UUID, tuple[Claim, list[Invoice]]] = {}
        for job in jobs:
            claim, invoice = job.subject
            groups.setdefault(claim.attempt, (claim, []))[1].append(invoice)
        failed: list[Invoice] = []
        for claim, invoices in groups.values():
            _, kept = self._each(partial(self.writer.give_back, claim), invoices)
            failed += kept
            for invoice in invoices:
                if invoice.status == claim.before:
                    track.again.append(invoice)
                elif invoice not in kept:
                    self._finish(track, invoice, self._why_not_claimed(track, invoice))
        return failed

    # -- answers ----------------------------------------------------------------------------------------------

    def _take_in(self, job: Job, lane: Lane, track: Track) -> None:
        claim, invoice = job.subject
        if job.is_void and not job.is_sent:
            lane.open -= 1
            self._finish(track, invoice, self._why_not_claimed(track, invoice))
            return
        if not job.is_sent:
            lane.parked.append(job)
            return
        if not self._answers:
            self._waiting_since = time.monotonic()
        lost = ProviderReply(Outcome.IN_DOUBT, Code.ADAPTER_ERROR)
        self._answers.append(job.answer or Answer(claim, invoice, lost, 0))

    def _record_if_due(self) -> None:
        if not self._answers:
            return
        is_due = time.monotonic() - self._waiting_since >= RECORD_AFTER_SECONDS
        if is_due or len(self._answers) >= GROUP or self._are_the_last():
            self._record()

    def _are_the_last(self) -> bool:
        """Say whether nothing else is on its way: there is no group to wait for."""
        return all(track.is_over for track in self._tracks.values()) and not any(
            lane.fed or lane.parked for lane in self._lanes()
        )

    def _record(self) -> None:
        """Record what came back and keep the results; what an interrupt hits is recorded when the run winds down."""
        answers, self._answers = self._answers, []
        try:
            self._tell_states()  # before the record: its receivers may cancel again, and must meet the pause
            results = self._written(answers)
        except BaseException:  # Ctrl-C where no command turns it into a stop, a worker's SystemExit
            self._answers = answers + self._answers
            self._may_be_written = True
            raise
        for answer, said in zip(answers, results, strict=True):
            self._keep(answer.invoice, said)
        for lane in self._lanes():
            self._knows_some(lane)

    def _written(self, answers: Sequence[Answer]) -> list[CancelResult]:
        """Write answers as one group; where that fails, one by one, and say which failed."""
        try:
            written = self.writer.record(answers, also=self.also, may_be_written=self._may_be_written)
            return [result_of(answer) for answer in written]
        except Exception as error:  # the providers have answered: each row gets its own try
            if is_interruption(error):
                raise
            logger.warning("A group of answers was not recorded (%s): row by row.", type(error).__name__)
            return [recorded(answer, self.writer, also=self.also, may_be_written=True) for answer in answers]

    def _keep(self, invoice: Invoice, said: CancelResult) -> None:
        """Keep a result for the caller, or for the one more try that follows."""
        track = self._tracks[invoice.provider]
        if track.lane is not None:
            track.lane.open -= 1
        if self.tries > 1 and track.wants_another_try(said, invoice.pk):
            track.earlier[invoice.pk] = told(said)
            track.again.append(invoice)
        else:
            self._finish(track, invoice, said)

    def _conclude(self) -> None:
        if self._answers:
            self._record()
        for track in self._tracks.values():
            if track.lane is not None and track.lane.parked:
                self._give_back_at_end(track, track.lane)
            self._ready += track.untold()

    def _give_back_at_end(self, track: Track, lane: Lane) -> None:
        try:
            has_failed = bool(self._give_back(track, lane, lane.take_parked()))
        except DATABASE_ERRORS:
            has_failed = True
        if has_failed:
            logger.error("Unsent claims of %s were not given back: reconcile does it.", track.alias)
