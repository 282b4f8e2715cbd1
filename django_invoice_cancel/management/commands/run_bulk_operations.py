"""Continue stored bulk operations: manually, from cron, or after a crash of their workers.

It is both a worker and the sweep. Without an id it skips operations that are being processed, so runs every minute do
not accumulate.
"""

from __future__ import annotations

import logging
import uuid
from typing import Any

from django.core.management.base import CommandError, CommandParser

from ... import conf
from ...exceptions import CancelInTransaction
from ...models import BulkOperation
from ...models.operation import Progress
from ...operations import Advance, advance
from ...operations.pauses import must_wait
from ..output import ReportingCommand
from ..runs import INTERRUPTED, NOT_TRIED, stop_on_signals

logger = logging.getLogger("django_invoice_cancel")

_MAX_WAIT_SECONDS = 60.0
_WAIT_STEP_SECONDS = 5.0
"""Longest wait before the operation is read again, because a person may have ended the pause."""


class Command(ReportingCommand):
    help = "Process bulk operations until they are finished or paused. Default: all without an active worker."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "ids", nargs="*", metavar="ID", help="ids of operations (default: all without an active worker)"
        )
        parser.add_argument(
            "--dispatch", action="store_true", help="pass them to DISPATCH again instead of processing them here"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        BulkOperation.objects.forget_drafts()
        BulkOperation.objects.correct_times()
        if options["dispatch"]:
            self._dispatch(options["ids"])
        else:
            self._work_on(self._operations(options["ids"]))

    def _operations(self, ids: list[str]) -> list[BulkOperation]:
        if not ids:
            unfinished = BulkOperation.objects.unfinished().order_by("created_at")
            operations = list(unfinished.filter(pk__in=BulkOperation.objects.unattended().values("pk")))
            others = unfinished.count() - len(operations)
            if others > 0:
                noun = "other operation has" if others == 1 else "other operations have"
                self.stderr.write(f"{others:,} {noun} active workers. Pass an id to add this process as a worker.")
            return operations
        return [self._named(text) for text in ids]

    def _named(self, text: str) -> BulkOperation:
        try:
            return BulkOperation.objects.get(pk=uuid.UUID(text))
        except (ValueError, BulkOperation.DoesNotExist) as error:
            raise CommandError(f"{text!r} is not the id of a bulk operation.") from error

    def _dispatch(self, ids: list[str]) -> None:
        """Pass operations to the dispatcher. Without ids, only those that are due are passed."""
        if conf.get().dispatch is None:
            raise CommandError("--dispatch requires INVOICE_CANCEL['DISPATCH'].")
        for operation in [self._named(text) for text in ids] or self._due_operations():
            if operation.progress != Progress.RUNNING:
                self.stdout.write(f"{operation.pk}: not dispatched, because it is {operation.progress}")
                continue
            try:
                operation.dispatch_again(is_sweep=not ids)
            except Exception as error:  # a broker that is down may raise any exception
                logger.exception("A bulk operation was not dispatched: %s.", operation.pk)
                raise CommandError(f"{operation.pk}: dispatching failed with {type(error).__name__}.") from error
            self.stdout.write(f"{operation.pk}: dispatched")

    def _due_operations(self) -> list[BulkOperation]:
        """Return the due operations that no worker processes, except those that must wait.

        Workers of waiting operations would accumulate with each sweep.
        """
        interrupted = BulkOperation.objects.interrupted().order_by("created_at")
        return [operation for operation in interrupted if operation.is_dispatch_due and not must_wait(operation)]

    def _work_on(self, operations: list[BulkOperation]) -> None:
        paused = failed = 0
        with stop_on_signals() as stop:
            for operation in operations:
                try:
                    paused += self._work(operation, stop)
                except BulkOperation.DoesNotExist:
                    self.stdout.write(f"{operation.pk}: was deleted")
                except CommandError:
                    raise
                except Exception as error:
                    logger.exception("Work on a bulk operation failed: %s.", operation.pk)
                    self.stderr.write(f"{operation.pk}: failed with {type(error).__name__}.")
                    failed += 1
                if stop.is_set():
                    raise CommandError("Interrupted. Requests in flight are recorded.", returncode=INTERRUPTED)
        if failed:
            raise CommandError(
                f"{failed:,} {'operation' if failed == 1 else 'operations'} failed. See the log for the errors."
            )
        if paused:
            wait = "operation waits" if paused == 1 else "operations wait"
            why = (
                "a provider is paused" if conf.get().send else "INVOICE_CANCEL['SEND'] is False or a provider is paused"
            )
            raise CommandError(f"{paused:,} {wait}, because {why}.", returncode=NOT_TRIED)

    def _work(self, operation: BulkOperation, stop: Any) -> bool:
        """Work on one operation until it ends. Return whether it waits for a paused provider."""
        left = Advance(has_more=True)
        while left.has_more and not stop.is_set():
            try:
                left = advance(operation.pk, stop=stop, is_message=False)
            except CancelInTransaction as error:
                raise CommandError(str(error)) from error
            if left.has_more and left.wait_seconds > _MAX_WAIT_SECONDS:
                break
            if left.has_more:
                stop.wait(min(left.wait_seconds, _WAIT_STEP_SECONDS))
        operation.refresh_from_db(using=operation.database)
        done = operation.total - operation.items.left().count()
        self.stdout.write(f"{operation.pk}: {done:,} of {operation.total:,}, {operation.progress}")
        return left.has_more and not stop.is_set()
