"""The provider's own truth: its invoices, their statuses in the provider's own words, how often a cancel changed one.

Knows nothing of HTTP and of faults. An id that was never created is born when it is first asked for, in the state
that its code names; a cancel changes an open invoice and no other. One lock guards all; it may be shared.
"""

import json
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from threading import Condition
from typing import Any, ClassVar, NamedTuple

from .behaviours import State, behaviour_of
from .wire import Reply, Request

CANCEL, LOOKUP, LIST, CREATE, OTHER = "cancel", "lookup", "list", "create", "other"
OPERATIONS = (CANCEL, LOOKUP, LIST, CREATE, OTHER)

CLOUDFLARE_PAGE = (
    b"<!DOCTYPE html><html><head><title>Just a moment...</title></head>"
    b"<body><h1>Checking your browser</h1><p>Cloudflare Ray ID: 0000000000000000</p></body></html>"
)


class Question(NamedTuple):
    """What a request asks for."""

    operation: str
    external_ids: tuple[str, ...] = ()
    """In canonical form; an id that no invoice can have is left out."""
    complaint: Reply | None = None
    """The answer, where the request is wrong in itself (and the credentials are right)."""
    fields: Mapping[str, Any] = {}


class Dialect(ABC):
    """One provider's way of speaking."""

    name: ClassVar[str]
    words: ClassVar[Mapping[State, str]]
    """Its words for what an invoice can be."""
    currency: ClassVar[str]
    """That of an invoice where nothing else was said."""

    def __init__(self, token: str) -> None:
        self.token = token

    @abstractmethod
    def canonical(self, external_id: str) -> str | None:
        """Return the id in the form of the provider's answers; None where it can be no id."""

    @abstractmethod
    def fresh_id(self, number: int) -> str:
        """Return the id of the ``number``-th created invoice: one that behaves ordinarily."""

    @abstractmethod
    def read(self, request: Request) -> Question:
        """Return what the request asks for."""

    @abstractmethod
    def objection(self, request: Request) -> Reply | None:
        """Return the answer to a request with wrong credentials, None for right ones."""

    @abstractmethod
    def created(self, invoice: "Invoice", base_url: str) -> Reply: ...

    @abstractmethod
    def canceled(self) -> Reply: ...

    @abstractmethod
    def not_open(self) -> Reply:
        """Return the answer to a cancel of an invoice that holds money or is closed."""

    @abstractmethod
    def not_found(self) -> Reply:
        """Return the answer to a cancel of an invoice that the provider does not know."""

    @abstractmethod
    def looked_up(self, invoices: Sequence["Invoice"]) -> Reply:
        """Return the answer to a lookup; the invoices that the provider does not know are left out."""

    @abstractmethod
    def rejected_credentials(self) -> Reply: ...

    @abstractmethod
    def forbidden(self) -> Reply: ...

    @abstractmethod
    def rate_limited(self, seconds: int) -> Reply: ...

    @abstractmethod
    def server_error(self) -> Reply: ...

    @abstractmethod
    def echo(self, header: str) -> Reply:
        """Return an error that repeats the request's Authorization header."""


def reply_json(status: int, data: object, *headers: tuple[str, str]) -> Reply:
    """Return a reply with a JSON body."""
    return Reply(status, json.dumps(data, separators=(",", ":")).encode(), headers=headers)


def reply_page(status: int, page: bytes = CLOUDFLARE_PAGE) -> Reply:
    """Return a reply with a web page, as a proxy in front of the provider sends it."""
    return Reply(status, page, "text/html; charset=UTF-8", (("Server", "cloudflare"),))


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
