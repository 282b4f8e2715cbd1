"""The outcome of an attempt, its code, the provider's reply and the result for the caller.

An attempt is ``IN_DOUBT`` unless another outcome is certain.
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
    """The outcome of one attempt, as this package interprets the reply."""

    CANCELED = "canceled"
    """The provider confirmed this cancellation."""
    ALREADY_CANCELED = "already_canceled"
    """The invoice was canceled before, according to a lookup or to the stored status."""
    REFUSED = "refused"
    """The provider refused, with a status or a reason."""
    NOT_PROCESSED = "not_processed"
    """Certainly nothing happened: no connection, a 429, rejected credentials, or an expired lease."""
    IN_DOUBT = "in_doubt"
    """The request may have been carried out or not."""
    SKIPPED = "skipped"
    """Nothing was sent."""


class Code(StrEnum):
    """The reason of an outcome, a stable string for programs. An adapter may use its own code if none fits."""

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
    VETOED = "vetoed"
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
    # the provider refused
    NOT_FOUND = "not_found"
    PROVIDER_REFUSED = "provider_refused"
    # certainly nothing happened
    BAD_CREDENTIALS = "bad_credentials"
    RATE_LIMITED = "rate_limited"
    UNREACHABLE = "unreachable"
    LEASE_EXPIRED = "lease_expired"
    STILL_OPEN = "still_open"
    # in doubt
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
    # requests and decisions
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
    """The effect of an outcome on the invoice: its status, and when its request may be sent again."""

    becomes: Status | None
    """The status to write. None: the status in the reply, or, without one, the status before the claim."""
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
"""The effect of each outcome of a request. SKIPPED has no effect: nothing was claimed, so nothing is written."""

CONFIRMS_CANCEL: frozenset[Outcome] = frozenset({Outcome.CANCELED, Outcome.ALREADY_CANCELED})
"""The outcomes in the log that confirm that the invoice is canceled at the provider."""


LAST_REFUSED: tuple[str, str] = (Outcome.REFUSED, Code.NOT_FOUND)
"""Values of ``Invoice.last_outcome`` after a refusal: ``not_found`` if the provider did not know the invoice."""


@dataclass(frozen=True)
class ProviderReply:
    """The provider's answer to one cancel request."""

    outcome: Outcome
    code: str
    """One of ``Code``, or the adapter's own code of at most 32 characters."""
    status: Status | None = None
    """The invoice's status in the reply, if the reply has one."""
    http_status: int | None = None
    provider_message: str = ""
    """The provider's own message: at most 500 characters, secrets masked."""
    retry_after: float | None = None
    """Seconds after which the provider accepts a repeat, as the reply states. At most one day."""

    def __post_init__(self) -> None:
        if self.outcome not in EFFECTS:
            raise ValueError(f"A provider's reply cannot have the outcome {self.outcome!r}.")

    @property
    def confirms_cancel(self) -> bool:
        """True if the outcome confirms that the invoice is canceled."""
        return self.outcome in CONFIRMS_CANCEL

    @property
    def named_status(self) -> Status | None:
        """The status that this reply gives the invoice: a payment in it, else the status of its outcome or refusal."""
        if self.status in PAID_STATUSES:
            return self.status
        becomes = EFFECTS[self.outcome].becomes
        return becomes or (self.status if self.outcome == Outcome.REFUSED else None)

    def next_status(self, before: Status) -> Status:
        """Return the next status of an invoice whose status was ``before`` when it was claimed."""
        return self.named_status or before


@dataclass(frozen=True)
class LookupReply:
    """The provider's answer about one invoice in a lookup."""

    status: Status | None
    """The provider's status as one of this package. None: not found, an unknown status string, or no answer."""
    code: str
    is_answer: bool
    """True if the reply is about that invoice: "not found" is an answer, a time-out is not."""
    provider_status: str = ""
    """The provider's status string as it was received, cut, with secrets masked."""
    http_status: int | None = None
    provider_message: str = ""
    retry_after: float | None = None


@dataclass(frozen=True)
class CancelResult:
    """The result of a call about one invoice. ``message`` is translated when it is shown."""

    provider: str
    """The alias of the provider."""
    external_id: str
    """The provider's id of the invoice."""
    outcome: Outcome
    code: str
    """The reason of the outcome: one of ``Code``, or an adapter's own code."""
    message: Any
    """A sentence for an operator (a lazy string)."""
    status: str
    """The status of the invoice after the call."""
    invoice_id: Any = None
    """The primary key of the invoice, or None."""
    reference: str = ""
    """The reference of the invoice, such as an order number."""
    attempt: str | None = None
    """The UUID of the attempt, if a request was sent."""
    http_status: int | None = None
    """The HTTP status of the provider's answer, if there was one."""
    provider_message: str = ""
    """The provider's message, or the class of an error: at most 500 characters, secrets masked."""
    retry_after: float | None = None
    """Seconds after which a repeat makes sense, for a paused provider or as the answer states."""
    duration_ms: int | None = None
    """Duration of the request in milliseconds."""
    veto_reason: str = ""
    """The reason of the shop, with the code ``vetoed``: at most 500 characters, secrets masked."""
    has_veto_failed: bool = False
    """True if the function in the setting ``VETO`` failed, which counts as a veto."""
    is_recorded: bool = True
    """False if the result could not be stored. Reconciliation will then find it out again."""

    @property
    def ok(self) -> bool:
        """True if the invoice is known to be canceled."""
        return self.outcome in CONFIRMS_CANCEL

    def as_dict(self) -> dict[str, Any]:
        """Return the result as JSON types, for logs and ``--format jsonl``."""
        plain = {field.name: getattr(self, field.name) for field in fields(self)}
        plain.update(outcome=str(self.outcome), code=str(self.code), status=str(self.status), message=str(self.message))
        plain["invoice_id"] = None if self.invoice_id is None else str(self.invoice_id)
        return plain


@dataclass
class BulkReport:
    """One result for each invoice of a bulk run, in the order of completion."""

    results: list[CancelResult] = field(default_factory=list)

    @property
    def counts(self) -> Counter[Outcome]:
        """Number of invoices by outcome."""
        return Counter(result.outcome for result in self.results)

    @property
    def ok(self) -> bool:
        """True if every invoice is known to be canceled, and every result is stored."""
        return all(result.ok and result.is_recorded for result in self.results)
