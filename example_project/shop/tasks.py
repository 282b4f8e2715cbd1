"""The shop's Celery tasks: one that works on a bulk operation, and what beat calls every minute.

Read only where ``settings_celery`` is used. A task carries an id and nothing else; what it did stands in the rows.
"""

from contextlib import suppress

from django.core.management import CommandError, call_command

from django_invoice_cancel.bulk_operations import advance

from .celery import app


@app.task
def advance_bulk(operation_id: str) -> None:
    left = advance(operation_id)
    if left.has_more:
        advance_bulk.apply_async([operation_id], countdown=left.wait_seconds)


@app.task
def reconcile() -> None:
    with suppress(CommandError):  # "some are still in doubt" is no failure of this task: the next one asks again
        call_command("reconcile_invoices")


@app.task
def continue_bulk_operations() -> None:
    call_command("run_bulk_operations", "--dispatch")  # hands them to the workers; works on none itself
