"""Working off stored bulk operations: ``advance`` does a slice, everything else only calls it.

Idempotent, and safe to call from any number of places at once: a page, a worker, a sweep. An item's outcome is
written in the transaction that records its invoice; what a dead worker left is taken over from the log.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.db import DatabaseError, OperationalError, transaction

from .. import conf, registry
from ..bulk import cancel_walks, check_walks
from ..bulk.selection import Walk
from ..domain.claims import Answer
from ..domain.clock import utc_now
from ..domain.numbers import checked_bounds
from ..domain.outcomes import CancelResult, Code, Outcome
from ..domain.statuses import Status
from ..exceptions import ResolveNotPossible
from ..models import BulkOperation, BulkOperationItem, Invoice, InvoiceTransition, ProviderState
from ..models.operation import Operation, Progress
from ..services.cancel import result_of
from ..services.results import skipped, standing

logger = logging.getLogger("django_invoice_cancel")

SLICE_SECONDS = 5.0
"""A slice claims no more invoices after this; what it has claimed is still sent."""
DRAIN_SECONDS = 5.0
"""But not for longer than this: then the rest of it is given back. A claim that is not given back saves four rows."""
MARGIN_SECONDS = 60.0
"""How long a lease outlives the slice and the last request of it; what is still sent then takes some of this."""
BITE = 200
"""How many items are leased at once."""
LOOK_SECONDS = 1.0
"""How often a slice looks whether somebody pressed Stop."""
STUCK_SECONDS = 5.0
"""How long to wait after a slice in which the database refused all rows that were left."""
DISABLED_SECONDS = 300.0
"""How long to wait before the next slice if the setting SEND forbids the operation's requests."""
_REFUSED = frozenset({Code.DATABASE_ERROR, Code.CONFIGURATION_UNAVAILABLE})
_LEFT_UNTRIED = _REFUSED | {Code.PROVIDER_PAUSED, Code.RATE_LIMITED}
"""Codes that conclude no item: it is tried again."""


@dataclass(frozen=True)
class Advance:
    """What a slice leaves."""

    has_more: bool
    """Whether there is more to do now."""
    wait_seconds: float = 0.0
    """How long to wait before the next slice: every provider that is left is paused, or others hold what is left."""
    is_finished: bool = False
    """Whether it was this slice that finished the operation."""
    has_enough_workers: bool = False
    """Whether nothing was done because enough workers are on the operation."""


class _Slice:
    """One slice: what it holds, and its stop event: its time is long over, or somebody stopped the operation.

    Items are leased in small bites, as they are needed: so workers share what is left evenly, to the end.
    """

    def __init__(self, operation: BulkOperation, limit: int, seconds: float, stop: Any) -> None:
        self._operation = operation
        self._left = limit
        self._stop = stop
        self._over_at = time.monotonic() + seconds
        self._over_at_wall = time.time() + seconds
        self._look_at = time.monotonic() + LOOK_SECONDS
        self._is_stopped = False
        self._bites: list[list[BulkOperationItem]] = []
        self._concluded: set[Any] = set()
        """The keys of invoices whose items have an outcome by now."""
        self._kept: set[Any] = set()
        """The keys of invoices whose items keep their lease: the next holder reads the outcome in the log."""
        self._has_failed = False
        """Whether the database refused a row that was to be tried."""
        aliases = operation.items.providers_left()
        paused = _corrected_pauses(operation, aliases)
        self.aliases = [alias for alias in aliases if alias not in paused]
        self._lease_seconds = seconds + _longest_request(aliases) + MARGIN_SECONDS

    @property
    def wait_seconds(self) -> float:
        """How long to wait before the next slice, pauses apart: others hold what is left, or it cannot be tried now."""
        if self._concluded:
            return 0.0
        return STUCK_SECONDS if self._has_failed else 1.0

    def lease(self, alias: str) -> list[BulkOperationItem]:
        """Take a few items of a provider that are to be tried; what a dead worker tried is taken over."""
        while self._left > 0 and not self.is_over():
            bite = self._operation.items.lease(min(BITE, self._left), seconds=self._lease_seconds, provider=alias)
            if not bite:
                break
            self._left -= len(bite)
            self._bites.append(bite)
            untried = self._without_refused(self._without_moved(_take_over(self._operation, bite)))
            if untried:
                return untried
        return []

    def _without_moved(self, items: list[BulkOperationItem]) -> list[BulkOperationItem]:
        """Conclude items whose invoice belongs to another account since it was selected; return the others."""
        moved = [item for item in items if item.invoice is not None and item.invoice.provider != item.provider]
        if moved:
            self.conclude((item.invoice_id, Outcome.SKIPPED, Code.CHANGED) for item in moved)
        return [item for item in items if item not in moved] if moved else items

    def _without_refused(self, items: list[BulkOperationItem]) -> list[BulkOperationItem]:
        """Conclude items whose invoice was refused since its selection; return the others."""
        if self._operation.operation != Operation.CANCEL:
            return items
        suspects = [
            item.invoice.pk
            for item in items
            if item.invoice is not None
            and item.invoice.last_outcome in (Outcome.REFUSED, Code.NOT_FOUND)
            and item.invoice.attempt != item.attempt
        ]
        if not suspects:
            return items
        log = InvoiceTransition.objects.using(self._operation.database).filter(invoice_id__in=suspects)
        since = log.filter(outcome=Outcome.REFUSED, created_at__gte=self._operation.created_at)
        refused = set(since.values_list("invoice_id", flat=True))
        self.conclude((key, Outcome.SKIPPED, Code.CHANGED) for key in refused)
        return [item for item in items if item.invoice_id not in refused]

    def conclude(self, results: Iterable[tuple[Any, str, str]]) -> None:
        """Write outcomes, as (key of the invoice, outcome, code)."""
        written = list(results)
        self._operation.items.conclude(written)
        keys = [key for key, _, _ in written]
        transaction.on_commit(lambda: self._concluded.update(keys), using=self._operation.database)

    def conclude_rest(self, result: CancelResult) -> None:
        """Write the outcome of a result unless it stays untried, or is written already.

        If the database refuses it, an answer is left to the log, and everything else is tried again.
        """
        self._has_failed = self._has_failed or result.code in _REFUSED
        if result.code in _LEFT_UNTRIED or not result.is_recorded or result.invoice_id in self._concluded:
            return
        try:
            self.conclude([(result.invoice_id, result.outcome, result.code)])
        except DatabaseError:
            logger.exception("The outcome of an item of bulk operation %s was not written.", self._operation.pk)
            if result.attempt:
                self._kept.add(result.invoice_id)

    def release(self) -> None:
        """Give back what was not tried."""
        for bite in self._bites:
            self._operation.items.release([item for item in bite if item.invoice_id not in self._kept])

    def walks(self) -> dict[str, Walk]:
        return {alias: _LeasedWalk(self, alias) for alias in self.aliases}

    def is_over(self) -> bool:
        """Say whether nothing more is to be claimed."""
        return self._seconds_over() >= 0

    def _seconds_over(self) -> float:
        """Return since when it is over, by the later clock: that of a machine that was suspended has stood still."""
        return max(time.monotonic() - self._over_at, time.time() - self._over_at_wall)

    def is_set(self) -> bool:
        now = time.monotonic()
        if now >= self._look_at:
            self._look_at = now + LOOK_SECONDS
            self._is_stopped = not _is_running(self._operation)
        is_asked = self._stop is not None and self._stop.is_set()
        return self._is_stopped or self._seconds_over() >= DRAIN_SECONDS or is_asked


class _LeasedWalk(Walk):
    """Brings a provider's invoices as they are leased, until the slice's time is over."""

    def __init__(self, this: _Slice, alias: str) -> None:
        super().__init__(Invoice.objects.all())
        self._slice = this
        self._alias = alias

    @property
    def has_more(self) -> bool:
        if self._slice.is_over():
            self.cut()
        return super().has_more

    def querysets(self, limit: int | None = None) -> Iterator[Any]:
        raise NotImplementedError("What is leased is not frozen anew.")

    def _read(self) -> None:
        items = self._slice.lease(self._alias)
        self._is_read = not items
        self._page.extend(item.invoice for item in items if item.invoice is not None)


def advance(
    operation_id: Any, *, limit: int = 1000, deadline: float = SLICE_SECONDS, stop: Any = None, is_message: bool = True
) -> Advance:
    """Do a slice of an operation: at most ``limit`` items, taking none after ``deadline`` seconds; say what is left.

    Asks providers: ``CancelInTransaction`` inside a transaction. An operation that is not running is left alone.
    ``ValueError`` for an unusable limit or deadline. A message of the dispatcher that is surplus does nothing.
    ``is_message=False``: the caller goes on by itself and was sent by no dispatcher.
    """
    checked_bounds(limit=limit, deadline=deadline)
    operation = BulkOperation.objects.get(pk=operation_id)
    Invoice.objects.all()._writer.refuse_inside_transaction()
    if not is_message:
        return _advance(operation, limit, deadline, stop)
    if not operation.join_chain():
        return Advance(has_more=False, has_enough_workers=True)
    left = Advance(has_more=False)
    try:
        left = _advance(operation, limit, deadline, stop)
    finally:
        if not left.has_more:
            operation.leave_chain()
    return left


def _advance(operation: BulkOperation, limit: int, deadline: float, stop: Any) -> Advance:
    if not _is_running(operation):
        return Advance(has_more=False)
    if is_sending_disabled(operation) and operation.items.left().exists():
        return Advance(has_more=True, wait_seconds=DISABLED_SECONDS)
    this, process = _Slice(operation, limit, deadline, stop), os.getpid()
    _touch(operation)
    try:
        _WORK[Operation(operation.operation)](operation, this)
    finally:
        if os.getpid() == process:  # the leases are not those of a forked child
            this.release()
            _touch(operation)
    if not operation.items.left().exists():
        return Advance(has_more=False, is_finished=operation.finish())
    return Advance(has_more=_is_running(operation), wait_seconds=max(_wait(operation), this.wait_seconds))


def pauses(operation: BulkOperation, aliases: Sequence[str]) -> dict[str, ProviderState]:
    """Return which of these providers are left alone now, by alias; deciding by hand asks none."""
    if operation.operation == Operation.RESOLVE:
        return {}
    states = ProviderState.objects.using(operation.database).filter(alias__in=aliases, paused_until__gt=utc_now())
    return {state.alias: state for state in states if state.is_paused}


def _corrected_pauses(operation: BulkOperation, aliases: Sequence[str]) -> dict[str, ProviderState]:
    """Return the pauses of these providers; let those that a wrong clock wrote begin now."""
    paused = pauses(operation, aliases)
    Invoice.objects.all()._writer.correct_pauses(paused.values())
    return paused


def is_sending_disabled(operation: BulkOperation) -> bool:
    """Return whether the setting SEND forbids the requests of this operation; its items stay untried."""
    return operation.operation == Operation.CANCEL and not conf.get().send


def is_paused(operation: BulkOperation) -> bool:
    """Return whether a worker could only wait: every provider that is left is paused, or sending is disabled."""
    return _wait(operation) > 0


def _wait(operation: BulkOperation) -> float:
    """Return for how many seconds every provider that is left is paused."""
    if is_sending_disabled(operation):
        return DISABLED_SECONDS
    aliases = operation.items.providers_left()
    paused = _corrected_pauses(operation, aliases)
    return min((paused[alias].seconds_left if alias in paused else 0.0 for alias in aliases), default=0.0)


def _is_running(operation: BulkOperation) -> bool:
    return BulkOperation.objects.filter(pk=operation.pk, progress=Progress.RUNNING).exists()


def _touch(operation: BulkOperation) -> None:
    try:
        BulkOperation.objects.filter(pk=operation.pk).update(worked_at=utc_now())
    except OperationalError:  # its row is locked; the sweep may add a worker
        logger.warning("Bulk operation %s could not be marked as worked on.", operation.pk)


def _longest_request(aliases: Sequence[str]) -> float:
    """Return the longest deadline of these providers, as far as they are known."""
    found = [0.0]
    for alias in aliases:
        with suppress(ImproperlyConfigured):
            found.append((registry.last_known(alias) or registry.get_provider(alias)).deadline)
    return max(found)


# -- what a dead worker left ----------------------------------------------------------------------------------


def _take_over(operation: BulkOperation, items: list[BulkOperationItem]) -> list[BulkOperationItem]:
    """Conclude items that an earlier holder tried: what the log says of this operation, else an open claim's doubt.

    Returns the others.
    """
    suspects = [item.invoice_id for item in items if item.was_leased and item.invoice_id is not None]
    if not suspects:
        return items
    said: dict[Any, tuple[str, str]] = {}
    log = InvoiceTransition.objects.using(operation.database)
    rows = log.filter(operation=operation.pk, invoice_id__in=suspects).order_by("id")
    for row in rows:
        if row.code == Code.GIVEN_BACK or row.code == Code.RATE_LIMITED:
            said.pop(row.invoice_id, None)
        elif row.outcome:
            said[row.invoice_id] = (row.outcome, row.code)
        elif row.to_status == Status.CANCELING:
            said[row.invoice_id] = (Outcome.IN_DOUBT, Code.ABANDONED)
    operation.items.conclude((key, outcome, code) for key, (outcome, code) in said.items())
    return [item for item in items if item.invoice_id not in said]


# -- the work -------------------------------------------------------------------------------------------------


def _cancel(operation: BulkOperation, this: _Slice) -> None:
    def also(answers: Sequence[Answer]) -> None:
        this.conclude(
            (answer.invoice.pk, *_concluded(answer))
            for answer in answers
            if answer.reply.code != Code.RATE_LIMITED  # stays untried: the pause is over some time
        )

    writer, known = Invoice.objects.all()._writer, operation.items.unknown_so_far
    options: dict[str, Any] = {"also": also, "unknown_so_far": known, "leave_when_paused": True, "tries": 1}
    results = cancel_walks(writer, this.walks(), operation.intent, stop=this, **options)
    with closing(results):
        for result in results:
            this.conclude_rest(result)


def _concluded(answer: Answer) -> tuple[str, str]:
    """Return an item's outcome: the invoice's row says more than the reply where money or a cancel came between."""
    said = result_of(answer)
    return said.outcome, said.code


def _check(operation: BulkOperation, this: _Slice) -> None:
    def also(said: CancelResult) -> None:
        this.conclude([(said.invoice_id, said.outcome, said.code)])

    writer = Invoice.objects.all()._writer
    results = check_walks(writer, this.walks(), operation.intent, stop=this, also=also, resubmit=True)
    with closing(results):
        for result in results:
            this.conclude_rest(result)


def _resolve(operation: BulkOperation, this: _Slice) -> None:
    for alias in this.aliases:
        while items := this.lease(alias):
            for item in items:
                if this.is_over() or this.is_set():
                    return
                if item.invoice is not None:
                    item.invoice.attempt = item.attempt  # the one that the person saw
                    _resolve_one(operation, this, item.invoice)


def _resolve_one(operation: BulkOperation, this: _Slice, invoice: Invoice) -> None:
    def also() -> None:
        said = standing(invoice, Code.RESOLVED)
        this.conclude([(invoice.pk, said.outcome, Code.RESOLVED)])

    try:
        invoice._writer.resolve(invoice, Status(operation.decision), operation.intent, also=also)
    except ResolveNotPossible as error:
        this.conclude([(invoice.pk, Outcome.SKIPPED, error.code)])
    except DatabaseError as error:
        logger.warning("The database refused a decision about %s (%s).", invoice, type(error).__name__)
        this.conclude_rest(skipped(invoice, Code.DATABASE_ERROR))


_WORK: dict[Operation, Callable[[BulkOperation, _Slice], None]] = {
    Operation.CANCEL: _cancel,
    Operation.CHECK: _check,
    Operation.RESOLVE: _resolve,
}
