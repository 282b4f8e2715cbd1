"""The provider's own truth: its invoices, their statuses in the provider's own words, how often a cancel changed one.

Knows nothing of HTTP and of faults. An id that was never created is born when it is first asked for, in the state
that its code names; a cancel changes an open invoice and no other. One lock guards all; it may be shared.
"""

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from threading import Condition

from .behaviours import State, behaviour_of
from .dialect import Dialect


@dataclass(slots=True, eq=False)
class Invoice:
    """One invoice of the provider."""

    external_id: str
    status: str
    amount: str = "100.00"
    currency: str = ""
    order_id: str = "None"
    """A string also where there is none, as CryptoCloud has it."""
    created_at: float = field(default_factory=time.time)
    changed_at: float = field(default_factory=time.time)
    executed: int = 0
    """How many times a cancel changed it."""
    cancels: int = 0
    """How many times it was asked to be canceled."""


class Books:
    """The invoices of both dialects."""

    def __init__(self, dialects: Mapping[str, Dialect], changed: Condition) -> None:
        self._dialects = dialects
        self._changed = changed
        self._invoices: dict[str, Invoice] = {}
        self._created = 0

    def __iter__(self) -> Iterator[Invoice]:
        with self._changed:
            return iter(list(self._invoices.values()))

    def dialect_of(self, external_id: str) -> Dialect:
        """Return whose id this is: with ``INV-`` it is CryptoCloud's, without it FireKassa's."""
        return self._dialects["cryptocloud" if external_id[:4].upper() == "INV-" else "firekassa"]

    def canonical(self, external_id: str) -> str:
        """Return the one form in which the id is kept; ``ValueError`` where no provider has such ids."""
        canonical = self.dialect_of(external_id).canonical(external_id)
        if canonical is None:
            raise ValueError(f"{external_id!r} is no id of an invoice.")
        return canonical

    def find(self, external_id: str) -> Invoice | None:
        """Return the invoice with this canonical id; None where the provider does not know it."""
        with self._changed:
            invoice = self._invoices.get(external_id)
            if invoice is None:
                born = behaviour_of(external_id).born
                if born is not None:
                    invoice = self._add(external_id, born)
            return invoice

    def create(self, dialect: Dialect, *, amount: str, currency: str, order_id: str) -> Invoice:
        """Issue an ordinary invoice with a fresh id."""
        with self._changed:
            self._created += 1
            invoice = self._add(dialect.fresh_id(self._created), State.OPEN)
            invoice.amount, invoice.currency, invoice.order_id = amount, currency, order_id
            return invoice

    def carry_out(self, external_id: str) -> bool:
        """Cancel the invoice if it is open; say whether that changed it."""
        words = self.dialect_of(external_id).words
        with self._changed:
            invoice = self.find(external_id)
            if invoice is None or invoice.status != words[State.OPEN]:
                return False
            invoice.executed += 1
            self._write(invoice, words[State.CANCELED])
            return True

    def put(self, external_id: str, state: State) -> None:
        """Write a state in the dialect's word, whatever the invoice is now."""
        self.set_status(external_id, self.dialect_of(external_id).words[state])

    def set_status(self, external_id: str, word: str) -> None:
        """Write a status in the provider's word, known or not, whatever the invoice is now."""
        with self._changed:
            invoice = self.find(external_id) or self._add(external_id, State.OPEN)
            self._write(invoice, word)

    def count_cancel(self, invoice: Invoice) -> bool:
        """Note that a cancel of the invoice was asked for; say whether it is the first."""
        with self._changed:
            invoice.cancels += 1
            return invoice.cancels == 1

    def clear(self) -> None:
        """Forget all invoices."""
        with self._changed:
            self._invoices.clear()

    def _add(self, external_id: str, state: State) -> Invoice:
        dialect = self.dialect_of(external_id)
        invoice = Invoice(external_id, dialect.words[state], currency=dialect.currency)
        self._invoices[external_id] = invoice
        return invoice

    def _write(self, invoice: Invoice, word: str) -> None:
        invoice.status = word
        invoice.changed_at = time.time()
        self._changed.notify_all()
