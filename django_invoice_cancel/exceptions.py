"""The exceptions of the app. An exception of a cancellation has its ``CancelResult``. None contains a secret."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .domain.bidi import isolate
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
    """The invoice was not canceled, or it is not known whether it was; ``result`` is the ``CancelResult``."""

    def __init__(self, result: CancelResult) -> None:
        super().__init__(result)
        self.result = result

    def __str__(self) -> str:
        result = self.result
        return f"{isolate(result.provider)} invoice {isolate(result.external_id)}: {result.message}"


class CancelNotPossible(CancelError):
    """SKIPPED: nothing was sent, and the invoice is unchanged."""


class CancelRefused(CancelError):
    """REFUSED: the provider refused the cancellation, or a payment has been received."""


class CancelNotProcessed(CancelError):
    """NOT_PROCESSED: certainly nothing happened; try again later."""


class CancelInDoubt(CancelError):
    """IN_DOUBT: it is not known whether the invoice was canceled. Do not try again. Reconciliation looks it up."""


class OutcomeNotRecorded(CancelError):
    """The answer of the provider, in ``result``, could not be written. Reconciliation repairs the row."""


class CancelInTransaction(RuntimeError):
    """A method that sends a request was called inside a transaction. Nothing was sent or written."""


class ResolveNotPossible(Exception):
    """A decision does not apply to the invoice in its present state; ``code`` is the reason. Nothing was written."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(code, message)
        self.code = code
        self.message = message

    def __str__(self) -> str:
        return self.message


class TransitionsAreAppendOnly(RuntimeError):
    """Code tried to change or delete a row of the log."""


class ProviderMisconfigured(ValueError):
    """An option of a provider is invalid. The message names the alias and the option, never the value."""


class InvalidExternalId(ValueError):
    """An id does not have the form of the provider's ids. Nothing was claimed or sent."""
