"""Walking a selection: by primary key, in keyset pages, for each provider on its own.

Never loads it whole, and never keeps a cursor open across a write. Memory is one page a provider, and the keys of the
invoices that the provider did not know when it was last asked: these come last, so that they hold up no others.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from ..domain.outcomes import Code

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


def was_unknown(invoice: Invoice) -> bool:
    """Return whether the provider did not know the invoice when it was last asked to cancel it."""
    return invoice.last_outcome == Code.NOT_FOUND


class Walk(ABC):
    """The invoices of one provider in a selection, in order of their primary key, a page in memory at a time."""

    def __init__(self, rows: InvoiceQuerySet) -> None:
        self._rows = rows
        self._page: deque[Invoice] = deque()
        self._is_read = False
        self._unknown: deque[Any] = deque()
        """The keys of invoices that were unknown: they come when all others are read."""

    @property
    def has_more(self) -> bool:
        """Whether there may be more to take."""
        return bool(self._page or self._unknown) or not self._is_read

    def cut(self) -> None:
        """Bring nothing more."""
        self._page.clear()
        self._unknown.clear()
        self._is_read = True

    def take(self, count: int) -> list[Invoice]:
        """Return the next invoices, at most ``count``; fewer, or none, at the end."""
        taken: list[Invoice] = []
        while len(taken) < count and self.has_more:
            if self._page:
                taken.append(self._page.popleft())
            elif self._is_read:
                keys = [self._unknown.popleft() for _ in range(min(PAGE, len(self._unknown)))]
                self._page.extend(_read_keys(self._rows, keys))
            else:
                self._read()
        return taken

    def _add(self, invoice: Invoice) -> None:
        """Add an invoice that was read to the page, or to those that come last."""
        if was_unknown(invoice):
            self._unknown.append(invoice.pk)
        else:
            self._page.append(invoice)

    @abstractmethod
    def querysets(self, limit: int | None = None) -> Iterator[InvoiceQuerySet]:
        """Yield all that there is to take as query sets, the first ``limit`` invoices of it; takes nothing."""

    @abstractmethod
    def _read(self) -> None:
        """Read the next page, or note that there is none."""


class QueryWalk(Walk):
    """What a query set selects."""

    def __init__(self, invoices: InvoiceQuerySet, alias: str) -> None:
        super().__init__(invoices.filter(provider=alias))
        self._last: Any = None

    def querysets(self, limit: int | None = None) -> Iterator[InvoiceQuerySet]:
        rows: Any = self._rows
        if not limit:
            yield rows
            return
        for part in (rows.exclude(last_outcome=Code.NOT_FOUND), rows.filter(last_outcome=Code.NOT_FOUND)):
            keys = part.values_list("pk", flat=True).distinct()
            last = keys[limit - 1 : limit].first()
            if last is not None:
                yield part.filter(pk__lte=last)
                return
            yield part
            limit -= keys.count()

    def _read(self) -> None:
        rows = self._rows if self._last is None else self._rows.filter(pk__gt=self._last)
        page = rows._writer.repeat(lambda: list(rows[:PAGE]))
        self._is_read = len(page) < PAGE
        for invoice in page:
            if invoice.pk != self._last:  # a join may give a row twice
                self._add(invoice)
                self._last = invoice.pk


class ListedWalk(Walk):
    """What was listed beforehand, by primary key."""

    def __init__(self, invoices: InvoiceQuerySet, keys: Sequence[Any]) -> None:
        super().__init__(invoices)
        self._keys = deque(keys)
        self._is_read = not self._keys

    def querysets(self, limit: int | None = None) -> Iterator[InvoiceQuerySet]:
        pages = [list(self._keys)[start : start + PAGE] for start in range(0, len(self._keys), PAGE)]
        found = (self._rows.filter(pk__in=page, last_outcome=Code.NOT_FOUND) for page in pages)
        unknown: set[Any] = {key for rows in found for key in rows.values_list("pk", flat=True)}
        keys = sorted(self._keys, key=unknown.__contains__)[:limit]
        for start in range(0, len(keys), PAGE):
            yield self._rows.filter(pk__in=keys[start : start + PAGE])

    def _read(self) -> None:
        keys = [self._keys.popleft() for _ in range(min(PAGE, len(self._keys)))]
        self._is_read = not self._keys
        for invoice in _read_keys(self._rows, keys):
            self._add(invoice)


def _read_keys(invoices: InvoiceQuerySet, keys: Sequence[Any]) -> list[Invoice]:
    """Return the invoices with these keys that are still selected, each once, in order of the key."""
    rows = invoices.filter(pk__in=keys).order_by("pk")
    return list({invoice.pk: invoice for invoice in rows._writer.repeat(lambda: list(rows))}.values())
