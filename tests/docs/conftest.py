"""The environment of the code examples in the docs: the sandbox over HTTP, a user, and a minimal shop of the reader."""

import os
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from django.contrib.auth import get_user_model
from django.db import transaction
from django.test import RequestFactory

from django_invoice_cancel.models import Invoice
from django_invoice_cancel.signals import invoice_paid_after_cancel, invoice_status_changed
from django_invoice_cancel.testing import ProviderSandbox, make_invoice

EXTERNAL_ID = "INV-89UX09KA"


class Orders:
    """The reader's ``Order`` and its manager in one, with one order."""

    def __init__(self) -> None:
        self.objects = self
        self.order = {"number": "order-17", "state": "open"}

    def filter(self, **which: Any) -> SimpleNamespace:
        is_found = which.items() <= self.order.items()
        return SimpleNamespace(update=self.order.update if is_found else lambda **values: None)


@pytest.fixture
def sandbox(settings: Any) -> Iterator[ProviderSandbox]:
    with ProviderSandbox() as sandbox:
        settings.INVOICE_CANCEL = {"PROVIDERS": sandbox.settings(deadline=2)}
        yield sandbox


@pytest.fixture(autouse=True)
def no_receiver_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    for signal in (invoice_status_changed, invoice_paid_after_cancel):
        monkeypatch.setattr(signal, "receivers", list(signal.receivers))


@pytest.fixture
def reader(transactional_db: None, sandbox: ProviderSandbox) -> Callable[..., dict[str, Any]]:
    """Return a function that makes the namespace of a snippet: the names that its reader already has."""

    def make(status: str = "created") -> dict[str, Any]:
        invoice = make_invoice(status, provider="cryptocloud", external_id=EXTERNAL_ID, reference="order-17")
        user = get_user_model().objects.create_user("reader")
        request: Any = RequestFactory().post("/")
        request.user = user
        order = SimpleNamespace(number="order-17", cryptocloud_uuid=EXTERNAL_ID, save=lambda: None)
        warnings: list[str] = []
        mails: list[tuple[str, str]] = []
        return {
            "INSTALLED_APPS": ["django.contrib.admin"],
            "Invoice": Invoice,
            "os": os,
            "Order": Orders(),
            "get_object_or_404": lambda model, **lookup: order,
            "invoice": invoice,
            "mail_managers": lambda subject, message: mails.append((subject, message)),
            "mails": mails,
            "messages": SimpleNamespace(warning=lambda request, text: warnings.append(text)),
            "order": order,
            "postback": {"invoice_id": EXTERNAL_ID.removeprefix("INV-"), "status": "success"},
            "redirect": lambda target: target,
            "request": request,
            "transaction": transaction,
            "warnings": warnings,
        }

    return make
