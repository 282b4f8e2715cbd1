"""What the two dialects have in common: how a provider reads a question and which answers it has words for.

A dialect is pure: it turns a request into a ``Question`` and a state of affairs into a ``Reply``. It keeps no
invoice, decides nothing and knows no fault.
"""

import json
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from .behaviours import State
from .wire import Reply, Request

if TYPE_CHECKING:
    from .books import Invoice

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
