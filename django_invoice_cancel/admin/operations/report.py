"""What came of an operation: groups by reason, the table, the file. Outcomes are those of then, statuses of now."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

from django.core.paginator import Page, Paginator
from django.db.models import Count, Q, QuerySet
from django.http import HttpRequest, StreamingHttpResponse
from django.utils.translation import gettext as _

from ...domain.outcomes import Outcome
from ...models import BulkOperation, BulkOperationItem
from ...models.invoice import STATUS_LABELS
from ...models.operation import Operation
from .. import formatting
from ..scope import OperationSight
from .follow_up import is_feasible, label, members, next_step
from .progress import ORDER, Snapshot

PER_PAGE = 100
UNTRIED_WORD = "untried"
"""How the address names the items that have no outcome."""
_PAGE = 2000
_INVOICE = tuple(f"invoice__{name}" for name in ("external_id", "reference", "amount", "currency", "status"))
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


@dataclass(frozen=True)
class Group:
    """Items that ended in the same way for the same reason at the same provider."""

    outcome: str
    code: str
    provider: str
    count: str
    label: str
    text: str
    step: Operation | None
    step_label: str

    @property
    def word(self) -> str:
        return self.outcome or UNTRIED_WORD


def groups(sight: OperationSight, may: Callable[[Operation], bool]) -> list[Group]:
    """Return the groups of the visible items, largest first, each with its next step if the user may take it."""
    items = sight.items.order_by().annotate(in_hand=Q(outcome="", token__isnull=False))
    rows = items.values("outcome", "code", "provider", "in_hand").annotate(count=Count("pk"))
    ordered = sorted(rows, key=lambda row: (-row["count"], row["outcome"], row["code"], row["provider"]))
    return [_group(sight, row, may) for row in ordered]


def _group(sight: OperationSight, row: Mapping[str, Any], may: Callable[[Operation], bool]) -> Group:
    operation, outcome, code, provider = sight.operation, row["outcome"], row["code"], row["provider"]
    step = next_step(operation, outcome, code)
    if step is not None and not (may(step) and is_feasible(members(sight, outcome, code, provider), step)):
        step = None
    return Group(
        outcome,
        code,
        provider,
        formatting.number(row["count"]),
        formatting.outcome_label(operation, outcome),
        reason(outcome, code, provider, in_hand=row["in_hand"]),
        step,
        label(operation, step) if step else "",
    )


def reason(outcome: str, code: str, provider: str, *, in_hand: bool = False) -> str:
    """Return the sentence for how an item ended, or that it did not; ``in_hand``: somebody took it, it may be sent."""
    if not outcome and in_hand:
        return _("It was in hand: what became of it is not known yet.")
    if not outcome:
        return _("It was not tried and is unchanged.")
    return formatting.why(outcome, code, provider=formatting.account(provider), detail=_("see its settings and id."))


# -- the table ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    item: BulkOperationItem
    amount: str
    word: str
    label: str
    reason: str


def table(snapshot: Snapshot, request: HttpRequest) -> dict[str, Any]:
    """Return the page of the table that was asked for, and the filter; the snapshot saves counting."""
    chosen = wanted_outcome(request)
    count = snapshot.total if chosen is None else snapshot.counts.get(chosen, 0)
    paginator = Paginator(items(snapshot.sight, chosen), PER_PAGE)
    paginator.count = count
    page: Page[Any] = paginator.get_page(request.GET.get("page"))
    return {
        "page": page,
        "page_numbers": paginator.get_elided_page_range(page.number, on_each_side=2, on_ends=1),
        "rows": [_row(snapshot.operation, item) for item in page],
        "filters": _filters(snapshot, chosen),
        "chosen": "" if chosen is None else chosen or UNTRIED_WORD,
    }


def wanted_outcome(request: HttpRequest) -> str | None:
    """Return the outcome that the address asks for; None: all, or a word that is none."""
    word = request.GET.get("outcome", "")
    if word == UNTRIED_WORD:
        return formatting.UNTRIED
    return word if word in set(Outcome) else None


def items(sight: OperationSight, outcome: str | None) -> QuerySet[BulkOperationItem]:
    rows = sight.items.select_related("invoice").order_by("pk")
    return rows if outcome is None else rows.filter(outcome=outcome)


def _filters(snapshot: Snapshot, chosen: str | None) -> list[dict[str, Any]]:
    everything = {
        "word": "",
        "label": _("All"),
        "count": formatting.number(snapshot.total),
        "is_chosen": chosen is None,
    }
    return [everything] + [
        {
            "word": outcome or UNTRIED_WORD,
            "label": formatting.outcome_label(snapshot.operation, outcome),
            "count": formatting.number(snapshot.counts[outcome]),
            "is_chosen": chosen == outcome,
        }
        for outcome in ORDER
        if snapshot.counts.get(outcome)
    ]


def _row(operation: BulkOperation, item: BulkOperationItem) -> Row:
    amount = item.invoice.amount if item.invoice is not None else None
    return Row(
        item,
        "" if amount is None or item.invoice is None else formatting.money(amount, item.invoice.currency),
        item.outcome or UNTRIED_WORD,
        formatting.outcome_label(operation, item.outcome),
        reason(item.outcome, item.code, item.provider, in_hand=item.token is not None),
    )


# -- the file -------------------------------------------------------------------------------------------------


def csv_response(sight: OperationSight, outcome: str | None) -> StreamingHttpResponse:
    """Return the items as a file that spreadsheets open, written as it is sent."""
    operation = sight.operation
    response = StreamingHttpResponse(_lines(sight, outcome), content_type="text/csv; charset=utf-8")
    response["Content-Disposition"] = f'attachment; filename="{operation.operation}-{operation.pk}.csv"'
    return response


class _Echo:
    """A file that hands back what is written to it."""

    def write(self, text: str) -> str:
        return text


def _lines(sight: OperationSight, outcome: str | None) -> Iterator[str]:
    writer: Any = csv.writer(_Echo())
    yield "\ufeff"  # without it, Excel takes the file for one in its own code page
    yield writer.writerow(_heads())
    words = _Words(sight.operation)
    rows = items(sight, outcome).values_list("pk", "provider", *_INVOICE, "outcome", "code", "label", "token")
    page = list(rows[:_PAGE])
    while page:
        for _key, *cells in page:
            yield writer.writerow([harmless(cell) for cell in words.cells(*cells)])
        page = list(rows.filter(pk__gt=page[-1][0])[:_PAGE])


def _heads() -> list[str]:
    names = (_("Provider"), _("External id"), _("Reference"), _("Amount"), _("Currency"))
    return [*names, _("Outcome then"), _("Code"), _("Why"), _("Status now"), _("Selected as")]


class _Words:
    """Says in words what the columns hold; each sentence is made once."""

    def __init__(self, operation: BulkOperation) -> None:
        self._statuses = {str(status): str(label) for status, label in STATUS_LABELS.items()}
        self._why = cache(reason)
        self._label = cache(partial(formatting.outcome_label, operation))

    def cells(self, provider: str, *columns: Any) -> list[str]:
        external_id, reference, amount, currency, status, outcome, code, label, token = columns
        digits = "" if amount is None else f"{formatting.short(amount):f}"
        about = [provider, external_id or "", reference or "", digits, currency or ""]
        said = [self._label(outcome), code, self._why(outcome, code, provider, in_hand=token is not None)]
        return [*about, *said, self._statuses.get(status, status or ""), label]


def harmless(cell: str) -> str:
    """Return a cell that no spreadsheet takes for a formula."""
    return f"'{cell}" if cell.startswith(_FORMULA) else cell
