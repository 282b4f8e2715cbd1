"""A track: what one provider's lane still has to do in this run, and what is known of those that come again."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

from ..domain.outcomes import CancelResult, Outcome
from ..services.eligibility import Account
from .selection import Walk, was_unknown
from .workers import Lane

if TYPE_CHECKING:
    from ..models import Invoice

MANY = 500
"""So many that come again are taken before the rest of the selection: memory stays flat."""


class Track:
    """The invoices of one provider: those of the selection, then those that were given back or want another try."""

    def __init__(self, alias: str, walk: Walk, lane: Lane | None, account: Account) -> None:
        self.alias = alias
        self.walk = walk
        self.lane = lane
        """None: the alias is not configured, its invoices are skipped."""
        self.account = account
        self.again: deque[Invoice] = deque()
        self.singles: deque[Invoice] = deque()
        """Those of a group that could not be claimed: each is claimed alone."""
        self.later: deque[Invoice] = deque()
        """Those that could not be claimed alone: each is tried once more when all others are recorded."""
        self.earlier: dict[Any, CancelResult] = {}
        """What was the result so far of those that come again; empty for those that were never sent."""
        self.is_left = False
        """Whether the rest stays untried."""

    @property
    def is_over(self) -> bool:
        return self.is_left or not (self._has_some or self.later)

    @property
    def must_wait(self) -> bool:
        """Whether all that is left waits for the others to be recorded."""
        return self.is_busy and not self._has_some

    @property
    def _has_some(self) -> bool:
        return bool(self.singles or self.again) or self.walk.has_more

    @property
    def is_busy(self) -> bool:
        return self.lane is not None and self.lane.open > 0

    def take(self, count: int, fresh: float) -> tuple[list[Invoice], int]:
        """Return up to ``count`` invoices, ``fresh`` of the selection at most, and how many of these there are."""
        if self.singles:
            return [self.singles.popleft()], 0
        if self.later and not self._has_some:
            return [self.later.popleft()], 0
        taken = self._take_again(count) if len(self.again) >= MANY else []
        selected = self.walk.take(int(min(count - len(taken), fresh)))
        taken += selected
        taken += self._take_again(count - len(taken))
        return sorted(taken, key=_key), len(selected)

    def _take_again(self, count: int) -> list[Invoice]:
        return [self.again.popleft() for _ in range(min(count, len(self.again)))]

    def wants_another_try(self, said: CancelResult, key: Any) -> bool:
        """Say whether an invoice of which nothing was processed comes again: once."""
        return said.outcome == Outcome.NOT_PROCESSED and said.is_recorded and key not in self.earlier

    def untold(self) -> list[CancelResult]:
        """Return the results of those that would have come again and do not: they have been tried."""
        waiting = [*self.singles, *self.again, *self.later]
        for queue in (self.singles, self.again, self.later):
            queue.clear()
        return [self.earlier.pop(invoice.pk) for invoice in waiting if invoice.pk in self.earlier]


def _key(invoice: Invoice) -> tuple[bool, Any]:
    return was_unknown(invoice), invoice.pk
