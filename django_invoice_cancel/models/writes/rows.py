"""The base of the writers: reads and writes rows of invoices and of their log, and sends the signals.

Nothing here decides what becomes of an invoice.
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
"""Checks, tries and failures are counted up to this: more than any decision needs, less than a column holds."""
_CODE_LENGTH = 32
_MESSAGE_LENGTH = 500

FREE_TEXTS = ("actor_label", "reason", "code", "provider_message")
"""The columns of the log that may hold any character."""


@dataclass(frozen=True)
class Entry:
    """One row of the log to be: what it says besides the move."""

    invoice: InvoicePort
    old: str
    new: str
    intent: AuditContext
    attempt: UUID | None = None
    outcome: Outcome | None = None
    code: str = ""
    http_status: int | None = None
    provider_message: str = ""
    duration_ms: int | None = None
    is_late_money: bool = False
    """Whether with this row money and a cancellation met, or more money came after the first was handled."""
    key: Any = None
    """The invoice's id, if the instance may have been changed in memory since it was read."""

    @property
    def is_news(self) -> bool:
        """Whether there is a signal to send."""
        return self.old != self.new or self.is_late_money


class InvoiceRow(InvoicePort, Protocol):
    """An instance of ``Invoice`` or of a child class: models are above the writer, which cannot import them."""

    _meta: ClassVar[Any]

    @property
    def issued_at(self) -> datetime: ...
    @property
    def created_at(self) -> datetime: ...
    def save(self, *, using: str | None = ...) -> None: ...


class RowWriter(Transactions):
    """Reads and writes the rows of invoices and of their log in one database.

    Always rows of ``Invoice`` itself. For a child class Django turns a conditional UPDATE into a SELECT and an UPDATE
    of the rows that it found, so that two processes may win the same claim. An invoice is named by its ``id``: the
    primary key of a child class may be another column.
    """

    def __init__(self, model: type[models.Model], using: str) -> None:
        super().__init__(using)
        self.model = model
        """The class that ``register`` inserts: ``Invoice``, a proxy or a child class of it."""
        self.invoice_model: type[models.Model] = apps.get_model("invoice_cancel", "Invoice")
        """The class ``Invoice``, also if the caller works with a child class or a proxy of it."""
        self.log_model: type[Any] = apps.get_model("invoice_cancel", "InvoiceTransition")
        self.outbox: Outbox | None = None
        """Keeps the signals of committed writes if it is set; otherwise they are sent at once."""

    @property
    def invoices(self) -> models.QuerySet[Any, Any]:
        """All invoices, by a query set that may write the columns that the public one refuses."""
        return models.QuerySet(self.invoice_model, using=self.using)

    @property
    def log(self) -> models.QuerySet[Any, Any]:
        rows: models.QuerySet[Any, Any] = self.log_model.objects.using(self.using)
        return rows

    def in_bulk(self) -> Outbox:
        """Prepare for a bulk run: keep signals in the outbox returned, and do not wait for a lock twice."""
        self.outbox, self.waits_again = Outbox(), False
        return self.outbox

    def find_row(self, **key: Any) -> InvoiceRow | None:
        """Return the invoice with these values, or None."""
        return self.first_row(self.invoices.filter(**key))

    def first_row(self, rows: models.QuerySet[Any, Any]) -> InvoiceRow | None:
        """Return the first of these rows, also one that was committed after the caller's transaction began to read."""
        found = rows.first()
        return rows.select_for_update().first() if found is None and self.may_read_stale else found

    def lock(self, pk: Any) -> InvoiceRow | None:
        """Lock a row until the end of the transaction and read it; return None if there is none.

        The UPDATE comes first: it takes the write lock on SQLite too, where ``select_for_update`` is ignored,
        and a transaction that reads before it writes may fail there.
        """
        self.invoices.filter(pk=pk).update(check_count=models.F("check_count"))
        return self.invoices.select_for_update().filter(pk=pk).first()

    def refresh(self, invoice: InvoicePort) -> InvoiceRow | None:
        """Make the instance carry its row's status and bookkeeping; return the row, None if it was deleted."""
        row = self.find_row(pk=invoice.id)
        if row is not None:
            carry_over(row, invoice)
        return row

    def guard_raw_save(self, invoice: InvoicePort) -> None:
        """Let a raw save of a logged invoice keep its row's bookkeeping; raise ``IntegrityError`` for another status.

        A raw save is one of a fixture, or of an old version that django-reversion restores. Both handle this error.
        """
        in_transaction = connections[self.using].in_atomic_block
        row = self.lock(invoice.pk) if in_transaction else self.invoices.filter(pk=invoice.pk).first()
        if row is None or not self.log.filter(invoice_id=row.pk).exists():
            return
        if row.status != invoice.status:
            raise IntegrityError(
                f"Invoice {row} is {row.status}, as its log shows, and cannot become {invoice.status} by a raw save."
            )
        carry_over(row, invoice)

    # -- writing ----------------------------------------------------------------------------------------------

    def write(self, row: InvoicePort, **changes: Any) -> None:
        """Write columns of a locked row, and show them on it."""
        if changes:
            self.invoices.filter(pk=row.pk).update(**changes)
            show(row, changes)

    def log_on_commit(self, level: int, invoice: InvoicePort, text: str) -> None:
        """Write a line about an invoice to the log file once the transaction is committed."""
        names = {"provider": invoice.provider, "external_id": invoice.external_id, "invoice_id": invoice.id}

        def write() -> None:
            logger.log(level, "%s: %s", invoice, text, extra=names)

        call_on_commit(write, using=self.using, failure="A line about %s was not logged.", about=invoice)

    def append(self, entries: Sequence[Entry]) -> None:
        """Append rows to the log; their signals go out when the transaction is committed."""
        now = utc_now()
        model = self.log_model
        rows = [model(**_log_values(entry, now)) for entry in entries]
        self._insert_log(rows)
        pairs = zip(entries, rows, strict=True)
        notices = [
            Notice(self.invoice_model, each.invoice, row, each.is_late_money) for each, row in pairs if each.is_news
        ]
        if notices:
            # Not robust: Django would log an interruption of the caller, rather than raise it. All else is caught.
            transaction.on_commit(lambda: self._report(notices), using=self.using)
        for entry in entries:
            if entry.is_late_money:
                text = f"it holds money ({entry.new}), and a cancellation of it was confirmed."
                self.log_on_commit(logging.ERROR, entry.invoice, text)

    def _report(self, notices: Sequence[Notice]) -> None:
        """Send the signals of a committed transaction, or keep them in the outbox if there is one."""
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
    actor_id, actor_label = named_actor(entry.intent.actor)
    return {
        "invoice_id": entry.invoice.id if entry.key is None else entry.key,
        "from_status": entry.old,
        "to_status": entry.new,
        "attempt": entry.attempt,
        "actor_id": actor_id,
        "actor_label": actor_label,
        "trigger": entry.intent.trigger,
        "reason": storable(entry.intent.reason),
        "operation": entry.intent.operation,
        "outcome": entry.outcome or "",
        "code": storable(entry.code, _CODE_LENGTH),
        "http_status": entry.http_status,
        "provider_message": storable(entry.provider_message, _MESSAGE_LENGTH),
        "duration_ms": entry.duration_ms,
        "created_at": now,
    }
