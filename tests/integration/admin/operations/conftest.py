"""Fixtures of the tests about operation pages: users by permission, many invoices, and the steps of a click."""

from collections.abc import Callable
from functools import partial
from itertools import count
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.urls import reverse

from django_invoice_cancel.models import BulkOperation, Invoice
from django_invoice_cancel.operations import advance
from tests.support.operation_pages import operation_url
from tests.support.users import client_of, user_with

_numbers = count(1)


@pytest.fixture(autouse=True)
def slices_have_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a slow machine be slow: a slice ends when its items do."""
    monkeypatch.setattr("django_invoice_cancel.admin.operations.admin.advance", partial(advance, deadline=60.0))


@pytest.fixture
def operator(db: None) -> User:
    """May see invoices and cancel them."""
    return user_with("view_invoice", "cancel_invoice")


@pytest.fixture
def supervisor(db: None) -> User:
    """May do all that can be done."""
    return user_with("view_invoice", "cancel_invoice", "resolve_invoice")


@pytest.fixture
def operator_client(operator: User) -> Client:
    return client_of(operator)


@pytest.fixture
def invoices() -> Callable[..., list[Invoice]]:
    """Return a function that makes open invoices in bulk."""

    def make(number: int, **fields: Any) -> list[Invoice]:
        first = next(_numbers) * 1_000_000
        values = {"provider": "firekassa", "amount": "10.00", "currency": "USD"} | fields
        return Invoice.objects.bulk_create(Invoice(external_id=str(first + i), **values) for i in range(number))

    return make


@pytest.fixture
def supervisor_client(supervisor: User) -> Client:
    return client_of(supervisor)


@pytest.fixture
def choose() -> Callable[..., BulkOperation]:
    """Return a function that selects invoices in the change list and runs an action; it returns the draft."""

    def run(client: Client, chosen: list[Invoice], action: str = "cancel_selected_invoices") -> BulkOperation:
        data = {"action": action, "_selected_action": [str(invoice.pk) for invoice in chosen[:100]], "index": "0"}
        if len(chosen) > 100:
            data["select_across"] = "1"
        before = set(BulkOperation.objects.values_list("pk", flat=True))
        answer = client.post(reverse("admin:invoice_cancel_invoice_changelist"), data)
        made = BulkOperation.objects.exclude(pk__in=before).get()
        if made.progress == "draft":
            assert answer.headers["Location"] == operation_url(made)
        else:
            assert answer.context["page_key"] == str(made.page_key)
        return made

    return run


@pytest.fixture
def running(
    operator_client: Client, invoices: Callable[..., list[Invoice]], choose: Callable[..., BulkOperation]
) -> Callable[[int], BulkOperation]:
    """Return a function that selects and confirms invoices. The response of the confirmation is ``page``."""

    def start(number: int) -> BulkOperation:
        draft: Any = choose(operator_client, invoices(number))
        draft.page = operator_client.post(operation_url(draft, "confirm"), {"reason": "too old"})
        draft.refresh_from_db()
        started: BulkOperation = draft
        return started

    return start
