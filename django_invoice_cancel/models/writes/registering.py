"""Registration: insert invoices that exist at a provider, once each, with the row of a child class if there is one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import copy
from functools import partial
from typing import Any, cast

from django.db import IntegrityError, models

from ...domain.audit import AuditContext
from ...domain.statuses import Status
from .answers import FILLED, Conflict, conflict_of, missing_values
from .rows import Entry, InvoiceRow, RowWriter
from .transactions import show

_INVOICE_BATCH_SIZE = 500
"""Maximum number of ids in one query."""

Key = tuple[str, str]
Given = Mapping[str, Any]


class RegistrationWriter(RowWriter):
    """Inserts invoices of one class: ``Invoice``, a proxy or a child class of it."""

    @property
    def is_child(self) -> bool:
        """True if the class has its own table."""
        return self.model._meta.concrete_model is not self.invoice_model

    @property
    def registered(self) -> models.QuerySet[Any, Any]:
        """All invoices of the class."""
        return models.QuerySet(self.model, using=self.using)

    def find(self, provider: str, external_id: str) -> InvoiceRow | None:
        """Return the registered invoice, if possible as an instance of this class; None if it is not registered."""
        return self._find_registered(provider, external_id) or self.find_row(provider=provider, external_id=external_id)

    def register(
        self, invoice: InvoiceRow, given: Given, audit: AuditContext
    ) -> tuple[InvoiceRow, bool, Conflict | None]:
        """Insert a valid invoice unless it is already stored as one of this class.

        Returns:
            The stored invoice, True if it was inserted, and its conflict with the given values, or None.
        """
        known, is_new = self._find_registered(invoice.provider, invoice.external_id), False
        if known is None:
            known, is_new = self._insert_new(invoice, audit, self._parent_of(invoice))
        return known, is_new, self._merge(known, given)

    def register_many(
        self, invoices: Sequence[tuple[InvoiceRow, Given]], audit: AuditContext
    ) -> tuple[int, list[Conflict]]:
        """Insert the valid invoices that are not stored as this class yet; return their number, and all conflicts."""
        # Read before the transaction, which begins with its write.
        stored = self._stored([invoice for invoice, _given in invoices], self.registered)
        parents = self._stored([invoice for invoice, _ in invoices], self.invoices) if self.is_child else {}
        new: dict[Key, InvoiceRow] = {}
        repeated: list[tuple[InvoiceRow, Given]] = []
        for invoice, given in invoices:
            first = stored.get(_key(invoice)) or new.setdefault(_key(invoice), invoice)
            if first is not invoice or _key(invoice) in parents:
                repeated.append((first, given))

        def write() -> tuple[int, list[Conflict]]:
            count = self._insert_many([copy(invoice) for invoice in new.values()], parents, audit)
            conflicts = [self._merge(first, given) for first, given in repeated]
            return count, [conflict for conflict in conflicts if conflict is not None]

        return self.join(write)

    def _insert_many(self, new: list[InvoiceRow], parents: dict[Key, InvoiceRow], audit: AuditContext) -> int:
        if not self.is_child:
            self.invoices.bulk_create(new, ignore_conflicts=True)
            self._log_births([invoice for invoice in new if invoice.status != Status.CREATED], audit)
            return len(new)
        count = 0
        for invoice in new:  # Django inserts the rows of a child class one by one
            parent = parents.get(_key(invoice))
            count += self._insert_new(invoice, audit, parent and parent.id)[1]
        return count

    def _merge(self, stored: InvoiceRow, given: Given) -> Conflict | None:
        """Fill the empty fields of a stored invoice with given values; return the remaining conflict."""
        if missing_values(stored, given):
            self.join(partial(self._fill, stored, given))
        return conflict_of(stored, given)

    def _fill(self, stored: InvoiceRow, given: Given) -> None:
        key: Any = stored.id
        if key is None:  # inserted in bulk, where databases return no keys
            found = self.find_row(provider=stored.provider, external_id=stored.external_id)
            key = None if found is None else found.id
        row = self.lock(key)
        if row is not None:
            self.write(row, **missing_values(row, given))
            show(stored, {name: getattr(row, name) for name in FILLED})

    def _find_registered(self, provider: str, external_id: str) -> InvoiceRow | None:
        return self.first_row(self.registered.filter(provider=provider, external_id=external_id))

    def _parent_of(self, invoice: InvoiceRow) -> Any:
        """Return the key of the registered invoice that the new row of a child class belongs to, if any."""
        found = self.find_row(provider=invoice.provider, external_id=invoice.external_id) if self.is_child else None
        return found and found.id

    def _insert_new(self, invoice: InvoiceRow, audit: AuditContext, parent: Any) -> tuple[InvoiceRow, bool]:
        """Insert an invoice, or return the one that another process inserts concurrently.

        Each try works on a copy, because ``save()`` changes the instance even if its transaction is rolled back.
        """
        for is_last in (False, True):
            try:
                return self.join(partial(self._insert_row, invoice, audit, parent))
            except IntegrityError:
                known = self._find_registered(invoice.provider, invoice.external_id)
                if known is not None:
                    return known, False
                if is_last:
                    raise
                parent = self._parent_of(invoice)
        raise AssertionError("unreachable: the last try returns or raises")

    def _insert_row(self, invoice: InvoiceRow, audit: AuditContext, parent: Any) -> tuple[InvoiceRow, bool]:
        invoice = copy(invoice)
        row = None if parent is None else self.lock(parent)
        if row is None:
            invoice.save(using=self.using)
            if invoice.status != Status.CREATED:
                self.append([Entry(invoice, "", invoice.status, audit)])
            return invoice, True
        known = self.registered.filter(id=row.id).first()
        return (known, False) if known is not None else (self._insert_child_of(row, invoice), True)

    def _insert_child_of(self, row: InvoiceRow, invoice: InvoiceRow) -> InvoiceRow:
        """Insert the child's row of a registered invoice, which is locked.

        ``Model.save`` also writes the columns of all parents. The instance gets the stored values of the parents, so
        that none of them changes.
        """
        for parent in self.model._meta.all_parents:
            stored = self._stored_parent(parent, row)
            for field in stored._meta.concrete_fields if stored is not None else ():
                setattr(invoice, field.attname, getattr(stored, field.attname))
        models.Model.save(cast("models.Model", invoice), using=self.using)
        return invoice

    def _stored_parent(self, parent: type[models.Model], row: InvoiceRow) -> Any:
        if parent is self.invoice_model:
            return row
        if not issubclass(parent, self.invoice_model):  # an unrelated class of the project
            return None
        return models.QuerySet(parent, using=self.using).filter(id=row.id).first()

    def _stored(self, invoices: list[InvoiceRow], among: models.QuerySet[Any, Any]) -> dict[Key, InvoiceRow]:
        """Return those of the invoices that are stored, by provider and external id."""
        stored: dict[Key, InvoiceRow] = {}
        for start in range(0, len(invoices), _INVOICE_BATCH_SIZE):  # databases limit the number of parameters
            group = invoices[start : start + _INVOICE_BATCH_SIZE]
            providers, ids = {i.provider for i in group}, {i.external_id for i in group}
            stored.update((_key(row), row) for row in among.filter(provider__in=providers, external_id__in=ids))
        return stored

    def _log_births(self, invoices: list[InvoiceRow], audit: AuditContext) -> None:
        for invoice in invoices:
            row = self.invoices.get(provider=invoice.provider, external_id=invoice.external_id)
            if not self.log.filter(invoice_id=row.id).exists():
                self.append([Entry(row, "", row.status, audit)])


def _key(invoice: Any) -> Key:
    return invoice.provider, invoice.external_id
