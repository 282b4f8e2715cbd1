"""Fixtures of the tests about the invoice pages: scripted accounts and users."""

from collections.abc import Callable
from itertools import count
from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from django.test import Client

from django_invoice_cancel.testing import ScriptedProvider

SCRIPTED = "django_invoice_cancel.testing.ScriptedProvider"

_numbers = count(1)


@pytest.fixture
def configure(settings: Any) -> Callable[..., ScriptedProvider]:
    """Return a function that configures the account ``shop`` (settings in capitals) and returns it."""

    def configure(**options: Any) -> ScriptedProvider:
        own = {name: value for name, value in options.items() if name.islower()}
        rest = {name: value for name, value in options.items() if name.isupper()}
        settings.INVOICE_CANCEL = {"PROVIDERS": {"shop": {"BACKEND": SCRIPTED, "OPTIONS": own}}, **rest}
        return ScriptedProvider.of("shop")

    return configure


@pytest.fixture
def shop(configure: Callable[..., ScriptedProvider]) -> ScriptedProvider:
    """The account ``shop``, which cancels what it may and can be asked for a status."""
    return configure()


@pytest.fixture
def client_with(db: None) -> Callable[..., Client]:
    """Return a function that logs in a user with these permissions on invoices; the name is ``operator-N``."""

    def make(*actions: str, **fields: Any) -> Client:
        user = User.objects.create_user(f"operator-{next(_numbers)}", is_staff=True, **fields)
        codenames = [f"{action}_invoice" for action in actions]
        user.user_permissions.set(Permission.objects.filter(codename__in=codenames))
        client = Client()
        client.force_login(user)
        client.user = user
        return client

    return make


@pytest.fixture
def operator(client_with: Callable[..., Client]) -> Client:
    """May see, cancel and resolve."""
    return client_with("view", "cancel", "resolve")
