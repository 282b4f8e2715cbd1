"""The shop's Celery tasks: one that works on a bulk operation, and what beat calls every minute.

Read only where ``settings_celery`` is used. A task carries an id and nothing else; what it did stands in the rows.
"""

import time
from contextlib import suppress
from typing import Any

from django.core.management import CommandError, call_command

from django_invoice_cancel.operations import advance

from .celery import app

LONGEST_WAIT_SECONDS = 2.0
"""Eager mode waits no longer than this within the request that starts an operation."""


@app.task(bind=True)
def advance_bulk(self: Any, operation_id: str) -> None:
    left = advance(operation_id)
    while self.request.is_eager and left.has_more and left.wait_seconds <= LONGEST_WAIT_SECONDS:
        time.sleep(left.wait_seconds)
        left = advance(operation_id)
    if left.has_more and not self.request.is_eager:
        advance_bulk.apply_async([operation_id], countdown=left.wait_seconds)


@app.task
def reconcile() -> None:
    with suppress(CommandError):  # "some are still in doubt" is no failure of this task: the next one asks again
        call_command("reconcile_invoices")


@app.task
def continue_bulk_operations() -> None:
    call_command("run_bulk_operations", "--dispatch")  # hands them to the workers; works on none itself
