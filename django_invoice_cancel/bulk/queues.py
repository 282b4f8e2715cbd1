"""The queue of one provider in a run: invoices to be sent, and earlier results of those that are retried."""

from __future__ import annotations

from collections import deque
from typing import Any

from ..domain.outcomes import CancelResult, Outcome
from ..domain.ports import InvoicePort
from ..services.eligibility import Account
from .selection import InvoiceReader, was_not_found
from .workers import ProviderWorkerPool

RETRIES_FIRST = 500
"""If this number of retries is waiting, they are taken before the selection, so that memory stays constant."""


class ProviderQueue:
    """The invoices of one provider: those of the selection, then those that were given back or are retried."""

    def __init__(self, alias: str, reader: InvoiceReader, pool: ProviderWorkerPool | None, account: Account) -> None:
        self.alias = alias
        self.reader = reader
        self.pool = pool
        """None: the alias is not configured, and its invoices are skipped."""
        self.account = account
        self.retries: deque[InvoicePort] = deque()
        self.one_by_one: deque[InvoicePort] = deque()
        """Invoices of a batch that could not be claimed; each is claimed separately."""
        self.deferred: deque[InvoicePort] = deque()
        """Invoices that could not be claimed separately; each is tried again after all others are recorded."""
        self.earlier_results: dict[Any, CancelResult] = {}
        """Results so far of the invoices that are retried, by primary key."""
        self.is_left_untried = False
        """True if the remaining invoices stay untried and unreported."""

    @property
    def is_exhausted(self) -> bool:
        return self.is_left_untried or not (self._has_ready or self.deferred)

    @property
    def must_wait(self) -> bool:
        """True if the remaining invoices must wait until the others are recorded."""
        return self.is_busy and not self._has_ready

    @property
    def _has_ready(self) -> bool:
        return bool(self.one_by_one or self.retries) or self.reader.has_more

    @property
    def is_busy(self) -> bool:
        return self.pool is not None and self.pool.unrecorded > 0

    def take(self, count: int, fresh: float) -> tuple[list[InvoicePort], int]:
        """Return up to ``count`` invoices, and the number of those from the selection (at most ``fresh``)."""
        if self.one_by_one:
            return [self.one_by_one.popleft()], 0
        if self.deferred and not self._has_ready:
            return [self.deferred.popleft()], 0
        taken = self._take_retries(count) if len(self.retries) >= RETRIES_FIRST else []
        selected = self.reader.take(int(min(count - len(taken), fresh)))
        taken += selected
        taken += self._take_retries(count - len(taken))
        return sorted(taken, key=_sort_key), len(selected)

    def _take_retries(self, count: int) -> list[InvoicePort]:
        return [self.retries.popleft() for _ in range(min(count, len(self.retries)))]

    def should_retry(self, result: CancelResult, key: Any) -> bool:
        """Return whether an invoice is retried: once, if nothing was processed."""
        return result.outcome == Outcome.NOT_PROCESSED and result.is_recorded and key not in self.earlier_results

    def take_unreported(self) -> list[CancelResult]:
        """Empty the queue; return the earlier results of invoices that will not be retried."""
        waiting = [*self.one_by_one, *self.retries, *self.deferred]
        for queue in (self.one_by_one, self.retries, self.deferred):
            queue.clear()
        return [self.earlier_results.pop(invoice.pk) for invoice in waiting if invoice.pk in self.earlier_results]


def _sort_key(invoice: InvoicePort) -> tuple[bool, Any]:
    return was_not_found(invoice), invoice.pk
