"""The operation that continues with a group of another operation's items, for example a check after a cancellation."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from django.db.models import QuerySet

from ...domain.audit import Wanted
from ...domain.outcomes import Code, Outcome
from ...domain.statuses import Status
from ...labels.results import NOT_TRIED
from ...models import BulkOperation, BulkOperationItem, Invoice
from ...models.operation import Operation, Progress
from ...providers.base import Provider
from ...services.eligibility import (
    CONTRADICTED,
    REFUSED,
    Account,
    account_of,
    can_be_vetoed,
    doubtful,
    find_obstacle,
    find_obstacle_in_state,
    is_normalized_id,
)
from ..scope import OperationScope
from .preview import Preview, annotate_state
from .resolving import can_look_up

ID_BATCH_SIZE = 1000
"""Number of ids that one query reads."""
MAX_VETOES = 50
"""Maximum number of invoices of a group for which a page asks the shop. In a larger group, others may be allowed."""
_NEEDS_A_PERSON = frozenset(
    {
        *(Code.NO_LOOKUP, Code.NOT_FOUND, Code.UNKNOWN_STATUS, Code.PROVIDER_REFUSED, Code.CONTRADICTORY_ANSWER),
        *(Code.WITHDRAWN, Code.TOO_MANY_REPEATS, Code.VETOED),
    }
)
_SETTLED = frozenset(
    {
        *(Code.HAS_PAYMENT, Code.CLOSED, Code.NOT_FOUND, Code.MISCONFIGURED, Code.NOT_REGISTERED),
        *(Code.NO_INVOICE, Code.NOT_PERMITTED, Code.NOT_IN_DOUBT, Code.ALREADY_CANCELED, Code.RESOLVED),
        Code.NEWER_STATUS,
    }
)
"""Codes after which no further operation is useful."""
_STATUS_IS_KNOWN = frozenset({Code.HAS_PAYMENT, Code.CLOSED})
"""Codes of refusals that name the status of the invoice."""
_NOT_TRIED = frozenset(
    {Code.PROVIDER_PAUSED, Code.SENDING_DISABLED, Code.DATABASE_ERROR, Code.UNKNOWN_INVOICES, Code.VETOED}
)
"""Codes of invoices that were left out for a reason that may end. The cancellation can be tried again."""
_UNSETTLED = frozenset(Outcome) - {Outcome.CANCELED, Outcome.ALREADY_CANCELED}


def next_step(operation: BulkOperation, outcome: str, code: str, provider: str) -> Operation | None:
    """Return the operation that can follow for a provider's items with this outcome and code, or None."""
    if operation.progress == Progress.DRAFT:
        return _before_confirmation(operation, code)
    if operation.operation in _AFTER and outcome == NOT_TRIED and operation.progress == Progress.FINISHED:
        return Operation(operation.operation)  # it was stopped for good
    if operation.operation not in _AFTER or outcome not in _UNSETTLED:
        return None
    return _AFTER[Operation(operation.operation)](outcome, code, account_of(provider))


def _before_confirmation(draft: BulkOperation, code: str) -> Operation | None:
    """Return the operation on a part of a draft: a check of its doubts, or a decision about one provider's invoices."""
    if code == Code.IN_DOUBT and draft.operation in (Operation.CANCEL, Operation.RESOLVE):
        return Operation.CHECK
    return Operation.RESOLVE if not code and draft.operation == Operation.RESOLVE else None


def _after_cancel(outcome: str, code: str, account: Account) -> Operation | None:
    if outcome == Outcome.NOT_PROCESSED or code in _NOT_TRIED:
        return Operation.CANCEL
    if outcome == Outcome.REFUSED and code not in _STATUS_IS_KNOWN and _accepts_decision(REFUSED, account):
        return Operation.RESOLVE
    if outcome == Outcome.IN_DOUBT and _can_find_out_nothing(account):
        return Operation.RESOLVE
    return None if code in _SETTLED else Operation.CHECK


def _after_check(outcome: str, code: str, account: Account) -> Operation | None:
    if outcome == Outcome.IN_DOUBT and code in _NEEDS_A_PERSON:
        return Operation.RESOLVE
    if outcome == Outcome.NOT_PROCESSED and code == Code.STILL_OPEN:
        return Operation.CANCEL
    if outcome == Outcome.NOT_PROCESSED and code == Code.NO_LOOKUP:
        return Operation.RESOLVE if _accepts_decision(REFUSED, account) else None
    return None if code in _SETTLED else Operation.CHECK


def _after_resolve(outcome: str, code: str, account: Account) -> Operation | None:
    return Operation.CHECK if code in (Code.CHANGED, Code.DOUBT_PERIOD) else None


def _accepts_decision(state: str, account: Account) -> bool:
    return not find_obstacle_in_state(Wanted.RESOLVE, state, account)


def _can_find_out_nothing(account: Account) -> bool:
    """Return whether neither a lookup nor a repeated cancel request can resolve a doubt at this provider."""
    return find_obstacle_in_state(Wanted.REPEAT, Status.IN_DOUBT, account) == Code.NO_LOOKUP


_AFTER = {
    Operation.CANCEL: _after_cancel,
    Operation.CHECK: _after_check,
    Operation.RESOLVE: _after_resolve,
}


def select_items(scope: OperationScope, outcome: str, code: str, provider: str) -> QuerySet[BulkOperationItem]:
    """Return the visible items of a group of the report.

    Of a draft, they are those that a check may settle or, if it is to be resolved one provider after the other, those
    of the provider.
    """
    items = scope.items.filter(invoice__isnull=False)
    if scope.operation.progress != Progress.DRAFT:
        return items.filter(outcome=outcome, code=code, provider=provider)
    items = items.filter(outcome="")
    if scope.operation.operation != Operation.RESOLVE:
        return items.filter(doubtful("invoice__"))
    decidable: QuerySet[Any] = annotate_state(items, Wanted.RESOLVE)
    if code:
        aliases = [alias for alias in scope.providers_left() if can_look_up(alias)]
        return decidable.filter(provider__in=aliases, state__in=(Status.IN_DOUBT, CONTRADICTED))
    return decidable.filter(provider=provider, state__in=(Status.IN_DOUBT, CONTRADICTED, REFUSED))


def is_feasible(items: QuerySet[BulkOperationItem], step: Operation) -> bool:
    """Return whether at least one of these items is eligible for the next operation."""
    following = BulkOperation(operation=step)
    groups = annotate_state(items.filter(invoice__isnull=False), following.wanted).order_by()
    for alias, state in groups.values_list("invoice__provider", "state").distinct():
        account = account_of(alias)
        if find_obstacle_in_state(following.wanted, state, account, waits_for=following.waits_for):
            continue
        eligible = groups.filter(invoice__provider=alias, state=state)
        if step == Operation.RESOLVE or not isinstance(account, Provider):
            return True
        if can_be_vetoed(following.wanted, account):
            if _is_any_allowed(eligible, following, account):
                return True
            continue
        ids = iterate_external_ids(eligible)
        if any(is_normalized_id(external_id, account) for external_id in ids):
            return True
    return False


def _is_any_allowed(items: QuerySet[Any], following: BulkOperation, account: Provider) -> bool:
    """Return whether the shop allows the next operation for one of these items, or there are too many to ask."""
    some = list(items.select_related("invoice").order_by("pk")[: MAX_VETOES + 1])
    return len(some) > MAX_VETOES or any(
        not find_obstacle(following.wanted, item.invoice, account, waits_for=following.waits_for) for item in some
    )


def iterate_external_ids(items: QuerySet[Any]) -> Iterator[str]:
    """Yield the external ids of the items' invoices. The first one is read alone, because it is often sufficient."""
    rows: Any = items.order_by("pk").values_list("pk", "invoice__external_id")
    batch = list(rows[:1])
    while batch:
        yield from (external_id for _pk, external_id in batch)
        batch = list(rows.filter(pk__gt=batch[-1][0])[:ID_BATCH_SIZE])


def find_check_step(preview: Preview) -> Operation | None:
    """Return the operation that checks the invoices in doubt of a draft; None if none of them is eligible.

    Before a decision, only a lookup counts as a check, and not a repeated cancel request.
    """
    is_decision = preview.draft.operation == Operation.RESOLVE
    if not (preview.count if is_decision else Code.IN_DOUBT in preview.left_out_codes):
        return None
    step, items = next_step(preview.draft, "", Code.IN_DOUBT, ""), select_items(preview.scope, "", Code.IN_DOUBT, "")
    return step if step is not None and is_feasible(items, step) else None


def create_draft(scope: OperationScope, step: Operation, items: QuerySet[BulkOperationItem]) -> BulkOperation:
    """Create the draft of the next operation for the user of the request, with visible invoices only."""
    operation, invoice_scope = scope.operation, scope.invoice_scope
    invoices: Any = Invoice.objects.using(operation.database).filter(pk__in=items.values("invoice_id"))
    denied = invoice_scope.hidden(invoices, operation=step)
    return BulkOperation.objects.draft(
        invoices,
        operation=step,
        actor=invoice_scope.request.user,
        continues=operation,
        **{name: getattr(operation, name) for name in ("selected_in", "selected_query", "selected_filter")},
        reason=operation.reason if step == operation.operation else "",
        not_permitted=denied.order_by().values_list("pk", flat=True),
    )
