"""The statuses of an invoice and the allowed transitions, by source. All writers use the same table.

A transition that is not in ``MOVES`` is not allowed.
"""

from collections.abc import Mapping
from enum import StrEnum, nonmember
from types import MappingProxyType


class IllegalMove(RuntimeError):
    """A transition was requested that ``MOVES`` does not allow: a bug in this app."""


class Status(StrEnum):
    """The status of an invoice, as far as it is known."""

    CREATED = "created"
    """Issued, and no payment received: the only status from which a cancellation may start."""
    CANCELING = "canceling"
    """Claimed: a process is sending the request."""
    IN_DOUBT = "in_doubt"
    """The request may have been carried out. Reconciliation determines the result."""
    CANCELED = "canceled"
    """Confirmed by the provider, or decided by a named person."""
    PARTIALLY_PAID = "partially_paid"
    """A payment below the amount was received."""
    PAID = "paid"
    """A payment of the amount was received."""
    OVERPAID = "overpaid"
    """A payment above the amount was received."""
    EXPIRED = "expired"
    """Closed by the provider: its lifetime is over."""
    FAILED = "failed"
    """Closed by the provider: the payment failed."""

    do_not_call_in_templates = nonmember(True)  # noqa: FBT003 - Python's signature
    """Django's templates call a class, as in ``{{ invoice.Status.PAID }}``, unless it has this attribute."""


PAID_STATUSES: tuple[Status, ...] = (Status.PARTIALLY_PAID, Status.PAID, Status.OVERPAID)
"""The statuses with a payment, smallest first: a payment only grows."""

CLOSED_STATUSES: frozenset[Status] = frozenset({Status.CANCELED, Status.EXPIRED, Status.FAILED})
"""The statuses in which the invoice no longer accepts a payment."""

INTERNAL_STATUSES: frozenset[Status] = frozenset({Status.CANCELING, Status.IN_DOUBT})
"""The statuses that no provider can report."""

REPORTABLE_STATUSES: tuple[Status, ...] = tuple(status for status in Status if status not in INTERNAL_STATUSES)
"""The other statuses. A provider can report them, ``register`` accepts them, and a person can decide them."""


_KNOWN = frozenset(Status)


class TransitionSource(StrEnum):
    """The source of a transition from one status to another."""

    CLAIM = "claim"
    """A cancellation wins the exclusive right to send the request."""
    RECORD = "record"
    """The reply to the claim's request, while the invoice is ``canceling``."""
    LATE_RECORD = "late_record"
    """The reply to the claim's request, after another process moved the invoice out of ``canceling``."""
    ABANDON = "abandon"
    """The process that claimed the invoice has ended."""
    OBSERVE = "observe"
    """A status that was reported from outside, by a webhook or a lookup."""
    LOOKUP = "lookup"
    """A lookup that began after the doubt period and returned "still open"."""
    RESOLVE = "resolve"
    """The decision of a named person about a doubt, a contradiction, or a refusal that no lookup can explain."""


_MONEY_ONLY_GROWS = {
    Status.PARTIALLY_PAID: frozenset({Status.PAID, Status.OVERPAID}),
    Status.PAID: frozenset({Status.OVERPAID}),
    Status.OVERPAID: frozenset[Status](),
}
_ENDS = CLOSED_STATUSES | frozenset(PAID_STATUSES)

MOVES: Mapping[TransitionSource, Mapping[Status, frozenset[Status]]] = MappingProxyType(
    {
        TransitionSource.CLAIM: {
            Status.CREATED: frozenset({Status.CANCELING}),
            Status.IN_DOUBT: frozenset({Status.CANCELING}),
        },
        TransitionSource.RECORD: {
            Status.CANCELING: _ENDS | {Status.CREATED, Status.IN_DOUBT},
        },
        TransitionSource.LATE_RECORD: {
            Status.CREATED: _ENDS | {Status.IN_DOUBT},
            Status.IN_DOUBT: _ENDS,
        },
        TransitionSource.ABANDON: {
            Status.CANCELING: frozenset({Status.IN_DOUBT}),
        },
        TransitionSource.OBSERVE: {
            Status.CREATED: _ENDS,
            Status.CANCELING: _ENDS,
            Status.IN_DOUBT: _ENDS,
            Status.CANCELED: frozenset(PAID_STATUSES),
            Status.EXPIRED: frozenset(PAID_STATUSES),
            Status.FAILED: frozenset(PAID_STATUSES),
            **_MONEY_ONLY_GROWS,
        },
        TransitionSource.LOOKUP: {
            Status.IN_DOUBT: frozenset({Status.CREATED}),
        },
        TransitionSource.RESOLVE: {
            Status.CREATED: _ENDS,
            Status.IN_DOUBT: _ENDS | {Status.CREATED},
            **{closed: (_ENDS | {Status.CREATED}) - {closed} for closed in CLOSED_STATUSES},
        },
    }
)


def is_known(status: str) -> bool:
    """Return whether this version knows the status. After a rollback, rows may hold statuses of a newer version."""
    return status in _KNOWN


def may_move(mover: TransitionSource, old: str, new: str) -> bool:
    """Return whether ``mover`` may move an invoice from ``old`` to ``new``.

    From a status that this version does not know, only an observed payment moves an invoice.
    """
    if not is_known(old):
        return mover == TransitionSource.OBSERVE and new in PAID_STATUSES
    return new in MOVES[mover].get(Status(old), frozenset())


def check_move(mover: TransitionSource, old: str, new: str) -> None:
    """Raise ``IllegalMove`` unless ``mover`` may move an invoice from ``old`` to ``new``."""
    if not may_move(mover, old, new):
        raise IllegalMove(f"{mover} may not change the status of an invoice from {old} to {new}.")


def has_payment(status: str) -> bool:
    """Return whether an invoice in this status has received a payment."""
    return status in PAID_STATUSES
