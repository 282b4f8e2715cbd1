"""One attempt to cancel: the claim that begins it, and the answer that ends it.

A claim is valid until ``opened_at + ttl``. Its lease is checked before the first byte of the request is sent. The lease
refuses a request that could still be in flight after that time.
"""

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from typing import Any, Protocol
from uuid import UUID, uuid4

from .audit import AuditContext
from .clock import utc_now
from .outcomes import ProviderReply
from .statuses import Status


class Claimable(Protocol):
    """The attributes of an invoice that are stored when a request about it is prepared."""

    @property
    def id(self) -> Any: ...
    @property
    def provider(self) -> str: ...
    @property
    def external_id(self) -> str: ...
    @property
    def status(self) -> str: ...
    @property
    def attempt(self) -> UUID | None: ...


@dataclass(frozen=True)
class Target:
    """The identity of an invoice, as it was when a request about it was prepared.

    Requests and records use it instead of the instance in memory, which receivers of signals may change.
    """

    key: Any
    provider: str
    external_id: str

    @classmethod
    def of(cls, invoice: Claimable) -> "Target":
        return cls(invoice.id, invoice.provider, invoice.external_id)


@dataclass(frozen=True)
class Probe:
    """The right to send one request to a provider after a pause. Its answer clears the pause, or pauses again."""

    alias: str
    until: datetime | None
    """The end of the right, which also identifies it; None if no pause has ended and nothing must be released."""


@dataclass(frozen=True)
class Claim:
    """The exclusive right to send the cancel requests of a group of invoices of one provider, won by one UPDATE."""

    audit: AuditContext
    before: Status
    """The status from which the invoices were claimed."""
    ttl: float
    """Seconds for which the claim is valid. Every request of the claim ends within them."""
    attempt: UUID = field(default_factory=uuid4)
    # Both clocks are looked up at each call: tests, and tools like freezegun, replace the functions.
    opened_at: float = field(default_factory=lambda: time.time())
    """Seconds since the epoch, which do not depend on a time zone."""
    opened_monotonic: float = field(default_factory=lambda: time.monotonic())
    invoices: list[Any] = field(default_factory=list)
    """The invoices that were won."""
    is_provider_failing: bool = False
    """True if the provider has counted failures, or was paused. A conclusive reply resets both."""
    probe: Probe | None = None
    """The right with which the claim was made after a pause. It is released after the answer."""
    undo: dict[Any, dict[str, Any]] = field(default_factory=dict)
    """The old values of further columns, by primary key. They are restored if the claim is given back."""
    _asked: list[float] = field(default_factory=list)  # shared by the copies that replace() makes
    _targets: dict[int, tuple[Any, Target]] = field(default_factory=dict)  # kept with the instance: its id() is unique

    def snapshot(self, invoices: Iterable[Claimable]) -> None:
        """Store the identities of the invoices before they are claimed."""
        self._targets.update((id(invoice), (invoice, Target.of(invoice))) for invoice in invoices)

    def target(self, invoice: Claimable) -> Target:
        """Return the identity of an invoice as it was claimed."""
        frozen = self._targets.get(id(invoice))
        return Target.of(invoice) if frozen is None else frozen[1]

    @property
    def is_lease_asked(self) -> bool:
        """True if a request of this claim checked its lease, so that its first byte may have been sent."""
        return bool(self._asked)

    def lease(self, deadline: float) -> Callable[[float], bool]:
        """Return the lease of one request that takes at most ``deadline`` seconds.

        The lease checks two clocks, because each of them can be wrong: the wall clock if it is adjusted, the monotonic
        clock if the machine is suspended.

        Returns:
            A function of the seconds that the request may still take. It returns True if the request may be sent.
        """

        def may_send(seconds_left: float) -> bool:
            self._asked.append(seconds_left)
            is_over_in_time = time.time() + seconds_left < self.opened_at + self.ttl
            return is_over_in_time and time.monotonic() - self.opened_monotonic < self.ttl - deadline

        return may_send


@dataclass(frozen=True)
class Answer:
    """The reply to one request, to be recorded."""

    claim: Claim
    invoice: Any
    reply: ProviderReply
    duration_ms: int

    @cached_property
    def target(self) -> Target:
        """The identity of the invoice as it was claimed."""
        return self.claim.target(self.invoice)


OnRecorded = Callable[[Sequence[Answer]], None]
"""Called within the transaction that records answers."""


@dataclass(frozen=True)
class Seen:
    """An invoice as it was before its lookup. A reply "still open" is compared with it."""

    invoice: Any
    target: Target
    status: str
    attempt: UUID | None
    began: datetime

    @classmethod
    def now(cls, invoice: Claimable, target: Target | None = None) -> "Seen":
        return cls(invoice, target or Target.of(invoice), invoice.status, invoice.attempt, utc_now())
