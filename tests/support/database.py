"""Control transactions."""

from collections.abc import Iterator
from contextlib import contextmanager

from django.db import transaction


@contextmanager
def rolled_back() -> Iterator[None]:
    """Run the block in a transaction that is rolled back at its end."""
    with transaction.atomic():
        yield
        transaction.set_rollback(True)
