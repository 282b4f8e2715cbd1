"""A stored bulk run: its selection, its actor and its progress.

The selection is stored when the operation is created, and does not change. Progress is written only by conditional
UPDATEs, so that only one of two processes can stop, resume or finish an operation. Its items store the outcomes.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping
from contextlib import suppress
from itertools import islice
from typing import TYPE_CHECKING, Any

from django.db import models
from django.utils.translation import gettext_lazy as _

from .. import conf
from ..domain.audit import AuditContext, Trigger, Wanted
from ..domain.clock import utc_now
from ..domain.outcomes import Code, Outcome
from ..labels.operations import describe_operation
from ..providers.base import Provider
from ..services.call_arguments import checked_text
from ..services.eligibility import NOT_NOW, Account, account_of, can_be_vetoed, find_obstacle, is_normalized_id
from ..services.on_commit import call_on_commit
from ..services.veto import Veto
from .actors import LABEL_LENGTH, acting_user, named_actor
from .dispatch import QUIET, Dispatched
from .fields import InstantField
from .invoice import Invoice
from .operation_item import BulkOperationItem
from .operation_manager import BulkOperationManager, Operation, Progress
from .values import storable, write_texts
from .writes.transactions import Transactions

if TYPE_CHECKING:
    from .operation_item import ItemsOfOperation
    from .typed import LongText, Number, Text, Time, TimeOrNone, UUIDOrNone

__all__ = ["BulkOperation", "Operation", "Progress"]

ITEM_BATCH_SIZE = 2000
"""Maximum number of items that one statement writes."""
ID_BATCH_SIZE = 20_000
"""Maximum number of ids that one query reads."""


class BulkOperation(Dispatched):
    """One operation on a stored selection of invoices."""

    id: models.UUIDField[Any, uuid.UUID] = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    operation: Text = models.CharField(_("operation"), max_length=16, choices=Operation.choices)
    progress: Text = models.CharField(_("progress"), max_length=16, choices=Progress.choices, default=Progress.DRAFT)
    decision: Text = models.CharField(_("decision"), max_length=16, blank=True)
    reason: LongText = models.TextField(_("reason"), blank=True)
    trigger: Text = models.CharField(_("trigger"), max_length=16, default=Trigger.API)
    actor = acting_user(_("actor"))
    actor_label: Text = models.CharField(_("actor"), max_length=150, blank=True)
    runner = acting_user(_("run by"))
    runner_label: Text = models.CharField(_("run by"), max_length=150, blank=True)
    stopped_by = acting_user(_("stopped by"))
    stopped_by_label: Text = models.CharField(_("stopped by"), max_length=150, blank=True)
    page_key: UUIDOrNone = models.UUIDField(null=True, blank=True, editable=False)
    continues: models.ForeignKey[Any, BulkOperation | None] = models.ForeignKey(
        "self",
        on_delete=models.SET_NULL,
        null=True,
        blank=True,
        related_name="continued_by",
        verbose_name=_("continues"),
    )
    selected_in: Text = models.CharField(max_length=200, blank=True)
    """The model of the admin's list in which the invoices were selected, as ``app_label.model_name``."""
    selected_query: LongText = models.TextField(blank=True)
    """The query string of that list, which contains its filter."""
    selected_filter: LongText = models.TextField(blank=True)
    """The filter of that list as text, in the language of the user who selected the invoices."""
    total: Number = models.PositiveIntegerField(_("invoices"), default=0)
    workers: Number = models.PositiveSmallIntegerField(_("workers"), default=1)
    created_at: Time = InstantField(_("created"), default=utc_now)
    started_at: TimeOrNone = InstantField(_("started"), null=True, blank=True)
    worked_at: TimeOrNone = InstantField(_("last activity"), null=True, blank=True)
    finished_at: TimeOrNone = InstantField(_("finished"), null=True, blank=True)

    objects = BulkOperationManager()

    if TYPE_CHECKING:  # made by Django
        items: ItemsOfOperation
        actor_id: Any
        runner_id: Any
        stopped_by_id: Any

        def get_operation_display(self) -> str: ...
        def get_progress_display(self) -> str: ...

    class Meta:
        verbose_name = _("bulk operation")
        verbose_name_plural = _("bulk operations")
        default_permissions = ("view",)
        ordering = ("-created_at",)
        indexes = (models.Index(fields=("progress", "worked_at"), name="invoice_cancel_unfinished"),)

    def __str__(self) -> str:
        return describe_operation(self.operation, self.total)

    @property
    def is_known(self) -> bool:
        """True if this version knows the operation and its progress. A newer version may have written them."""
        return self.operation in Operation.values and self.progress in Progress.values

    @property
    def audit(self) -> AuditContext:
        """The audit context for the log: the actor is who confirmed or last continued the operation.

        If the user was deleted, the label is the actor.
        """
        actor = self.runner or self.runner_label or self.actor or self.actor_label or None
        return AuditContext(actor, Trigger(self.trigger), self.reason, self.pk)

    @property
    def wanted(self) -> Wanted:
        """The action for each invoice. A check repeats cancel requests if the provider has no lookup."""
        return Wanted.REPEAT if self.operation == Operation.CHECK else Wanted(self.operation)

    @property
    def waits_for(self) -> frozenset[Code]:
        """Codes that do not conclude an item; it waits until they no longer apply. A check does not wait for SEND."""
        return NOT_NOW if self.operation == Operation.CANCEL else NOT_NOW - {Code.SENDING_DISABLED}

    @property
    def is_interrupted(self) -> bool:
        """True if the operation is running, but no worker has been active for two minutes or its dispatch failed."""
        if self.progress != Progress.RUNNING or self.last_activity_at is None:
            return False
        return self.has_failed_dispatch or self.last_activity_at < utc_now() - QUIET

    @property
    def database(self) -> str:
        """The alias of the operation's database."""
        return self._state.db or "default"

    # -- the selection ----------------------------------------------------------------------------------------

    def snapshot(self, invoices: models.QuerySet[Any]) -> None:
        """Write an item for each invoice."""
        BulkOperationItem.objects.db_manager(self.database).snapshot(self.pk, invoices)
        self._count()

    def add_unmatched(self, labels: Iterable[str], code: Code = Code.NO_INVOICE) -> None:
        """Write a skipped item for each selected object without an invoice, so that the report lists it."""
        skipped = {"outcome": Outcome.SKIPPED, "code": code, "done_at": utc_now()}
        items = BulkOperationItem.objects.using(self.database)

        def write(texts: list[str]) -> None:
            items.bulk_create(BulkOperationItem(operation=self, label=text[:200], **skipped) for text in texts)

        clean = (storable(label, 200) for label in labels)
        while batch := list(islice(clean, ITEM_BATCH_SIZE)):
            write_texts(write, batch, using=self.database)
        self._count()

    def skip_not_permitted(self, keys: Iterable[Any]) -> None:
        """Skip these invoices of the selection, because the user has no permission to change them."""
        keys = iter(keys)
        while batch := list(islice(keys, ITEM_BATCH_SIZE)):
            self.items.conclude((key, Outcome.SKIPPED, Code.NOT_PERMITTED) for key in batch)

    def skip_invalid_ids(self) -> None:
        """Conclude the items whose external id is not stored in the form that is sent to the provider.

        No query can count them, so all ids are read once, in batches. A confirmation page counts the remaining items.
        """
        if self.operation == Operation.RESOLVE:
            return
        for alias in self.items.providers_left():
            account = account_of(alias)
            if isinstance(account, Provider):
                self._skip_invalid_ids_of(alias, account)

    def _skip_invalid_ids_of(self, alias: str, provider: Provider) -> None:
        rows: Any = self.items.left().filter(provider=alias, invoice__isnull=False).order_by("pk")
        rows = rows.values_list("pk", "invoice__external_id", "invoice_id")
        batch = list(rows[:ID_BATCH_SIZE])
        while batch:
            last = batch[-1][0] if len(batch) == ID_BATCH_SIZE else None
            suspects = iter([key for _pk, external_id, key in batch if not is_normalized_id(external_id, provider)])
            while keys := list(islice(suspects, ITEM_BATCH_SIZE)):
                self._skip_ineligible_ids(keys, provider)
            batch = [] if last is None else list(rows.filter(pk__gt=last)[:ID_BATCH_SIZE])

    def _skip_ineligible_ids(self, keys: list[Any], provider: Provider) -> None:
        """Conclude the invoices that are ineligible because of their id, and not because of their status."""
        found = {
            invoice.pk: find_obstacle(self.wanted, invoice, provider, waits_for=self.waits_for)
            for invoice in Invoice.objects.using(self.database).filter(pk__in=keys)
        }
        wrong = [key for key, code in found.items() if code == Code.MISCONFIGURED]
        self.items.conclude((key, Outcome.SKIPPED, Code.MISCONFIGURED) for key in wrong)

    def skip_vetoed(self) -> None:
        """Conclude the items that the shop forbids to cancel.

        No query can count them, so the shop is asked for each eligible invoice, in batches. Call it outside of a
        transaction if possible, because it takes as long as the function of the shop. Each worker asks again before it
        claims an invoice.
        """
        if self.operation == Operation.RESOLVE:
            return
        for alias in self.items.providers_left():
            account = account_of(alias)
            if can_be_vetoed(self.wanted, account):
                self._skip_vetoed_of(alias, account)

    def _skip_vetoed_of(self, alias: str, account: Account) -> None:
        rows: Any = self.items.left().filter(provider=alias, invoice__isnull=False).order_by("pk")
        rows = rows.select_related("invoice")
        batch = list(rows[:ITEM_BATCH_SIZE])
        while batch:
            reasons: dict[str, list[Any]] = {}
            for item in batch:
                code = find_obstacle(self.wanted, item.invoice, account, waits_for=self.waits_for)
                if isinstance(code, Veto):
                    reasons.setdefault(code.reason, []).append(item.invoice_id)
            for reason, keys in reasons.items():
                self.items.conclude([(key, self._vetoed_outcome, Code.VETOED) for key in keys], veto_reason=reason)
            batch = list(rows.filter(pk__gt=batch[-1].pk)[:ITEM_BATCH_SIZE])

    @property
    def _vetoed_outcome(self) -> Outcome:
        """The outcome of a veto: an invoice whose cancel request is not repeated stays in doubt."""
        return Outcome.SKIPPED if self.operation == Operation.CANCEL else Outcome.IN_DOUBT

    def _count(self) -> None:
        self.total = self.items.count()
        self.save(update_fields=["total"])

    # -- transitions of progress ----------------------------------------------------------------------------------

    def confirm(self, *, workers: int | None = None, **fields: Any) -> bool:
        """Start the draft, and dispatch it after the commit. Its actor runs it.

        Args:
            workers: Number of workers; the setting ``DISPATCH_WORKERS`` by default.
            **fields: Further columns to write, such as ``reason`` and ``page_key``.

        Returns:
            False if the operation is no longer a draft.
        """
        workers = conf.get().dispatch_workers if workers is None else workers
        fields |= {"runner_id": self.actor_id, "runner_label": self.actor_label}
        fields |= {"started_at": utc_now(), "workers": workers}
        texts = {"reason": storable(checked_text("reason", fields.pop("reason")))} if "reason" in fields else {}
        return self._go((Progress.DRAFT,), Progress.RUNNING, texts, **fields)

    def stop(self, actor: Any = None) -> bool:
        """Stop the operation: workers lease no more items. Requests in flight are recorded.

        Args:
            actor: Who stops it: a user, a label, or None.

        Returns:
            False if the operation was not running.
        """
        key, label = named_actor(actor)
        return self._go((Progress.RUNNING,), Progress.STOPPED, {"stopped_by_label": label}, stopped_by_id=key)

    def resume(self, actor: Any = None, *, page_key: uuid.UUID | None = None) -> bool:
        """Continue with the remaining items, and dispatch the operation after the commit.

        Args:
            actor: Who continues it, and runs it from now on: a user, a label, or None for the previous one.
            page_key: The key of the admin page that processes it from now on.

        Returns:
            False if the operation was not stopped.
        """
        return self._run((Progress.STOPPED,), actor, page_key)

    def take_over(self, actor: Any = None, *, page_key: uuid.UUID | None = None) -> bool:
        """Continue a running operation, for example one whose page was closed, and dispatch it again.

        Args:
            actor: Who continues it, and runs it from now on: a user, a label, or None for the previous one.
            page_key: The key of the admin page that processes it from now on. A page with another key stops.

        Returns:
            False if the operation was not running.
        """
        return self._run((Progress.RUNNING,), actor, page_key)

    def _run(self, old: tuple[Progress, ...], actor: Any, page_key: uuid.UUID | None) -> bool:
        fields: dict[str, Any] = {"page_key": page_key}
        texts: dict[str, str] = {}
        if actor is not None:
            fields["runner_id"], texts["runner_label"] = named_actor(actor)
        if page_key is not None:  # the page works from now on
            fields["worked_at"] = utc_now()
        return self._go(old, Progress.RUNNING, texts, **fields)

    def release_page(self, page_key: uuid.UUID) -> bool:
        """Forget the key of a page that was closed. Return False if the operation has another key."""
        own = type(self).objects.using(self._state.db).filter(pk=self.pk, page_key=page_key)
        return bool(Transactions(self.database).repeat(lambda: own.update(page_key=None)))

    def end(self, actor: Any = None) -> bool:
        """Finish an operation that is running or stopped, although items remain. These are not tried.

        Args:
            actor: Who ends it: a user, a label, or None.

        Returns:
            False if the operation is a draft or is finished.
        """
        key, label = named_actor(actor)
        ended = {"stopped_by_id": key, "finished_at": utc_now(), "page_key": None}
        return self._go((Progress.RUNNING, Progress.STOPPED), Progress.FINISHED, {"stopped_by_label": label}, **ended)

    def finish(self) -> bool:
        """Mark the operation as finished. Return False if another process did it before."""
        return self._go((Progress.RUNNING, Progress.STOPPED), Progress.FINISHED, finished_at=utc_now())

    def dispatch(self) -> None:
        """Call the dispatcher, if the setting ``DISPATCH`` has one, once for each worker, after the commit."""
        if conf.get().dispatch is None:
            return

        failure = "Bulk operation %s is stored, but was not dispatched. run_bulk_operations will process it."
        call_on_commit(lambda: self.send_messages(self.workers), using=self._state.db, failure=failure, about=self.pk)

    def dispatch_again(self, *, is_sweep: bool = False) -> None:
        """Dispatch an operation whose workers or messages are lost, at once. Errors of the dispatcher are raised.

        The heartbeat is set to now, so that no sweep dispatches the operation again while it waits in a long queue.
        """
        now = utc_now()
        if conf.get().dispatch is not None:
            self.send_messages(self.workers)
            now = self.dispatched_at or now  # not later than the dispatch, because no worker has been active
        unanswered = self.unanswered + 1 if is_sweep else 0
        type(self).objects.using(self._state.db).filter(pk=self.pk).update(worked_at=now, unanswered=unanswered)

    def _go(
        self, old: tuple[Progress, ...], new: Progress, texts: Mapping[str, str] | None = None, **fields: Any
    ) -> bool:
        """Write a new progress, with these texts and columns, if the current progress is one of ``old``."""
        texts = texts or {}

        def write(written: list[str]) -> bool:
            new_texts = dict(zip(texts, written, strict=True))
            labels = {name: text[:LABEL_LENGTH] for name, text in new_texts.items() if name != "reason"}
            return self._write_progress(old, new, **fields, **new_texts | labels)

        return write_texts(write, list(texts.values()), using=self.database)

    def _write_progress(self, old: tuple[Progress, ...], new: Progress, **fields: Any) -> bool:
        own = type(self).objects.using(self._state.db).filter(pk=self.pk, progress__in=old)
        if not Transactions(self.database).repeat(lambda: own.update(progress=new, **fields)):
            with suppress(type(self).DoesNotExist):  # deleted concurrently
                self.refresh_from_db(using=self.database)
            return False
        for name, value in {"progress": new, **fields}.items():
            setattr(self, name, value)
        if new == Progress.RUNNING:
            self.dispatch()
        return True
