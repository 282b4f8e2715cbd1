"""Create invoices in any state, with a matching log.

The app's writer makes the changes, as it does for a cancellation, a webhook or a crash. If an age is given, all times
are moved back by it. No request is sent to a provider.
"""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from types import MappingProxyType
from typing import Any
from uuid import uuid4

from django.db import models
from django.utils import timezone

from .. import conf, registry
from ..domain.audit import AuditContext, Trigger
from ..domain.claims import Answer
from ..domain.outcomes import Code, Outcome, ProviderReply
from ..domain.statuses import Status
from ..exceptions import InvalidExternalId
from ..models import Invoice
from ..models.fields import as_plain
from ..models.transition import InvoiceTransition
from ..services.eligibility import ABANDONED_AFTER

ACTOR = "make_invoice"

Scenario = Callable[[Invoice], None]


def make_invoice(
    status: str = "created", *, age: timedelta = timedelta(), using: str | None = None, **fields: Any
) -> Invoice:
    """Create an invoice in this state, with its log. Do not call it inside ``transaction.atomic()``.

    Args:
        status: A status of an invoice, or one of ``abandoned`` (claimed by a process that has ended), ``requested``
            (``cancel_on_commit`` was called, the request is not sent yet), ``refused`` (open, and the provider
            refused to cancel it) and ``paid_after_cancel``.
        age: Time since the last change. All times are moved back by it, except those in ``fields``.
        using: The alias of the database.
        **fields: Arguments of ``Invoice.objects.register``. By default the first provider of the settings, and a new
            id in the form of its ids.

    Returns:
        The invoice.

    Raises:
        ValueError: The status is unknown, the invoice exists already, or the provider needs an ``external_id``.
    """
    if status not in SCENARIOS:
        raise ValueError(f"{status!r} is not a status for make_invoice. Choose from {', '.join(SCENARIOS)}.")
    fields.setdefault("provider", next(iter(conf.get().providers), ""))
    if "external_id" not in fields:
        fields["external_id"] = _make_id(fields["provider"])
    invoice: Invoice
    invoice, is_new = Invoice.objects.db_manager(using).register(actor=ACTOR, **fields)
    if not is_new:
        raise ValueError(f"The invoice {invoice} already exists.")
    SCENARIOS[status](invoice)
    if status == "abandoned":
        age = max(age, timedelta(seconds=conf.get().claim_ttl + 1) + ABANDONED_AFTER)
    if age:
        _move_back(invoice, age, kept=fields)
    return invoice


def _make_id(alias: str) -> str:
    provider = registry.get_provider(alias)
    unique = uuid4()
    for candidate in (str(unique.int)[:15], str(unique), unique.hex):
        try:
            return provider.clean_id(candidate)
        except InvalidExternalId:
            continue
    raise ValueError(f"Pass external_id. An id of {provider.verbose_name} is {provider.id_form}.")


# -- scenarios ----------------------------------------------------------------------------------------------------


def _nothing(invoice: Invoice) -> None:
    """Change nothing."""


def _claim(invoice: Invoice) -> None:
    _win_claim(invoice)


def _request(invoice: Invoice) -> None:
    invoice._writer.request_cancel(invoice, AuditContext(ACTOR, Trigger.ON_COMMIT))


def _answer(outcome: Outcome, code: Code, http_status: int | None) -> Scenario:
    def play(invoice: Invoice) -> None:
        reply = ProviderReply(outcome, code, http_status=http_status)
        invoice._writer.record([Answer(_win_claim(invoice), invoice, reply, duration_ms=120)])

    return play


def _observe(status: Status) -> Scenario:
    def play(invoice: Invoice) -> None:
        invoice._writer.observe(invoice, status, AuditContext(ACTOR, Trigger.WEBHOOK), word=str(status))

    return play


def _win_claim(invoice: Invoice) -> Any:
    claim = invoice._writer.claim([invoice], AuditContext(ACTOR, Trigger.API), unless_paused=False)
    if not claim.invoices:
        raise RuntimeError(f"{invoice} was claimed by another process while it was created.")
    return claim


def _paid_after_cancel(invoice: Invoice) -> None:
    SCENARIOS["canceled"](invoice)
    SCENARIOS["paid"](invoice)


SCENARIOS: Mapping[str, Scenario] = MappingProxyType(
    {
        "created": _nothing,
        "requested": _request,
        "refused": _answer(Outcome.REFUSED, Code.PROVIDER_REFUSED, 400),
        "canceling": _claim,
        "abandoned": _claim,
        "in_doubt": _answer(Outcome.IN_DOUBT, Code.NO_ANSWER, None),
        "canceled": _answer(Outcome.CANCELED, Code.CANCELED, 200),
        "partially_paid": _observe(Status.PARTIALLY_PAID),
        "paid": _observe(Status.PAID),
        "overpaid": _observe(Status.OVERPAID),
        "expired": _observe(Status.EXPIRED),
        "failed": _observe(Status.FAILED),
        "paid_after_cancel": _paid_after_cancel,
    }
)
"""The changes that lead to each state."""


# -- age ----------------------------------------------------------------------------------------------------------


def _move_back(invoice: Invoice, age: timedelta, kept: Mapping[str, Any]) -> None:
    """Move all times of an invoice and of its log back by the same span, so that they stay consistent."""
    names = [field.name for field in Invoice._meta.concrete_fields if isinstance(field, models.DateTimeField)]
    times: dict[str, datetime | None] = {name: getattr(invoice, name) for name in names if name not in kept}
    moved = {name: _earlier(time, age) for name, time in times.items() if time is not None}
    # Plain query sets: the app's own refuse to write the writer's fields, and to change the log.
    models.QuerySet[Invoice](Invoice, using=invoice._state.db).filter(pk=invoice.pk).update(**moved)
    for name, time in moved.items():
        setattr(invoice, name, time)
    log = models.QuerySet[InvoiceTransition](InvoiceTransition, using=invoice._state.db).filter(invoice_id=invoice.pk)
    for row in log:
        log.filter(pk=row.pk).update(created_at=row.created_at - age)


def _earlier(time: datetime, age: timedelta) -> datetime:
    """Return the time ``age`` earlier. Naive times are converted, because a local day may have 23 or 25 hours."""
    if timezone.is_aware(time):
        return time - age
    return as_plain(timezone.make_aware(time, timezone.get_default_timezone()).astimezone(UTC) - age)
