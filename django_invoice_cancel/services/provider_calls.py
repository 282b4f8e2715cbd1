"""Calls of a provider's adapter: one cancel request, one lookup. They use no database, so worker threads may call them.

A bug of an adapter never raises. The outcome is then IN_DOUBT, and the bug is logged with its traceback, secrets
masked. Exceptions that belong to the caller (a task's time limit, Ctrl-C) are raised.
"""

from __future__ import annotations

import logging
import time
import traceback
from dataclasses import replace
from typing import Any, TypeVar

from ..domain.claims import Answer, Claim
from ..domain.interruptions import is_interruption
from ..domain.outcomes import Code, LookupReply, Outcome, ProviderReply
from ..domain.ports import InvoicePort
from ..domain.secrets import mask
from ..domain.statuses import INTERNAL_STATUSES, PAID_STATUSES, Status
from ..providers.base import Provider

R = TypeVar("R", ProviderReply, LookupReply)

logger = logging.getLogger("django_invoice_cancel")

CODE_LENGTH = 32
"""Maximum length of an adapter's own code, as the column of the log."""
LONGEST_PAUSE = 86_400.0
"""Maximum ``retry_after`` of a reply, in seconds: one day."""


def submit(provider: Provider, claim: Claim, invoice: InvoicePort) -> Answer:
    """Send the cancel request of a claimed invoice. Raises only interruptions from outside, such as a time limit."""
    started = time.monotonic()
    external_id = claim.target(invoice).external_id
    try:
        reply = read_reply(provider, provider.cancel(external_id, lease=claim.lease(provider.deadline)))
    except Exception as bug:
        if is_interruption(bug):
            raise
        reply = ProviderReply(Outcome.IN_DOUBT, Code.ADAPTER_ERROR, provider_message=log_adapter_error(provider, bug))
    return Answer(claim, invoice, reply, round((time.monotonic() - started) * 1000))


def is_certainly_unsent(provider: Provider, claim: Claim) -> bool:
    """Return whether no request of the claim was sent: the adapter always checks the lease, and has not checked it.

    Only the adapters of this package are known to check it. A subclass with its own ``cancel`` or ``send`` may send
    without a check.
    """
    kind = type(provider)
    methods = [method for method in (kind.cancel, getattr(kind, "ask", None)) if method is not None]
    is_known = all(str(method.__module__).startswith("django_invoice_cancel.") for method in methods)
    return is_known and not claim.is_lease_asked


def interrupted_answer(claim: Claim, invoice: InvoicePort, interruption: BaseException) -> Answer:
    """Return the answer of a request that was interrupted. The provider may have carried it out."""
    message = type(interruption).__name__
    return Answer(claim, invoice, ProviderReply(Outcome.IN_DOUBT, Code.NO_ANSWER, provider_message=message), 0)


def read_reply(provider: Provider, reply: object) -> ProviderReply:
    """Return an adapter's reply in a valid form. A contradictory reply is in doubt; a payment in it is kept."""
    reply = _validated_reply(provider, reply, ProviderReply)
    if reply.status is None or reply.status in PAID_STATUSES:
        return reply
    if reply.confirms_cancel:
        return reply if reply.status == Status.CANCELED else _contradictory(reply)
    if reply.outcome == Outcome.IN_DOUBT:
        return replace(reply, status=None)
    if reply.outcome == Outcome.NOT_PROCESSED:
        return reply if reply.status == Status.CREATED else _contradictory(reply)
    if reply.status == Status.CANCELED:
        return replace(reply, outcome=Outcome.ALREADY_CANCELED, code=Code.ALREADY_CANCELED)
    if reply.status == Status.CREATED or reply.status in INTERNAL_STATUSES:
        return _contradictory(reply)
    return reply


def _contradictory(reply: ProviderReply) -> ProviderReply:
    return replace(reply, outcome=Outcome.IN_DOUBT, code=Code.CONTRADICTORY_ANSWER, status=None)


def look_up(provider: Provider, external_ids: list[str]) -> dict[str, LookupReply]:
    """Look up one group of invoices; return a reply for each external id."""
    try:
        replies = {
            external_id: _read_lookup(provider, reply)
            for external_id, reply in dict(provider.lookup(external_ids)).items()
        }
    except Exception as bug:
        if is_interruption(bug):
            raise
        message = log_adapter_error(provider, bug)
        return {
            i: LookupReply(None, Code.ADAPTER_ERROR, is_answer=False, provider_message=message) for i in external_ids
        }
    none = LookupReply(None, Code.NO_ANSWER, is_answer=False)
    return {external_id: replies.get(external_id, none) for external_id in external_ids}


def _read_lookup(provider: Provider, reply: object) -> LookupReply:
    """Return a reply to a lookup in a valid form. A payment in it always counts as an answer."""
    reply = _validated_reply(provider, reply, LookupReply)
    if reply.status in INTERNAL_STATUSES:
        return replace(reply, status=None, code=Code.CONTRADICTORY_ANSWER, is_answer=False)
    if reply.status in PAID_STATUSES:
        return replace(reply, is_answer=True)
    return reply if reply.is_answer else replace(reply, status=None)


def _validated_reply(provider: Provider, reply: object, kind: type[R]) -> R:
    """Return a reply with its texts masked and cut; raise ``TypeError`` if an adapter returns anything else."""
    if not isinstance(reply, kind):
        raise TypeError(f"An adapter must return a {kind.__name__}, not {type(reply).__name__}.")
    code: object = reply.code
    is_sound = {
        "code": isinstance(code, str) and 0 < len(code) <= CODE_LENGTH,
        "status": reply.status is None or isinstance(reply.status, Status),
        "http_status": reply.http_status is None or (type(reply.http_status) is int and 0 <= reply.http_status < 1000),
        "retry_after": reply.retry_after is None or 0 <= reply.retry_after <= LONGEST_PAUSE,
    }
    if not all(is_sound.values()):
        wrong = ", ".join(name for name, is_right in is_sound.items() if not is_right)
        raise TypeError(f"The {kind.__name__} of an adapter has an invalid {wrong}.")
    texts = [name for name in ("provider_message", "provider_status") if hasattr(reply, name)]
    kept: dict[str, Any] = {name: provider.sanitize(getattr(reply, name)) for name in texts}
    return replace(reply, **kept)


def log_adapter_error(provider: Provider, bug: BaseException) -> str:
    """Log an adapter's bug with its traceback, secrets masked; return the name of its class.

    The exception itself is not passed on, because its frames may hold secrets.
    """
    text = mask("".join(traceback.format_exception(bug)), provider.secrets)
    logger.error("The adapter of %s failed:\n%s", provider.alias, text, extra={"provider": provider.alias})
    return type(bug).__name__
