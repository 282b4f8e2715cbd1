"""The invoices of both providers with the provider's status strings, and the interface of a dialect.

An unknown id is created at its first request, in the state that its code selects. A cancel request changes only an
open invoice. One lock protects the store. It may be shared.
"""

import json
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from threading import Condition
from typing import Any, ClassVar, NamedTuple

from .behaviours import InvoiceState, behaviour_of
from .wire import Reply, Request

CANCEL, LOOKUP, LIST, CREATE, OTHER = "cancel", "lookup", "list", "create", "other"
OPERATIONS = (CANCEL, LOOKUP, LIST, CREATE, OTHER)

CLOUDFLARE_PAGE = (
    b"<!DOCTYPE html><html><head><title>Just a moment...</title></head>"
    b"<body><h1>Checking your browser</h1><p>Cloudflare Ray ID: 0000000000000000</p></body></html>"
)


class ParsedRequest(NamedTuple):
    """The operation and the invoices of a request."""

    operation: str
    external_ids: tuple[str, ...] = ()
    """The ids in canonical form. Invalid ids are left out."""
    error: Reply | None = None
    """The answer to an invalid request that has valid credentials."""
    fields: Mapping[str, Any] = {}


class Dialect(ABC):
    """The API of one provider."""

    name: ClassVar[str]
    words: ClassVar[Mapping[InvoiceState, str]]
    """The provider's status strings."""
    currency: ClassVar[str]
    """The default currency."""

    def __init__(self, token: str) -> None:
        self.token = token

    @abstractmethod
    def canonical_id(self, external_id: str) -> str | None:
        """Return the id in the form of the provider's answers; None if it is invalid."""

    @abstractmethod
    def make_id(self, number: int) -> str:
        """Return the id of created invoice ``number``, with ordinary behaviour."""

    @abstractmethod
    def read(self, request: Request) -> ParsedRequest:
        """Parse a request."""

    @abstractmethod
    def credentials_error(self, request: Request) -> Reply | None:
        """Return the answer to a request with invalid credentials; None if they are valid."""

    @abstractmethod
    def reply_created(self, invoice: "StoredInvoice", base_url: str) -> Reply: ...

    @abstractmethod
    def reply_canceled(self) -> Reply: ...

    @abstractmethod
    def reply_not_open(self) -> Reply:
        """Return the answer to a cancel request for an invoice that is paid or closed."""

    @abstractmethod
    def reply_not_found(self) -> Reply:
        """Return the answer to a cancel request for an unknown invoice."""

    @abstractmethod
    def reply_lookup(self, invoices: Sequence["StoredInvoice"]) -> Reply:
        """Return the answer to a lookup. Unknown invoices are left out."""

    @abstractmethod
    def reply_bad_credentials(self) -> Reply: ...

    @abstractmethod
    def reply_forbidden(self) -> Reply: ...

    @abstractmethod
    def reply_rate_limited(self, seconds: int) -> Reply: ...

    @abstractmethod
    def reply_server_error(self) -> Reply: ...

    @abstractmethod
    def reply_echo(self, header: str) -> Reply:
        """Return an error that echoes the Authorization header of the request."""


def reply_json(status: int, data: object, *headers: tuple[str, str]) -> Reply:
    """Return a reply with a JSON body."""
    return Reply(status, json.dumps(data, separators=(",", ":")).encode(), headers=headers)


def reply_page(status: int, page: bytes = CLOUDFLARE_PAGE) -> Reply:
    """Return a reply with a web page, as a proxy in front of the provider would send it."""
    return Reply(status, page, "text/html; charset=UTF-8", (("Server", "cloudflare"),))


@dataclass(slots=True, eq=False)
class StoredInvoice:
    """One invoice at the provider."""

    external_id: str
    status: str
    amount: str = "100.00"
    currency: str = ""
    order_id: str = "None"
    """The string ``None`` if it is not set, as at CryptoCloud."""
    created_at: float = field(default_factory=time.time)
    changed_at: float = field(default_factory=time.time)
    executed: int = 0
    """Number of cancel requests that changed the invoice."""
    cancels: int = 0
    """Number of cancel requests for the invoice."""


class InvoiceStore:
    """The invoices of both dialects."""

    def __init__(self, dialects: Mapping[str, Dialect], changed: Condition) -> None:
        self._dialects = dialects
        self._changed = changed
        self._invoices: dict[str, StoredInvoice] = {}
        self._created = 0

    def __iter__(self) -> Iterator[StoredInvoice]:
        with self._changed:
            return iter(list(self._invoices.values()))

    def dialect_of(self, external_id: str) -> Dialect:
        """Return the dialect of an id: CryptoCloud for ``INV-``, else FireKassa."""
        return self._dialects["cryptocloud" if external_id[:4].upper() == "INV-" else "firekassa"]

    def canonical_id(self, external_id: str) -> str:
        """Return the id in canonical form; raise ``ValueError`` if it is invalid."""
        canonical_id = self.dialect_of(external_id).canonical_id(external_id)
        if canonical_id is None:
            raise ValueError(f"{external_id!r} is not a valid invoice id.")
        return canonical_id

    def find(self, external_id: str) -> StoredInvoice | None:
        """Return the invoice with this canonical id; None if the provider does not know it."""
        with self._changed:
            invoice = self._invoices.get(external_id)
            if invoice is None:
                initial_state = behaviour_of(external_id).initial_state
                if initial_state is not None:
                    invoice = self._add(external_id, initial_state)
            return invoice

    def create(self, dialect: Dialect, *, amount: str, currency: str, order_id: str) -> StoredInvoice:
        """Create an ordinary invoice with a new id."""
        with self._changed:
            self._created += 1
            invoice = self._add(dialect.make_id(self._created), InvoiceState.OPEN)
            invoice.amount, invoice.currency, invoice.order_id = amount, currency, order_id
            return invoice

    def carry_out(self, external_id: str) -> bool:
        """Cancel the invoice if it is open. Return whether it was changed."""
        words = self.dialect_of(external_id).words
        with self._changed:
            invoice = self.find(external_id)
            if invoice is None or invoice.status != words[InvoiceState.OPEN]:
                return False
            invoice.executed += 1
            self._write(invoice, words[InvoiceState.CANCELED])
            return True

    def set_state(self, external_id: str, state: InvoiceState) -> None:
        """Set the state of an invoice, regardless of its current one."""
        self.set_status(external_id, self.dialect_of(external_id).words[state])

    def set_status(self, external_id: str, word: str) -> None:
        """Set the provider's status string of an invoice, regardless of its status. Unknown strings are allowed."""
        with self._changed:
            invoice = self.find(external_id) or self._add(external_id, InvoiceState.OPEN)
            self._write(invoice, word)

    def count_cancel(self, invoice: StoredInvoice) -> bool:
        """Count a cancel request. Return whether it is the first one."""
        with self._changed:
            invoice.cancels += 1
            return invoice.cancels == 1

    def clear(self) -> None:
        """Delete all invoices."""
        with self._changed:
            self._invoices.clear()

    def _add(self, external_id: str, state: InvoiceState) -> StoredInvoice:
        dialect = self.dialect_of(external_id)
        invoice = StoredInvoice(external_id, dialect.words[state], currency=dialect.currency)
        self._invoices[external_id] = invoice
        return invoice

    def _write(self, invoice: StoredInvoice, word: str) -> None:
        invoice.status = word
        invoice.changed_at = time.time()
        self._changed.notify_all()
