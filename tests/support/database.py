"""Control transactions and lock timeouts."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.db import transaction

SHORT_LOCK_TIMEOUT = {"postgresql": "SET lock_timeout = '200ms'", "mysql": "SET innodb_lock_wait_timeout = 1"}


@contextmanager
def rolled_back() -> Iterator[None]:
    """Run the block in a transaction that is rolled back at its end."""
    with transaction.atomic():
        yield
        transaction.set_rollback(True)


def set_short_lock_timeout(connection: Any, **kwargs: Any) -> None:
    """Set a short lock timeout: a receiver of the signal ``connection_created``."""
    with connection.cursor() as cursor:
        cursor.execute(SHORT_LOCK_TIMEOUT[connection.vendor])
