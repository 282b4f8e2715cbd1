"""Steps of the tests in this folder: set a state, claim, record an answer, read the result.

This module contains no assertions and no decisions.
"""

from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any

from django.conf import settings
from django.db.models import QuerySet
from django.utils import timezone

from django_invoice_cancel.domain.audit import AuditContext
from django_invoice_cancel.domain.claims import Answer, Claim, Seen
from django_invoice_cancel.domain.outcomes import LookupReply, Outcome, ProviderReply
from django_invoice_cancel.domain.statuses import Status
from django_invoice_cancel.models import Invoice, InvoiceTransition

INSTANT = datetime(2026, 11, 22, 12, tzinfo=UTC)
NOON = INSTANT
"""The same instant, as the bookkeeping holds it whatever USE_TZ is."""
LOCAL_NOON = INSTANT if settings.USE_TZ else timezone.make_naive(INSTANT)
"""The same instant, as ``issued_at`` and ``expires_at`` hold it."""
CLERK = AuditContext("clerk", "admin", "asked by the customer")
WEBHOOK = AuditContext(None, "webhook")
RECONCILE = AuditContext(None, "reconcile")
OPERATOR = AuditContext("Ada", "operator", "seen in the cabinet")

_numbers = count(1000)


def make(status: str = Status.CREATED, *, using: str = "default", **columns: Any) -> Invoice:
    """Put a new invoice into the database as if the writer had brought it there, without a log."""
    identity = {name: columns.pop(name) for name in ("provider", "external_id", "reference") if name in columns}
    identity = {"provider": "cryptocloud", "external_id": f"INV-{next(_numbers)}"} | identity
    invoice = Invoice(**identity)
    invoice.save(using=using)
    put(invoice, status=status, **columns)
    return invoice


def put(invoice: Invoice, **columns: Any) -> None:
    """Write columns past everything that guards them, and show them on the instance."""
    QuerySet(Invoice, using=invoice._state.db).filter(pk=invoice.pk).update(**columns)
    invoice.refresh_from_db()


def stored(invoice: Invoice) -> Invoice:
    """Return the row as it is in the database: another instance, as another process holds it."""
    return Invoice.objects.using(invoice._state.db).get(pk=invoice.pk)


def claim(invoice: Invoice, **options: Any) -> Claim:
    return invoice._writer.claim([invoice], CLERK, **options)


def answer(opened: Claim, invoice: Invoice, outcome: str, named: str | None = None, **more: Any) -> Answer:
    status = Status(named) if named else None
    reply = ProviderReply(Outcome(outcome), more.pop("code", outcome), status, **more)
    return Answer(opened, invoice, reply, duration_ms=7)


def record(opened: Claim, invoice: Invoice, outcome: str, named: str | None = None, **more: Any) -> None:
    invoice._writer.record([answer(opened, invoice, outcome, named, **more)])


def observe(invoice: Invoice, status: str) -> bool:
    """Take in a status through another instance, as a webhook does."""
    return stored(invoice).observe_status(status)


def said(
    status: str | None, *, is_answer: bool = True, code: str = "observed", word: str = "", **more: Any
) -> LookupReply:
    known = Status(status) if status else None
    return LookupReply(known, code, is_answer, provider_status=word or status or "", **more)


def look_up(invoice: Invoice, status: str | None, **more: Any) -> None:
    """Record a lookup that begins and ends now."""
    other = stored(invoice)
    other._writer.record_lookup(Seen.now(other), said(status, **more), RECONCILE)


def log(invoice: Invoice) -> list[tuple[str, str, str]]:
    """Return the whole log as (from, to, outcome or, where there is none, code)."""
    rows = InvoiceTransition.objects.using(invoice._state.db).filter(invoice_id=invoice.pk)
    return [(row.from_status, row.to_status, row.outcome or row.code) for row in rows]


def steps(invoice: Invoice) -> list[str]:
    """Return the history of the status: "created > canceling"."""
    rows = InvoiceTransition.objects.using(invoice._state.db).filter(invoice_id=invoice.pk).history()
    return [f"{row.from_status} > {row.to_status}" for row in rows]


def seconds(number: float) -> timedelta:
    return timedelta(seconds=number)
