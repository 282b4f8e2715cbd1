"""Pages of a list that may have a million rows: rows are counted up to a bound, never all of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.core.paginator import Paginator
from django.utils.functional import cached_property

if TYPE_CHECKING:
    _Paginator = Paginator[Any]
else:  # generic for the type checker alone
    _Paginator = Paginator

BOUND = 10_000
"""Nobody pages further than that; whoever selects more than that by one click reads the true count to confirm."""


class MoreThan(int):
    """A count that stopped at its bound; it says so wherever a template shows it."""

    def __str__(self) -> str:
        return f">{int(self)}"  # in front: USE_THOUSAND_SEPARATOR counts digits from the end


class BoundedPaginator(_Paginator):
    """Counts no more than ``BOUND`` rows, and says "more than" beyond."""

    @cached_property
    def count(self) -> int:
        rows: Any = self.object_list
        counted: int = rows.order_by()[: BOUND + 1].count()
        return MoreThan(BOUND) if counted > BOUND else counted
