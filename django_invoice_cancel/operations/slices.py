"""A slice of an operation: the items that one worker holds, their outcomes, and the end of the slice.

The outcome of an item is written in the transaction that records its invoice.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import Any, Protocol

from django.core.exceptions import ImproperlyConfigured
from django.db import DatabaseError, transaction

from .. import registry
from ..bulk.selection import InvoiceReader
from ..domain.outcomes import CancelResult, Code
from ..models import BulkOperation, BulkOperationItem, Invoice
from ..models.operation import Progress
from .pauses import find_corrected_pauses
from .screening import SCREENS

logger = logging.getLogger("django_invoice_cancel")

SLICE_SECONDS = 5.0
"""Seconds after which a slice leases no more items. Items that were claimed before are still sent."""
DRAIN_SECONDS = 5.0
"""Further seconds in which claimed items are sent. Then the rest is given back, which writes four rows for each."""
MARGIN_SECONDS = 60.0
"""Seconds by which a lease outlives the slice and the longest request."""
ITEM_BATCH_SIZE = 200
"""Number of items that are leased together. Small batches share the rest evenly between workers."""
STOP_CHECK_SECONDS = 1.0
"""Interval at which a slice checks whether the operation was stopped."""
RETRY_SECONDS = 5.0
"""Seconds to wait after a slice in which the database refused all remaining rows."""
_NOT_TRIED = frozenset({Code.DATABASE_ERROR, Code.CONFIGURATION_UNAVAILABLE})
_TO_BE_RETRIED = _NOT_TRIED | {Code.PROVIDER_PAUSED, Code.RATE_LIMITED}
"""Codes that do not conclude an item."""


class StopSignal(Protocol):
    """A ``threading.Event``, or an object with this method, that ends a slice."""

    def is_set(self) -> bool: ...


class Slice:
    """The items that one worker leases in one slice. They are leased in small batches, as they are needed."""

    def __init__(self, operation: BulkOperation, limit: int, seconds: float, stop: StopSignal | None = None) -> None:
        self._operation = operation
        self._left = limit
        self._stop = stop
        self._over_at = time.monotonic() + seconds
        self._over_at_wall = time.time() + seconds
        self._check_stop_at = time.monotonic() + STOP_CHECK_SECONDS
        self._is_stopped = False
        self._batches: list[list[BulkOperationItem]] = []
        self._concluded: set[Any] = set()
        """Keys of the invoices whose items have an outcome."""
        self._unwritten: set[Any] = set()
        """Keys of the invoices whose outcome was not written. Their items keep the lease; the outcome is in the log."""
        self._has_failed = False
        """True if the database refused a row."""
        aliases = operation.items.providers_left()
        paused = find_corrected_pauses(operation, aliases)
        self.aliases = [alias for alias in aliases if alias not in paused]
        self._lease_seconds = seconds + _longest_request(aliases) + MARGIN_SECONDS

    # -- items ------------------------------------------------------------------------------------------------

    def lease(self, alias: str) -> list[BulkOperationItem]:
        """Lease a batch of a provider's items, and return those that are to be sent."""
        while self._left > 0 and not self.is_over():
            size = min(ITEM_BATCH_SIZE, self._left)
            batch = self._operation.items.lease(size, seconds=self._lease_seconds, provider=alias)
            if not batch:
                break
            self._left -= len(batch)
            self._batches.append(batch)
            items = self._screen(batch)
            if items:
                return items
        return []

    def _screen(self, items: list[BulkOperationItem]) -> list[BulkOperationItem]:
        """Conclude the items that must not be sent; return the others."""
        for find in SCREENS:
            found = find(self._operation, items)
            if found:
                self.conclude((key, outcome, code) for key, (outcome, code) in found.items())
                items = [item for item in items if item.invoice_id not in found]
        return items

    def conclude(self, results: Iterable[tuple[Any, str, str]], *, veto_reason: str = "") -> None:
        """Write outcomes, as (key of the invoice, outcome, code), and the reason of the shop for a veto."""
        results = list(results)
        self._operation.items.conclude(results, veto_reason=veto_reason)
        keys = [key for key, _, _ in results]
        transaction.on_commit(lambda: self._concluded.update(keys), using=self._operation.database)

    def conclude_result(self, result: CancelResult) -> None:
        """Write the outcome of a result, unless it is written already or the item is to be retried.

        If the database refuses the outcome of an answer, the log has it. Other items are retried.
        """
        self._has_failed = self._has_failed or result.code in _NOT_TRIED
        if result.code in _TO_BE_RETRIED or not result.is_recorded or result.invoice_id in self._concluded:
            return
        try:
            self.conclude([(result.invoice_id, result.outcome, result.code)], veto_reason=result.veto_reason)
        except DatabaseError:
            logger.exception("The outcome of an item of bulk operation %s was not written.", self._operation.pk)
            if result.attempt:
                self._unwritten.add(result.invoice_id)

    def release(self) -> None:
        """Give back the items that were not tried."""
        for batch in self._batches:
            self._operation.items.release([item for item in batch if item.invoice_id not in self._unwritten])

    def make_readers(self) -> dict[str, InvoiceReader]:
        """Return a reader of leased invoices for each provider, by alias."""
        return {alias: LeasedItemReader(self, alias) for alias in self.aliases}

    # -- the end ----------------------------------------------------------------------------------------------

    @property
    def wait_seconds(self) -> float:
        """Seconds to wait before the next slice, if others hold the rest or the database refused it; without pauses."""
        if self._concluded:
            return 0.0
        return RETRY_SECONDS if self._has_failed else 1.0

    def is_over(self) -> bool:
        """Return whether no more items are to be leased."""
        return self._seconds_over() >= 0

    def _seconds_over(self) -> float:
        """Return the seconds since the end, by the later clock: the monotonic one stops in a suspended machine."""
        return max(time.monotonic() - self._over_at, time.time() - self._over_at_wall)

    def should_stop(self) -> bool:
        """Return whether the run must stop: the drain time is over, or the operation or the worker was stopped."""
        now = time.monotonic()
        if now >= self._check_stop_at:
            self._check_stop_at = now + STOP_CHECK_SECONDS
            self._is_stopped = not is_running(self._operation)
        is_worker_stopped = self._stop is not None and self._stop.is_set()
        return self._is_stopped or self._seconds_over() >= DRAIN_SECONDS or is_worker_stopped


class LeasedItemReader(InvoiceReader):
    """Reads a provider's invoices as they are leased, until the slice is over."""

    def __init__(self, slice_: Slice, alias: str) -> None:
        super().__init__(Invoice.objects.all())
        self._slice = slice_
        self._alias = alias

    @property
    def has_more(self) -> bool:
        return super().has_more and not self._slice.is_over()

    def _read_page(self) -> None:
        items = self._slice.lease(self._alias)
        self._is_exhausted = not items
        self._page.extend(item.invoice for item in items if item.invoice is not None)


def is_running(operation: BulkOperation) -> bool:
    """Return whether the stored operation is running."""
    return BulkOperation.objects.filter(pk=operation.pk, progress=Progress.RUNNING).exists()


def _longest_request(aliases: Sequence[str]) -> float:
    """Return the longest deadline of these providers, as far as it is known."""
    found = [0.0]
    for alias in aliases:
        with suppress(ImproperlyConfigured):
            found.append((registry.last_known(alias) or registry.get_provider(alias)).deadline)
    return max(found)
