"""Reads a selection by primary key, in keyset pages, separately for each provider.

Memory holds one page for each provider, and no cursor stays open across a write. Invoices that the provider did not
know at the last request come last, so that they do not delay others; only their keys are kept.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Iterator, Sequence
from typing import Any

from ..domain.outcomes import Code
from ..domain.ports import InvoicePort, SelectionPort

PAGE_SIZE = 200
"""Number of rows in a page."""


def check_selection(invoices: Any, *, is_read_in_pages: bool = True) -> None:
    """Refuse a query set that does not select invoices by their primary keys.

    Args:
        invoices: The argument of a public function.
        is_read_in_pages: Also refuse a filter on a window function. A page, or a row that is canceled concurrently,
            would renumber the other rows.

    Raises:
        TypeError: ``invoices`` is not a query set of invoices, but for example a list.
        ValueError: The query set is sliced, combined, made of ``values()``, or restricted by ``distinct()`` on fields
            or by a window function.
    """
    if not (hasattr(invoices, "query") and hasattr(invoices, "as_invoices")):
        raise TypeError(f"invoices must be a query set of Invoice, not {type(invoices).__name__}.")
    query = invoices.query
    if query.is_sliced:
        raise ValueError("A slice of a query set is not supported. Use limit=, or filter by primary keys.")
    if query.combinator:
        raise ValueError(f"A query set combined by {query.combinator}() is not supported. Use Q objects.")
    if getattr(invoices, "_fields", None) is not None:
        raise ValueError("A query set of values() is not supported. Select invoices.")
    if query.distinct_fields:
        raise ValueError("A query set with distinct() on fields is not supported. Filter by primary keys.")
    if is_read_in_pages and query.where.contains_over_clause:
        raise ValueError("A query set filtered by a window function is not supported. Filter by primary keys.")


def prepare_selection(invoices: SelectionPort) -> SelectionPort:
    """Return the selection in a form that can be read in pages. Raises what ``check_selection`` raises."""
    check_selection(invoices)
    invoices = invoices.all()
    invoices.query.select_for_update = False  # its locks need a transaction, and requests are sent outside of one
    # A deferred field needs a query when it is read, and fails if the row was deleted.
    selection = invoices.as_invoices().order_by("pk").defer(None)
    selection.query.standard_ordering = True  # order_by() does not undo reverse()
    return selection


def iter_aliases(invoices: SelectionPort) -> Iterator[str]:
    """Yield the distinct aliases, with one step each along the index on (provider, external_id).

    ``SELECT DISTINCT`` would read all rows before the first request.
    """
    aliases: Any = invoices.order_by("provider").values_list("provider", flat=True)
    alias = aliases.first()
    while alias is not None:
        yield alias
        alias = aliases.filter(provider__gt=alias).first()


def was_not_found(invoice: InvoicePort) -> bool:
    """Return whether the provider did not know the invoice at the last cancel request."""
    return invoice.last_outcome == Code.NOT_FOUND


class InvoiceReader(ABC):
    """Reads invoices of one provider page by page, in order of the primary key."""

    def __init__(self, rows: SelectionPort) -> None:
        self._rows = rows
        self._page: deque[InvoicePort] = deque()
        self._is_exhausted = False
        self._unknown_keys: deque[Any] = deque()
        """Keys of invoices that were unknown; they are read after all others."""

    @property
    def has_more(self) -> bool:
        """True if the reader may have more invoices."""
        return bool(self._page or self._unknown_keys) or not self._is_exhausted

    def discard_rest(self) -> None:
        """Skip all remaining invoices."""
        self._page.clear()
        self._unknown_keys.clear()
        self._is_exhausted = True

    def take(self, count: int) -> list[InvoicePort]:
        """Return the next invoices, at most ``count``; fewer at the end."""
        taken: list[InvoicePort] = []
        while len(taken) < count and self.has_more:
            if self._page:
                taken.append(self._page.popleft())
            elif self._is_exhausted:
                keys = [self._unknown_keys.popleft() for _ in range(min(PAGE_SIZE, len(self._unknown_keys)))]
                self._page.extend(_read_keys(self._rows, keys))
            else:
                self._read_page()
        return taken

    def _add(self, invoice: InvoicePort) -> None:
        """Add an invoice to the page, or to the keys that come last."""
        if was_not_found(invoice):
            self._unknown_keys.append(invoice.pk)
        else:
            self._page.append(invoice)

    @abstractmethod
    def _read_page(self) -> None:
        """Read the next page, or set ``_is_exhausted``."""


class SelectionReader(InvoiceReader):
    """Reads a selection that can also be stored as an operation."""

    @abstractmethod
    def querysets(self, limit: int | None = None) -> Iterator[SelectionPort]:
        """Yield query sets of the first ``limit`` invoices, without reading them."""


class QuerySetReader(SelectionReader):
    """Reads the invoices of a query set."""

    def __init__(self, invoices: SelectionPort, alias: str) -> None:
        super().__init__(invoices.filter(provider=alias))
        self._last_key: Any = None

    def querysets(self, limit: int | None = None) -> Iterator[SelectionPort]:
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

    def _read_page(self) -> None:
        rows = self._rows if self._last_key is None else self._rows.filter(pk__gt=self._last_key)
        page = rows._writer.repeat(lambda: list(rows[:PAGE_SIZE]))
        self._is_exhausted = len(page) < PAGE_SIZE
        for invoice in page:
            if invoice.pk != self._last_key:  # a join may return a row twice
                self._add(invoice)
                self._last_key = invoice.pk


class KeyListReader(SelectionReader):
    """Reads invoices by a list of primary keys."""

    def __init__(self, invoices: SelectionPort, keys: Sequence[Any]) -> None:
        super().__init__(invoices)
        self._keys = deque(keys)
        self._is_exhausted = not self._keys

    def querysets(self, limit: int | None = None) -> Iterator[SelectionPort]:
        pages = [list(self._keys)[start : start + PAGE_SIZE] for start in range(0, len(self._keys), PAGE_SIZE)]
        found = (self._rows.filter(pk__in=page, last_outcome=Code.NOT_FOUND) for page in pages)
        unknown: set[Any] = {key for rows in found for key in rows.values_list("pk", flat=True)}
        keys = sorted(self._keys, key=unknown.__contains__)[:limit]
        for start in range(0, len(keys), PAGE_SIZE):
            yield self._rows.filter(pk__in=keys[start : start + PAGE_SIZE])

    def _read_page(self) -> None:
        keys = [self._keys.popleft() for _ in range(min(PAGE_SIZE, len(self._keys)))]
        self._is_exhausted = not self._keys
        for invoice in _read_keys(self._rows, keys):
            self._add(invoice)


def _read_keys(invoices: SelectionPort, keys: Sequence[Any]) -> list[InvoicePort]:
    """Return the invoices with these keys that are still selected, in order of the key."""
    rows = invoices.filter(pk__in=keys).order_by("pk")
    return list({invoice.pk: invoice for invoice in rows._writer.repeat(lambda: list(rows))}.values())
