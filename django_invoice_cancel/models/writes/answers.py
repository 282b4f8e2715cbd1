"""Recording of replies to cancel requests: by CAS for a whole group, or row by row if the reply is late.

The UPDATE is guarded by the status ``canceling``, the attempt, the provider and the id, so that changes of other
processes are never overwritten. A late reply is added to the log, and moves the invoice only if ``MOVES`` allows it. If
the row was edited to another account or id, the invoice becomes in doubt.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from decimal import Decimal
from functools import partial, reduce
from itertools import chain
from operator import or_
from types import MappingProxyType
from typing import Any

from django.db.models import BooleanField, Func, Q, QuerySet

from ...domain.claims import Answer, OnRecorded, Target
from ...domain.clock import utc_now
from ...domain.outcomes import CONFIRMS_CANCEL, Code, Outcome, ProviderReply
from ...domain.ports import InvoicePort
from ...domain.statuses import CLOSED_STATUSES, PAID_STATUSES, Status, TransitionSource, check_move, may_move
from .rows import Entry, InvoiceRow, RowWriter
from .transactions import carry_over, show

logger = logging.getLogger("django_invoice_cancel")

FILLED = ("reference", "amount", "currency", "issued_at", "expires_at")
"""The fields that a later registration may fill in."""
_AT_ONCE = timedelta(seconds=1)
_MOST_LOGGED = 5


@dataclass(frozen=True)
class Conflict:
    """Stored values of a registered invoice that differ from the given values. The stored values are kept."""

    provider: str
    external_id: str
    values: Mapping[str, tuple[Any, Any]]
    """The stored and the given value, by field."""

    def __str__(self) -> str:
        pairs = ((name, _shown(stored), _shown(given)) for name, (stored, given) in self.values.items())
        return f"{self.provider} {self.external_id}: " + ", ".join(f"{n} is {s} and not {g}" for n, s, g in pairs)


def given_values(invoice: InvoicePort, names: Sequence[str]) -> dict[str, Any]:
    """Return the named values of a new instance, without empty ones."""
    values = {name: getattr(invoice, name) for name in names if name in (*FILLED, "status")}
    return {name: value for name, value in values.items() if value not in (None, "")}


def missing_values(stored: InvoiceRow, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the given values for fields that are empty in the stored invoice."""
    return {name: value for name, value in given.items() if name in FILLED and _is_empty(stored, name)}


def conflict_of(stored: InvoiceRow, given: Mapping[str, Any]) -> Conflict | None:
    """Return the difference between the given values and the stored invoice, or None.

    A given status is never written. It counts as a difference unless it is ``created``, or both have a payment.
    """
    differing = {
        name: (getattr(stored, name), value) for name, value in given.items() if getattr(stored, name) != value
    }
    status = given.get("status")
    if status == Status.CREATED or (status in PAID_STATUSES and stored.status in PAID_STATUSES):
        differing.pop("status", None)
    return Conflict(stored.provider, stored.external_id, differing) if differing else None


def log_conflicts(conflicts: Sequence[Conflict]) -> None:
    """Write one warning about all conflicts of a registration."""
    if conflicts:
        listed = "; ".join(str(conflict) for conflict in conflicts[:_MOST_LOGGED])
        more = f"; and {len(conflicts) - _MOST_LOGGED} more" if len(conflicts) > _MOST_LOGGED else ""
        logger.warning(
            "Registered invoices differ from the passed values. The stored values are kept: %s%s.", listed, more
        )


def _shown(value: Any) -> str:
    """Return a value without trailing zeros: 5 for a stored 5.000000000000000000."""
    text = f"{value:f}" if isinstance(value, Decimal) else str(value)
    return text.rstrip("0").rstrip(".") if isinstance(value, Decimal) and "." in text else text


def _is_empty(stored: InvoiceRow, name: str) -> bool:
    """Return whether a field has no given value. The default of ``issued_at`` is the time of registration."""
    if name == "issued_at":
        return abs(stored.issued_at - stored.created_at) < _AT_ONCE
    return getattr(stored, name) in (None, "")


REQUEST_CLEARED: Mapping[str, Any] = MappingProxyType(
    {"cancel_requested_at": None, "cancel_try_at": None, "cancel_try_count": 0}
)
"""The columns of a requested cancellation, with their values if no cancellation is requested."""
FIRST_CHECK = timedelta(minutes=1)
"""Time from a lost answer to the first lookup."""


class _Raced(Exception):
    """The UPDATE of a group changed fewer rows than expected, because one of them was moved before.

    Another process moved it, or an earlier try of this one, which was committed although its COMMIT reported an error.
    """

    def __init__(self, *, is_repeat: bool) -> None:
        super().__init__(is_repeat)
        self.is_repeat = is_repeat


class AnswerWriter(RowWriter):
    """Records replies to cancel requests."""

    def record(
        self, answers: Sequence[Answer], *, on_recorded: OnRecorded | None = None, may_be_written: bool = False
    ) -> Sequence[Answer]:
        """Write the replies of claimed invoices, each with its row of the log.

        Args:
            answers: The replies.
            on_recorded: Called in each transaction with the answers that it records.
            may_be_written: An earlier call with these answers failed, and may have written some of them.

        Returns:
            The answers as they were written. They differ from ``answers`` for rows that were edited to another account
            or id after the claim.
        """
        write, invoices = partial(self._on_time, answers, on_recorded), [answer.invoice for answer in answers]
        try:
            self.run(write, invoices, waits_again=len(answers) == 1)  # else the caller records each one separately
        except _Raced as raced:
            may_be_written = may_be_written or raced.is_repeat
            return [self._record_one(answer, on_recorded, may_be_written=may_be_written) for answer in answers]
        return answers

    def _on_time(self, answers: Sequence[Answer], on_recorded: OnRecorded | None, is_repeat: bool) -> None:
        new = [answer.reply.next_status(answer.claim.before) for answer in answers]
        groups: dict[tuple[Outcome, Status, bool], list[Answer]] = defaultdict(list)
        for answer, status in zip(answers, new, strict=True):  # those of a group write the same columns
            groups[answer.reply.outcome, status, _ends_request(answer)].append(answer)
        now = utc_now()
        for (_outcome, status, _ends), group in groups.items():
            changes = _changes(group[0], status, now)
            if self.invoices.filter(_own(group), status=Status.CANCELING).update(**changes) != len(group):
                raise _Raced(is_repeat=is_repeat)
            for answer in group:
                show(answer.invoice, changes)
        pairs = list(zip(answers, new, strict=True))
        flagged = self._flag([answer for answer, status in pairs if status in PAID_STATUSES], now)
        entries = [_entry(answer, Status.CANCELING, status) for answer, status in pairs]
        self.append([replace(entry, is_late_money=True) if entry.key in flagged else entry for entry in entries])
        if on_recorded is not None:
            on_recorded(answers)

    def _flag(self, paid: Sequence[Answer], now: datetime) -> set[Any]:
        """Flag the invoices that have a payment and were canceled, before or by this answer; return their keys.

        This transaction has written their rows, so they are locked. A cancellation logged later will find the payment.
        """
        if not paid:
            return set()
        keys = set(canceled_before(self, [answer.target.key for answer in paid]))
        keys |= {answer.target.key for answer in paid if answer.reply.confirms_cancel}
        if keys:
            changes = {"paid_after_cancel_at": now}
            self.invoices.filter(pk__in=keys).update(**changes)
            for answer in paid:
                if answer.target.key in keys:
                    show(answer.invoice, changes)
        return keys

    def _record_one(self, answer: Answer, on_recorded: OnRecorded | None, *, may_be_written: bool = False) -> Answer:
        def write(is_repeat: bool) -> Answer:
            row = self.lock(answer.target.key)
            if row is None:
                return answer
            written = answer if _is_about(row, answer) else replace(answer, reply=_of_other_account(answer))
            if not ((is_repeat or may_be_written) and self._is_logged(answer)):
                self._write(row, written)
            carry_over(row, answer.invoice)
            if on_recorded is not None:
                on_recorded([written])
            return written

        return self.run(write, [answer.invoice], waits_again=True)

    def _write(self, row: InvoicePort, answer: Answer) -> None:
        mover, new = _move(row, answer)
        old, now = row.status, utc_now()
        changes: dict[str, Any] = {}
        if new != old:
            check_move(mover, old, new)
            changes = _changes(answer, new, now)
        append_flagged(self, row, changes, _entry(answer, old, new))
        if not _is_about(row, answer):
            self.log_on_commit(logging.WARNING, row, f"edited while {answer.reply.provider_message}")

    def _is_logged(self, answer: Answer) -> bool:
        rows = self.log.filter(invoice_id=answer.target.key, attempt=answer.claim.attempt)
        outcomes = {answer.reply.outcome, _of_other_account(answer).outcome}
        return rows.filter(outcome__in=outcomes, duration_ms=answer.duration_ms).exists()


def consequences(new: str, now: datetime) -> dict[str, Any]:
    """Return the columns that are written with a new status, for every source of the transition."""
    changes: dict[str, Any] = {"status": new, "status_changed_at": now}
    if new == Status.IN_DOUBT:
        # The request is over: the doubt period begins now.
        changes |= {"claim_expires_at": now, "next_check_at": now + FIRST_CHECK, "check_count": 0}
    else:
        changes["contradicted_at"] = None
    if new in CLOSED_STATUSES or new in PAID_STATUSES:
        changes |= {"next_check_at": None, "check_count": 0, **REQUEST_CLEARED}
    return changes


def append_flagged(writer: RowWriter, row: InvoicePort, changes: dict[str, Any], entry: Entry) -> None:
    """Write a locked row and its entry in the log; flag the row if it has both a payment and a cancellation.

    The order does not matter: a payment may follow a confirmed cancellation, or a cancellation may be confirmed after
    a payment. If a larger payment follows one that was marked as handled, it must be handled again.
    """
    entries = [entry]
    if (
        entry.new in PAID_STATUSES
        and row.paid_after_cancel_at is None
        and (_confirms(entry) or was_canceled(writer, row))
    ):
        changes = changes | {"paid_after_cancel_at": utc_now()}
        entries = [replace(entry, is_late_money=True)]
    elif entry.new in PAID_STATUSES and entry.new != entry.old and row.paid_after_cancel_handled_at is not None:
        changes = changes | {"paid_after_cancel_handled_at": None, "paid_after_cancel_handled_by_id": None}
        entries = [replace(entry, is_late_money=True), _more_money(entry)]
    writer.write(row, **changes)
    writer.append(entries)


def was_canceled(writer: RowWriter, row: InvoicePort) -> bool:
    """Return whether a locked row is canceled, or its log contains a confirmed cancellation."""
    if row.status == Status.CANCELED:
        return True
    confirmed = canceled_before(writer, [row.id])
    if confirmed.exists():
        return True
    return writer.may_read_stale and bool(confirmed.select_for_update()[:1])


def canceled_before(writer: RowWriter, keys: Sequence[Any]) -> QuerySet[Any, Any]:
    """Return the keys of the invoices whose log contains a confirmed cancellation, or the status ``canceled``."""
    confirmed = Q(to_status=Status.CANCELED) | Q(from_status=Status.CANCELED) | Q(outcome__in=CONFIRMS_CANCEL)
    return writer.log.filter(confirmed, invoice_id__in=keys).order_by().values_list("invoice_id", flat=True)


def _confirms(entry: Entry) -> bool:
    return entry.outcome in CONFIRMS_CANCEL


def _more_money(entry: Entry) -> Entry:
    same = (entry.invoice, entry.new, entry.new, entry.audit, entry.attempt)
    return Entry(*same, code=Code.MORE_MONEY, key=entry.key)


def _changes(answer: Answer, new: str, now: datetime) -> dict[str, Any]:
    """Return the columns that an answer writes when it moves its invoice to a new status."""
    is_unknown = answer.reply.outcome == Outcome.REFUSED and answer.reply.code == Code.NOT_FOUND
    changes = consequences(new, now) | {"last_outcome": Code.NOT_FOUND if is_unknown else answer.reply.outcome}
    if new in CLOSED_STATUSES or new in PAID_STATUSES:
        changes["status_confirmed_at"] = now
    if new == Status.CREATED and _ends_request(answer):
        changes |= REQUEST_CLEARED
    return changes


def _ends_request(answer: Answer) -> bool:
    """Return whether an answer that leaves the invoice open ends a requested cancellation (rule 13).

    An unknown invoice does not: the credentials may be those of another project.
    """
    return answer.reply.outcome == Outcome.REFUSED and answer.reply.code != Code.NOT_FOUND


def _move(row: InvoicePort, answer: Answer) -> tuple[TransitionSource, str]:
    """Return the source and the new status of the transition of a locked row by this answer."""
    old = row.status
    is_own = row.attempt == answer.claim.attempt
    if is_own and old == Status.CANCELING:
        return TransitionSource.RECORD, answer.reply.next_status(answer.claim.before)
    if not _is_about(row, answer):
        return TransitionSource.LATE_RECORD, old
    named = answer.reply.named_status
    if named in PAID_STATUSES and may_move(TransitionSource.OBSERVE, old, named):
        return TransitionSource.OBSERVE, named  # a payment always counts, even in a late answer
    if is_own and named is not None and may_move(TransitionSource.LATE_RECORD, old, named):
        return TransitionSource.LATE_RECORD, named
    return TransitionSource.LATE_RECORD, old


def _is_about(row: InvoicePort, answer: Answer) -> bool:
    """Return whether the row still has the account and the id of the request."""
    return Target.of(row) == answer.target


def _of_other_account(answer: Answer) -> ProviderReply:
    """Return the reply to record if the row was edited to another account or id after the claim.

    A confirmation or a payment does not count for the invoice that the row names now, so it becomes in doubt. The log
    stores the reply and its account. If certainly nothing happened, the invoice returns to its earlier status.
    """
    reply, target = answer.reply, answer.target
    stated = ", ".join(filter(None, (reply.code, reply.status)))
    message = f"{target.provider} {target.external_id}: {reply.outcome} ({stated}) {reply.provider_message}".strip()
    if reply.outcome == Outcome.NOT_PROCESSED and reply.named_status is None:
        return replace(reply, status=None, provider_message=message)
    return replace(reply, outcome=Outcome.IN_DOUBT, code=Code.CHANGED, status=None, provider_message=message)


def match_ids(pairs: Iterable[tuple[Any, str]]) -> Q:
    """Return the condition of rows that match one of the pairs (primary key, external id).

    Two separate lists would also match rows that have exchanged their ids. The list of keys helps the query planner.
    """
    external_ids = dict(pairs)
    return Q(_EachPair(external_ids), pk__in=list(external_ids))


class _EachPair(Func):
    """The SQL of pairs, because it is part of each claim of a group: ``Q`` objects would take 2 ms more CPU time."""

    output_field = BooleanField()

    def __init__(self, external_ids: Mapping[Any, str]) -> None:
        super().__init__("id", "external_id")
        self.external_ids = external_ids

    def as_sql(self, compiler: Any, connection: Any, **kwargs: Any) -> tuple[str, tuple[Any, ...]]:  # type: ignore[override]
        key, external_id = (compiler.compile(column)[0] for column in self.get_source_expressions())
        each = f"({key} = %s AND {external_id} = %s)"
        return f"({' OR '.join([each] * len(self.external_ids))})", tuple(chain(*self.external_ids.items()))


def _own(group: Sequence[Answer]) -> Q:
    """Return the condition of rows that are still claimed, and still have the account and the id of the request."""
    if len(group) == 1:
        target = group[0].target
        own = {"pk": target.key, "provider": target.provider, "external_id": target.external_id}
        return Q(attempt=group[0].claim.attempt, **own)
    claims: dict[tuple[Any, str], list[Target]] = defaultdict(list)
    for answer in group:
        claims[answer.claim.attempt, answer.target.provider].append(answer.target)
    return reduce(or_, (_claimed(attempt, alias, targets) for (attempt, alias), targets in claims.items()))


def _claimed(attempt: Any, provider: str, targets: Sequence[Target]) -> Q:
    return Q(match_ids((target.key, target.external_id) for target in targets), attempt=attempt, provider=provider)


def _entry(answer: Answer, old: str, new: str) -> Entry:
    reply, claim = answer.reply, answer.claim
    return Entry(
        answer.invoice,
        old,
        new,
        claim.audit,
        claim.attempt,
        outcome=reply.outcome,
        code=reply.code,
        http_status=reply.http_status,
        provider_message=reply.provider_message,
        duration_ms=answer.duration_ms,
        key=answer.target.key,
    )
