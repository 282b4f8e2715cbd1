"""The manager of stored bulk operations: create drafts, and find operations with remaining work."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

from django.db import models
from django.db.models import F, Q
from django.utils.translation import gettext_lazy as _

from ..domain.clock import TOLERANCE, utc_now
from ..domain.outcomes import Code
from ..services.call_arguments import checked_text
from .actors import LABEL_LENGTH, named_actor
from .dispatch import QUIET
from .fields import PrimaryManager
from .values import storable, write_texts
from .writes.transactions import Transactions

if TYPE_CHECKING:
    from .operation import BulkOperation


class Operation(models.TextChoices):
    """The action for each invoice."""

    CANCEL = "cancel", _("Cancellation")
    CHECK = "check", _("Check")
    RESOLVE = "resolve", _("Resolution")


class Progress(models.TextChoices):
    """The progress of an operation."""

    DRAFT = "draft", _("Draft")
    RUNNING = "running", _("Running")
    STOPPED = "stopped", _("Stopped")
    FINISHED = "finished", _("Finished")


DRAFTS_KEPT = timedelta(days=1)


class BulkOperationManager(PrimaryManager["BulkOperation"]):
    """Creates drafts of operations, and finds unfinished ones."""

    def draft(
        self,
        invoices: models.QuerySet[Any],
        *,
        operation: str = Operation.CANCEL,
        unmatched: Iterable[str] = (),
        hidden: Iterable[str] = (),
        not_permitted: Iterable[Any] = (),
        is_previewed: bool = True,
        **fields: Any,
    ) -> BulkOperation:
        """Store a selection as a draft. Nothing is sent until ``confirm``.

        Args:
            invoices: The selected invoices.
            operation: One of ``Operation``.
            unmatched: Names of selected objects without an invoice.
            hidden: Names of selected objects whose invoice the user may not see.
            not_permitted: Primary keys of selected invoices that are listed and skipped.
            is_previewed: Whether a user confirms the draft, so that the invoices that the shop forbids to cancel are
                skipped now, after the draft is stored. Otherwise only the workers ask the shop.
            **fields: ``actor``, ``trigger``, ``reason``, ``decision``, ``selected_filter``, and other columns of the
                operation.
        """
        actor = fields.pop("actor", None)
        actor_id, actor_label = named_actor(actor)
        reason = storable(checked_text("reason", fields.pop("reason", "")))
        selected_filter = storable(checked_text("selected_filter", fields.pop("selected_filter", "")))
        fields["decision"] = checked_text("decision", fields.get("decision"))
        unmatched, hidden, not_permitted = list(unmatched), list(hidden), list(not_permitted)  # read once, for each try
        self.forget_drafts()

        def make() -> BulkOperation:
            texts = [actor_label, reason, selected_filter]
            made = self._create(texts, operation=Operation(operation), actor_id=actor_id, **fields)
            made.snapshot(invoices)
            made.add_unmatched(unmatched)
            made.add_unmatched(hidden, code=Code.NOT_PERMITTED)
            made.skip_not_permitted(not_permitted)
            made.skip_invalid_ids()
            return made

        made = Transactions(self.db).join(make)
        if is_previewed:
            made.skip_vetoed()
        return made

    def _create(self, texts: list[str], **fields: Any) -> BulkOperation:
        def write(texts: list[str]) -> BulkOperation:
            actor_label, reason, selected_filter = texts
            return self.create(
                actor_label=actor_label[:LABEL_LENGTH], reason=reason, selected_filter=selected_filter, **fields
            )

        return write_texts(write, texts, using=self.db)

    def unfinished(self) -> models.QuerySet[BulkOperation]:
        """Operations that are running."""
        return self.filter(progress=Progress.RUNNING)

    def unattended(self) -> models.QuerySet[BulkOperation]:
        """Running operations without a heartbeat in the last two minutes, or without any."""
        quiet = utc_now() - QUIET
        return self.unfinished().filter(Q(worked_at__lt=quiet) | Q(worked_at__isnull=True))

    def interrupted(self) -> models.QuerySet[BulkOperation]:
        """Running operations without a heartbeat, start or dispatch for two minutes, or whose dispatch failed."""
        quiet = utc_now() - QUIET
        is_quiet = Q(worked_at__lt=quiet) | Q(worked_at__isnull=True, started_at__lt=quiet)
        is_quiet &= Q(dispatched_at__isnull=True) | Q(dispatched_at__lt=quiet)
        has_not_worked = Q(worked_at__isnull=True) | Q(worked_at__lte=F("dispatched_at"))
        has_failed = Q(joined_chains=0, started_at__isnull=False) & ~Q(dispatch_error="") & has_not_worked
        return self.unfinished().filter(is_quiet | has_failed)

    def correct_times(self) -> None:
        """Set heartbeats and starts in the future to now. Otherwise an operation would seem active for too long."""
        now = utc_now()
        for name in ("worked_at", "started_at", "dispatched_at"):
            ahead = self.unfinished().filter(**{f"{name}__gt": now + TOLERANCE})
            Transactions(self.db).repeat(partial(ahead.update, **{name: now}))

    def forget_drafts(self) -> None:
        """Delete drafts that were not confirmed within one day."""
        Transactions(self.db).repeat(
            self.filter(progress=Progress.DRAFT, created_at__lt=utc_now() - DRAFTS_KEPT).delete
        )
