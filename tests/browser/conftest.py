"""Fixtures of the browser tests: the site with a strict policy, a sandbox, a window that reports errors.

A test fails if the browser reports an error: a violated policy, an exception in a script, a missing file.
"""

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest
from django.conf import settings as django_settings
from django.contrib.auth.models import User
from django.test import override_settings

from django_invoice_cancel.models import Invoice
from django_invoice_cancel.testing.sandbox import SandboxProcess, invoice_id
from tests.browser import policy
from tests.browser.window import Window

if TYPE_CHECKING:
    from playwright.sync_api import Browser


@pytest.fixture(scope="session", autouse=True)
def orm_beside_playwright() -> Iterator[None]:
    """Playwright runs an event loop in the thread of the tests, in which Django refuses database queries by default."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DJANGO_ALLOW_ASYNC_UNSAFE", "true")
        yield


@pytest.fixture(scope="session")
def providers() -> Iterator[SandboxProcess]:
    """Both providers, in a process of their own."""
    with SandboxProcess() as sandbox:
        yield sandbox


@pytest.fixture(scope="session")
def strict_site(providers: SandboxProcess) -> Iterator[None]:
    """Settings that the server reads as it starts: the policy, and accounts at the sandbox.

    FireKassa is configured as documented, without a lookup, so an invoice in doubt needs a person.
    """
    with override_settings(
        MIDDLEWARE=[*django_settings.MIDDLEWARE, policy.MIDDLEWARE],
        SECURE_CSP=policy.DIRECTIVES,
        INVOICE_CANCEL={"PROVIDERS": providers.settings(deadline=5.0), "DOUBT_PERIOD": 0.001},
    ):
        yield


@pytest.fixture(scope="session")
def live_server(strict_site: None, live_server: Any) -> Any:
    return live_server


@pytest.fixture
def sandbox(providers: SandboxProcess) -> SandboxProcess:
    providers.reset()
    return providers


@pytest.fixture
def clerk(transactional_db: None) -> User:
    return User.objects.create_superuser("clerk", password="invented-password")


@pytest.fixture
def colleague(transactional_db: None) -> str:
    """The name of a second operator, with the same password."""
    return User.objects.create_superuser("colleague", password="invented-password").get_username()


@pytest.fixture
def open_window(
    chromium: "Browser", live_server: Any, sandbox: SandboxProcess, clerk: User
) -> Iterator[Callable[..., Window]]:
    """Return a function that opens a separate window, logged in; its other keywords are those of ``new_context``."""
    windows: list[Window] = []

    def opened(username: str = "clerk", **options: Any) -> Window:
        windows.append(Window(chromium.new_context(**options), live_server.url))
        windows[-1].log_in(username, "invented-password")
        return windows[-1]

    yield opened
    for window in windows:
        window.close()
    assert [complaint for window in windows for complaint in window.complaints] == []


@pytest.fixture
def invoices(transactional_db: None) -> Callable[..., list[Invoice]]:
    """Return a function that makes ``count`` open invoices of a provider, with a behaviour of the sandbox."""
    made = 0

    def make(count: int, provider: str, behaviour: str = "ordinary") -> list[Invoice]:
        nonlocal made
        first, made = made, made + count
        return Invoice.objects.bulk_create(
            Invoice(
                provider=provider,
                external_id=invoice_id(provider, number, behaviour),
                reference=f"order-{number}",
                amount="100.00",
                currency="USD",
            )
            for number in range(first, first + count)
        )

    return make
