"""Report of an operation: groups by reason, a table, and a CSV file.

Outcomes are those of the operation. Statuses are the current ones.
"""

from __future__ import annotations

import csv
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache, lru_cache, partial
from typing import Any

from django.core.paginator import Page, Paginator
from django.db.models import Count, Q, QuerySet
from django.http import HttpRequest, StreamingHttpResponse
from django.utils.translation import gettext as _

from ...domain.bidi import escape_controls
from ...domain.outcomes import Code, Outcome
from ...labels.formatting import format_money, format_number, trim_amount
from ...labels.invoices import message_label, status_label
from ...labels.operations import follow_up_label, outcome_label
from ...labels.results import NOT_TRIED, VETOED, describe_result
from ...models import BulkOperation, BulkOperationItem, InvoiceTransition
from ...models.operation import Operation
from ..dashboard_links import DashboardLinks
from ..provider_state import account_name
from ..scope import OperationScope
from .follow_up import is_feasible, next_step, select_items
from .progress import OUTCOME_ORDER, Snapshot
from .totals import Totals

ROWS_PER_PAGE = 100
NOT_TRIED_KEY = "untried"
"""The outcome of items without an outcome, in URLs and CSS classes."""
ROW_BATCH_SIZE = 2000
"""Number of rows of the file that one query reads."""
_SIGNS = r"=+\-@\t\uff0b\uff0d\uff1d\uff20"
_FORMULA = re.compile(rf"\A(?=[{_SIGNS}\r\n])|(?<=[\r\n])(?=[{_SIGNS}])")
"""The places before a character that begins a formula, at the start of a cell or of a line in it."""


@dataclass(frozen=True)
class Group:
    """The items with the same outcome and code at the same provider."""

    outcome: str
    code: str
    provider: str
    count: str
    label: str
    text: str
    step: Operation | None
    step_label: str

    @property
    def key(self) -> str:
        """The outcome as a CSS class."""
        return self.outcome or NOT_TRIED_KEY


def build_groups(scope: OperationScope, can_take: Callable[[Operation], bool]) -> list[Group]:
    """Return the groups of visible items, the largest one first, with the next operation if the user may start it."""
    items = scope.items.order_by().annotate(is_leased=Q(outcome="", token__isnull=False))
    rows = items.values("outcome", "code", "provider", "is_leased").annotate(count=Count("pk"))
    ordered = sorted(rows, key=lambda row: (-row["count"], row["outcome"], row["code"], row["provider"]))
    return [_build_group(scope, row, can_take) for row in ordered]


def _build_group(scope: OperationScope, row: Mapping[str, Any], can_take: Callable[[Operation], bool]) -> Group:
    operation, outcome, code, provider = scope.operation, row["outcome"], row["code"], row["provider"]
    step = next_step(operation, outcome, code, provider)
    if step is not None and not (can_take(step) and is_feasible(select_items(scope, outcome, code, provider), step)):
        step = None
    return Group(
        outcome,
        code,
        provider,
        format_number(row["count"]),
        outcome_label(operation.operation, outcome),
        _describe_group(scope, outcome, code, provider, is_leased=row["is_leased"]),
        step,
        follow_up_label(operation.operation, step, outcome) if step else "",
    )


def _describe_group(scope: OperationScope, outcome: str, code: str, provider: str, *, is_leased: bool) -> str:
    if code != Code.VETOED:
        return describe_item(outcome, code, provider, is_leased=is_leased)
    vetoed = scope.items.filter(outcome=outcome, code=code, provider=provider).order_by()
    reasons = list(vetoed.values_list("veto_reason", flat=True).distinct()[:2])
    if len(reasons) == 1:
        return describe_item(outcome, code, provider, veto_reason=reasons[0])
    differ = _("The reasons differ; see the table.")
    return f"{VETOED} {differ}"


def describe_item(outcome: str, code: str, provider: str, *, is_leased: bool = False, veto_reason: str = "") -> str:
    """Return the result of an item as text.

    Args:
        is_leased: True if a worker leased it, so that its request may have been sent.
        veto_reason: The reason of the shop, if the item is vetoed.
    """
    if not outcome and is_leased:
        return _("It was in progress; its result is not known yet.")
    if not outcome:
        return _("It was not tried and is unchanged.")
    detail = veto_reason or _("check the provider's settings and the id.")
    return str(describe_result(outcome, code, provider=account_name(provider), detail=detail))


def build_totals(scope: OperationScope) -> dict[str, Any]:
    """Return the totals of the visible items by outcome, and those of all of them."""
    groups = scope.items.order_by().values("outcome", "invoice__currency").annotate(**Totals.aggregates())
    rows: defaultdict[str, Totals] = defaultdict(Totals)
    total = Totals()
    for group in groups:
        rows[group["outcome"]].add(group)
        total.add(group)
    known = [outcome for outcome in OUTCOME_ORDER if outcome in rows]
    others = sorted(set(rows) - set(known))
    kind = scope.operation.operation
    return {
        "totals": [(outcome_label(kind, outcome), rows[outcome]) for outcome in (*known, *others)],
        "total": total,
    }


def read_answers(operation: BulkOperation, items: Iterable[BulkOperationItem]) -> dict[Any, InvoiceTransition]:
    """Return the log rows of the last answers in this operation, by the key of the invoice. This makes one query.

    Items that were not tried have none: an earlier answer, such as a 429, is not their outcome.
    """
    keys = [item.invoice_id for item in items if item.invoice_id is not None and item.outcome]
    log = InvoiceTransition.objects.using(operation.database).filter(operation=operation.pk, invoice_id__in=keys)
    rows = log.exclude(outcome="").order_by("id").only("invoice_id", "code", "http_status", "provider_message")
    return {row.invoice_id: row for row in rows}


# -- the table ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class TableRow:
    """One row of the table."""

    item: BulkOperationItem
    amount: str
    key: str
    """The outcome as a CSS class."""
    label: str
    reason: str
    message: str
    """The message of the provider, or the error message of the request; empty without one."""
    message_label: str
    dashboard_url: str
    """The address of the invoice in the provider's dashboard, or an empty string."""


def build_table(snapshot: Snapshot, request: HttpRequest) -> dict[str, Any]:
    """Return the requested page of the table, and its filters. The counts are taken from the snapshot."""
    chosen = requested_outcome(request)
    count = snapshot.total if chosen is None else snapshot.counts.get(chosen, 0)
    paginator = Paginator(select_rows(snapshot.scope, chosen), ROWS_PER_PAGE)
    paginator.count = count
    page: Page[Any] = paginator.get_page(request.GET.get("page"))
    return {
        "page": page,
        "page_numbers": paginator.get_elided_page_range(page.number, on_each_side=2, on_ends=1),
        "rows": _build_rows(snapshot.operation, list(page)),
        "filters": _filters(snapshot, chosen),
        "chosen": "" if chosen is None else chosen or NOT_TRIED_KEY,
    }


def requested_outcome(request: HttpRequest) -> str | None:
    """Return the outcome in the query string. None, if it is missing or unknown, selects all items."""
    key = request.GET.get("outcome", "")
    if key == NOT_TRIED_KEY:
        return NOT_TRIED
    return key if key in set(Outcome) else None


def select_rows(scope: OperationScope, outcome: str | None) -> QuerySet[BulkOperationItem]:
    rows = scope.items.select_related("invoice").order_by("pk")
    return rows if outcome is None else rows.filter(outcome=outcome)


def _filters(snapshot: Snapshot, chosen: str | None) -> list[dict[str, Any]]:
    everything = {
        "key": "",
        "label": _("All"),
        "count": format_number(snapshot.total),
        "is_chosen": chosen is None,
    }
    return [everything] + [
        {
            "key": outcome or NOT_TRIED_KEY,
            "label": outcome_label(snapshot.operation.operation, outcome),
            "count": format_number(snapshot.counts[outcome]),
            "is_chosen": chosen == outcome,
        }
        for outcome in OUTCOME_ORDER
        if snapshot.counts.get(outcome)
    ]


def _build_rows(operation: BulkOperation, items: list[BulkOperationItem]) -> list[TableRow]:
    answers, links = read_answers(operation, items), DashboardLinks()
    return [_build_row(operation, item, answers.get(item.invoice_id), links) for item in items]


def _build_row(
    operation: BulkOperation, item: BulkOperationItem, answer: InvoiceTransition | None, links: DashboardLinks
) -> TableRow:
    invoice = item.invoice
    if item.outcome == Outcome.CANCELED:
        answer = None  # the message of a confirmation, such as "{}", is in the file only
    return TableRow(
        item=item,
        amount="" if invoice is None or invoice.amount is None else format_money(invoice.amount, invoice.currency),
        key=item.outcome or NOT_TRIED_KEY,
        label=outcome_label(operation.operation, item.outcome),
        reason=describe_item(
            item.outcome, item.code, item.provider, is_leased=item.token is not None, veto_reason=item.veto_reason
        ),
        message=answer.provider_message if answer else "",
        message_label=message_label(answer.code, answer.http_status) if answer else "",
        dashboard_url="" if invoice is None else links.find(invoice),
    )


# -- the file -------------------------------------------------------------------------------------------------


def csv_response(scope: OperationScope, outcome: str | None) -> StreamingHttpResponse:
    """Return the items as a CSV file for spreadsheets. It is streamed."""
    operation = scope.operation
    response = StreamingHttpResponse(_csv_lines(scope, outcome), content_type="text/csv; charset=utf-8")
    response["Content-Disposition"] = f'attachment; filename="{operation.operation}-{operation.pk}.csv"'
    return response


class _Echo:
    """A file object whose ``write`` returns the text."""

    def write(self, text: str) -> str:
        return text


def _csv_lines(scope: OperationScope, outcome: str | None) -> Iterator[str]:
    writer: Any = csv.writer(_Echo())
    yield "\ufeff"  # without it, Excel reads the file in a legacy code page
    yield writer.writerow(_header())
    texts, links = _CellTexts(scope.operation), DashboardLinks()
    rows = select_rows(scope, outcome)
    batch = list(rows[:ROW_BATCH_SIZE])
    while batch:
        answers = read_answers(scope.operation, batch)
        for item in batch:
            cells = texts.cells(item, answers.get(item.invoice_id), links)
            yield writer.writerow([escape_formula(escape_controls(cell)) for cell in cells])
        batch = list(rows.filter(pk__gt=batch[-1].pk)[:ROW_BATCH_SIZE])


def _header() -> list[str]:
    names = (_("Provider"), _("External id"), _("Reference"), _("Amount"), _("Currency"))
    result = (_("Outcome"), _("Code"), _("Explanation"), _("Current status"), _("Selected as"))
    return [*names, *result, _("Provider's message or error"), _("Provider's dashboard")]


class _CellTexts:
    """The texts of cells. Each text is created once."""

    def __init__(self, operation: BulkOperation) -> None:
        self._status = cache(status_label)
        self._result = lru_cache(maxsize=1000)(describe_item)  # the reasons of the shop may all differ
        self._outcome = cache(partial(outcome_label, operation.operation))

    def cells(self, item: BulkOperationItem, answer: InvoiceTransition | None, links: DashboardLinks) -> list[str]:
        is_leased = item.token is not None
        result = self._result(item.outcome, item.code, item.provider, is_leased=is_leased, veto_reason=item.veto_reason)
        outcome = [self._outcome(item.outcome), item.code, result]
        message = answer.provider_message if answer else ""
        invoice = item.invoice
        if invoice is None:
            return [item.provider, "", "", "", "", *outcome, "", item.label, message, ""]
        digits = "" if invoice.amount is None else f"{trim_amount(invoice.amount):f}"
        identity = [item.provider, invoice.external_id, invoice.reference, digits, invoice.currency]
        return [*identity, *outcome, self._status(invoice.status), item.label, message, links.find(invoice)]


def escape_formula(cell: str) -> str:
    """Return a cell that spreadsheets do not interpret as a formula."""
    return _FORMULA.sub("'", cell)
