"""The outcome of an attempt, its code, the provider's reply and the result for the caller.

``IN_DOUBT`` is the default for everything that is not known to be something else.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from enum import StrEnum
from types import MappingProxyType
from typing import Any

from .statuses import PAID_STATUSES, Status


class Outcome(StrEnum):
    """Our reading of one attempt."""

    CANCELED = "canceled"
    """The provider confirmed this cancel."""
    ALREADY_CANCELED = "already_canceled"
    """It was canceled before: seen by lookup, or known here."""
    REFUSED = "refused"
    """The provider said no, with a status or a reason."""
    NOT_PROCESSED = "not_processed"
    """Certainly nothing happened: never connected, 429, rejected credentials, lease over."""
    IN_DOUBT = "in_doubt"
    """Nothing is known for certain."""
    SKIPPED = "skipped"
    """Nothing was sent."""


class Code(StrEnum):
    """Why: stable words for programs. An adapter may use a word of its own where none of these fits."""

    CANCELED = "canceled"
    ALREADY_CANCELED = "already_canceled"
    # nothing was sent
    IN_PROGRESS = "in_progress"
    IN_DOUBT = "in_doubt"
    HAS_PAYMENT = "has_payment"
    CLOSED = "closed"
    BEING_CHECKED = "being_checked"
    DRY_RUN = "dry_run"
    MISCONFIGURED = "misconfigured"
    CONFIGURATION_UNAVAILABLE = "configuration_unavailable"
    PROVIDER_PAUSED = "provider_paused"
    SENDING_DISABLED = "sending_disabled"
    UNKNOWN_INVOICES = "unknown_invoices"
    NEWER_STATUS = "newer_status"
    NOT_REGISTERED = "not_registered"
    NO_INVOICE = "no_invoice"
    NOT_PERMITTED = "not_permitted"
    CHANGED = "changed"
    DATABASE_ERROR = "database_error"
    NOT_IN_DOUBT = "not_in_doubt"
    DOUBT_PERIOD = "doubt_period"
    TOO_MANY_REPEATS = "too_many_repeats"
    NO_LATE_MONEY = "no_late_money"
    # the provider said no
    NOT_FOUND = "not_found"
    PROVIDER_REFUSED = "provider_refused"
    # certainly nothing happened
    BAD_CREDENTIALS = "bad_credentials"
    RATE_LIMITED = "rate_limited"
    UNREACHABLE = "unreachable"
    LEASE_EXPIRED = "lease_expired"
    STILL_OPEN = "still_open"
    # nothing is known
    NO_ANSWER = "no_answer"
    UNREADABLE_ANSWER = "unreadable_answer"
    CONTRADICTORY_ANSWER = "contradictory_answer"
    UNKNOWN_STATUS = "unknown_status"
    PROVIDER_ERROR = "provider_error"
    REDIRECTED = "redirected"
    WRONG_ADDRESS = "wrong_address"
    ADAPTER_ERROR = "adapter_error"
    ABANDONED = "abandoned"
    NO_LOOKUP = "no_lookup"
    # by a person
    RESOLVED = "resolved"
    REQUESTED = "requested"
    WITHDRAWN = "withdrawn"
    GIVEN_BACK = "given_back"
    HANDLED = "handled"
    # a lookup or an observation
    OBSERVED = "observed"
    MORE_MONEY = "more_money"


@dataclass(frozen=True)
class Effect:
    """The effect of an outcome on the invoice: its status, and when it may be sent again."""

    becomes: Status | None
    """The status written; None: the status that the reply names, else the one before the claim."""
    may_be_sent_again: str
    """``no``, ``later``, ``if_asked`` or ``after_reconcile``."""


EFFECTS: Mapping[Outcome, Effect] = MappingProxyType(
    {
        Outcome.CANCELED: Effect(Status.CANCELED, "no"),
        Outcome.ALREADY_CANCELED: Effect(Status.CANCELED, "no"),
        Outcome.REFUSED: Effect(None, "if_asked"),
        Outcome.NOT_PROCESSED: Effect(None, "later"),
        Outcome.IN_DOUBT: Effect(Status.IN_DOUBT, "after_reconcile"),
    }
)
"""SKIPPED is not here: nothing was claimed, so nothing is written."""

CONFIRMS_CANCEL: frozenset[Outcome] = frozenset({Outcome.CANCELED, Outcome.ALREADY_CANCELED})
"""The outcomes by which a row of the log says "the provider holds it canceled"."""


LAST_REFUSED: tuple[str, str] = (Outcome.REFUSED, Code.NOT_FOUND)
"""Values of ``Invoice.last_outcome`` after a refusal: ``not_found`` if the provider did not know the invoice."""


@dataclass(frozen=True)
class ProviderReply:
    """The provider's answer to one cancel request."""

    outcome: Outcome
    code: str
    status: Status | None = None
    """The status that the answer names, where it names one."""
    http_status: int | None = None
    provider_message: str = ""
    """The provider's own words: at most 500 characters, secrets masked."""
    retry_after: float | None = None
    """Seconds until a repeat makes sense, as the provider says; bounded."""

    def __post_init__(self) -> None:
        if self.outcome not in EFFECTS:
            raise ValueError(f"A provider's reply cannot be {self.outcome!r}.")

    @property
    def confirms_cancel(self) -> bool:
        return self.outcome in CONFIRMS_CANCEL

    @property
    def named_status(self) -> Status | None:
        """The status that this reply gives the invoice: money that it names, else that of its outcome or refusal."""
        if self.status in PAID_STATUSES:
            return self.status
        becomes = EFFECTS[self.outcome].becomes
        return becomes or (self.status if self.outcome == Outcome.REFUSED else None)

    def next_status(self, before: Status) -> Status:
        """Return the status that an invoice gets which was ``before`` when it was claimed."""
        return self.named_status or before


@dataclass(frozen=True)
class LookupReply:
    """The provider's answer about one invoice in a lookup."""

    status: Status | None
    """Our word for the provider's status; None: not found, a word we do not know, or no answer."""
    code: str
    is_answer: bool
    """Whether this was an answer about that invoice: "not found" is one, a time-out is none."""
    provider_status: str = ""
    """The provider's word, as it came (cut, masked)."""
    http_status: int | None = None
    provider_message: str = ""
    retry_after: float | None = None


@dataclass(frozen=True)
class CancelResult:
    """One invoice, one answer. ``message`` is translated when it is shown."""

    provider: str
    external_id: str
    outcome: Outcome
    code: str
    message: Any
    """A sentence fit for an operator (a lazy string)."""
    status: str
    """The invoice's status afterwards."""
    invoice_id: Any = None
    reference: str = ""
    attempt: str | None = None
    http_status: int | None = None
    provider_message: str = ""
    retry_after: float | None = None
    duration_ms: int | None = None
    is_recorded: bool = True
    """Whether what is said here was written down; if not, reconcile will find it out anew."""

    @property
    def ok(self) -> bool:
        """Whether the invoice is known to be canceled."""
        return self.outcome in CONFIRMS_CANCEL

    def as_dict(self) -> dict[str, Any]:
        """Return the result as JSON types, for logs and ``--format jsonl``."""
        plain = {field.name: getattr(self, field.name) for field in fields(self)}
        plain.update(outcome=str(self.outcome), code=str(self.code), status=str(self.status), message=str(self.message))
        plain["invoice_id"] = None if self.invoice_id is None else str(self.invoice_id)
        return plain


@dataclass
class BulkReport:
    """One result for each invoice of a bulk run, in the order in which they came."""

    results: list[CancelResult] = field(default_factory=list)

    @property
    def counts(self) -> Counter[Outcome]:
        """Number of invoices by outcome."""
        return Counter(result.outcome for result in self.results)

    @property
    def ok(self) -> bool:
        """Whether every invoice is known to be canceled."""
        return all(result.ok and result.is_recorded for result in self.results)
