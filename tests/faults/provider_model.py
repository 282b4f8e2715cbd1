"""A model of a provider: the state of its invoices, its pending actions, and a log of the requests with their times.

The state machine checks its invariants with these data.
"""

import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from django_invoice_cancel.domain.outcomes import Code, LookupReply, Outcome, ProviderReply
from django_invoice_cancel.domain.statuses import INTERNAL_STATUSES, Status
from django_invoice_cancel.providers.base import Lease, Provider

CLAIM_TTL, DOUBT_PERIOD = 300.0, 900.0
MAX_DELAY = DOUBT_PERIOD - 60.0
"""The longest time until a lost request is executed. The rest of the doubt period is for clocks that differ."""
PAID = ["partially_paid", "paid", "overpaid"]
FAULTS = (
    "none",
    "lost_after",
    "lost_before",
    "late",
    "very_late",
    "not_processed",
    "refused",
    "bug",
    "killed_after",
    "killed_late",
)


class Killed(BaseException):
    """The process was killed. No code of the package catches this."""


class InvariantBroken(AssertionError):
    """An invariant was violated."""


@dataclass
class Account:
    """An invoice at the provider."""

    state: str = "created"
    was_canceled: bool = False
    is_canceled_by_us: bool = False
    """Whether a request of the package canceled it within ``MAX_DELAY``."""
    history: list[str] = field(default_factory=lambda: ["created"])
    """All its states in order. A delayed webhook may report any of them."""
    requests: int = 0
    late: list[float] = field(default_factory=list)
    """The times at which requests with a lost answer will be executed."""
    too_late: list[float] = field(default_factory=list)
    """The same, but after the doubt period. The last lookup must find them."""
    no_request_before: float = 0.0
    """The result of the last request is unknown until then, so no other request may be sent."""

    def set_state(self, state: str) -> None:
        self.state = state
        self.history.append(state)

    def cancel(self, *, is_in_time: bool = True) -> None:
        if self.state == "created":
            self.set_state("canceled")
            self.was_canceled, self.is_canceled_by_us = True, is_in_time

    def pass_time(self, now: float) -> None:
        """Execute the requests that are due."""
        for queue in (self.late, self.too_late):
            if any(due <= now for due in queue):
                self.cancel(is_in_time=queue is self.late)
            queue[:] = [due for due in queue if due > now]


class AccountStore:
    """All invoices of the provider, and the fault of the next request."""

    def __init__(self) -> None:
        self.accounts: dict[str, Account] = {}
        self.fault = "none"
        self.delay = 1.0
        self.ahead = 0
        """The difference between the clocks of the acting process and of the provider, in seconds."""
        self.violation = ""
        """The invariant that a request violated, raised after the step, because the package catches exceptions."""

    def now(self) -> float:
        return time.time() - self.ahead

    def of(self, external_id: str) -> Account:
        account = self.accounts.setdefault(external_id, Account())
        account.pass_time(self.now())
        return account

    def cancel(self, external_id: str, *, is_repeat_harmless: bool) -> ProviderReply:
        account, now = self.of(external_id), self.now()
        if now < account.no_request_before:
            self.violation = f"{external_id} was requested again {account.no_request_before - now:.0f} s too early"
        account.requests += 1
        fault, self.fault = self.fault, "none"
        if fault in ("none", "refused", "not_processed"):
            return self._answer(account, fault, is_repeat_harmless)
        account.no_request_before = now + MAX_DELAY
        if fault in ("late", "killed_late"):
            account.late.append(now + self.delay)
        elif fault == "very_late":
            account.too_late.append(now + DOUBT_PERIOD + self.delay)
        elif fault != "lost_before":
            account.cancel()
        if fault.startswith("killed"):
            raise Killed
        if fault == "bug":
            raise ZeroDivisionError("an adapter's bug")
        return ProviderReply(Outcome.IN_DOUBT, Code.NO_ANSWER)

    def _answer(self, account: Account, fault: str, is_repeat_harmless: bool) -> ProviderReply:
        if fault == "not_processed":
            return ProviderReply(Outcome.NOT_PROCESSED, Code.UNREACHABLE)
        if fault == "refused" and (account.state == "created" or is_repeat_harmless):
            return ProviderReply(Outcome.REFUSED, Code.PROVIDER_REFUSED)
        if account.state == "created" or (account.state == "canceled" and is_repeat_harmless):
            account.cancel()
            return ProviderReply(Outcome.CANCELED, Code.CANCELED)
        if account.state == "canceled":
            return ProviderReply(Outcome.ALREADY_CANCELED, Code.ALREADY_CANCELED, Status.CANCELED)
        code = Code.HAS_PAYMENT if account.state in PAID else Code.CLOSED
        return ProviderReply(Outcome.REFUSED, code, Status(account.state))


class ModelProvider(Provider):
    """``seen`` supports lookups. ``blind`` does not, and there a repeated request is harmless."""

    verbose_name = "Model"
    id_form = "an account and a number"
    id_pattern = re.compile(r"(seen|blind)-[0-9]+")
    status_words = {str(s): s for s in Status if s not in INTERNAL_STATUSES}
    store = AccountStore()

    def __init__(self, alias: str, **common: object) -> None:
        self.supports_lookup = alias == "seen"
        self.is_repeat_harmless = alias == "blind"
        self.lookup_group_size = 100
        super().__init__(alias, **common)  # type: ignore[arg-type]

    def cancel(self, external_id: str, *, lease: Lease) -> ProviderReply:
        if not lease(self.deadline):
            return ProviderReply(Outcome.NOT_PROCESSED, Code.LEASE_EXPIRED)
        return self.store.cancel(external_id, is_repeat_harmless=self.is_repeat_harmless)

    def lookup(self, external_ids: Sequence[str]) -> Mapping[str, LookupReply]:
        return {each: self._look_up(each) for each in external_ids}

    def _look_up(self, external_id: str) -> LookupReply:
        fault, self.store.fault = self.store.fault, "none"
        if fault not in ("none", "refused", "not_processed"):
            return LookupReply(None, Code.NO_ANSWER, is_answer=False)
        state = self.store.of(external_id).state
        return LookupReply(Status(state), Code.OBSERVED, is_answer=True, provider_status=state)
