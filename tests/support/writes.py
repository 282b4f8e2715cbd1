"""Call the writer as the services do: claim, record an answer, observe a status, record a lookup.

The constants name the time and the actors of these calls.
"""

from datetime import UTC, datetime, timedelta
from typing import Any

from django.conf import settings
from django.utils import timezone

from django_invoice_cancel.domain.audit import AuditContext
from django_invoice_cancel.domain.claims import Answer, Claim, Seen
from django_invoice_cancel.domain.outcomes import LookupReply, Outcome, ProviderReply
from django_invoice_cancel.domain.statuses import Status
from django_invoice_cancel.models import Invoice
from tests.support.invoices import stored

INSTANT = datetime(2026, 11, 22, 12, tzinfo=UTC)
NOON = INSTANT
"""The same instant, as the bookkeeping holds it with any USE_TZ."""
LOCAL_NOON = INSTANT if settings.USE_TZ else timezone.make_naive(INSTANT)
"""The same instant, as ``issued_at`` and ``expires_at`` hold it."""
CLERK = AuditContext("clerk", "admin", "asked by the customer")
WEBHOOK = AuditContext(None, "webhook")
RECONCILE = AuditContext(None, "reconcile")
OPERATOR = AuditContext("Ada", "operator", "seen in the dashboard")


def open_claim(invoice: Invoice, **options: Any) -> Claim:
    return invoice._writer.claim([invoice], CLERK, **options)


def answer_of(opened: Claim, invoice: Invoice, outcome: str, named: str | None = None, **more: Any) -> Answer:
    """Build the provider's answer to a claim."""
    status = Status(named) if named else None
    reply = ProviderReply(Outcome(outcome), more.pop("code", outcome), status, **more)
    return Answer(opened, invoice, reply, duration_ms=7)


def record_answer(opened: Claim, invoice: Invoice, outcome: str, named: str | None = None, **more: Any) -> None:
    invoice._writer.record([answer_of(opened, invoice, outcome, named, **more)])


def observe_elsewhere(invoice: Invoice, status: str) -> bool:
    """Observe a status through another instance, as a webhook does."""
    return stored(invoice).observe_status(status)


def lookup_reply(
    status: str | None, *, is_answer: bool = True, code: str = "observed", word: str = "", **more: Any
) -> LookupReply:
    """Build the reply to a lookup. ``word`` is the status string of the provider."""
    known = Status(status) if status else None
    return LookupReply(known, code, is_answer, provider_status=word or status or "", **more)


def record_lookup(invoice: Invoice, status: str | None, **more: Any) -> None:
    """Record a lookup that begins and ends now."""
    other = stored(invoice)
    other._writer.record_lookup(Seen.now(other), lookup_reply(status, **more), RECONCILE)


def seconds(number: float) -> timedelta:
    return timedelta(seconds=number)
