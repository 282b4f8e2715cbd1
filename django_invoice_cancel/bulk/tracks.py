"""A track: what one provider's lane still has to do in this run, and what is known of those that come again."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from ..outcomes import CancelResult, Outcome
from .lanes import Lane
from .selection import Walk

if TYPE_CHECKING:
    from ..models import Invoice


class Track:
    """The invoices of one provider: those of the selection, then those that were given back or want another try."""

    def __init__(self, alias: str, walk: Walk, lane: Lane | None) -> None:
        self.alias = alias
        self.walk = walk
        self.lane = lane
        """None: the alias is not configured, its invoices are skipped."""
        self.again: deque[Invoice] = deque()
        self.earlier: dict[int, CancelResult] = {}
        """What was the result so far of those that come again; empty for those that were never sent."""
        self.is_left = False
        """Whether the rest stays untried."""

    @property
    def is_over(self) -> bool:
        return self.is_left or not (self.again or self.walk.has_more)

    @property
    def is_busy(self) -> bool:
        return self.lane is not None and self.lane.open > 0

    def wants_another_try(self, said: CancelResult, key: int) -> bool:
        """Say whether an invoice of which nothing was processed comes again: once."""
        return said.outcome == Outcome.NOT_PROCESSED and said.is_recorded and key not in self.earlier

    def untold(self) -> list[CancelResult]:
        """Return the results of those that would have come again and do not: they have been tried."""
        results = [self.earlier[invoice.pk] for invoice in self.again if invoice.pk in self.earlier]
        self.again.clear()
        return results
