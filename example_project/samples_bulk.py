"""Earlier bulk operations for ``make serve``: finished, interrupted and paused.

They really run, with the sandbox. Then all their times are moved back together.
"""

from collections.abc import Iterable, Sequence
from datetime import timedelta
from typing import Any

from django.db import models
from django.db.models import F

from django_invoice_cancel import operations
from django_invoice_cancel.models import BulkOperation, BulkOperationItem, Invoice, InvoiceTransition, ProviderState
from django_invoice_cancel.operations import advance
from django_invoice_cancel.testing.sandbox import invoice_id

REVOKED = 30
"""Number of invoices at the account with the revoked token."""
A_DAY = 24 * 60 * 60


def finish_one(invoices: Sequence[Invoice], user: Any) -> None:
    operation = started(invoices, user)
    while advance(operation.pk).has_more:
        pass
    move_back(invoices, hours=26, operation=operation)


def interrupt_one(invoices: Sequence[Invoice], user: Any) -> None:
    """Process a third of the operation, as if its page had been closed then."""
    operation = started(invoices, user)
    advance(operation.pk, limit=len(invoices) // 3)
    move_back(invoices, hours=1, operation=operation)


def started(invoices: Sequence[Invoice], user: Any) -> BulkOperation:
    chosen = Invoice.objects.filter(pk__in=[invoice.pk for invoice in invoices])
    return operations.start(chosen, actor=user, trigger="admin", reason="unpaid for a week")


def pause_old_account(user: Any) -> None:
    """Cancel at the account with the revoked token. The first answer rejects it, and the others are not tried."""
    invoices = []
    for number in range(1, REVOKED + 1):
        external_id, reference = invoice_id("firekassa", 900 + number), f"old-{number}"
        invoice, _ = Invoice.objects.register(
            provider="firekassa_old", external_id=external_id, reference=reference, amount="90.00", currency="RUB"
        )
        invoices.append(invoice)
    operation = started(invoices, user)
    advance(operation.pk)
    # A pause ends after five minutes, and the next request would start another one. This one lasts a day.
    Invoice.objects.all()._writer.pause("firekassa_old", "bad_credentials", A_DAY)


def end_pause(alias: str) -> None:
    """Delete the failures of a provider and the resulting pause."""
    ProviderState.objects.filter(alias=alias).delete()


def move_back(invoices: Iterable[Invoice], *, hours: int, operation: BulkOperation | None = None) -> None:
    """Move all times of these invoices and of the operation back by some hours."""
    if not hours:
        return
    age, keys = timedelta(hours=hours), [invoice.pk for invoice in invoices]
    _shift(Invoice, age, pk__in=keys, keep=("issued_at", "expires_at"))
    _shift(InvoiceTransition, age, invoice__in=keys)
    if operation is not None:
        _shift(BulkOperation, age, pk=operation.pk)
        _shift(BulkOperationItem, age, operation=operation)


def _shift(model: type[models.Model], age: timedelta, *, keep: Sequence[str] = (), **which: Any) -> None:
    fields = [field.name for field in model._meta.concrete_fields if isinstance(field, models.DateTimeField)]
    # A plain query set: those of the app reject changes to the log and to fields that only its writer may set.
    rows: models.QuerySet[Any] = models.QuerySet(model)
    rows.filter(**which).update(**{name: F(name) - age for name in fields if name not in keep})
