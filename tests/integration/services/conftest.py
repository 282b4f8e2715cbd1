"""Fixtures of the service tests: one sandbox for all tests, and invoices that are registered with it."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import responses

from django_invoice_cancel.models import Invoice
from django_invoice_cancel.testing import ScriptedProvider
from django_invoice_cancel.testing.sandbox import ProviderSandbox


@pytest.fixture(scope="session")
def running_sandbox() -> Iterator[ProviderSandbox]:
    with ProviderSandbox() as sandbox:
        yield sandbox


@pytest.fixture
def sandbox(running_sandbox: ProviderSandbox, settings: Any) -> Iterator[ProviderSandbox]:
    """Yield the sandbox after a reset. Both providers are configured with their own names as aliases."""
    running_sandbox.reset()
    settings.INVOICE_CANCEL = {"PROVIDERS": running_sandbox.settings(deadline=10.0)}
    yield running_sandbox
    running_sandbox.reset()


@pytest.fixture
def configure(running_sandbox: ProviderSandbox, settings: Any) -> Callable[..., None]:
    """Return a function that sets options of both providers, and settings in capitals."""

    def configure(**changes: Any) -> None:
        options = {name: value for name, value in changes.items() if name.islower()}
        rest = {name: value for name, value in changes.items() if name.isupper()}
        providers = running_sandbox.settings(**{"deadline": 10.0, **options})
        settings.INVOICE_CANCEL = {"PROVIDERS": providers, **rest}

    return configure


@pytest.fixture
def with_firekassa_lookup(running_sandbox: ProviderSandbox, settings: Any) -> None:
    """Enable FireKassa's undocumented lookup."""
    providers = running_sandbox.settings(deadline=10.0)
    providers["firekassa"]["OPTIONS"]["lookup"] = True
    settings.INVOICE_CANCEL = {"PROVIDERS": providers}


@pytest.fixture
def register(running_sandbox: ProviderSandbox) -> Callable[..., Invoice]:
    """Return a function that registers an invoice with a behaviour of the sandbox."""

    def register(behaviour: str = "ordinary", *, provider: str = "cryptocloud", using: str = "default") -> Invoice:
        external_id = running_sandbox.new_id(provider, behaviour)
        invoices = Invoice.objects.using(using)
        return invoices.create(provider=provider, external_id=external_id, reference="order-17")

    return register


@pytest.fixture
def web() -> Iterator[responses.RequestsMock]:
    """Refuse all HTTP requests that are not mocked."""
    with responses.RequestsMock(assert_all_requests_are_fired=False) as mock:
        yield mock


@pytest.fixture
def scripted(settings: Any) -> Callable[..., ScriptedProvider]:
    """Return a function that configures the scripted account ``shop`` (settings in capitals) and returns it."""

    def configure(**changes: Any) -> ScriptedProvider:
        options = {name: value for name, value in changes.items() if name.islower()}
        rest = {name: value for name, value in changes.items() if name.isupper()}
        backend = "django_invoice_cancel.testing.ScriptedProvider"
        settings.INVOICE_CANCEL = {"PROVIDERS": {"shop": {"BACKEND": backend, "OPTIONS": options}}, **rest}
        return ScriptedProvider.of("shop")

    return configure


@pytest.fixture
def shop(scripted: Callable[..., ScriptedProvider]) -> ScriptedProvider:
    """The scripted account ``shop``. It cancels open invoices and supports lookups."""
    return scripted()
