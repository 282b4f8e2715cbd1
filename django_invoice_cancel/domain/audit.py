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
    """The action that a caller requests."""

    CANCEL = "cancel"
    CHECK = "check"
    """Look up the status at the provider."""
    REPEAT = "repeat"
    """Like ``CHECK``, but if the provider has no lookup, repeat the cancel request of an invoice in doubt."""
    RESOLVE = "resolve"
    """Record an operator's decision."""
    REOPEN = "reopen"
    """Record the decision that the invoice is still open."""
    HANDLED = "handled"
    """Mark a payment as handled, on an invoice with a confirmed cancellation."""


REASON_LENGTH = 1000
"""Maximum length in characters of a reason in a form or a command."""


@dataclass(frozen=True)
class LoggedActor:
    """The actor of an earlier row of the log, as that row stores it."""

    key: Any
    """The user's primary key, or None. The user may have been deleted since."""
    label: str


@dataclass(frozen=True)
class AuditContext:
    """The actor, entry point and reason of an action, as each row of the log stores them."""

    actor: Any = None
    """A user, an anonymous user, a label, a ``LoggedActor``, or None."""
    trigger: Trigger = Trigger.API
    reason: str = ""
    operation: UUID | None = None
    """The id of the stored bulk operation that the action belongs to."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "trigger", Trigger(self.trigger))
