"""The story, told once: claim, submit, record; and how doubt ends. One invoice is the case n = 1.

Knows no model: an invoice brings its verbs. Asks a provider only outside transactions; whatever is not certain
is IN_DOUBT. What is said of one attempt here, ``bulk`` says of many with the same functions.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from django.core.exceptions import ImproperlyConfigured
from django.db import Error
from django.db.transaction import TransactionManagementError

from . import conf, registry
from .asking import interrupted, is_certainly_unsent, look_up, submit
from .attempts import Answer, Claim, Target
from .commit_hooks import call_on_commit
from .eligibility import NOT_NOW, Account, Wanted, account_of, why_no_request, why_not, why_not_now
from .exceptions import InvalidExternalId
from .intents import Intent, Trigger
from .interruptions import is_interruption, without_frames
from .outcomes import CancelResult, Code, LookupReply, Outcome, ProviderReply
from .providers.base import Provider
from .results import result, skipped, standing, told
from .statuses import MONEY, OURS_ALONE, Status

if TYPE_CHECKING:
    from .models import Invoice, ProviderState
    from .models.verbs import InvoiceVerbs

logger = logging.getLogger("django_invoice_cancel")

Also = Callable[[Sequence[Answer]], None]
"""Called within the transaction that records the answers."""

FAILURES_THAT_PAUSE = 5
"""After so many replies in a row that say nothing about an invoice, the provider is paused."""
PAUSE_SECONDS = 300.0
"""The length of that pause, and of the one after rejected credentials."""
PAUSES: dict[str, float] = {Code.BAD_CREDENTIALS: PAUSE_SECONDS, Code.RATE_LIMITED: 60.0}
"""Seconds for which these codes pause a provider at once, unless the reply names a time."""
LEAST_PAUSE_SECONDS = 1.0
"""A pause is at least so long, also after ``Retry-After: 0``: a receiver that cancels again must meet it."""
_OUR_OWN = (Code.LEASE_EXPIRED, Code.MISCONFIGURED)
"""The codes of replies that the provider has no part in."""
_SKIPPED = NOT_NOW | {Code.MISCONFIGURED, Code.IN_PROGRESS, Code.NEWER_STATUS}
"""Codes that leave what is known of an invoice out of the result of a check."""


# -- cancel ---------------------------------------------------------------------------------------------------


def cancel_invoice(
    invoice: Invoice, *, actor: Any = None, trigger: Trigger = Trigger.API, reason: str = ""
) -> CancelResult:
    """Cancel one invoice at its provider and return what is known; raises nothing of the provider's.

    Raises ``CancelInTransaction`` inside a transaction: nothing was sent or written then.
    """
    intent = checked_intent(actor, trigger, reason)
    refuse_unsaved(invoice)
    verbs, account = invoice.verbs, account_of(invoice.provider)
    if not isinstance(account, Provider) or why_no_request(invoice, account):
        verbs.refuse_inside_transaction()
        return told(not_claimed(invoice, account))
    claim = verbs.claim([invoice], intent)
    if not claim.invoices or verbs.is_overtaken(claim, invoice):
        return told(not_claimed(invoice, account))
    return told(_send(account, claim, invoice))


def _send(provider: Provider, claim: Claim, invoice: Invoice) -> CancelResult:
    """Send the request of a claimed invoice and record the answer.

    A pause is written before the record: a receiver of its signals that cancels again meets it. What interrupted the
    request (a task's time limit, Ctrl-C) is raised again once the doubt is recorded, or once the claim is given back
    if certainly nothing was sent.
    """
    try:
        answer, interruption = submit(provider, claim, invoice), None
    except BaseException as error:  # noqa: BLE001 - raised again below
        interruption = without_frames(error)
        answer = interrupted(claim, invoice, interruption)
    if interruption is not None and is_certainly_unsent(provider, claim):
        _give_back(claim, invoice)
        raise interruption
    reply = answer.reply
    says_nothing = reply.outcome in (Outcome.IN_DOUBT, Outcome.NOT_PROCESSED) and reply.named_status not in MONEY
    _note_reply(reply, invoice, answer.target.provider, says_nothing, claim.is_provider_failing)
    said = recorded(answer)
    if interruption is not None:
        raise interruption
    return said


def _give_back(claim: Claim, invoice: Invoice) -> None:
    """Give a claim back for which nothing was sent. If that fails, it is an abandoned claim, and that is logged."""
    try:
        invoice.verbs.give_back(claim, [invoice])
    except Exception as error:
        if is_interruption(error):
            raise
        logger.exception("A claim was not given back: %s.", invoice)


def _note_reply(
    reply: ProviderReply | LookupReply, invoice: Invoice, alias: str, says_nothing: bool, was_failing: bool
) -> None:
    """Write what the reply to a single request says about the provider (P9); an error is only logged.

    Nothing is written for a good reply unless the provider was failing before.
    """
    verbs = invoice.verbs
    try:
        if says_nothing and reply.code in PAUSES:
            seconds = PAUSES[reply.code] if reply.retry_after is None else reply.retry_after
            verbs.pause(alias, reply.code, max(seconds, LEAST_PAUSE_SECONDS))
        elif says_nothing and reply.code not in _OUR_OWN:
            verbs.count_failure(alias, reply.code, most=FAILURES_THAT_PAUSE, seconds=PAUSE_SECONDS)
        elif was_failing and not says_nothing:
            verbs.tell_state(alias, seconds=0.0, code="", failures=0)
    except Error:
        logger.exception("What a reply says about %s was not written.", alias)


def checked_intent(actor: Any, trigger: Trigger, reason: str) -> Intent:
    """Return the intent, or raise ``ValueError`` where a reason is required and missing."""
    settings, _ = conf.read()  # what is wrong with them is said of the invoice: it is misconfigured
    if settings.require_reason and not reason.strip():
        raise ValueError("INVOICE_CANCEL['REQUIRE_REASON'] is set: pass reason.")
    return Intent(actor, trigger, reason)


def refuse_unsaved(invoice: Invoice) -> None:
    """Raise ``ValueError`` for an invoice that has no row: there is nothing to claim."""
    if invoice.id is None:
        raise ValueError("Save the invoice first, or use Invoice.objects.register().")


def not_done(
    wanted: str, invoice: Invoice, code: str, account: Account, *, pause: ProviderState | None = None
) -> CancelResult:
    """Return the result of an invoice with which nothing is done; ``code`` is that of ``why_not``."""
    if wanted == Wanted.CANCEL and code == Code.ALREADY_CANCELED:
        return result(invoice, Outcome.ALREADY_CANCELED, code)
    if wanted != Wanted.CANCEL and code not in _SKIPPED:
        return standing(invoice, code)
    seconds = pause.seconds_left if pause is not None and code == Code.PROVIDER_PAUSED else None
    if isinstance(account, ImproperlyConfigured):  # its name is not to be looked for in the configuration
        detail = str(account)
        return result(invoice, Outcome.SKIPPED, code, detail=detail, name=invoice.provider, retry_after=seconds)
    detail = _wrong_id(invoice, account) if code == Code.MISCONFIGURED else ""
    return skipped(invoice, code, detail=detail, retry_after=seconds)


def _wrong_id(invoice: Invoice, provider: Provider) -> str:
    try:
        clean_id = provider.clean_id(invoice.external_id)
    except InvalidExternalId as error:
        return str(error)
    return f"its id is stored as {invoice.external_id!r} and must be {clean_id!r}; register() stores it so."


def recorded(
    answer: Answer, verbs: InvoiceVerbs | None = None, *, also: Also | None = None, may_be_written: bool = False
) -> CancelResult:
    """Record an answer and return its result, marked as not recorded if that failed.

    An answer that cannot be recorded together with ``also`` is recorded without it.
    """
    verbs = verbs or answer.invoice.verbs
    written = _written(answer, verbs, also, may_be_written)
    if written is None and also is not None:
        written = _written(answer, verbs, None, may_be_written=True)
    return replace(result_of(written or answer), is_recorded=written is not None)


def _written(answer: Answer, verbs: InvoiceVerbs, also: Also | None, may_be_written: bool) -> Answer | None:
    """Record an answer; return it as it was written, or None if that failed."""
    try:
        return verbs.record([answer], also=also, may_be_written=may_be_written)[0]
    except BaseException as error:
        if is_interruption(error):  # of the database's work, or of a receiver after it: finish it, and raise again
            verbs.record([answer], also=also, may_be_written=True)
            raise
        logger.exception("The outcome of a cancel was not recorded: %s.", answer.invoice)
        return None


def result_of(answer: Answer) -> CancelResult:
    """Return the result of a recorded answer: the row's word where it says more than the reply, else the reply's."""
    invoice, reply = answer.invoice, answer.reply
    outcome, code = reply.outcome, reply.code
    if invoice.status in MONEY:
        outcome, code = Outcome.REFUSED, Code.HAS_PAYMENT
    elif invoice.status == Status.CANCELED and not reply.confirms_cancel:
        outcome, code = Outcome.ALREADY_CANCELED, Code.ALREADY_CANCELED
    return result(
        invoice,
        outcome,
        code,
        target=answer.target,
        attempt=str(answer.claim.attempt),
        http_status=reply.http_status,
        provider_message=reply.provider_message,
        retry_after=reply.retry_after,
        duration_ms=answer.duration_ms,
    )


def not_claimed(invoice: Invoice, account: Account) -> CancelResult:
    """Return why an invoice could not be claimed, from its row as it is now."""
    verbs = invoice.verbs
    row = verbs.refresh(invoice)
    if row is None:
        return skipped(invoice, Code.NOT_REGISTERED)
    pause = None
    code = why_not(Wanted.CANCEL, invoice, account)
    if not code:
        pause = verbs.paused(invoice.provider)
        code = why_not_now(Wanted.CANCEL, account, pause)
    if code:
        return not_done(Wanted.CANCEL, invoice, code, account, pause=pause)
    # A claim that failed on another one is lost to a process that has returned its claim in the meantime.
    return misnamed(invoice, row) or skipped(invoice, Code.IN_PROGRESS)


def misnamed(invoice: Invoice, row: Invoice) -> CancelResult | None:
    """Return a result if the instance names another invoice than its row: an unsaved edit, or a row that was edited."""
    if (row.provider, row.external_id) == (invoice.provider, invoice.external_id):
        return None
    detail = f"its row is not {invoice.provider} {invoice.external_id}."
    return skipped(invoice, Code.MISCONFIGURED, detail=detail)


# -- cancel on commit, observe --------------------------------------------------------------------------------


def cancel_on_commit(invoice: Invoice, *, actor: Any = None, reason: str = "") -> bool:
    """Request the cancellation in the caller's transaction and send it after the commit.

    If the callback does not run (a crash, autocommit off, another callback that raises), ``reconcile_invoices`` sends
    it. The callback logs errors, so that later callbacks run; only what interrupts it (a task's time limit) is raised.
    """
    refuse_unsaved(invoice)
    intent = checked_intent(actor, Trigger.ON_COMMIT, reason)
    verbs = invoice.verbs
    if not verbs.request_cancel(invoice, intent):
        return False

    failure = "A requested cancellation waits for reconcile_invoices: %s."
    try:
        call_on_commit(lambda: cancel_requested(invoice), using=verbs.using, failure=failure, about=invoice)
    except TransactionManagementError:
        logger.info("Autocommit is off: a requested cancellation waits for reconcile_invoices.")
    return True


def cancel_requested(invoice: Invoice) -> CancelResult:
    """Cancel an invoice for the person who requested it last, unless the request was withdrawn or carried out."""
    verbs, account = invoice.verbs, account_of(invoice.provider)
    if isinstance(account, Provider) and not why_no_request(invoice, account):
        for claim in verbs.claim_requested([invoice], is_try=False, unless_paused=True):
            if claim.invoices and not verbs.is_overtaken(claim, invoice):
                return told(_send(account, claim, invoice))
    return told(request_not_claimed(invoice, account))


def request_not_claimed(invoice: Invoice, account: Account) -> CancelResult:
    """Return why an invoice could not be claimed for its request, from its row as it is now."""
    reason = not_claimed(invoice, account)
    if reason.code == Code.IN_PROGRESS and invoice.status == Status.CREATED and invoice.cancel_requested_at is None:
        return skipped(invoice, Code.CHANGED)  # withdrawn
    return reason


def observe_invoice(
    invoice: Invoice, status: str | None = None, *, provider_status: str | None = None, intent: Intent
) -> bool:
    """Record a status that was reported from outside; return whether the invoice's status changed. Asks no provider."""
    if provider_status is None:
        return invoice.verbs.observe(invoice, observed_status(None, status, None), intent)
    provider = registry.get_provider(invoice.provider)
    observed = observed_status(provider, status, provider_status)
    return invoice.verbs.observe(invoice, observed, intent, word=provider.words(provider_status))


def observed_status(provider: Provider | None, status: str | None, provider_status: object) -> Status | None:
    """Return the status that was reported; None for a status string of the provider that is not known.

    Raises ``ValueError`` unless exactly one of both is given, and for a status that no provider can report.
    """
    if (status is None) == (provider_status is None):
        raise ValueError("Pass either status, one of ours, or provider_status, the provider's status string.")
    if status is None:
        return None if provider is None else provider.status_of_postback(str(provider_status))
    known = Status(status)
    if known in OURS_ALONE:
        raise ValueError(f"{status!r} cannot be observed: no provider can report it.")
    return known


def warn_of_lost_payment(alias: str, status: Status | None, problem: str) -> None:
    """Log that a reported payment, or a status string that may mean one, belongs to no registered invoice."""
    if status is None or status in MONEY:
        logger.warning(
            "A payment was reported to %s and is not recorded (%s): %s",
            alias,
            status or "unknown status",
            problem,
            extra={"provider": alias, "code": Code.NOT_REGISTERED},
        )


# -- reconcile ------------------------------------------------------------------------------------------------


def reconcile_invoice(
    invoice: Invoice, *, resubmit: bool = False, actor: Any = None, trigger: Trigger = Trigger.RECONCILE
) -> CancelResult:
    """Find out at the provider what became of an invoice, and return it; raises nothing of the provider's.

    ``resubmit`` repeats the cancel where the provider has no lookup, declares a repeat harmless, and the doubt
    period is over.
    """
    return told(reconciled(invoice, Intent(actor, trigger), resubmit=resubmit))


def reconciled(invoice: Invoice, intent: Intent, *, resubmit: bool) -> CancelResult:
    """Return the result of reconciling one invoice; it is not told yet."""
    refuse_unsaved(invoice)
    verbs = invoice.verbs
    verbs.refuse_inside_transaction()
    row = verbs.refresh(invoice)
    if row is None:
        return skipped(invoice, Code.NOT_REGISTERED)
    if invoice.status == Status.IN_DOUBT:
        verbs.correct_times(invoice)
    wanted = Wanted.REPEAT if resubmit else Wanted.CHECK
    account, target = account_of(invoice.provider), Target.of(invoice)
    code, wrong = why_not(wanted, invoice, account), misnamed(invoice, row)
    if invoice.is_abandoned:
        verbs.abandon([invoice], intent)
    if invoice.status == Status.CANCELING:
        return skipped(invoice, Code.IN_PROGRESS)
    if wrong is not None and code != Code.NEWER_STATUS:
        return replace(wrong, status=str(invoice.status))
    if code or not isinstance(account, Provider):
        return not_done(wanted, invoice, code, account)
    state = verbs.provider_state(target.provider)
    code = why_not_now(wanted, account, state)
    if code:
        return not_done(wanted, invoice, code, account, pause=state)
    if account.supports_lookup:
        return _looked_up(account, invoice, target, intent, was_failing=state is not None and state.failures > 0)
    return _repeated(account, invoice, intent)


def is_to_be_booked(invoice: Invoice) -> bool:
    """Return whether a lookup of the invoice is shared with other processes, which must not repeat it at once."""
    return invoice.status == Status.IN_DOUBT or invoice.next_check_at is not None


def _looked_up(
    provider: Provider, invoice: Invoice, target: Target, intent: Intent, *, was_failing: bool
) -> CancelResult:
    verbs = invoice.verbs
    if is_to_be_booked(invoice):
        verbs.book_check([invoice])
    seen = verbs.seen(invoice, target)
    reply = look_up(provider, [target.external_id])[target.external_id]
    _note_reply(reply, invoice, target.provider, not reply.is_answer, was_failing)
    if not verbs.record_lookup(seen, reply, intent):
        return skipped(invoice, Code.CHANGED)
    return result_of_lookup(invoice, reply)


def result_of_lookup(invoice: Invoice, reply: LookupReply) -> CancelResult:
    """Return the result of a recorded lookup: the stored status, or why the lookup added nothing to it."""
    if invoice.status == Status.IN_DOUBT:
        code = Code.STILL_OPEN if reply.status == Status.CREATED else reply.code
        said = result(invoice, Outcome.IN_DOUBT, code)
    elif not reply.is_answer and invoice.contradicted_at is None:
        said = skipped(invoice, reply.code)
    elif reply.status is not None:
        said = standing(invoice, Code.STILL_OPEN)
    else:
        said = skipped(invoice, reply.code) if invoice.status == Status.CREATED else standing(invoice, reply.code)
    return replace(
        said, http_status=reply.http_status, provider_message=reply.provider_message, retry_after=reply.retry_after
    )


def _repeated(provider: Provider, invoice: Invoice, intent: Intent) -> CancelResult:
    """Repeat the cancel of an invoice in doubt: a confirmation counts, a refusal stays in doubt for a person."""
    claim = invoice.verbs.claim([invoice], intent, before=Status.IN_DOUBT)
    if not claim.invoices or invoice.verbs.is_overtaken(claim, invoice):
        return not_claimed(invoice, provider)
    return _send(provider, claim, invoice)
