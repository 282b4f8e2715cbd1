"""Walking a selection: by primary key, in keyset pages, for each provider on its own.

Never loads or lists it whole, and never keeps a cursor open across a write. Memory is one page a provider.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ..models import Invoice
    from ..models.queryset import InvoiceQuerySet

PAGE = 200
"""How many rows are read at once."""


def checked(invoices: InvoiceQuerySet) -> InvoiceQuerySet:
    """Return the selection ready for walking, or raise ``TypeError`` for one that cannot be walked."""
    if invoices.query.is_sliced:
        raise TypeError("Cannot cancel a query set once a slice has been taken: use limit=.")
    if invoices.query.combinator:
        raise TypeError(f"Cannot cancel a query set combined by {invoices.query.combinator}(): select with Q objects.")
    if getattr(invoices, "_fields", None) is not None:
        raise TypeError("Cannot cancel a query set of values(): select invoices.")
    if invoices.query.distinct_fields:
        raise TypeError("Cannot cancel a query set with distinct() on fields: select with Q objects.")
    if invoices.query.where.contains_over_clause:  # a page, or a row canceled meanwhile, would renumber the others
        raise TypeError("Cannot cancel a query set filtered by a window function: select with pk__in=[...] its keys.")
    invoices = invoices.all()
    invoices.query.select_for_update = False  # its locks need a transaction, and no provider is asked inside one
    # A deferred field costs a query when it is read, or fails: the row may be gone by then.
    walked = invoices.as_invoices().order_by("pk").defer(None)
    walked.query.standard_ordering = True  # reverse() outlives order_by()
    return walked


def providers(invoices: InvoiceQuerySet) -> Iterator[str]:
    """Return the aliases that occur, each by one step along the index on (provider, external_id).

    ``SELECT DISTINCT`` would read a million rows before the first request.
    """
    aliases: Any = invoices.order_by("provider").values_list("provider", flat=True)
    alias = aliases.first()
    while alias is not None:
        yield alias
        alias = aliases.filter(provider__gt=alias).first()


class Walk(ABC):
    """The invoices of one provider in a selection, in order of their primary key, a page in memory at a time."""

    def __init__(self) -> None:
        self._page: deque[Invoice] = deque()
        self._is_read = False

    @property
    def has_more(self) -> bool:
        """Whether there may be more to take."""
        return bool(self._page) or not self._is_read

    def cut(self) -> None:
        """Bring nothing more."""
        self._page.clear()
        self._is_read = True

    def take(self, count: int) -> list[Invoice]:
        """Return the next invoices, at most ``count``; fewer, or none, at the end."""
        taken: list[Invoice] = []
        while len(taken) < count and self.has_more:
            if self._page:
                taken.append(self._page.popleft())
            else:
                self._read()
        return taken

    @abstractmethod
    def querysets(self, limit: int | None = None) -> Iterator[InvoiceQuerySet]:
        """Yield all that there is to take as query sets, the first ``limit`` invoices of it; takes nothing."""

    @abstractmethod
    def _read(self) -> None:
        """Read the next page, or note that there is none."""


class QueryWalk(Walk):
    """What a query set selects."""

    def __init__(self, invoices: InvoiceQuerySet, alias: str) -> None:
        super().__init__()
        self._rest = invoices.filter(provider=alias)
        self._last: Any = None

    def querysets(self, limit: int | None = None) -> Iterator[InvoiceQuerySet]:
        rest: Any = self._rest
        last = rest.values_list("pk", flat=True).distinct()[limit - 1 : limit].first() if limit else None
        yield rest if last is None else rest.filter(pk__lte=last)

    def _read(self) -> None:
        rows = self._rest if self._last is None else self._rest.filter(pk__gt=self._last)
        page = rows.verbs.read(lambda: list(rows[:PAGE]))
        self._is_read = len(page) < PAGE
        for invoice in page:
            if invoice.pk != self._last:  # a join may give a row twice
                self._page.append(invoice)
                self._last = invoice.pk


class ListedWalk(Walk):
    """What was listed beforehand, by primary key."""

    def __init__(self, invoices: InvoiceQuerySet, keys: Sequence[Any]) -> None:
        super().__init__()
        self._invoices = invoices
        self._keys = deque(keys)
        self._is_read = not self._keys

    def querysets(self, limit: int | None = None) -> Iterator[InvoiceQuerySet]:
        keys = list(self._keys)[:limit]
        for start in range(0, len(keys), PAGE):
            yield self._invoices.filter(pk__in=keys[start : start + PAGE])

    def _read(self) -> None:
        keys = [self._keys.popleft() for _ in range(min(PAGE, len(self._keys)))]
        self._is_read = not self._keys
        rows = self._invoices.filter(pk__in=keys).order_by("pk")
        self._page.extend(rows.verbs.read(lambda: list(rows)))
