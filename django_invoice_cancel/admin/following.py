"""What makes sense after an operation: a new one for a group of its items. One table; no URL names a handler."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.db.models import QuerySet
from django.utils.translation import gettext_lazy as _

from ..models import BulkOperation, BulkOperationItem, Invoice
from ..models.bulk_operation import Operation, Progress
from ..outcomes import Code, Outcome
from ..statuses import Status
from .scope import OperationSight

_NEEDS_A_PERSON = frozenset(
    {Code.NO_LOOKUP, Code.NOT_FOUND, Code.UNKNOWN_STATUS, Code.PROVIDER_REFUSED, Code.CONTRADICTORY_ANSWER}
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
        return items.filter(outcome="", invoice__status=Status.IN_DOUBT)
    return items.filter(outcome=outcome, code=code, provider=provider)


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
