"""Results for callers: make them from an invoice in memory, log them, and raise their exceptions."""

from __future__ import annotations

import logging
from typing import Any

from django.core.exceptions import ImproperlyConfigured

from .. import registry
from ..domain.bidi import isolate
from ..domain.claims import Target
from ..domain.outcomes import CancelResult, Code, Outcome
from ..domain.ports import InvoicePort
from ..domain.statuses import CLOSED_STATUSES, PAID_STATUSES, Status, is_known
from ..exceptions import (
    CancelError,
    CancelInDoubt,
    CancelNotPossible,
    CancelNotProcessed,
    CancelRefused,
    OutcomeNotRecorded,
)
from ..labels.results import describe_result
from .eligibility import is_in_doubt

logger = logging.getLogger("django_invoice_cancel")

EXCEPTIONS: dict[Outcome, type[CancelError]] = {
    Outcome.SKIPPED: CancelNotPossible,
    Outcome.REFUSED: CancelRefused,
    Outcome.NOT_PROCESSED: CancelNotProcessed,
    Outcome.IN_DOUBT: CancelInDoubt,
}


def raise_unless_ok(cancel_result: CancelResult) -> CancelResult:
    """Return the result if the invoice is canceled and recorded; otherwise raise the exception of its outcome."""
    if not cancel_result.is_recorded:
        raise OutcomeNotRecorded(cancel_result)
    if cancel_result.ok:
        return cancel_result
    raise EXCEPTIONS[cancel_result.outcome](cancel_result)


def skipped_result(
    invoice: InvoicePort, code: str, *, detail: str = "", retry_after: float | None = None
) -> CancelResult:
    return make_result(invoice, Outcome.SKIPPED, code, detail=detail, retry_after=retry_after)


def make_result(
    invoice: InvoicePort,
    outcome: Outcome,
    code: str,
    *,
    detail: str = "",
    target: Target | None = None,
    name: str = "",
    **more: Any,
) -> CancelResult:
    """Return a result about an invoice in memory, or about ``target``, its identity when it was claimed.

    ``name`` is the name of the provider, if the configuration must not be read for it.
    """
    target = target or Target.of(invoice)
    return CancelResult(
        provider=target.provider,
        external_id=target.external_id,
        outcome=outcome,
        code=str(code),
        message=describe_result(outcome, code, provider=name or provider_name(target.provider), detail=detail),
        status=str(invoice.status),
        invoice_id=target.key,
        reference=invoice.reference,
        **more,
    )


def provider_name(alias: str) -> str:
    """Return the display name of an alias's provider, or the alias if it is not configured."""
    known = registry.last_known(alias)
    if known is not None:
        return known.verbose_name
    try:
        return registry.get_provider(alias).verbose_name
    except ImproperlyConfigured:
        return isolate(alias)


def log_result(cancel_result: CancelResult) -> CancelResult:
    """Log a result in one line, and return it."""
    took = "" if cancel_result.duration_ms is None else f" in {cancel_result.duration_ms} ms"
    logger.log(
        _log_level(cancel_result),
        "%s %s: %s (%s)%s",
        isolate(cancel_result.provider),
        isolate(cancel_result.external_id),
        cancel_result.outcome,
        cancel_result.code,
        took,
        extra={
            "provider": cancel_result.provider,
            "external_id": cancel_result.external_id,
            "invoice_id": cancel_result.invoice_id,
            "attempt": cancel_result.attempt,
            "outcome": str(cancel_result.outcome),
            "code": cancel_result.code,
            "duration_ms": cancel_result.duration_ms,
        },
    )
    return cancel_result


def _log_level(cancel_result: CancelResult) -> int:
    """Return the log level. Skipped invoices are logged as DEBUG: a paused provider would fill the log each minute."""
    if not cancel_result.is_recorded:
        return logging.ERROR
    if cancel_result.outcome == Outcome.IN_DOUBT and cancel_result.attempt:  # a lookup has no attempt
        return logging.WARNING
    return logging.DEBUG if cancel_result.outcome == Outcome.SKIPPED else logging.INFO


def result_for_status(invoice: InvoicePort, code_if_open: str) -> CancelResult:
    """Return the result that an invoice's stored status implies."""
    if not is_known(invoice.status):
        return skipped_result(invoice, Code.NEWER_STATUS)
    status = Status(invoice.status)
    if invoice.contradicted_at is not None:
        return make_result(invoice, Outcome.IN_DOUBT, Code.CONTRADICTORY_ANSWER)
    if status == Status.CANCELED:
        return make_result(invoice, Outcome.ALREADY_CANCELED, Code.ALREADY_CANCELED)
    if status in PAID_STATUSES:
        return make_result(invoice, Outcome.REFUSED, Code.HAS_PAYMENT)
    if status in CLOSED_STATUSES:
        return make_result(invoice, Outcome.REFUSED, Code.CLOSED)
    if is_in_doubt(invoice):
        return make_result(invoice, Outcome.IN_DOUBT, code_if_open)
    if status == Status.CANCELING:
        return skipped_result(invoice, Code.IN_PROGRESS)
    return make_result(invoice, Outcome.NOT_PROCESSED, code_if_open)
