"""Many invoices in one go: at the speed that the provider allows, without losing or repeating one.

The story is that of ``services``, with groups in place of one. Rooms: ``selection`` what is to be done, ``lanes`` a
provider's threads and its pause, ``tracks`` what a lane still has to do, ``engine`` the run, ``checking`` reconcile.
"""

from __future__ import annotations

import threading
from collections.abc import Generator
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any

from django.core.exceptions import ImproperlyConfigured

from .. import registry
from ..intents import Intent, Trigger
from ..outcomes import CancelResult
from ..services import checked_intent
from .checking import Checker
from .engine import Engine
from .lanes import Job, Lane
from .report import BulkReport
from .selection import Walk, checked, providers
from .tracks import Track

if TYPE_CHECKING:
    from ..models.queryset import InvoiceQuerySet

__all__ = ["BulkReport", "cancel_invoices", "reconcile_invoices"]


def cancel_invoices(
    invoices: InvoiceQuerySet,
    *,
    actor: Any = None,
    trigger: Trigger = Trigger.API,
    reason: str = "",
    limit: int | None = None,
    stop: threading.Event | None = None,
    concurrency: int | None = None,
    rate: float | None = None,
) -> Generator[CancelResult, None, None]:
    """Cancel every invoice of a query set; yield one result for each, raising for none, in constant memory.

    ``stop``: once it is set, what is in flight is recorded, the rest stays as it is, and the generator ends; closing
    the generator does the same. ``rate``: requests a second, shared by all processes; ``concurrency``: requests in
    flight, for each provider. Raises ``CancelInTransaction`` inside a transaction.
    """
    intent = checked_intent(actor, trigger, reason)
    selection = checked(invoices)
    verbs = selection.verbs
    verbs.refuse_inside_transaction()
    selection = selection.using(verbs.using)
    done: SimpleQueue[Job] = SimpleQueue()
    tracks = tracks_of(selection, done, concurrency=concurrency, rate=rate)
    return Engine(verbs, intent, done, stop=stop, limit=limit).run(tracks)


def reconcile_invoices(
    invoices: InvoiceQuerySet,
    *,
    actor: Any = None,
    trigger: Trigger = Trigger.RECONCILE,
    resubmit: bool = False,
    limit: int | None = None,
    stop: threading.Event | None = None,
) -> Generator[CancelResult, None, None]:
    """Look up every invoice of a query set, most often ``due_for_reconciling()``; yield one result for each.

    Two that run at once share the work. Invoices that are not in doubt are observed, nothing else. ``resubmit``:
    see ``Invoice.reconcile``. Raises ``CancelInTransaction`` inside a transaction.
    """
    selection = checked(invoices)
    verbs = selection.verbs
    verbs.refuse_inside_transaction()
    selection = selection.using(verbs.using)
    done: SimpleQueue[Job] = SimpleQueue()
    checker = Checker(verbs, Intent(actor, trigger), done, resubmit=resubmit, stop=stop, limit=limit)
    return checker.run(list(tracks_of(selection, done).values()))


def tracks_of(selection: InvoiceQuerySet, done: SimpleQueue[Job], **bounds: Any) -> dict[str, Track]:
    """Return a track for each provider that occurs in a selection."""
    return {
        alias: Track(alias, Walk(selection, alias), lane_of(alias, done, **bounds)) for alias in providers(selection)
    }


def lane_of(alias: str, done: SimpleQueue[Job], **bounds: Any) -> Lane | None:
    """Return a lane for an alias; None where it is not configured (each of its invoices says so)."""
    try:
        return Lane(registry.get_provider(alias), done, **bounds)
    except ImproperlyConfigured:
        return None
