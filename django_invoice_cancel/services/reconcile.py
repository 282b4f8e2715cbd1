"""Record the status of an invoice: a status reported from outside, or the answer to a lookup.

Reconciliation resolves invoices in doubt by a lookup, or by a repeat of the request if the provider has no lookup.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from functools import partial
from typing import Any

from .. import registry
from ..domain.audit import AuditContext, Trigger, Wanted
from ..domain.claims import Probe, Seen, Target
from ..domain.outcomes import CancelResult, Code, LookupReply, Outcome
from ..domain.ports import InvoicePort, WriterPort
from ..domain.statuses import INTERNAL_STATUSES, PAID_STATUSES, Status
from ..providers.base import Provider
from .call_arguments import build_audit_context, checked_status_string
from .cancel import (
    claim_and_send,
    ineligible_result,
    mismatch_result,
    note_reply,
    refuse_unsaved,
    release_probe,
    unclaimed_result,
)
from .eligibility import account_of, find_obstacle, find_temporary_obstacle
from .provider_calls import look_up
from .results import log_result, make_result, result_for_status, skipped_result

logger = logging.getLogger("django_invoice_cancel")


def observe_invoice(
    invoice: InvoicePort, status: str | None = None, *, provider_status: str | None = None, audit: AuditContext
) -> bool:
    """Record a status that was reported from outside; return whether the invoice's status changed. Sends nothing."""
    if provider_status is None:
        return invoice._writer.observe(invoice, observed_status(None, status, None), audit)
    provider = registry.get_provider(invoice.provider)
    observed = observed_status(provider, status, provider_status)
    return invoice._writer.observe(invoice, observed, audit, word=provider.sanitize(provider_status))


def observed_status(provider: Provider | None, status: str | None, provider_status: Any) -> Status | None:
    """Return the status that was reported; None if the status string of the provider is not known.

    Raises ``ValueError`` unless exactly one of ``status`` and ``provider_status`` is given, and for a status that no
    provider can report.
    """
    status_string = checked_status_string(provider_status)
    if (status is None) == (status_string is None):
        raise ValueError("Pass either status, a status of this app, or provider_status, the provider's status string.")
    if status is None:
        return None if provider is None else provider.status_of_postback(str(status_string))
    known = Status(status)
    if known in INTERNAL_STATUSES:
        raise ValueError(f"{status!r} cannot be observed, because no provider reports it.")
    return known


def warn_of_lost_payment(alias: str, status: Status | None, problem: str) -> None:
    """Log a reported payment, or an unknown status string that may mean one, without a registered invoice."""
    if status is None or status in PAID_STATUSES:
        logger.warning(
            "A payment that %s reported was not recorded (%s): %s",
            alias,
            status or "unknown status",
            problem,
            extra={"provider": alias, "code": Code.NOT_REGISTERED},
        )


def reconcile_invoice(
    invoice: InvoicePort, *, resubmit: bool = False, actor: Any = None, trigger: Trigger = Trigger.RECONCILE
) -> CancelResult:
    """Look one invoice up at its provider, record the answer and return the result.

    Provider and network errors never raise.

    Args:
        invoice: A saved invoice.
        resubmit: Repeat the cancel request after the doubt period, if the provider has no lookup and its adapter
            declares a repeat harmless.
        actor: A user, a label, or None. It is logged.
        trigger: The entry point that is logged.

    Returns:
        The result, also for an invoice that was not looked up.

    Raises:
        CancelInTransaction: Inside a transaction. Nothing was sent or written.
        TypeError: ``actor`` has the wrong type.
        ValueError: The invoice was not saved.
    """
    return log_result(reconcile_one(invoice, build_audit_context(actor, trigger), resubmit=resubmit))


def reconcile_one(invoice: InvoicePort, audit: AuditContext, *, resubmit: bool) -> CancelResult:
    """Reconcile one invoice and return the result, without logging it."""
    refuse_unsaved(invoice)
    writer = invoice._writer
    writer.refuse_inside_transaction()
    row = writer.refresh(invoice)
    if row is None:
        return skipped_result(invoice, Code.NOT_REGISTERED)
    if invoice.status == Status.IN_DOUBT:
        writer.correct_times(invoice)
    wanted = Wanted.REPEAT if resubmit else Wanted.CHECK
    account, target = account_of(invoice.provider), Target.of(invoice)
    code, wrong = find_obstacle(wanted, invoice, account), mismatch_result(invoice, row)
    if invoice.is_abandoned:
        writer.mark_abandoned([invoice], audit)
    if invoice.status == Status.CANCELING:
        return skipped_result(invoice, Code.IN_PROGRESS)
    if wrong is not None and code != Code.NEWER_STATUS:
        return replace(wrong, status=str(invoice.status))
    if code or not isinstance(account, Provider):
        return ineligible_result(wanted, invoice, code, account)
    state = writer.provider_state(target.provider)
    code = find_temporary_obstacle(wanted, account, state)
    if code:
        return ineligible_result(wanted, invoice, code, account, pause=state)
    if account.supports_lookup:
        probe = None
        if state is not None and state.needs_probe:
            probe = writer.take_probe(target.provider, options_digest=account.options_digest)
            if probe is None:  # taken concurrently
                return skipped_result(invoice, Code.PROVIDER_PAUSED)
        was_failing = state is not None and (state.failures > 0 or state.needs_probe)
        return _look_up(writer, account, invoice, target, audit, was_failing=was_failing, probe=probe)
    return _repeat_cancel(writer, account, invoice, audit)


def is_to_be_booked(invoice: InvoicePort) -> bool:
    """Return whether the lookup must be booked, so that other processes do not repeat it at once."""
    return invoice.status == Status.IN_DOUBT or invoice.next_check_at is not None


def _look_up(
    writer: WriterPort,
    provider: Provider,
    invoice: InvoicePort,
    target: Target,
    audit: AuditContext,
    *,
    was_failing: bool,
    probe: Probe | None,
) -> CancelResult:
    try:
        if is_to_be_booked(invoice):
            writer.book_check([invoice])
        seen = Seen.now(invoice, target)
        reply = look_up(provider, [target.external_id])[target.external_id]
    except BaseException:  # the database, or an interruption
        release_probe(writer, probe)
        raise
    is_inconclusive = not reply.is_answer
    note_reply(writer, provider, reply, is_inconclusive=is_inconclusive, was_failing=was_failing, probe=probe)
    if not writer.record_lookup(seen, reply, audit):
        return skipped_result(invoice, Code.CHANGED)
    return result_of_lookup(invoice, reply)


def result_of_lookup(invoice: InvoicePort, reply: LookupReply) -> CancelResult:
    """Return the result of a recorded lookup: the stored status, or the reason why the lookup did not change it."""
    if invoice.status == Status.IN_DOUBT:
        code = Code.STILL_OPEN if reply.status == Status.CREATED else reply.code
        result = make_result(invoice, Outcome.IN_DOUBT, code)
    elif not reply.is_answer and invoice.contradicted_at is None:
        result = skipped_result(invoice, reply.code)
    elif reply.status is not None:
        result = result_for_status(invoice, Code.STILL_OPEN)
    else:
        result = (
            skipped_result(invoice, reply.code)
            if invoice.status == Status.CREATED
            else result_for_status(invoice, reply.code)
        )
    return replace(
        result, http_status=reply.http_status, provider_message=reply.provider_message, retry_after=reply.retry_after
    )


def _repeat_cancel(writer: WriterPort, provider: Provider, invoice: InvoicePort, audit: AuditContext) -> CancelResult:
    """Repeat the cancel request of an invoice in doubt. After a refusal it stays in doubt until a person decides."""
    make_claim = partial(writer.claim, [invoice], audit, before=Status.IN_DOUBT, options_digest=provider.options_digest)
    sent = claim_and_send(writer, provider, invoice, make_claim)
    return sent or unclaimed_result(invoice, provider)
