"""Recording of statuses that were reported from outside and of replies to lookups.

Each method locks the row before it decides, in the caller's transaction or in its own, which is tried again after a
lost lock. A payment is always recorded. "Still open" counts only if no cancel request can still be carried out.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any

from django.db.models import Q

from ... import conf
from ...domain.audit import AuditContext
from ...domain.claims import Seen, Target
from ...domain.clock import utc_now
from ...domain.outcomes import Code, LookupReply, Outcome
from ...domain.ports import InvoicePort
from ...domain.statuses import CLOSED_STATUSES, Status, TransitionSource, may_move
from ...services.eligibility import FURTHEST_AHEAD, doubt_over_at, is_far_ahead
from ...services.reconcile import warn_of_lost_payment
from .answers import append_flagged, consequences, was_canceled
from .rows import MOST_COUNTED, Entry, RowWriter
from .transactions import carry_over, show

logger = logging.getLogger("django_invoice_cancel")

BACK_OFF = tuple(timedelta(minutes=minutes) for minutes in (1, 5, 15, 60, 360, 1440))
"""Waits before the lookups of an invoice in doubt. The last one, a day, is used without limit."""
LOST_LOOKUP_WAIT = timedelta(minutes=5)
"""Wait after a lookup without an answer, unless the reply has a ``retry_after``."""
ONE_MORE_LOOKUP = timedelta(hours=1)
"""Wait before the one further lookup of an invoice that has left doubt as open."""


class ObservationWriter(RowWriter):
    """Records statuses that were reported from outside."""

    def observe(self, invoice: InvoicePort, status: Status | None, audit: AuditContext, *, word: str = "") -> bool:
        """Record a status, or ``word``, a status string that is not known; return whether the status changed."""
        found: list[str] = []

        def write() -> bool:
            row = self.lock(invoice.id)
            if row is None:
                warn_of_lost_payment(invoice.provider, status, f"{invoice.external_id!a} has no row.")
                return False
            found.append(row.status)
            if status is None:
                self.append([self._observed_entry(row, invoice, row.status, audit, Code.UNKNOWN_STATUS, word)])
            else:
                self._take_in(row, invoice, status, audit, word)
            carry_over(row, invoice)
            return row.status != found[0]  # compared with the first try, which may have been committed

        return self.join(write, [invoice])

    def book_check(self, invoices: Sequence[InvoicePort]) -> list[InvoicePort]:
        """Win the right to look up these invoices by moving ``next_check_at`` forward; return the invoices won.

        It is a CAS on the ``next_check_at`` that was read, so that concurrent processes share the work.
        """

        def write(is_repeat: bool) -> list[InvoicePort]:
            return [invoice for invoice in invoices if self._book(invoice)]

        return self.run(write, invoices)

    def record_lookup(
        self, seen: Seen, reply: LookupReply, audit: AuditContext, *, on_recorded: Callable[[], None] | None = None
    ) -> bool:
        """Write the reply of a lookup; ``on_recorded`` is called in the same transaction.

        A lookup without an answer only postpones the next lookup, by the ``retry_after`` of the reply or by
        ``LOST_LOOKUP_WAIT``. It does not count for the back-off.

        Returns:
            False if the row has another account or id than the one that was looked up. Then the answer is only added
            to the log.
        """
        if not reply.is_answer:
            self._wait(seen, reply)
            return True

        def write(is_repeat: bool) -> bool:
            row = self.lock(seen.target.key)
            if row is not None:
                if Target.of(row) != seen.target:
                    self._log_other_account(row, seen, reply, audit)
                    return False
                self._take_in_answer(row, seen, reply, audit)
                carry_over(row, seen.invoice)
            if on_recorded is not None:
                on_recorded()
            return True

        return self.run(write, [seen.invoice])

    def correct_times(self, invoice: InvoicePort | None = None) -> None:
        """Restart the doubt period of invoices in doubt, or of one, whose times were written by a wrong clock.

        Otherwise the doubt period would be longer by the error of that clock.
        """
        now = utc_now()
        if invoice is not None and not is_far_ahead(invoice.claim_expires_at or invoice.status_changed_at, now):
            return
        far = now + FURTHEST_AHEAD
        wrong = Q(claim_expires_at__gt=far) | Q(claim_expires_at__isnull=True, status_changed_at__gt=far)
        rows = self.invoices.filter(wrong, status=Status.IN_DOUBT)
        changes = {"claim_expires_at": now, "status_changed_at": now, "next_check_at": None}  # due at once
        own = rows if invoice is None else rows.filter(pk=invoice.id)
        count = self.repeat(lambda: own.update(**changes))
        if count:
            logger.warning(
                "The times of %d invoices in doubt were in the future because of a wrong clock. They were set to now.",
                count,
            )
        if count and invoice is not None:
            show(invoice, changes)

    def _wait(self, seen: Seen, reply: LookupReply) -> None:
        wait = LOST_LOOKUP_WAIT if reply.retry_after is None else timedelta(seconds=reply.retry_after)
        changes = {"next_check_at": utc_now() + wait}

        def write(is_repeat: bool) -> None:
            named = {"provider": seen.target.provider, "external_id": seen.target.external_id}
            own = self.invoices.filter(pk=seen.target.key, status=seen.status, attempt=seen.attempt, **named)
            if own.filter(next_check_at__lt=changes["next_check_at"]).update(**changes):
                show(seen.invoice, changes)

        self.run(write, [seen.invoice])

    def _log_other_account(self, row: InvoicePort, seen: Seen, reply: LookupReply, audit: AuditContext) -> None:
        stated = reply.status or reply.provider_status or reply.code
        word = f"{seen.target.provider} {seen.target.external_id}: {stated}"
        self.append([self._observed_entry(row, seen.invoice, row.status, audit, Code.CHANGED, word)])
        self.log_on_commit(logging.WARNING, row, f"edited while it was looked up at {word}")

    # -- a lookup's answer ------------------------------------------------------------------------------------

    def _take_in_answer(self, row: InvoicePort, seen: Seen, reply: LookupReply, audit: AuditContext) -> None:
        if reply.status is None:
            entry = self._observed_entry(row, seen.invoice, row.status, audit, reply.code, reply.provider_status)
            self.append([entry])
        elif reply.status == Status.CREATED:
            self._still_open(row, seen, reply, audit)
        else:
            self._agree(row, seen, reply.status)
            self._take_in(row, seen.invoice, reply.status, audit, reply.provider_status)
        wants_another = row.status == Status.IN_DOUBT or (reply.status is None and row.next_check_at is not None)
        if wants_another and row.attempt == seen.attempt:
            self._advance(row)

    def _still_open(self, row: InvoicePort, seen: Seen, reply: LookupReply, audit: AuditContext) -> None:
        """Record "still open". It ends only the doubt that was looked up, and only after its doubt period."""
        is_as_seen = row.status == seen.status and row.attempt == seen.attempt
        if not is_as_seen or row.status not in (Status.CREATED, Status.IN_DOUBT):
            if row.status in CLOSED_STATUSES:
                self._contradict(row, seen, reply, audit)
            return
        self.write(row, status_confirmed_at=utc_now())
        if row.status == Status.CREATED:
            self._had_one_more_lookup(row, seen)
            return
        entry = self._observed_entry(row, seen.invoice, Status.IN_DOUBT, audit, Code.STILL_OPEN, reply.provider_status)
        if seen.began < doubt_over_at(row):
            self.append([entry])
            return
        now = utc_now()
        changes = consequences(Status.CREATED, now) | {"last_outcome": Outcome.NOT_PROCESSED, "check_count": 0}
        changes["next_check_at"] = now + ONE_MORE_LOOKUP
        self.write(row, **changes)
        self.append([replace(entry, new=Status.CREATED, outcome=Outcome.NOT_PROCESSED)])

    def _contradict(self, row: InvoicePort, seen: Seen, reply: LookupReply, audit: AuditContext) -> None:
        """Log that the provider reports a closed invoice as open, and store it if the last change is old enough."""
        code = Code.CONTRADICTORY_ANSWER
        self.append([self._observed_entry(row, seen.invoice, row.status, audit, code, reply.provider_status)])
        if is_far_ahead(row.status_changed_at, now := utc_now()):  # written by a wrong clock: it counts from now
            self.write(row, status_changed_at=now)
        counts_from = row.status_changed_at + timedelta(seconds=conf.get().doubt_period)
        if seen.began >= counts_from and row.contradicted_at is None:
            self.write(row, contradicted_at=now)
            self.log_on_commit(logging.WARNING, row, f"the provider calls it open, and it is stored as {row.status}.")

    def _agree(self, row: InvoicePort, seen: Seen, status: Status) -> None:
        """Write the time of a lookup's answer. If it began after a contradiction and reports "closed", end that."""
        changes: dict[str, Any] = {"status_confirmed_at": utc_now()}
        since = row.contradicted_at
        if status in CLOSED_STATUSES and since is not None and (seen.began >= since or is_far_ahead(since, seen.began)):
            changes["contradicted_at"] = None
        self.write(row, **changes)

    def _had_one_more_lookup(self, row: InvoicePort, seen: Seen) -> None:
        """Clear the further lookup of an invoice that has left doubt, unless this lookup came before its time."""
        due = row.status_changed_at + ONE_MORE_LOOKUP
        is_early = row.next_check_at is not None and seen.began < due and not is_far_ahead(due, seen.began)
        self.write(row, next_check_at=due if is_early else None)

    def _advance(self, row: InvoicePort) -> None:
        """Set the next lookup by the back-off, but not later than the end of the doubt period, when "open" counts."""
        now = utc_now()
        count = min(row.check_count + 1, MOST_COUNTED)
        due = now + BACK_OFF[min(count, len(BACK_OFF) - 1)]
        if now < doubt_over_at(row):
            due = min(due, doubt_over_at(row) + timedelta(seconds=1))
        self.write(row, next_check_at=due, check_count=count)

    def _book(self, invoice: InvoicePort) -> bool:
        due = utc_now() + BACK_OFF[min(invoice.check_count, len(BACK_OFF) - 1)]
        own = self.invoices.filter(pk=invoice.id, status=invoice.status, next_check_at=invoice.next_check_at)
        won = own.update(next_check_at=due) == 1
        if won:
            show(invoice, {"next_check_at": due})
        return won

    # -- a status ---------------------------------------------------------------------------------------------

    def _take_in(self, row: InvoicePort, invoice: InvoicePort, status: Status, audit: AuditContext, word: str) -> None:
        old, now = row.status, utc_now()
        if status == Status.CREATED:
            return  # "open" in a webhook may be older than the stored status
        changes: dict[str, Any] = {"status_confirmed_at": now}
        if may_move(TransitionSource.OBSERVE, old, status):
            changes |= consequences(status, now)
            if status == Status.CANCELED:
                changes["last_outcome"] = Outcome.ALREADY_CANCELED
            entry = self._observed_entry(row, invoice, status, audit, Code.OBSERVED, word)
            append_flagged(self, row, changes, self._with_outcome(entry, status))
        elif status == Status.CANCELED and old != status and not was_canceled(self, row):
            entry = self._observed_entry(row, invoice, old, audit, Code.OBSERVED, word)
            append_flagged(self, row, {}, self._with_outcome(entry, status))
        elif status == old:
            self.write(row, **changes)

    def _with_outcome(self, entry: Entry, status: Status) -> Entry:
        """Return the entry with the outcome of a confirmed cancellation, if the status is ``canceled``."""
        return replace(entry, outcome=Outcome.ALREADY_CANCELED) if status == Status.CANCELED else entry

    def _observed_entry(
        self, row: InvoicePort, invoice: InvoicePort, new: str, audit: AuditContext, code: str, word: str
    ) -> Entry:
        return Entry(invoice, row.status, new, audit, row.attempt, code=code, provider_message=word, key=row.id)
