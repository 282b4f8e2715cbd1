"""A dispatcher for Django's task framework: ``"DISPATCH": "django_invoice_cancel.tasks.dispatch"``.

``django.tasks`` on Django 6, the package ``django-tasks`` (extra ``tasks``) on 5.2; any backend. Imported only where
it is named in the settings: ``@task`` resolves ``TASKS`` at import. A task carries the operation's id and nothing
else, does one slice, and enqueues itself again while there is more to do now.
"""

from __future__ import annotations

import time
from contextlib import suppress
from typing import Any

from django.core.exceptions import ValidationError

from .bulk_operations import advance
from .models import BulkOperation

try:
    from django.tasks import task
except ImportError:  # Django 5.2
    from django_tasks import task  # type: ignore[no-redef]

LONGEST_WAIT_SECONDS = 2.0
"""A worker waits so long for other workers' leases or a short pause; a longer one is left to the sweep."""


@task()
def advance_bulk_operation(operation_id: str) -> None:
    """Do one slice of an operation."""
    left = advance(operation_id)
    if left.has_more and left.wait_seconds > LONGEST_WAIT_SECONDS:
        with suppress(ValidationError):
            BulkOperation(pk=operation_id).leave_chain()
        return
    if not left.has_more:
        return
    time.sleep(left.wait_seconds)
    advance_bulk_operation.enqueue(operation_id)


def dispatch(operation_id: Any) -> None:
    """Enqueue one worker's share of an operation."""
    advance_bulk_operation.enqueue(str(operation_id))


dispatch.uses_database = True  # type: ignore[attr-defined]
"""Tasks may be rows of the same database: enqueued in the caller's thread, transaction and connection."""
