"""Cancel one invoice: claim it, send the request, record the answer. Bulk runs use the same functions for each request.

Requests are sent only outside of transactions. An answer that is not certain is IN_DOUBT.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.db import Error
from django.db.transaction import TransactionManagementError

from ..domain.audit import Trigger, Wanted
from ..domain.claims import Answer, Claim, OnRecorded, Probe
from ..domain.interruptions import is_interruption, without_frames
from ..domain.outcomes import CancelResult, Code, LookupReply, Outcome, ProviderReply
from ..domain.ports import InvoicePort, ProviderStatePort, WriterPort
from ..domain.statuses import PAID_STATUSES, Status
from ..exceptions import InvalidExternalId
from ..providers.base import Provider
from .call_arguments import build_checked_audit_context
from .eligibility import (
    NOT_NOW,
    Account,
    account_of,
    can_be_vetoed,
    find_obstacle,
    find_request_obstacle,
    find_temporary_obstacle,
)
from .on_commit import call_on_commit
from .provider_calls import interrupted_answer, is_certainly_unsent, submit
from .results import log_result, make_result, result_for_status, skipped_result
from .veto import Veto, ask_veto

logger = logging.getLogger("django_invoice_cancel")

FAILURES_THAT_PAUSE = 5
"""Number of consecutive inconclusive replies after which the provider is paused."""
PAUSE_SECONDS = 300.0
"""Length of that pause, and of the pause after rejected credentials."""
PAUSES: dict[str, float] = {Code.BAD_CREDENTIALS: PAUSE_SECONDS, Code.RATE_LIMITED: 60.0}
"""Codes that pause a provider at once, with the seconds of the pause unless the reply has a ``retry_after``."""
LEAST_PAUSE_SECONDS = 1.0
"""Minimum length of a pause, also after ``Retry-After: 0``, so that a receiver that cancels again finds the pause."""
_OUR_OWN = (Code.LEASE_EXPIRED, Code.MISCONFIGURED)
"""Codes of replies that are not caused by the provider."""
_SKIPPED = NOT_NOW | {Code.MISCONFIGURED, Code.IN_PROGRESS, Code.NEWER_STATUS}
"""Codes with which a check returns SKIPPED, and not the outcome that the stored status implies."""


# -- cancel ---------------------------------------------------------------------------------------------------


def cancel_invoice(
    invoice: InvoicePort, *, actor: Any = None, trigger: Trigger = Trigger.API, reason: str = ""
) -> CancelResult:
    """Cancel one invoice at its provider and return the result. Provider and network errors never raise.

    Args:
        invoice: A saved invoice.
        actor: A user, a label, or None. It is logged.
        trigger: The entry point that is logged.
        reason: Required if ``REQUIRE_REASON`` is set. It is logged.

    Returns:
        The result, also for an invoice that was not sent, such as a paid one. ``is_recorded`` is False if the answer of
        the provider could not be stored.

    Raises:
        CancelInTransaction: Inside a transaction. Nothing was sent or written.
        TypeError: ``actor`` or ``reason`` has the wrong type.
        ValueError: The invoice was not saved, or a required reason is missing.
    """
    audit = build_checked_audit_context(actor, trigger, reason)
    refuse_unsaved(invoice)
    writer, account = invoice._writer, account_of(invoice.provider)
    if not isinstance(account, Provider) or find_request_obstacle(invoice, account):
        writer.refuse_inside_transaction()
        return log_result(unclaimed_result(invoice, account))
    veto = _find_veto(writer, account, invoice)
    if veto is not None:
        return log_result(unclaimed_result(invoice, account, veto))
    digest = account.options_digest
    sent = claim_and_send(writer, account, invoice, lambda: writer.claim([invoice], audit, options_digest=digest))
    return log_result(sent or unclaimed_result(invoice, account))


def _find_veto(writer: WriterPort, provider: Provider, invoice: InvoicePort) -> Veto | None:
    """Return the veto of the shop against the claim that follows. The shop is asked outside of transactions."""
    if not can_be_vetoed(Wanted.CANCEL, provider):
        return None
    writer.refuse_inside_transaction()
    return ask_veto(invoice)


def claim_and_send(
    writer: WriterPort, provider: Provider, invoice: InvoicePort, make_claim: Callable[[], Claim | None]
) -> CancelResult | None:
    """Claim an invoice, send its request and record the answer; return None if it was not claimed.

    If an interruption (a task's time limit, Ctrl-C) comes before the request, the claim is given back. If it comes
    during the request, the invoice is recorded as in doubt, or the claim is given back if certainly nothing was sent.
    Then the interruption is raised again.

    A pause is written before the answer, so that a receiver that cancels again finds the pause.
    """
    claim, has_begun = None, False
    try:
        claim = make_claim()
        if claim is None or not claim.invoices:
            return None
        if writer.is_overtaken(claim, invoice):
            release_probe(writer, claim.probe)
            return None
        has_begun = True
        answer, interruption = submit(provider, claim, invoice), None
    except BaseException as error:
        if claim is None:
            raise
        if not has_begun:
            _give_back(writer, claim, invoice)
            raise
        interruption = without_frames(error)
        answer = interrupted_answer(claim, invoice, interruption)
    if interruption is not None and is_certainly_unsent(provider, claim):
        _give_back(writer, claim, invoice)
        raise interruption
    reply = answer.reply
    is_inconclusive = (
        reply.outcome in (Outcome.IN_DOUBT, Outcome.NOT_PROCESSED) and reply.named_status not in PAID_STATUSES
    )
    note_reply(
        writer,
        provider,
        reply,
        is_inconclusive=is_inconclusive,
        was_failing=claim.is_provider_failing,
        probe=claim.probe,
    )
    result = record_answer(answer, writer, name=provider.verbose_name)
    if interruption is not None:
        raise interruption
    return result


def _give_back(writer: WriterPort, claim: Claim, invoice: InvoicePort) -> None:
    """Give back a claim for which nothing was sent. If that fails, it is logged, and the claim becomes abandoned."""
    release_probe(writer, claim.probe)
    try:
        writer.give_back(claim, [invoice])
    except Exception as error:
        if is_interruption(error):
            raise
        logger.exception("A claim was not released: %s.", invoice)


def note_reply(
    writer: WriterPort,
    provider: Provider,
    reply: ProviderReply | LookupReply,
    *,
    is_inconclusive: bool,
    was_failing: bool,
    probe: Probe | None,
) -> None:
    """Update the state of the provider from the reply to a single request (P9). Database errors are only logged.

    A conclusive reply is written only if the provider was failing before. The right to probe is released afterwards.
    """
    alias = provider.alias
    try:
        if is_inconclusive and reply.code in PAUSES:
            seconds = PAUSES[reply.code] if reply.retry_after is None else reply.retry_after
            writer.pause(
                alias,
                reply.code,
                max(seconds, LEAST_PAUSE_SECONDS),
                retry_after=reply.retry_after,
                options_digest=provider.options_digest,
            )
        elif is_inconclusive and reply.code not in _OUR_OWN:
            writer.count_failure(alias, reply.code, most=FAILURES_THAT_PAUSE, seconds=PAUSE_SECONDS)
        elif was_failing and not is_inconclusive:
            writer.update_provider_state(alias, seconds=0.0, code="", failures=0)
    except Error:
        logger.exception("The state of provider %s was not written.", alias)
    release_probe(writer, probe)


def release_probe(writer: WriterPort, probe: Probe | None) -> None:
    """Release the right to probe, if there is one. Database errors are only logged: it ends by itself."""
    try:
        if probe is not None:
            writer.release_probe(probe)
    except Error:
        logger.exception("The probe of provider %s was not released.", probe.alias if probe else "")


def refuse_unsaved(invoice: InvoicePort) -> None:
    """Raise ``ValueError`` if the invoice has no row, because it cannot be claimed."""
    if invoice.id is None:
        raise ValueError("Save the invoice first, or use Invoice.objects.register().")


def ineligible_result(
    wanted: str, invoice: InvoicePort, code: str, account: Account, *, pause: ProviderStatePort | None = None
) -> CancelResult:
    """Return the result of an ineligible invoice. ``code`` is the one that ``find_obstacle`` returned."""
    if isinstance(code, Veto):
        outcome = Outcome.SKIPPED if wanted == Wanted.CANCEL else Outcome.IN_DOUBT
        vetoed = make_result(invoice, outcome, code, detail=code.reason, veto_reason=code.reason)
        return replace(vetoed, has_veto_failed=code.is_failure)
    if wanted == Wanted.CANCEL and code == Code.ALREADY_CANCELED:
        return make_result(invoice, Outcome.ALREADY_CANCELED, code)
    if wanted != Wanted.CANCEL and code not in _SKIPPED:
        return result_for_status(invoice, code)
    seconds = None
    if pause is not None and code == Code.PROVIDER_PAUSED:
        seconds = pause.seconds_left or pause.probe_seconds_left
    if isinstance(account, ImproperlyConfigured):  # without a search for its name in the configuration
        detail = str(account)
        return make_result(invoice, Outcome.SKIPPED, code, detail=detail, name=invoice.provider, retry_after=seconds)
    detail = _wrong_id(invoice, account) if code == Code.MISCONFIGURED else ""
    return skipped_result(invoice, code, detail=detail, retry_after=seconds)


def _wrong_id(invoice: InvoicePort, provider: Provider) -> str:
    try:
        clean_id = provider.clean_id(invoice.external_id)
    except InvalidExternalId as error:
        return str(error)
    return f"its id is stored as {invoice.external_id!r} and must be {clean_id!r}; register() stores it so."


def record_answer(
    answer: Answer,
    writer: WriterPort,
    *,
    on_recorded: OnRecorded | None = None,
    may_be_written: bool = False,
    name: str = "",
) -> CancelResult:
    """Record an answer and return its result, with ``is_recorded=False`` if that failed.

    An answer that cannot be recorded together with ``on_recorded`` is recorded without it. ``name`` is the name of the
    provider.
    """
    written = _try_to_record(answer, writer, on_recorded, may_be_written)
    if written is None and on_recorded is not None:
        written = _try_to_record(answer, writer, None, may_be_written=True)
    return replace(result_of_answer(written or answer, name=name), is_recorded=written is not None)


def _try_to_record(
    answer: Answer, writer: WriterPort, on_recorded: OnRecorded | None, may_be_written: bool
) -> Answer | None:
    """Record an answer; return it as it was written, or None if that failed."""
    try:
        return writer.record([answer], on_recorded=on_recorded, may_be_written=may_be_written)[0]
    except BaseException as error:
        if is_interruption(error):  # in the database's work, or in a receiver: record, then raise again
            writer.record([answer], on_recorded=on_recorded, may_be_written=True)
            raise
        logger.exception("The outcome of a cancellation was not recorded: %s.", answer.invoice)
        return None


def result_of_answer(answer: Answer, *, name: str = "") -> CancelResult:
    """Return the result of a recorded answer: of the reply, unless the row holds a payment or is canceled."""
    invoice, reply = answer.invoice, answer.reply
    outcome, code = reply.outcome, reply.code
    if invoice.status in PAID_STATUSES:
        outcome, code = Outcome.REFUSED, Code.HAS_PAYMENT
    elif invoice.status == Status.CANCELED and not reply.confirms_cancel:
        outcome, code = Outcome.ALREADY_CANCELED, Code.ALREADY_CANCELED
    return make_result(
        invoice,
        outcome,
        code,
        target=answer.target,
        name=name,
        attempt=str(answer.claim.attempt),
        http_status=reply.http_status,
        provider_message=reply.provider_message,
        retry_after=reply.retry_after,
        duration_ms=answer.duration_ms,
    )


def unclaimed_result(invoice: InvoicePort, account: Account, veto: Veto | None = None) -> CancelResult:
    """Return the result of an invoice that could not be claimed, from its current row.

    ``veto`` is the answer of the shop, which is not asked again.
    """
    writer = invoice._writer
    row = writer.refresh(invoice)
    if row is None:
        return skipped_result(invoice, Code.NOT_REGISTERED)
    pause = None
    code = find_obstacle(Wanted.CANCEL, invoice, account, find_veto=lambda invoice: veto)
    if not code:
        pause = writer.paused(invoice.provider)
        code = find_temporary_obstacle(Wanted.CANCEL, account, pause)
    if code:
        return ineligible_result(Wanted.CANCEL, invoice, code, account, pause=pause)
    # Without another reason, the claim was lost to a process that has given its claim back since then.
    return mismatch_result(invoice, row) or skipped_result(invoice, Code.IN_PROGRESS)


def mismatch_result(invoice: InvoicePort, row: InvoicePort) -> CancelResult | None:
    """Return a result if the instance and its row name different invoices: one of them was edited. Else None."""
    if (row.provider, row.external_id) == (invoice.provider, invoice.external_id):
        return None
    detail = f"its row is not {invoice.provider} {invoice.external_id}."
    return skipped_result(invoice, Code.MISCONFIGURED, detail=detail)


# -- cancel on commit -----------------------------------------------------------------------------------------


def cancel_on_commit(invoice: InvoicePort, *, actor: Any = None, reason: str = "") -> bool:
    """Request the cancellation in the caller's transaction and send it after the commit.

    If the callback does not run (a crash, autocommit off, another callback that raises), ``reconcile_invoices`` sends
    the request. The callback logs its errors, so that later callbacks run; only an interruption (a task's time limit)
    is raised.

    Returns:
        False if the invoice is not ``created``. Then nothing is stored.
    """
    refuse_unsaved(invoice)
    audit = build_checked_audit_context(actor, Trigger.ON_COMMIT, reason)
    writer = invoice._writer
    if not writer.request_cancel(invoice, audit):
        return False

    failure = "A requested cancellation was not sent. reconcile_invoices will send it: %s."
    try:
        call_on_commit(lambda: cancel_requested(invoice), using=writer.using, failure=failure, about=invoice)
    except TransactionManagementError:
        logger.info("Autocommit is off. reconcile_invoices will send a requested cancellation.")
    return True


def cancel_requested(invoice: InvoicePort) -> CancelResult:
    """Cancel an invoice under the name of its last requester, unless the request was withdrawn or carried out.

    After a veto of the shop the request stays, and ``reconcile_invoices`` tries again later.
    """
    writer, account = invoice._writer, account_of(invoice.provider)
    sent = veto = None
    if isinstance(account, Provider) and not find_request_obstacle(invoice, account):
        veto = _find_veto(writer, account, invoice)
        if veto is None:
            claims = writer.claim_requested(
                [invoice], is_try=False, unless_paused=True, options_digest=account.options_digest
            )  # at most one for one invoice
            sent = claim_and_send(writer, account, invoice, lambda: next(iter(claims), None))
    return log_result(sent or unclaimed_request_result(invoice, account, veto))


def unclaimed_request_result(invoice: InvoicePort, account: Account, veto: Veto | None = None) -> CancelResult:
    """Return the result of a requested cancellation whose invoice could not be claimed, from its current row."""
    reason = unclaimed_result(invoice, account, veto)
    if reason.code == Code.IN_PROGRESS and invoice.status == Status.CREATED and invoice.cancel_requested_at is None:
        return skipped_result(invoice, Code.CHANGED)  # withdrawn
    return reason
