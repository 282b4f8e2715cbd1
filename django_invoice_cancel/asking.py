"""Asking a provider: one submit, one lookup. Touches no database, so that worker threads may call it.

Raises for nothing: an adapter's bug says nothing about an invoice, so it is IN_DOUBT, logged with its traceback,
secrets masked.
"""

from __future__ import annotations

import logging
import time
import traceback
from dataclasses import replace
from typing import TYPE_CHECKING

from .attempts import Answer, Claim
from .masking import mask
from .outcomes import Code, LookupReply, Outcome, ProviderReply
from .providers.base import Provider
from .statuses import OURS_ALONE, Status

if TYPE_CHECKING:
    from .models import Invoice

logger = logging.getLogger("django_invoice_cancel")


def submit(provider: Provider, claim: Claim, invoice: Invoice) -> Answer:
    """Send the one request of a claimed invoice."""
    started = time.monotonic()
    try:
        reply = read_reply(provider.cancel(invoice.external_id, lease=claim.lease(provider.deadline)))
    except Exception as bug:  # noqa: BLE001 - an adapter's bug says nothing about the invoice
        reply = ProviderReply(Outcome.IN_DOUBT, Code.ADAPTER_ERROR, provider_message=_tell_bug(provider, bug))
    return Answer(claim, invoice, reply, round((time.monotonic() - started) * 1000))


def read_reply(reply: ProviderReply) -> ProviderReply:
    """Return the reply with what it contradicts itself in taken for doubt."""
    if not isinstance(reply, ProviderReply):
        raise TypeError(f"cancel() of an adapter returns a ProviderReply, not {type(reply).__name__}.")
    if reply.outcome != Outcome.REFUSED or reply.status is None:
        return reply
    if reply.status == Status.CANCELED:
        return replace(reply, outcome=Outcome.ALREADY_CANCELED, code=Code.ALREADY_CANCELED)
    if reply.status == Status.CREATED or reply.status in OURS_ALONE:
        return replace(reply, outcome=Outcome.IN_DOUBT, code=Code.CONTRADICTORY_ANSWER, status=None)
    return reply


def look_up(provider: Provider, external_ids: list[str]) -> dict[str, LookupReply]:
    """Ask for the status of up to a group of invoices; there is a reply for each."""
    try:
        replies = dict(provider.lookup(external_ids))
    except Exception as bug:  # noqa: BLE001 - an adapter's bug says nothing about the invoices
        message = _tell_bug(provider, bug)
        return {
            i: LookupReply(None, Code.ADAPTER_ERROR, is_answer=False, provider_message=message) for i in external_ids
        }
    none = LookupReply(None, Code.NO_ANSWER, is_answer=False)
    return {external_id: replies.get(external_id, none) for external_id in external_ids}


def _tell_bug(provider: Provider, bug: Exception) -> str:
    """Log an adapter's bug with its traceback, secrets masked; return the name of its class.

    The exception itself goes no further: its frames hold what must not leave.
    """
    text = mask("".join(traceback.format_exception(bug)), provider.secrets)
    logger.error("The adapter of %s failed:\n%s", provider.alias, text, extra={"provider": provider.alias})
    return type(bug).__name__
