"""One attempt at a cancel: the claim that opens it and the answer that closes it. Floor 0: plain Python.

A claim holds until ``opened_at + ttl``. Its lease, asked where the first byte of the request is handed to the
socket, refuses whatever could still be under way after that instant.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID, uuid4

from .intents import Intent
from .outcomes import ProviderReply
from .statuses import Status


@dataclass(frozen=True)
class Claim:
    """The sole right to submit a group of invoices of one provider, won by one UPDATE."""

    intent: Intent
    before: Status
    """The status from which the invoices were claimed."""
    ttl: float
    """Seconds by which every request of this claim is over."""
    attempt: UUID = field(default_factory=uuid4)
    opened_at: float = field(default_factory=time.time)
    """Seconds since the epoch: compared in UTC, whatever USE_TZ says."""
    opened_monotonic: float = field(default_factory=lambda: time.monotonic())  # looked up each time: tests move it
    invoices: list[Any] = field(default_factory=list)
    """The invoices that were won."""

    def lease(self, deadline: float) -> Callable[[float], bool]:
        """Return the lease for one submit of at most ``deadline`` seconds.

        Two clocks, since either can be fooled alone: the wall clock by an adjustment, the monotonic one by a
        suspended machine.
        """

        def may_send(seconds_left: float) -> bool:
            is_over_in_time = time.time() + seconds_left < self.opened_at + self.ttl
            return is_over_in_time and time.monotonic() - self.opened_monotonic < self.ttl - deadline

        return may_send


@dataclass(frozen=True)
class Answer:
    """What one submit brought back, to be recorded."""

    claim: Claim
    invoice: Any
    reply: ProviderReply
    duration_ms: int
