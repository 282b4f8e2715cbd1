"""The audit context of an action: actor, entry point and reason; and the kinds of action."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Any
from uuid import UUID


class Trigger(StrEnum):
    """The entry point of an action."""

    API = "api"
    ADMIN = "admin"
    COMMAND = "command"
    TASK = "task"
    ON_COMMIT = "on_commit"
    RECONCILE = "reconcile"
    WEBHOOK = "webhook"
    OPERATOR = "operator"


class Wanted(StrEnum):
    """The action that is wanted."""

    CANCEL = "cancel"
    CHECK = "check"
    """Ask the provider for the status."""
    REPEAT = "repeat"
    """The same; at a provider without lookup, repeat the cancel request of an invoice in doubt."""
    RESOLVE = "resolve"
    """Record an operator's decision."""
    REOPEN = "reopen"
    """Record the decision that the invoice is still open."""
    HANDLED = "handled"
    """Mark late money as handled."""


REASON_LENGTH = 1000
"""The longest reason that a form or a command takes, in characters."""


@dataclass(frozen=True)
class LoggedActor:
    """The actor of an earlier row of the log, as that row names it."""

    key: Any
    """The user's primary key, or None. The user may have been deleted since."""
    label: str


@dataclass(frozen=True)
class AuditContext:
    """The cause of an action, as each row of the log stores it."""

    actor: Any = None
    """A user, an anonymous user, a label, a ``LoggedActor``, or None."""
    trigger: Trigger = Trigger.API
    reason: str = ""
    operation: UUID | None = None
    """The stored bulk operation that this belongs to."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "trigger", Trigger(self.trigger))
