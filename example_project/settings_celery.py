"""The example with Celery: bulk operations are worked off by its workers, beat reconciles. ``make serve-celery``.

The task is the shop's own, three lines in ``shop/tasks.py``; the app knows nothing of Celery but the dotted path.
"""

import os

from settings import *  # noqa: F403
from settings import INVOICE_CANCEL as PLAIN

INVOICE_CANCEL = {**PLAIN, "DISPATCH": "shop.tasks.advance_bulk.delay", "DISPATCH_WORKERS": 4}

CELERY_BROKER_URL = os.environ.get("EXAMPLE_REDIS_URL", "redis://127.0.0.1:6379/0")
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
CELERY_TASK_IGNORE_RESULT = True  # what came of an operation stands in its own rows
CELERY_WORKER_PREFETCH_MULTIPLIER = 1  # a slice takes seconds: none waits behind another while a worker is idle
CELERY_BEAT_SCHEDULE = {
    "reconcile": {"task": "shop.tasks.reconcile", "schedule": 60.0},
    "continue": {"task": "shop.tasks.continue_bulk_operations", "schedule": 60.0},
}
