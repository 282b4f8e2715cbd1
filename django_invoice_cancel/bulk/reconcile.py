"""Reconcile and check many: lookups in groups of the provider's size, shared with whoever else reconciles.

Lookups go through the same lanes as cancels: pauses and probes hold for them too. Each answer is recorded on its
own, with its row locked: a webhook may say something else in the same moment.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any

from ..domain.audit import Intent, Wanted
from ..domain.interruptions import is_interruption
from ..domain.outcomes import CancelResult, Code, LookupReply, Outcome
from ..services.cancel import not_done
from ..services.eligibility import why_not
from ..services.provider_calls import look_up
from ..services.reconcile import is_to_be_booked, reconciled, result_of_lookup
from ..services.results import skipped
from .queues import Track
from .run import DATABASE_ERRORS, LONGEST_WAIT_SECONDS, Run
from .workers import GROUP, Job, Lane

if TYPE_CHECKING:
    from ..models import Invoice
    from ..models.writes import InvoiceWriter
    from ..models.writes.observations import Seen

logger = logging.getLogger("django_invoice_cancel")


class Checker(Run):
    """One bulk reconcile in this process."""

    def __init__(
        self,
        writer: InvoiceWriter,
        intent: Intent,
        done: SimpleQueue[Job],
        *,
        resubmit: bool = False,
        also: Callable[[CancelResult], None] | None = None,
        **bounds: Any,
    ) -> None:
        super().__init__(writer, intent, done, **bounds)
        self.resubmit = resubmit
        self.wanted = Wanted.REPEAT if resubmit else Wanted.CHECK
        self.also = also
        """Called within each transaction that records an answer, with its result."""

    # -- asking -----------------------------------------------------------------------------------------------

    def _top_up(self, track: Track) -> bool:
        lane = track.lane
        if track.is_over or self._is_behind:
            return False
        if lane is None:
            return self._refuse(track)
        if lane.held_for:
            return self._rest(track, lane)
        if not lane.may_feed() or lane.fed >= lane.concurrency or time.monotonic() < lane.look_again_at:
            return False
        self._learn(lane)
        if not lane.may_feed():
            return True
        return self._ask_group(track, lane) if lane.provider.supports_lookup else self._ask_one(track, lane)

    def _ask_group(self, track: Track, lane: Lane) -> bool:
        slot = self._slot(lane, 1)
        if slot is None:
            return False
        mine = self._booked(self._take(track, lane.provider.lookup_group_size))
        if mine:
            lane.open += 1
            lane.feed(Job([self.writer.seen(invoice) for invoice in mine], partial(self._ask, lane), not_before=slot))
        return True

    def _refuse(self, track: Track) -> bool:
        """Say that an alias which is not configured cannot be asked; abandoned claims are in doubt all the same."""
        self._booked(self._take(track, GROUP))
        return True

    def _booked(self, invoices: list[Invoice]) -> list[Invoice]:
        """Return those to look up now; the others have their result: in progress, or another process has them."""
        refused: list[Invoice] = []
        abandoned = [invoice for invoice in invoices if invoice.is_abandoned]
        if abandoned:
            _, refused = self._each(partial(self.writer.mark_abandoned, intent=self.intent), abandoned)
        ready = [invoice for invoice in invoices if invoice not in refused and self._is_ready(invoice)]
        due = [invoice for invoice in ready if is_to_be_booked(invoice)]
        booked, not_booked = self._each(self.writer.book_check, due) if due else ([], [])
        won = {invoice.pk for invoice in booked}
        for invoice in [*refused, *not_booked]:
            self._tell(skipped(invoice, Code.DATABASE_ERROR))
        for invoice in due:
            if invoice.pk not in won and invoice not in not_booked:
                self._tell(skipped(invoice, Code.BEING_CHECKED))
        return [invoice for invoice in ready if invoice.pk in won or not is_to_be_booked(invoice)]

    def _is_ready(self, invoice: Invoice) -> bool:
        if invoice.is_abandoned:  # it was taken up by another process just now
            self._tell(skipped(invoice, Code.BEING_CHECKED))
            return False
        account = self._tracks[invoice.provider].account
        code = why_not(self.wanted, invoice, account)
        if code:
            self._tell(not_done(self.wanted, invoice, code, account))
        return not code

    def _ask(self, lane: Lane, job: Job) -> dict[str, LookupReply]:
        """Look up, in a lane's thread, and note at once what the replies say about the provider."""
        seen: list[Seen] = job.subject
        replies = look_up(lane.provider, [one.target.external_id for one in seen])
        says_nothing = not any(reply.is_answer for reply in replies.values())
        first = next(iter(replies.values()))
        code, retry_after = (first.code, first.retry_after) if says_nothing else ("", None)
        lane.note(job.epoch, code, says_nothing=says_nothing, retry_after=retry_after)
        return replies

    def _ask_one(self, track: Track, lane: Lane) -> bool:
        """Reconcile an invoice that cannot be looked up: by a repeat, in this thread, if that is wanted."""
        for invoice in self._take(track, 1):
            if not self.resubmit and not invoice.is_abandoned and not self._is_ready(invoice):
                continue
            if not why_not(self.wanted, invoice, lane.provider) and not self._has_slot(lane):
                track.again.append(invoice)
                return False
            epoch = lane.epoch
            said = self._reconciled(invoice)
            self._tell(said)
            if said.attempt:  # something was sent
                says_nothing = said.outcome in (Outcome.IN_DOUBT, Outcome.NOT_PROCESSED)
                lane.note(epoch, said.code, says_nothing=says_nothing, retry_after=said.retry_after)
                self._tell_states()
        return True

    def _reconciled(self, invoice: Invoice) -> CancelResult:
        try:
            return reconciled(invoice, self.intent, resubmit=self.resubmit)
        except DATABASE_ERRORS as error:
            self._refuse_lost_database(invoice.provider)
            logger.warning("The database refused to write an invoice (%s): %s.", type(error).__name__, invoice)
            return skipped(invoice, Code.DATABASE_ERROR)

    def _has_slot(self, lane: Lane) -> bool:
        """Reserve a slot for one request and wait for it; False where none is near, or the run was stopped."""
        slot = self._slot(lane, 1)
        if slot:
            time.sleep(max(slot - time.monotonic(), 0.0))
        return slot is not None and not self.stop.is_set()

    def _rest(self, track: Track, lane: Lane) -> bool:
        if lane.held_for <= LONGEST_WAIT_SECONDS or track.is_busy:
            return False
        invoices = self._take(track, GROUP)
        for invoice in invoices:
            self._pass_over(invoice, lane.held_for)
        return bool(invoices)

    # -- answers ----------------------------------------------------------------------------------------------

    def _take_in(self, job: Job, lane: Lane, track: Track) -> None:
        """Record a group's answers; what came back unsent comes again."""
        lane.open -= 1
        seen: list[Seen] = job.subject
        if not job.is_sent:
            track.again.extend(one.invoice for one in seen)
            return
        none = LookupReply(None, Code.ADAPTER_ERROR, is_answer=False)
        replies = job.answer or {}
        self._tell_states()  # before the record: its receivers may ask again, and must meet the pause
        for one in seen:
            self._tell(self._recorded(one, replies.get(one.target.external_id, none)))
        self._tell_states()

    def _recorded(self, seen: Seen, reply: LookupReply) -> CancelResult:
        """Write what was said of one invoice; one that cannot be written stops no other."""
        invoice, is_recorded = seen.invoice, True
        try:
            if not self.writer.record_lookup(seen, reply, self.intent, also=partial(self._also, invoice, reply)):
                return skipped(invoice, Code.CHANGED)
        except Exception as error:
            if is_interruption(error):
                raise
            logger.exception("What a lookup said was not recorded: %s.", invoice)
            is_recorded = False
        return replace(result_of_lookup(invoice, reply), is_recorded=is_recorded)

    def _also(self, invoice: Invoice, reply: LookupReply) -> None:
        if self.also is not None:
            self.also(result_of_lookup(invoice, reply))

    def _conclude(self) -> None:
        for track in self._tracks.values():
            track.untold()  # booked, and not asked for: due again
