"""Pauses of an operation: its providers are paused, or sending is disabled."""

from __future__ import annotations

from collections.abc import Sequence

from .. import conf
from ..domain.clock import utc_now
from ..models import BulkOperation, Invoice, ProviderState
from ..models.operation import Operation

DISABLED_SECONDS = 300.0
"""Seconds to wait before the next slice if the setting SEND forbids the requests of an operation."""


def must_wait(operation: BulkOperation) -> bool:
    """Return whether a worker could only wait: all remaining providers are paused, or sending is disabled."""
    return wait_seconds(operation) > 0


def wait_seconds(operation: BulkOperation) -> float:
    """Return the seconds for which all remaining providers are paused, or sending is disabled."""
    if is_sending_disabled(operation):
        return DISABLED_SECONDS
    aliases = operation.items.providers_left()
    paused = find_corrected_pauses(operation, aliases)
    return min((paused[alias].seconds_left if alias in paused else 0.0 for alias in aliases), default=0.0)


def is_sending_disabled(operation: BulkOperation) -> bool:
    """Return whether the setting SEND forbids the requests of an operation. Its items stay untried."""
    return operation.operation == Operation.CANCEL and not conf.get().send


def find_pauses(operation: BulkOperation, aliases: Sequence[str]) -> dict[str, ProviderState]:
    """Return the states of the paused providers, by alias; empty for RESOLVE, which sends nothing."""
    if operation.operation == Operation.RESOLVE:
        return {}
    states = ProviderState.objects.using(operation.database).filter(alias__in=aliases, paused_until__gt=utc_now())
    return {state.alias: state for state in states if state.is_paused}


def find_corrected_pauses(operation: BulkOperation, aliases: Sequence[str]) -> dict[str, ProviderState]:
    """Return the same as ``find_pauses``, after pauses that begin in the future are moved to now."""
    paused = find_pauses(operation, aliases)
    Invoice.objects.all()._writer.correct_pauses(paused.values())
    return paused
