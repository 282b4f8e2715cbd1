"""Many invoices in one go: at the speed that the provider allows, without losing or repeating one.

The story is that of ``services``, with groups in place of one. Rooms: ``selection`` what is to be done, ``bounds`` how
fast and how many, ``lanes`` a provider's threads and its pause, ``tracks`` what a lane still has to do, ``run`` how it
goes and ends, ``garbage`` the end of a run that nobody closed, ``engine`` the cancel, ``requested`` the cancel that was
requested, ``checking`` reconcile.
"""

from __future__ import annotations

import threading
from collections.abc import Generator, Mapping
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any

from django.core.exceptions import ImproperlyConfigured

from .. import registry
from ..domain.audit import Intent, Trigger, Wanted
from ..domain.numbers import checked_bounds
from ..domain.outcomes import BulkReport, CancelResult, Code
from ..services.call_arguments import checked_intent, make_intent
from ..services.cancel import not_done
from ..services.eligibility import account_of, why_not
from ..services.results import skipped
from .cancel import Engine
from .queues import Track
from .reconcile import Checker
from .requested import RequestEngine
from .selection import QueryWalk, Walk, checked, providers
from .workers import GROUP, Job, Lane

if TYPE_CHECKING:
    from ..models.queryset import InvoiceQuerySet
    from ..models.writes import InvoiceWriter

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
    flight, for each provider. Raises ``CancelInTransaction`` inside a transaction, ``ValueError`` for a bound that
    is none.
    """
    intent = checked_intent(actor, trigger, reason)
    selection = checked(invoices)
    writer = selection._writer
    writer.refuse_inside_transaction()
    walks = walks_of(selection.using(writer.using))
    return cancel_walks(writer, walks, intent, limit=limit, stop=stop, concurrency=concurrency, rate=rate)


def cancel_walks(
    writer: InvoiceWriter,
    walks: Mapping[str, Walk],
    intent: Intent,
    *,
    concurrency: int | None = None,
    rate: float | None = None,
    **options: Any,
) -> Generator[CancelResult, None, None]:
    """Cancel what the walks bring, by alias; ``options`` are the engine's."""
    checked_bounds(limit=options.get("limit"), concurrency=concurrency, rate=rate)
    done: SimpleQueue[Job] = SimpleQueue()
    return Engine(writer, intent, done, **options).run(_tracks(walks, done, concurrency=concurrency, rate=rate))


def cancel_requested_walks(
    writer: InvoiceWriter,
    walks: Mapping[str, Walk],
    *,
    concurrency: int | None = None,
    rate: float | None = None,
    **options: Any,
) -> Generator[CancelResult, None, None]:
    """Carry out requested cancellations that the walks bring, by alias; ``options`` are the engine's."""
    checked_bounds(limit=options.get("limit"), concurrency=concurrency, rate=rate)
    done: SimpleQueue[Job] = SimpleQueue()
    return RequestEngine(writer, done, **options).run(_tracks(walks, done, concurrency=concurrency, rate=rate))


def preview_walks(
    walks: Mapping[str, Walk],
    *,
    limit: int | None = None,
    wanted: Wanted = Wanted.CANCEL,
) -> Generator[CancelResult, None, None]:
    """Yield what a run would find, sending and writing nothing: those it would ask about have the code ``dry_run``."""
    left = float("inf") if limit is None else limit
    for alias, walk in walks.items():
        account = account_of(alias)
        while left > 0 and (invoices := walk.take(int(min(left, GROUP)))):
            left -= len(invoices)
            for invoice in invoices:
                code = why_not(wanted, invoice, account)
                yield not_done(wanted, invoice, code, account) if code else skipped(invoice, Code.DRY_RUN)


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
    intent = make_intent(actor, trigger)
    selection = checked(invoices)
    writer = selection._writer
    writer.refuse_inside_transaction()
    writer.correct_times()
    walks = walks_of(selection.using(writer.using))
    return check_walks(writer, walks, intent, resubmit=resubmit, limit=limit, stop=stop)


def check_walks(
    writer: InvoiceWriter, walks: Mapping[str, Walk], intent: Intent, **options: Any
) -> Generator[CancelResult, None, None]:
    """Look up what the walks bring, by alias; ``options`` are the checker's."""
    checked_bounds(limit=options.get("limit"))
    done: SimpleQueue[Job] = SimpleQueue()
    return Checker(writer, intent, done, **options).run(_tracks(walks, done))


def walks_of(selection: InvoiceQuerySet) -> dict[str, Walk]:
    """Return a walk for each provider that occurs in a selection."""
    selection = checked(selection)
    return {alias: QueryWalk(selection, alias) for alias in providers(selection)}


def cannot_be_asked(invoices: InvoiceQuerySet) -> list[str]:
    """Return the aliases in a query set whose provider cannot be asked for an invoice's status."""
    return [alias for alias in providers(invoices) if not registry.can_look_up(alias)]


def _tracks(walks: Mapping[str, Walk], done: SimpleQueue[Job], **bounds: Any) -> list[Track]:
    return [_track(alias, walk, done, **bounds) for alias, walk in walks.items()]


def _track(alias: str, walk: Walk, done: SimpleQueue[Job], **bounds: Any) -> Track:
    account = account_of(alias)  # the configuration is read once in a run
    lane = None if isinstance(account, ImproperlyConfigured) else Lane(account, done, **bounds)
    return Track(alias, walk, lane, account)
