"""A stored bulk run: what was selected, who asked, how far it is.

The selection is frozen when the operation is made. An item's outcome is written once. Items are leased, not
ranged: whoever works takes some by CAS, and what it leaves behind is taken over when its lease is over.
"""

from __future__ import annotations

import uuid
from collections.abc import Collection, Iterable, Sequence
from datetime import timedelta
from itertools import islice
from typing import Any

from django.conf import settings
from django.db import models, transaction
from django.db.models import Exists, OuterRef, Q
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from .. import conf, registry
from ..intents import Intent, Trigger
from ..outcomes import Code, Outcome
from ..statuses import Status
from .bulk_operation_item import BulkOperationItem
from .invoice import Invoice
from .verbs.rows import named_actor, storable

DRAFTS_KEPT = timedelta(days=1)
QUIET = timedelta(minutes=2)
"""An operation on which nobody worked for so long is interrupted."""
_PAGE = 2000


class Operation(models.TextChoices):
    """What is done with each invoice."""

    CANCEL = "cancel", _("Cancel")
    CHECK = "check", _("Check with provider")
    RESOLVE = "resolve", _("Resolve by hand")


class Progress(models.TextChoices):
    """How far an operation is."""

    DRAFT = "draft", _("Not confirmed")
    RUNNING = "running", _("Running")
    STOPPED = "stopped", _("Stopped")
    FINISHED = "finished", _("Finished")


class BulkOperationManager(models.Manager["BulkOperation"]):
    """Makes operations."""

    def draft(
        self,
        invoices: models.QuerySet[Any],
        *,
        operation: str = Operation.CANCEL,
        strangers: Iterable[str] = (),
        not_permitted: Iterable[Any] = (),
        **fields: Any,
    ) -> BulkOperation:
        """Freeze a selection; nothing is done until ``confirm``. ``fields``: actor, trigger, reason, decision.

        ``strangers``: selected things that have no invoice. ``not_permitted``: keys of selected invoices that are
        listed and left alone.
        """
        actor = fields.pop("actor", None)
        actor_id, actor_label = named_actor(actor)
        self.forget_drafts()
        with transaction.atomic(using=self.db):
            made = self.create(operation=Operation(operation), actor_id=actor_id, actor_label=actor_label, **fields)
            made.freeze(invoices)
            made.add_strangers(strangers)
            made.refuse(not_permitted)
        return made

    def start(self, invoices: models.QuerySet[Any], *, workers: int | None = None, **fields: Any) -> BulkOperation:
        """Freeze a selection and start working on it: by the dispatcher, else by whoever calls ``advance``."""
        made = self.draft(invoices, **fields)
        made.confirm(workers=workers)
        return made

    def unfinished(self) -> models.QuerySet[BulkOperation]:
        """Operations on which there is something to do."""
        return self.filter(progress=Progress.RUNNING)

    def unattended(self) -> models.QuerySet[BulkOperation]:
        """Operations on which there is something to do and nobody has worked lately, or ever."""
        quiet = timezone.now() - QUIET
        return self.unfinished().filter(Q(worked_at__lt=quiet) | Q(worked_at__isnull=True))

    def interrupted(self) -> models.QuerySet[BulkOperation]:
        """Operations on which nobody works, though there is something to do."""
        quiet = timezone.now() - QUIET
        return self.unfinished().filter(Q(worked_at__lt=quiet) | Q(worked_at__isnull=True, started_at__lt=quiet))

    def forget_drafts(self) -> None:
        """Remove what nobody confirmed for a day."""
        self.filter(progress=Progress.DRAFT, created_at__lt=timezone.now() - DRAFTS_KEPT).delete()


class BulkOperation(models.Model):
    """One operation on a frozen selection."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    operation = models.CharField(_("operation"), max_length=16, choices=Operation.choices)
    progress = models.CharField(_("progress"), max_length=16, choices=Progress.choices, default=Progress.DRAFT)
    decision = models.CharField(_("decision"), max_length=16, blank=True)
    reason = models.TextField(_("reason"), blank=True)
    trigger = models.CharField(_("trigger"), max_length=16, default=Trigger.API)
    actor = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        on_delete=models.SET_NULL,
        null=True,
        blank=True,
        db_constraint=False,
        related_name="+",
        verbose_name=_("actor"),
    )
    actor_label = models.CharField(_("actor"), max_length=150, blank=True)
    continues = models.ForeignKey(
        "self",
        on_delete=models.SET_NULL,
        null=True,
        blank=True,
        related_name="continued_by",
        verbose_name=_("continues"),
    )
    total = models.PositiveIntegerField(_("invoices"), default=0)
    workers = models.PositiveSmallIntegerField(_("workers"), default=1)
    created_at = models.DateTimeField(_("created"), default=timezone.now)
    started_at = models.DateTimeField(_("started"), null=True, blank=True)
    worked_at = models.DateTimeField(_("last worked on"), null=True, blank=True)
    finished_at = models.DateTimeField(_("finished"), null=True, blank=True)

    objects = BulkOperationManager()

    class Meta:
        verbose_name = _("bulk operation")
        verbose_name_plural = _("bulk operations")
        default_permissions = ("view",)
        ordering = ("-created_at",)
        indexes = (models.Index(fields=("progress", "worked_at"), name="invoice_cancel_unfinished"),)

    def __str__(self) -> str:
        return f"{self.get_operation_display()}: {self.total}"

    @property
    def intent(self) -> Intent:
        """Who asks, as the log says it. The user may be gone: the label is not."""
        return Intent(self.actor or self.actor_label or None, Trigger(self.trigger), self.reason, self.pk)

    @property
    def is_interrupted(self) -> bool:
        """Whether nobody works on it, though there is something to do."""
        last = self.worked_at or self.started_at
        return self.progress == Progress.RUNNING and last is not None and last < timezone.now() - QUIET

    @property
    def database(self) -> str:
        """The alias of the database that holds it."""
        return self._state.db or "default"

    # -- the selection ----------------------------------------------------------------------------------------

    def freeze(self, invoices: models.QuerySet[Any]) -> None:
        """Write an item for each invoice."""
        BulkOperationItem.objects.db_manager(self.database).freeze(self.pk, invoices)
        self._count()

    def add_strangers(self, labels: Iterable[str]) -> None:
        """Write an item for each selected thing that has no invoice: it is listed, and skipped."""
        skipped = {"outcome": Outcome.SKIPPED, "code": Code.NO_INVOICE, "done_at": timezone.now()}
        items = (BulkOperationItem(operation=self, label=storable(label, 200), **skipped) for label in labels)
        while page := list(islice(items, _PAGE)):
            BulkOperationItem.objects.using(self.database).bulk_create(page)
        self._count()

    def refuse(self, keys: Iterable[Any]) -> None:
        """Leave these invoices of the selection alone: who selected them may not touch them."""
        keys = iter(keys)
        while page := list(islice(keys, _PAGE)):
            self.conclude((key, Outcome.SKIPPED, Code.NOT_PERMITTED) for key in page)

    def providers(self) -> list[str]:
        """Return the aliases of items that have no outcome yet, each by one step along an index."""
        aliases: Any = self.left.order_by("provider").values_list("provider", flat=True)
        found = [each for each in [aliases.first()] if each is not None]
        while found and (following := aliases.filter(provider__gt=found[-1]).first()) is not None:
            found.append(following)
        return found

    def _count(self) -> None:
        self.total = self.items.count()
        self.save(update_fields=["total"])

    # -- from state to state ----------------------------------------------------------------------------------

    def confirm(self, *, workers: int | None = None, **fields: Any) -> bool:
        """Start the draft; False where it is none any more."""
        workers = conf.get().dispatch_workers if workers is None else workers
        return self._go((Progress.DRAFT,), Progress.RUNNING, started_at=timezone.now(), workers=workers, **fields)

    def stop(self) -> bool:
        """Let nobody take more items; what is in flight is recorded."""
        return self._go((Progress.RUNNING,), Progress.STOPPED)

    def resume(self) -> bool:
        """Go on with what is left."""
        return self._go((Progress.STOPPED,), Progress.RUNNING)

    def finish(self) -> bool:
        """Mark the operation finished; False where somebody else has."""
        return self._go((Progress.RUNNING, Progress.STOPPED), Progress.FINISHED, finished_at=timezone.now())

    def dispatch(self) -> None:
        """Hand the operation to the dispatcher, if there is one, once for each worker, after the commit."""
        path = conf.get().dispatch
        if path is None:
            return
        key = str(self.pk)

        def call() -> None:  # no partial: Django 5.2 cannot log the failure of one
            _call(path, key)

        for _number in range(self.workers):
            transaction.on_commit(call, using=self._state.db, robust=True)

    def dispatch_again(self) -> None:
        """Dispatch an operation whose workers or messages are lost, now; what goes wrong is raised.

        It counts as worked on from now: while it waits in a long queue, nobody queues it again each minute.
        """
        path = conf.get().dispatch
        for _number in range(self.workers if path else 0):
            _call(str(path), str(self.pk))
        type(self).objects.using(self._state.db).filter(pk=self.pk).update(worked_at=timezone.now())

    def _go(self, old: tuple[Progress, ...], new: Progress, **fields: Any) -> bool:
        own = type(self).objects.using(self._state.db).filter(pk=self.pk, progress__in=old)
        if not own.update(progress=new, **fields):
            self.refresh_from_db()
            return False
        for name, value in {"progress": new, **fields}.items():
            setattr(self, name, value)
        if new == Progress.RUNNING:
            self.dispatch()
        return True

    # -- items ------------------------------------------------------------------------------------------------

    @property
    def left(self) -> models.QuerySet[BulkOperationItem]:
        """Items that have no outcome yet."""
        return self.items.filter(outcome="")

    def lease(
        self, count: int, *, seconds: float, provider: str | None = None, without: Collection[str] = ()
    ) -> list[BulkOperationItem]:
        """Take up to so many items (of one provider) for so long, by CAS; what somebody else holds is not taken.

        Nor are those of the providers ``without``: they would keep others from their turn. Returns the items with
        ``was_leased`` set where an earlier holder left them behind.
        """
        token = uuid.uuid4()
        for _attempt in range(3):
            now = timezone.now()
            free = self.left.filter(Q(leased_until__isnull=True) | Q(leased_until__lt=now))
            free = free.exclude(provider__in=without) if without else free
            free = free.filter(provider=provider) if provider is not None else free
            found = dict(free.order_by("pk").values_list("pk", "token")[:count])
            if not found:
                return []
            until = now + timedelta(seconds=seconds)
            if free.filter(pk__in=found).update(token=token, leased_until=until):
                items = list(self.items.filter(token=token).select_related("invoice").order_by("pk"))
                for item in items:
                    item.was_leased = found[item.pk] is not None
                return items
        return []

    def release(self, items: Sequence[BulkOperationItem]) -> None:
        """Give back leased items that were not tried.

        Where the invoice is claimed, the item keeps its lease: a request may be out that nobody could record, and
        whoever takes the item over looks at the log.
        """
        if items:
            claimed = Invoice.objects.filter(pk=OuterRef("invoice_id"), status=Status.CANCELING)
            own = self.left.filter(~Exists(claimed), pk__in=[item.pk for item in items], token=items[0].token)
            own.update(token=None, leased_until=None)

    def conclude(self, results: Iterable[tuple[Any, str, str]]) -> None:
        """Write outcomes by invoice, as (primary key, outcome, code): of items that have none yet."""
        groups: dict[tuple[str, str], list[Any]] = {}
        for key, outcome, code in results:
            groups.setdefault((str(outcome), str(code)[:32]), []).append(key)
        now = timezone.now()
        for (outcome, code), keys in groups.items():
            self.left.filter(invoice_id__in=keys).update(outcome=outcome, code=code, done_at=now)


def _call(path: str, operation_id: str) -> None:
    registry.resolve(path)(operation_id)
