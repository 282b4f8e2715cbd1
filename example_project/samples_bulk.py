"""What ran before you came: bulk operations finished, interrupted and paused, and how all of it gets its age.

They really run, against the sandbox; then their times are moved back together.
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
"""So many invoices are left at the account whose token was revoked."""
A_DAY = 24 * 60 * 60


def finish_one(invoices: Sequence[Invoice], user: Any) -> None:
    operation = started(invoices, user)
    while advance(operation.pk).has_more:
        pass
    move_back(invoices, hours=26, operation=operation)


def interrupt_one(invoices: Sequence[Invoice], user: Any) -> None:
    """Do a third of it, as if the page that drives it had been closed then."""
    operation = started(invoices, user)
    advance(operation.pk, limit=len(invoices) // 3)
    move_back(invoices, hours=1, operation=operation)


def started(invoices: Sequence[Invoice], user: Any) -> BulkOperation:
    chosen = Invoice.objects.filter(pk__in=[invoice.pk for invoice in invoices])
    return operations.start(chosen, actor=user, trigger="admin", reason="unpaid for a week")


def pause_old_account(user: Any) -> None:
    """Cancel at the account whose token was revoked: the first answer says so, and the others are not even tried."""
    invoices = []
    for number in range(1, REVOKED + 1):
        external_id, reference = invoice_id("firekassa", 900 + number), f"old-{number}"
        invoice, _ = Invoice.objects.register(
            provider="firekassa_old", external_id=external_id, reference=reference, amount="90.00", currency="RUB"
        )
        invoices.append(invoice)
    operation = started(invoices, user)
    advance(operation.pk)
    # A pause is over after five minutes, and the next request would begin another. This one waits for you.
    Invoice.objects.all()._writer.pause("firekassa_old", "bad_credentials", A_DAY)


def end_pause(alias: str) -> None:
    """Forget the failures of a provider, and the pause that they led to."""
    ProviderState.objects.filter(alias=alias).delete()


def move_back(invoices: Iterable[Invoice], *, hours: int, operation: BulkOperation | None = None) -> None:
    """Let all that happened to these invoices, and the operation, have happened so many hours earlier."""
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
    # A plain query set: the app's own refuse to change the log and what only its writer may change.
    rows: models.QuerySet[Any] = models.QuerySet(model)
    rows.filter(**which).update(**{name: F(name) - age for name in fields if name not in keep})
