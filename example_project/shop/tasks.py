"""The shop's Celery tasks: one processes a bulk operation, and beat runs the others every minute.

They are imported only with ``settings_celery``. The only argument of a task is an id. Its results are stored in the
rows.
"""

import time
from contextlib import suppress
from typing import Any

from django.core.management import CommandError, call_command

from django_invoice_cancel.operations import advance

from .celery import app

LONGEST_WAIT_SECONDS = 2.0
"""Maximum wait in eager mode, in seconds. Eager mode runs in the request that starts an operation."""


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
    with suppress(CommandError):  # invoices still in doubt are no failure: the next run checks them again
        call_command("reconcile_invoices")


@app.task
def continue_bulk_operations() -> None:
    call_command("run_bulk_operations", "--dispatch")  # passes them to the workers and processes none itself
