"""The work on the items of a slice, by kind of operation."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from types import MappingProxyType

from django.db import DatabaseError

from ..bulk.start import cancel_selection, reconcile_selection
from ..domain.claims import Answer
from ..domain.outcomes import CancelResult, Code, Outcome
from ..domain.statuses import Status
from ..exceptions import ResolveNotPossible
from ..models import BulkOperation, Invoice
from ..models.operation import Operation
from ..services.cancel import result_of_answer
from ..services.results import result_for_status, skipped_result
from .slices import Slice

logger = logging.getLogger("django_invoice_cancel")


def cancel_items(operation: BulkOperation, slice_: Slice) -> None:
    """Cancel the invoices of a slice."""

    def conclude(answers: Sequence[Answer]) -> None:
        # The result, not the reply: the row counts if a payment or a cancellation was recorded concurrently.
        results = [result_of_answer(answer) for answer in answers if answer.reply.code != Code.RATE_LIMITED]
        slice_.conclude((result.invoice_id, result.outcome, result.code) for result in results)

    results = cancel_selection(
        Invoice.objects.all()._writer,
        slice_.make_readers(),
        operation.audit,
        should_stop=slice_.should_stop,
        on_recorded=conclude,
        count_unknown=operation.items.unknown_so_far,
        leave_when_paused=True,
        max_tries=1,
    )
    with closing(results):
        for result in results:
            slice_.conclude_result(result)


def check_items(operation: BulkOperation, slice_: Slice) -> None:
    """Look up the invoices of a slice at their providers."""

    def conclude(result: CancelResult) -> None:
        slice_.conclude([(result.invoice_id, result.outcome, result.code)])

    results = reconcile_selection(
        Invoice.objects.all()._writer,
        slice_.make_readers(),
        operation.audit,
        should_stop=slice_.should_stop,
        on_recorded=conclude,
        resubmit=True,
    )
    with closing(results):
        for result in results:
            slice_.conclude_result(result)


def resolve_items(operation: BulkOperation, slice_: Slice) -> None:
    """Record the decision of an operator about the invoices of a slice."""
    for alias in slice_.aliases:
        while items := slice_.lease(alias):
            for item in items:
                if slice_.is_over() or slice_.should_stop():
                    return
                if item.invoice is not None:
                    item.invoice.attempt = item.attempt  # the attempt that the operator saw
                    _resolve_one(operation, slice_, item.invoice)


def _resolve_one(operation: BulkOperation, slice_: Slice, invoice: Invoice) -> None:
    def conclude() -> None:
        result = result_for_status(invoice, Code.RESOLVED)
        slice_.conclude([(invoice.pk, result.outcome, Code.RESOLVED)])

    try:
        invoice._writer.resolve(invoice, Status(operation.decision), operation.audit, on_recorded=conclude)
    except ResolveNotPossible as error:
        slice_.conclude([(invoice.pk, Outcome.SKIPPED, error.code)])
    except DatabaseError as error:
        logger.warning("The database refused a decision about %s (%s).", invoice, type(error).__name__)
        slice_.conclude_result(skipped_result(invoice, Code.DATABASE_ERROR))


WORK: Mapping[Operation, Callable[[BulkOperation, Slice], None]] = MappingProxyType(
    {
        Operation.CANCEL: cancel_items,
        Operation.CHECK: check_items,
        Operation.RESOLVE: resolve_items,
    }
)
