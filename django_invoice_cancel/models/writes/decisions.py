"""Decisions of users: resolve an invoice, or mark a payment as handled. They work inside any transaction."""

from __future__ import annotations

from collections.abc import Callable

from django.utils.translation import gettext as _

from ...domain.audit import AuditContext, Wanted
from ...domain.clock import utc_now
from ...domain.outcomes import Code, Outcome
from ...domain.ports import InvoicePort
from ...domain.statuses import CLOSED_STATUSES, REPORTABLE_STATUSES, Status, TransitionSource, check_move
from ...exceptions import ResolveNotPossible
from ...labels.results import describe_result
from ...services.eligibility import end_of_claim, find_obstacle, is_abandoned
from ...services.results import provider_name
from ..actors import named_actor
from ..values import storable
from .answers import append_flagged, consequences
from .observations import ONE_MORE_LOOKUP
from .rows import Entry, RowWriter
from .transactions import carry_over


class DecisionWriter(RowWriter):
    """Records the decisions of named persons."""

    def resolve(
        self,
        invoice: InvoicePort,
        status: Status,
        audit: AuditContext,
        *,
        on_recorded: Callable[[], None] | None = None,
    ) -> None:
        """Write a named person's decision about an invoice, or raise ``ResolveNotPossible`` (see ``is_resolvable``).

        The row must still have the attempt of the instance, which is the one that the person saw. ``on_recorded`` is
        called in the same transaction.
        """
        refuse_decision(status, audit)
        tries = _Tries(self, invoice, audit, Code.RESOLVED)

        def write() -> None:
            row = self.lock(invoice.id)
            if row is None or row.attempt != invoice.attempt:
                raise _changed()
            if not tries.has_written(row):
                if is_abandoned(row):
                    self._abandon_row(row, invoice, audit)
                self._resolve_row(row, invoice, status, audit)
            carry_over(row, invoice)
            if on_recorded is not None:
                on_recorded()

        self.join(write, [invoice])

    def mark_handled(self, invoice: InvoicePort, audit: AuditContext, *, seen: str = "") -> bool:
        """Mark a late payment as handled by a named person.

        Args:
            invoice: An invoice with both a payment and a confirmed cancellation.
            audit: The audit context: the person and the note.
            seen: The status that the person saw, if it is known.

        Returns:
            False if the payment was marked before.

        Raises:
            ResolveNotPossible: There is no such payment, or the status is no longer ``seen``.
        """
        _require_person(audit, "mark_handled", "note")
        tries = _Tries(self, invoice, audit, Code.HANDLED)

        def write() -> bool:
            row = self.lock(invoice.id)
            code = Code.NO_LATE_MONEY if row is None else find_obstacle(Wanted.HANDLED, row)
            if row is None or code not in ("", Code.HANDLED):
                raise _not_possible(invoice, code)
            if tries.has_written(row):
                carry_over(row, invoice)
                return True
            is_first = not code
            if is_first and seen and row.status != seen:
                raise _changed()
            if is_first:
                by, _label = named_actor(audit.actor)
                handled = {"paid_after_cancel_handled_at": utc_now(), "paid_after_cancel_handled_by_id": by}
                self.write(row, **handled)
                self.append([Entry(invoice, row.status, row.status, audit, row.attempt, code=Code.HANDLED)])
            carry_over(row, invoice)
            return is_first

        return self.join(write, [invoice])

    def _abandon_row(self, row: InvoicePort, invoice: InvoicePort, audit: AuditContext) -> None:
        now = utc_now()
        changes = consequences(Status.IN_DOUBT, now) | {"last_outcome": Outcome.IN_DOUBT}
        changes["claim_expires_at"] = end_of_claim(row, now)
        entry = Entry(invoice, row.status, Status.IN_DOUBT, audit, row.attempt, Outcome.IN_DOUBT, Code.ABANDONED)
        self.write(row, **changes)
        self.append([entry])

    def _resolve_row(self, row: InvoicePort, invoice: InvoicePort, status: Status, audit: AuditContext) -> None:
        code = find_obstacle(Wanted.REOPEN if status == Status.CREATED else Wanted.RESOLVE, row)
        if code:
            is_open = row.status == Status.CREATED == status and not find_obstacle(Wanted.RESOLVE, row)
            if is_open:
                raise ResolveNotPossible(code, _("This invoice is already open."))
            raise _not_possible(row, code)
        now, old = utc_now(), row.status
        changes = consequences(status, now)
        if status == Status.CREATED:
            changes |= {"next_check_at": now + ONE_MORE_LOOKUP, "check_count": 0}
            changes |= {"last_outcome": Outcome.NOT_PROCESSED} if old in CLOSED_STATUSES else {}
        if status != old:  # a contradiction may be resolved to the stored status
            check_move(TransitionSource.RESOLVE, old, status)
        entry = Entry(invoice, row.status, status, audit, row.attempt, code=Code.RESOLVED)
        append_flagged(self, row, changes, entry)


class _Tries:
    """The tries of one decision. An earlier try may have been committed although its COMMIT reported an error."""

    def __init__(self, writer: RowWriter, invoice: InvoicePort, audit: AuditContext, code: Code) -> None:
        label = named_actor(audit.actor)[1]
        log = writer.log.filter(invoice_id=invoice.id, code=code, actor_label=label, created_at__gte=utc_now())
        self._written = log.filter(reason=storable(audit.reason))
        self._count = 0

    def has_written(self, row: InvoicePort) -> bool:
        """Return whether an earlier try wrote the decision. Call it once in each try, with the locked row."""
        self._count += 1
        return self._count > 1 and self._written.filter(attempt=row.attempt).exists()


def _not_possible(invoice: InvoicePort, code: str) -> ResolveNotPossible:
    text = describe_result(Outcome.SKIPPED, code, provider=provider_name(invoice.provider))
    return ResolveNotPossible(code, str(text))


def _changed() -> ResolveNotPossible:
    return ResolveNotPossible("changed", _("The invoice has changed since you opened it. Look at it again."))


def refuse_decision(status: Status, audit: AuditContext) -> None:
    """Raise ``ValueError`` for a status that cannot be decided, and for a decision without a person or reason."""
    if status not in REPORTABLE_STATUSES:
        raise ValueError(f"An invoice cannot be resolved to {status}.")
    _require_person(audit, "resolve", "reason")


def _require_person(audit: AuditContext, method: str, argument: str) -> None:
    """Raise ``ValueError`` if the person or the reason of a decision is missing."""
    if named_actor(audit.actor) in ((None, ""), (None, "anonymous")):
        raise ValueError(f"{method}() requires the person who decides. Pass actor, a user or a label.")
    if not audit.reason.strip():
        raise ValueError(f"{method}() requires the reason of the decision. Pass {argument}.")
