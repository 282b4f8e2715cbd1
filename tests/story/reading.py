"""Functions that read the results of the story tests: the log as tuples, the current row, the raised exception."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import time_machine
from django.db import transaction

from django_invoice_cancel.exceptions import CancelError
from django_invoice_cancel.models import Invoice

CANCELED_BY_US = [("created", "canceling", "", ""), ("canceling", "canceled", "canceled", "canceled")]


def steps(invoice: Invoice) -> list[tuple[str, str, str, str]]:
    """Return the invoice's log as (from, to, outcome, code), oldest first."""
    rows = invoice.transitions.using(invoice._state.db).order_by("id")
    return list(rows.values_list("from_status", "to_status", "outcome", "code"))


def left(invoice: Invoice) -> tuple[str, list[tuple[str, str, str, str]]]:
    """Return what is left of the invoice: the status in its row, and its log."""
    return row(invoice).status, steps(invoice)


def row(invoice: Invoice) -> Invoice:
    """Return the invoice as its row is now."""
    return Invoice.objects.using(invoice._state.db).get(pk=invoice.pk)


def failure(call: Callable[..., Any], **kwargs: Any) -> CancelError:
    """Return the ``CancelError`` that a call raises; an ``AssertionError`` where it raises none."""
    try:
        call(**kwargs)
    except CancelError as error:
        return error
    raise AssertionError("Nothing was raised.")


@contextmanager
def rolled_back() -> Iterator[None]:
    """Run the block in a transaction that is rolled back at its end."""
    with transaction.atomic():
        yield
        transaction.set_rollback(True)


def later(**delta: float) -> time_machine.travel:
    """Move the clock forward. By a timestamp: a datetime would also move the machine to its time zone."""
    return time_machine.travel(time.time() + timedelta(**delta).total_seconds())
