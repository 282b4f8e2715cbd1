"""The exceptions of the app. An exception of a cancellation carries its ``CancelResult``; none holds a secret."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .domain.statuses import IllegalMove

if TYPE_CHECKING:
    from .domain.outcomes import CancelResult


__all__ = [
    "CancelError",
    "CancelInDoubt",
    "CancelInTransaction",
    "CancelNotPossible",
    "CancelNotProcessed",
    "CancelRefused",
    "IllegalMove",
    "InvalidExternalId",
    "OutcomeNotRecorded",
    "ProviderMisconfigured",
    "ResolveNotPossible",
    "TransitionsAreAppendOnly",
]


class CancelError(Exception):
    """A cancel did not end with a canceled invoice; ``result`` says what is known."""

    def __init__(self, result: CancelResult) -> None:
        super().__init__(result)
        self.result = result

    def __str__(self) -> str:
        return f"{self.result.provider} invoice {self.result.external_id}: {self.result.message}"


class CancelNotPossible(CancelError):
    """SKIPPED: nothing was sent, and the invoice is unchanged."""


class CancelRefused(CancelError):
    """REFUSED: the provider said no, or the invoice holds money."""


class CancelNotProcessed(CancelError):
    """NOT_PROCESSED: certainly nothing happened; try again later."""


class CancelInDoubt(CancelError):
    """IN_DOUBT: nobody knows whether the cancel happened. Do not try again; reconcile will tell."""


class OutcomeNotRecorded(CancelError):
    """The provider answered and our write failed; ``result`` holds the answer, reconcile will tell."""


class CancelInTransaction(RuntimeError):
    """A provider was to be asked inside a transaction: a programming error. Nothing was sent or written."""


class ResolveNotPossible(Exception):
    """A decision by hand does not apply to the invoice as it is now; ``code`` says why. Nothing was written."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(code, message)
        self.code = code
        self.message = message

    def __str__(self) -> str:
        return self.message


class TransitionsAreAppendOnly(RuntimeError):
    """Somebody tried to change or delete a row of the log."""


class ProviderMisconfigured(ValueError):
    """A provider's options are wrong; the message names the alias and the option, never a value."""


class InvalidExternalId(ValueError):
    """An id does not have the form that the provider's ids have; nothing was claimed or sent."""
