"""Values that are given for an invoice that is registered already: fill what is empty, report what differs."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from ...statuses import MONEY, Status

if TYPE_CHECKING:
    from ..invoice import Invoice

logger = logging.getLogger("django_invoice_cancel")

FILLED = ("reference", "amount", "currency", "issued_at", "expires_at")
"""The fields that a later registration may fill in."""
_AT_ONCE = timedelta(seconds=1)
_MOST_LOGGED = 5


@dataclass(frozen=True)
class Conflict:
    """Values of a registered invoice that differ from those that were given for it; the stored ones are kept."""

    provider: str
    external_id: str
    values: Mapping[str, tuple[Any, Any]]
    """The stored and the given value, by field."""

    def __str__(self) -> str:
        pairs = ((name, _shown(stored), _shown(given)) for name, (stored, given) in self.values.items())
        return f"{self.provider} {self.external_id}: " + ", ".join(f"{n} is {s} and not {g}" for n, s, g in pairs)


def given_values(invoice: Invoice, names: Sequence[str]) -> dict[str, Any]:
    """Return those of the named values of a new instance that say something."""
    values = {name: getattr(invoice, name) for name in names if name in (*FILLED, "status")}
    return {name: value for name, value in values.items() if value not in (None, "")}


def missing_values(stored: Invoice, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the given values for fields that are empty in the stored invoice."""
    return {name: value for name, value in given.items() if name in FILLED and _is_empty(stored, name)}


def conflict_of(stored: Invoice, given: Mapping[str, Any]) -> Conflict | None:
    """Return how the given values differ from those of the stored invoice.

    A given status is never written: it counts as a difference unless it is ``created``, or both hold money.
    """
    differing = {
        name: (getattr(stored, name), value) for name, value in given.items() if getattr(stored, name) != value
    }
    status = given.get("status")
    if status == Status.CREATED or (status in MONEY and stored.status in MONEY):
        differing.pop("status", None)
    return Conflict(stored.provider, stored.external_id, differing) if differing else None


def log_conflicts(conflicts: Sequence[Conflict]) -> None:
    """Write one warning about all conflicts of a registration."""
    if conflicts:
        listed = "; ".join(str(conflict) for conflict in conflicts[:_MOST_LOGGED])
        more = f"; and {len(conflicts) - _MOST_LOGGED} more" if len(conflicts) > _MOST_LOGGED else ""
        logger.warning("Registered invoices differ from the values given now, and are kept: %s%s.", listed, more)


def _shown(value: Any) -> str:
    """Return a value as it was written: 5 for a stored 5.000000000000000000."""
    text = f"{value:f}" if isinstance(value, Decimal) else str(value)
    return text.rstrip("0").rstrip(".") if isinstance(value, Decimal) and "." in text else text


def _is_empty(stored: Invoice, name: str) -> bool:
    """Return whether a field holds no value of the project; a default ``issued_at`` is the time of registration."""
    if name == "issued_at":
        return abs(stored.issued_at - stored.created_at) < _AT_ONCE
    return getattr(stored, name) in (None, "")
