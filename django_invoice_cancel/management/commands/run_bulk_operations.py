"""Continue stored bulk operations: by hand, from cron, after a crash. A worker and a sweep in one."""

from __future__ import annotations

import uuid
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from ...bulk_operations import Advance, advance
from ...exceptions import CancelInTransaction
from ...models import BulkOperation
from ..runs import INTERRUPTED, NOT_TRIED, stopping_on_signals

_LONGEST_WAIT_SECONDS = 60.0


class Command(BaseCommand):
    help = "Work on the bulk operations named, or on every one that is unfinished, until they are done or paused."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("ids", nargs="*", metavar="ID", help="operations; none: every unfinished one")

    def handle(self, *args: Any, **options: Any) -> None:
        BulkOperation.objects.forget_drafts()
        operations = self._operations(options["ids"])
        paused = 0
        with stopping_on_signals() as stop:
            for operation in operations:
                paused += self._work(operation, stop)
                if stop.is_set():
                    raise CommandError("Interrupted. What was in flight is recorded.", returncode=INTERRUPTED)
        if paused:
            raise CommandError(f"{paused} operations wait for a paused provider.", returncode=NOT_TRIED)

    def _operations(self, ids: list[str]) -> list[BulkOperation]:
        if not ids:
            return list(BulkOperation.objects.unfinished().order_by("created_at"))
        operations = []
        for text in ids:
            try:
                operations.append(BulkOperation.objects.get(pk=uuid.UUID(text)))
            except (ValueError, BulkOperation.DoesNotExist) as error:
                raise CommandError(f"{text!r} is not a bulk operation.") from error
        return operations

    def _work(self, operation: BulkOperation, stop: Any) -> bool:
        """Work on one operation to its end; return whether it waits for a paused provider."""
        left = Advance(has_more=True)
        while left.has_more and not stop.is_set():
            try:
                left = advance(operation.pk, stop=stop)
            except CancelInTransaction as error:
                raise CommandError(str(error)) from error
            if left.has_more and left.wait_seconds > _LONGEST_WAIT_SECONDS:
                break
            if left.has_more:
                stop.wait(left.wait_seconds)
        operation.refresh_from_db()
        done = operation.total - operation.left.count()
        self.stdout.write(f"{operation.pk}: {done:,} of {operation.total:,}, {operation.progress}")
        return left.has_more and not stop.is_set()
