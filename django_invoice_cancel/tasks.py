"""A dispatcher for Django's task framework: ``"DISPATCH": "django_invoice_cancel.tasks.dispatch"``.

It uses ``django.tasks`` on Django 6 and the package ``django-tasks`` (extra ``tasks``) on 5.2, with any backend. No
other module imports it, because ``@task`` reads the setting ``TASKS`` at import. The only argument of a task is the id
of the operation. A task works on one slice and enqueues itself again if there is more to do.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from contextlib import suppress
from typing import Any

from django.core.exceptions import ValidationError

from .models import BulkOperation
from .operations import advance

try:
    from django.tasks import task
except ImportError:  # Django 5.2
    from django_tasks import task  # type: ignore[no-redef]

__all__ = ["advance_bulk_operation", "dispatch"]

MAX_WAIT_SECONDS = 2.0
"""Maximum wait of a worker for the leases of others or a short pause. After a longer wait a sweep continues."""


_local = threading.local()
"""Nested calls of the task in this thread, by operation."""


@task()
def advance_bulk_operation(operation_id: str) -> None:
    """Work on one slice of an operation, or on all slices if the backend runs tasks while they are enqueued.

    Such a backend would nest each slice in the previous one. Therefore a call inside a task of the same operation is
    only counted, and the outer task works on its slice.
    """
    calls: Counter[str] = _local.__dict__.setdefault("calls", Counter())
    calls[operation_id] += 1
    if calls[operation_id] > 1:
        return
    try:
        while calls[operation_id]:
            _do_slice(operation_id)
            calls[operation_id] -= 1
    finally:
        del calls[operation_id]


def _do_slice(operation_id: str) -> None:
    """Work on a slice, and enqueue the next one if there is more to do."""
    left = advance(operation_id)
    if left.has_more and left.wait_seconds > MAX_WAIT_SECONDS:
        with suppress(ValidationError):
            BulkOperation(pk=operation_id).leave_chain()
        return
    if not left.has_more:
        return
    time.sleep(left.wait_seconds)
    advance_bulk_operation.enqueue(operation_id)


def dispatch(operation_id: Any) -> None:
    """Enqueue the task of one worker for an operation."""
    advance_bulk_operation.enqueue(str(operation_id))


dispatch.uses_database = True  # type: ignore[attr-defined]
"""Tasks may be rows of the same database, so they are enqueued in the caller's thread, transaction and connection."""
