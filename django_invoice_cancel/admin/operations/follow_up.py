"""What makes sense after an operation: a new one for a group of its items. One table; no URL names a handler."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from django.db.models import QuerySet
from django.utils.translation import gettext_lazy as _

from ...domain.outcomes import Code, Outcome
from ...models import BulkOperation, BulkOperationItem, Invoice
from ...models.operation import Operation, Progress
from ...providers.base import Provider
from ...services.eligibility import account_of, doubtful, is_stored_well, why_not_in
from ..scope import OperationSight
from .preview import Plan, stated

_PAGE = 1000
_NEEDS_A_PERSON = frozenset(
    {
        *(Code.NO_LOOKUP, Code.NOT_FOUND, Code.UNKNOWN_STATUS, Code.PROVIDER_REFUSED, Code.CONTRADICTORY_ANSWER),
        *(Code.WITHDRAWN, Code.TOO_MANY_REPEATS),
    }
)
_SETTLED = frozenset(
    {
        *(Code.HAS_PAYMENT, Code.CLOSED, Code.NOT_FOUND, Code.MISCONFIGURED, Code.NOT_REGISTERED),
        *(Code.NO_INVOICE, Code.NOT_PERMITTED, Code.NOT_IN_DOUBT, Code.ALREADY_CANCELED, Code.RESOLVED),
        Code.NEWER_STATUS,
    }
)
"""Nothing is to be done about these."""
_NOT_TRIED = frozenset({Code.PROVIDER_PAUSED, Code.SENDING_DISABLED, Code.DATABASE_ERROR, Code.UNKNOWN_INVOICES})
"""The invoice was left out for a reason that passes, and a cancellation may be tried again."""
_UNSETTLED = frozenset(Outcome) - {Outcome.CANCELED, Outcome.ALREADY_CANCELED}


def next_step(operation: BulkOperation, outcome: str, code: str) -> Operation | None:
    """Return what is sensible for the items of an operation that ended so; None: nothing, or to continue it."""
    if operation.progress == Progress.DRAFT:
        return Operation.CHECK if code == Code.IN_DOUBT and operation.operation == Operation.CANCEL else None
    if operation.operation not in _AFTER or outcome not in _UNSETTLED:
        return None
    return _AFTER[Operation(operation.operation)](outcome, code)


def _after_cancel(outcome: str, code: str) -> Operation | None:
    if outcome == Outcome.NOT_PROCESSED or code in _NOT_TRIED:
        return Operation.CANCEL
    return None if code in _SETTLED else Operation.CHECK


def _after_check(outcome: str, code: str) -> Operation | None:
    if outcome == Outcome.IN_DOUBT and code in _NEEDS_A_PERSON:
        return Operation.RESOLVE
    if outcome == Outcome.NOT_PROCESSED and code in (Code.STILL_OPEN, Code.NO_LOOKUP):
        return Operation.CANCEL if code == Code.STILL_OPEN else None
    return None if code in _SETTLED else Operation.CHECK


def _after_resolve(outcome: str, code: str) -> Operation | None:
    return Operation.CHECK if code in (Code.CHANGED, Code.DOUBT_PERIOD) else None


_AFTER = {
    Operation.CANCEL: _after_cancel,
    Operation.CHECK: _after_check,
    Operation.RESOLVE: _after_resolve,
}

_LABELS: Mapping[tuple[str, str], Any] = {
    (Operation.CANCEL, Operation.CANCEL): _("Continue with these"),
    (Operation.CHECK, Operation.CANCEL): _("Cancel these"),
}


def label(operation: BulkOperation, step: Operation) -> str:
    """Return what the button says."""
    default = _("Resolve these") if step == Operation.RESOLVE else _("Check these")
    return str(_LABELS.get((operation.operation, step), default))


def members(sight: OperationSight, outcome: str, code: str, provider: str) -> QuerySet[BulkOperationItem]:
    """Return the visible items that a button of the report, or of a draft, is about."""
    items = sight.items.filter(invoice__isnull=False)
    if sight.operation.progress == Progress.DRAFT:
        return items.filter(doubtful("invoice__"), outcome="")
    return items.filter(outcome=outcome, code=code, provider=provider)


def is_feasible(items: QuerySet[BulkOperationItem], step: Operation) -> bool:
    """Return whether the step does anything about one of these items, as its own confirmation page decides."""
    following = BulkOperation(operation=step)
    groups = stated(items.filter(invoice__isnull=False), following.wanted).order_by()
    for alias, state in groups.values_list("invoice__provider", "state").distinct():
        account = account_of(alias)
        if why_not_in(following.wanted, state, account, waits_for=following.waits_for):
            continue
        ids = paged_ids(groups.filter(invoice__provider=alias, state=state))
        if step == Operation.RESOLVE or not isinstance(account, Provider):
            return True
        if any(is_stored_well(external_id, account) for external_id in ids):
            return True
    return False


def paged_ids(items: QuerySet[Any]) -> Iterator[str]:
    """Yield the ids of the invoices of items, the first of them soon."""
    rows: Any = items.order_by("pk").values_list("pk", "invoice__external_id")
    page = list(rows[:1])
    while page:
        yield from (external_id for _pk, external_id in page)
        page = list(rows.filter(pk__gt=page[-1][0])[:_PAGE])


def check_first(plan: Plan) -> Operation | None:
    """Return the step by which those of a draft that are in doubt are found out about, if it does anything."""
    step = next_step(plan.draft, "", Code.IN_DOUBT) if Code.IN_DOUBT in plan.refused_codes else None
    return step if step is not None and is_feasible(members(plan.sight, "", "", ""), step) else None


def drafted(sight: OperationSight, step: Operation, items: QuerySet[BulkOperationItem]) -> BulkOperation:
    """Write the draft of what follows an operation, by the user who asks for it: of invoices that this user sees."""
    operation, scope = sight.operation, sight.scope
    invoices: Any = Invoice.objects.using(operation.database).filter(pk__in=items.values("invoice_id"))
    refused = scope.hidden(invoices, operation=step)
    return BulkOperation.objects.draft(
        invoices,
        operation=step,
        actor=scope.request.user,
        continues=operation,
        reason=operation.reason if step == operation.operation else "",
        not_permitted=refused.order_by().values_list("pk", flat=True),
    )
