"""The states of an invoice and the moves between them, by who moves: one table serves all writers.

A move that is not in ``MOVES`` is not allowed.
"""

from collections.abc import Mapping
from enum import StrEnum, nonmember
from types import MappingProxyType


class IllegalMove(RuntimeError):
    """A move was requested that is not in the table of moves: a bug in this app."""


class Status(StrEnum):
    """The state of an invoice, as far as we know it."""

    CREATED = "created"
    """Issued, nothing received: the only one from which a cancel may start."""
    CANCELING = "canceling"
    """Claimed: somebody is sending the request."""
    IN_DOUBT = "in_doubt"
    """The request may have been carried out; reconcile finds out."""
    CANCELED = "canceled"
    """Confirmed by the provider, or decided by a named person."""
    PARTIALLY_PAID = "partially_paid"
    """Holds money, less than asked."""
    PAID = "paid"
    """Holds the money asked for."""
    OVERPAID = "overpaid"
    """Holds more money than asked."""
    EXPIRED = "expired"
    """Closed by the provider: its lifetime is over."""
    FAILED = "failed"
    """Closed by the provider: the payment failed."""

    do_not_call_in_templates = nonmember(True)  # noqa: FBT003 - Python's signature
    """Django's templates call a class that they meet, as in ``{{ invoice.Status.PAID }}``, unless it has this."""


PAID_STATUSES: tuple[Status, ...] = (Status.PARTIALLY_PAID, Status.PAID, Status.OVERPAID)
"""The statuses that hold money, least first: money only grows."""

CLOSED_STATUSES: frozenset[Status] = frozenset({Status.CANCELED, Status.EXPIRED, Status.FAILED})
"""The statuses that accept no money any more."""

INTERNAL_STATUSES: frozenset[Status] = frozenset({Status.CANCELING, Status.IN_DOUBT})
"""The statuses that no provider can report."""

REPORTABLE_STATUSES: tuple[Status, ...] = tuple(status for status in Status if status not in INTERNAL_STATUSES)
"""The other statuses: a provider can report them, an invoice can be registered with them, a person can decide them."""


_KNOWN = frozenset(Status)


class TransitionSource(StrEnum):
    """The source of a transition from one status to another."""

    CLAIM = "claim"
    """A cancel wins the sole right to submit."""
    RECORD = "record"
    """The claim's own reply, in time."""
    LATE_RECORD = "late_record"
    """The claim's own reply, after somebody else took the invoice out of ``canceling``."""
    ABANDON = "abandon"
    """The claim's process is gone."""
    OBSERVE = "observe"
    """A status learned from outside: a webhook, a lookup."""
    LOOKUP = "lookup"
    """A lookup, begun after the doubt period, that says "still open"."""
    RESOLVE = "resolve"
    """A named person decides: about a doubt, a contradiction, or a refusal that no lookup can explain."""


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
    """Return whether this version knows the status; after a rollback, rows may hold statuses of a newer one."""
    return status in _KNOWN


def may_move(mover: TransitionSource, old: str, new: str) -> bool:
    """Return whether ``mover`` may take an invoice from ``old`` to ``new``.

    From a status that this version does not know, only observed money moves an invoice.
    """
    if not is_known(old):
        return mover == TransitionSource.OBSERVE and new in PAID_STATUSES
    return new in MOVES[mover].get(Status(old), frozenset())


def check_move(mover: TransitionSource, old: str, new: str) -> None:
    """Raise ``IllegalMove`` unless ``mover`` may take an invoice from ``old`` to ``new``."""
    if not may_move(mover, old, new):
        raise IllegalMove(f"{mover} may not move an invoice from {old} to {new}.")


def holds_money(status: str) -> bool:
    """Say whether an invoice in this status holds money."""
    return status in PAID_STATUSES
