"""Fixtures of the worker tests: open invoices of a scripted account, and a dispatcher that logs its calls."""

import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from django_invoice_cancel.models import Invoice
from django_invoice_cancel.models.queryset import InvoiceQuerySet
from django_invoice_cancel.testing import ScriptedProvider

DISPATCHED: list[str] = []
TASKS = "django_invoice_cancel.tasks"


def cancels() -> int:
    """The number of cancel requests that reached the provider since INVOICE_CANCEL was last set."""
    return ScriptedProvider.of("firekassa").cancel_count


def note(operation_id: str) -> None:
    """A dispatcher: ``DISPATCH`` names it."""
    DISPATCHED.append(operation_id)


def refuse(operation_id: str) -> None:
    raise ConnectionError("the broker is down")


@pytest.fixture
def dispatched() -> Iterator[list[str]]:
    """The operation ids that the dispatcher ``note`` received."""
    DISPATCHED.clear()
    yield DISPATCHED
    DISPATCHED.clear()


@pytest.fixture
def invoices(scripted_provider: Any) -> Callable[..., InvoiceQuerySet]:
    """Return a function that stores `count` open invoices of an account and returns their query set."""

    def make(count: int, provider: str = "firekassa", **fields: Any) -> InvoiceQuerySet:
        rows = [Invoice(provider=provider, external_id=f"{number + 100}", **fields) for number in range(count)]
        Invoice.objects.bulk_create(rows)
        return Invoice.objects.filter(provider=provider)

    return make


@pytest.fixture
def dispatch(settings: Any) -> Callable[..., None]:
    """Return a function that sets DISPATCH and other keys."""

    def set_to(path: str | None, **more: Any) -> None:
        settings.INVOICE_CANCEL = {**settings.INVOICE_CANCEL, "DISPATCH": path, **more}

    return set_to


@pytest.fixture
def fresh_tasks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the module of tasks be imported again, as at the start of a process."""
    monkeypatch.delitem(sys.modules, TASKS, raising=False)
