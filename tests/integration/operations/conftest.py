"""Fixtures of the tests of operations: many invoices, and operations on them."""

from collections.abc import Callable
from typing import Any

import pytest

from django_invoice_cancel import operations
from django_invoice_cancel.models import BulkOperation, Invoice


@pytest.fixture
def invoices() -> Callable[..., list[Invoice]]:
    """Return a function that stores open invoices with the ids 101, 102, ..."""

    def make(number: int, *, provider: str = "firekassa", first: int = 101) -> list[Invoice]:
        rows = (Invoice(provider=provider, external_id=str(first + i)) for i in range(number))
        return Invoice.objects.bulk_create(rows)

    return make


@pytest.fixture
def started() -> Callable[..., BulkOperation]:
    """Return a function that starts an operation on all invoices."""

    def start(operation: str = "cancel", **fields: Any) -> BulkOperation:
        fields = {"actor": "Ada", "reason": "too old", **fields}
        return operations.start(Invoice.objects.all(), operation=operation, **fields)

    return start
