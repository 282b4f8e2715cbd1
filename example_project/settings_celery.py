"""The example with Celery: workers process bulk operations, and beat reconciles. ``make serve-celery``.

The task belongs to the shop: see ``shop/tasks.py``. The app knows only its dotted path, and nothing else about Celery.
"""

import os
from zlib import crc32

from settings import *  # noqa: F403
from settings import DATABASES
from settings import INVOICE_CANCEL as PLAIN

INVOICE_CANCEL = {**PLAIN, "DISPATCH": "shop.tasks.advance_bulk.delay", "DISPATCH_WORKERS": 4}

# Its own queue, and a prefix for all its keys, because other projects may use the same Redis database.
QUEUE = f"invoice-cancel-example-{crc32(repr(sorted(DATABASES['default'].items())).encode()):08x}"
CELERY_TASK_DEFAULT_QUEUE = QUEUE

CELERY_BROKER_URL = os.environ.get("EXAMPLE_REDIS_URL", "redis://127.0.0.1:6379/0")
# A broker that does not answer must not block the request that starts an operation. These are
# the options of Redis; docs/howto/workers.md has those of RabbitMQ.
CELERY_BROKER_CONNECTION_TIMEOUT = 2.0
CELERY_BROKER_TRANSPORT_OPTIONS = {
    "global_keyprefix": f"{QUEUE}:",
    "socket_timeout": 5.0,
    "socket_connect_timeout": 4.0,
}
CELERY_TASK_PUBLISH_RETRY_POLICY = {"max_retries": 1}
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
CELERY_TASK_IGNORE_RESULT = True  # the rows of an operation contain its results
CELERY_WORKER_PREFETCH_MULTIPLIER = 1  # a slice takes seconds; none waits for a busy worker while another is idle
CELERY_BEAT_SCHEDULE = {
    "reconcile": {"task": "shop.tasks.reconcile", "schedule": 60.0},
    "continue": {"task": "shop.tasks.continue_bulk_operations", "schedule": 60.0},
}
