"""The base of the writers: reads and writes rows of invoices and of their log, and sends the signals.

It does not decide the status of an invoice.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, ClassVar, Protocol
from uuid import UUID

from django.apps import apps
from django.db import IntegrityError, connections, models, transaction

from ...domain.audit import AuditContext
from ...domain.clock import utc_now
from ...domain.outcomes import Outcome
from ...domain.ports import InvoicePort
from ...services.on_commit import call_on_commit
from ..actors import named_actor
from ..values import storable, write_texts
from .notices import Notice, Outbox, send_all
from .transactions import Transactions, carry_over, show

logger = logging.getLogger("django_invoice_cancel")

MOST_COUNTED = 1_000_000
"""Maximum count of checks, tries and failures: more than any decision needs, less than the limit of the column."""
_CODE_LENGTH = 32
_MESSAGE_LENGTH = 500

FREE_TEXTS = ("actor_label", "reason", "code", "provider_message")
"""The columns of the log that may contain any character."""


@dataclass(frozen=True)
class Entry:
    """One row to append to the log."""

    invoice: InvoicePort
    old: str
    new: str
    audit: AuditContext
    attempt: UUID | None = None
    outcome: Outcome | None = None
    code: str = ""
    http_status: int | None = None
    provider_message: str = ""
    duration_ms: int | None = None
    is_late_money: bool = False
    """True if the invoice now has both a payment and a cancellation, or a larger payment than was handled."""
    key: Any = None
    """The id of the invoice, if the instance in memory may have been changed since it was read."""

    @property
    def is_news(self) -> bool:
        """True if the entry has a signal to send."""
        return self.old != self.new or self.is_late_money


class InvoiceRow(InvoicePort, Protocol):
    """An instance of ``Invoice`` or of a child class. The writer cannot import the models, which import it."""

    _meta: ClassVar[Any]

    @property
    def issued_at(self) -> datetime: ...
    @property
    def created_at(self) -> datetime: ...
    def save(self, *, using: str | None = ...) -> None: ...


class RowWriter(Transactions):
    """Reads and writes the rows of invoices and of their log in one database.

    It always writes rows of ``Invoice`` itself. For a child class, Django replaces a conditional UPDATE with a SELECT
    and an UPDATE of the rows found, so that two processes may win the same claim. An invoice is identified by its
    ``id``, because the primary key of a child class may be another column.
    """

    def __init__(self, model: type[models.Model], using: str) -> None:
        super().__init__(using)
        self.model = model
        """The class that ``register`` inserts: ``Invoice``, a proxy or a child class of it."""
        self.invoice_model: type[models.Model] = apps.get_model("invoice_cancel", "Invoice")
        """The class ``Invoice``, also if the caller works with a child class or a proxy of it."""
        self.log_model: type[Any] = apps.get_model("invoice_cancel", "InvoiceTransition")
        self.outbox: Outbox | None = None
        """The outbox for signals of committed writes. None: they are sent at once."""

    @property
    def invoices(self) -> models.QuerySet[Any, Any]:
        """All invoices, as a query set that may write the columns that the public one refuses."""
        return models.QuerySet(self.invoice_model, using=self.using)

    @property
    def log(self) -> models.QuerySet[Any, Any]:
        rows: models.QuerySet[Any, Any] = self.log_model.objects.using(self.using)
        return rows

    def in_bulk(self) -> Outbox:
        """Prepare for a bulk run: keep signals in the returned outbox, and do not try again after a lock time-out."""
        self.outbox, self.waits_again = Outbox(), False
        return self.outbox

    def find_row(self, **key: Any) -> InvoiceRow | None:
        """Return the invoice with these values, or None."""
        return self.first_row(self.invoices.filter(**key))

    def first_row(self, rows: models.QuerySet[Any, Any]) -> InvoiceRow | None:
        """Return the first of these rows, also if it was committed after the first read of the caller's transaction."""
        found = rows.first()
        return rows.select_for_update().first() if found is None and self.may_read_stale else found

    def lock(self, pk: Any) -> InvoiceRow | None:
        """Lock a row until the end of the transaction and read it; return None if it does not exist.

        The UPDATE comes first, because it takes the write lock on SQLite too. There ``select_for_update`` is ignored,
        and a transaction that reads before it writes may fail.
        """
        self.invoices.filter(pk=pk).update(check_count=models.F("check_count"))
        return self.invoices.select_for_update().filter(pk=pk).first()

    def refresh(self, invoice: InvoicePort) -> InvoiceRow | None:
        """Copy the writer's fields from the row to the instance; return the row, or None if it was deleted."""
        row = self.find_row(pk=invoice.id)
        if row is not None:
            carry_over(row, invoice)
        return row

    def guard_raw_save(self, invoice: InvoicePort) -> None:
        """Keep the writer's fields in a raw save of a logged invoice. Raise ``IntegrityError`` if its status differs.

        Fixtures and django-reversion make raw saves. Both handle this error.
        """
        in_transaction = connections[self.using].in_atomic_block
        row = self.lock(invoice.pk) if in_transaction else self.invoices.filter(pk=invoice.pk).first()
        if row is None or not self.log.filter(invoice_id=row.pk).exists():
            return
        if row.status != invoice.status:
            raise IntegrityError(
                f"Invoice {row} is {row.status} according to its log. A raw save cannot change it to {invoice.status}."
            )
        carry_over(row, invoice)

    # -- writing ----------------------------------------------------------------------------------------------

    def write(self, row: InvoicePort, **changes: Any) -> None:
        """Write columns of a locked row, and set them on the instance."""
        if changes:
            self.invoices.filter(pk=row.pk).update(**changes)
            show(row, changes)

    def log_on_commit(self, level: int, invoice: InvoicePort, text: str) -> None:
        """Log a line about an invoice after the commit of the transaction."""
        names = {"provider": invoice.provider, "external_id": invoice.external_id, "invoice_id": invoice.id}

        def write() -> None:
            logger.log(level, "%s: %s", invoice, text, extra=names)

        call_on_commit(write, using=self.using, failure="A log message about %s was not written.", about=invoice)

    def append(self, entries: Sequence[Entry]) -> None:
        """Append rows to the log; their signals are sent after the commit."""
        now = utc_now()
        model = self.log_model
        rows = [model(**_log_values(entry, now)) for entry in entries]
        self._insert_log(rows)
        pairs = zip(entries, rows, strict=True)
        notices = [
            Notice(self.invoice_model, each.invoice, row, each.is_late_money) for each, row in pairs if each.is_news
        ]
        if notices:
            # Not robust: Django would log an interruption of the caller and not raise it. Other errors are caught.
            transaction.on_commit(lambda: self._report(notices), using=self.using)
        for entry in entries:
            if entry.is_late_money:
                text = f"a payment was received ({entry.new}), but its cancellation was confirmed."
                self.log_on_commit(logging.ERROR, entry.invoice, text)

    def _report(self, notices: Sequence[Notice]) -> None:
        """Send the signals of a committed transaction, or keep them in the outbox."""
        if self.outbox is not None:
            self.outbox.put(notices)
            return
        try:
            send_all(notices)
        except Exception as interruption:
            self._interruption = interruption
            raise

    def _insert_log(self, rows: list[Any]) -> None:
        fields: list[Any] = [self.log_model._meta.get_field(name) for name in FREE_TEXTS]

        def write(texts: list[str]) -> None:
            cells = ((row, field) for row in rows for field in fields)
            for (row, field), text in zip(cells, texts, strict=True):
                setattr(row, field.attname, text[: field.max_length])
            self.log.bulk_create(rows)

        write_texts(write, [getattr(row, name) for row in rows for name in FREE_TEXTS], using=self.using)


def _log_values(entry: Entry, now: datetime) -> dict[str, Any]:
    actor_id, actor_label = named_actor(entry.audit.actor)
    return {
        "invoice_id": entry.invoice.id if entry.key is None else entry.key,
        "from_status": entry.old,
        "to_status": entry.new,
        "attempt": entry.attempt,
        "actor_id": actor_id,
        "actor_label": actor_label,
        "trigger": entry.audit.trigger,
        "reason": storable(entry.audit.reason),
        "operation": entry.audit.operation,
        "outcome": entry.outcome or "",
        "code": storable(entry.code, _CODE_LENGTH),
        "http_status": entry.http_status,
        "provider_message": storable(entry.provider_message, _MESSAGE_LENGTH),
        "duration_ms": entry.duration_ms,
        "created_at": now,
    }
