"""Fixtures of the bulk tests: scripted accounts, many invoices, a clock that tests can move, a sandbox process."""

import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
import time_machine

from django_invoice_cancel.models import Invoice
from django_invoice_cancel.models.queryset import InvoiceQuerySet
from django_invoice_cancel.testing import ScriptedProvider
from django_invoice_cancel.testing.sandbox import SandboxProcess, invoice_id

SCRIPTED = "django_invoice_cancel.testing.ScriptedProvider"


@pytest.fixture
def scripted(settings: Any) -> Callable[..., ScriptedProvider]:
    """Return a function that configures scripted accounts (settings in capitals) and returns the first."""

    def configure(*aliases: str, **options: Any) -> ScriptedProvider:
        lower = {name: value for name, value in options.items() if name.islower()}
        upper = {name: value for name, value in options.items() if name.isupper()}
        aliases = aliases or ("shop",)
        providers = {alias: {"BACKEND": SCRIPTED, "OPTIONS": lower} for alias in aliases}
        settings.INVOICE_CANCEL = {"PROVIDERS": providers, **upper}
        return ScriptedProvider.of(aliases[0])

    return configure


@pytest.fixture
def shop(scripted: Callable[..., ScriptedProvider]) -> ScriptedProvider:
    """The scripted account ``shop``, which cancels what it may."""
    return scripted()


@pytest.fixture
def make() -> Callable[..., InvoiceQuerySet]:
    """Return a function that stores open invoices of an account, and returns the query set of all its invoices."""
    made = 0

    def make(count: int, provider: str = "shop", *, using: str = "default", **fields: Any) -> InvoiceQuerySet:
        nonlocal made
        first, made = made, made + count
        rows = [Invoice(provider=provider, external_id=f"{n:06d}", **fields) for n in range(first, made)]
        Invoice.objects.using(using).bulk_create(rows)
        return Invoice.objects.using(using).filter(provider=provider)

    return make


class Clock:
    """All clocks of this process, which a test moves on from any thread."""

    def __init__(self, traveller: Any) -> None:
        self._traveller = traveller
        self.moved = 0.0

    def advance(self, seconds: float) -> None:
        self.moved += seconds
        self._traveller.shift(timedelta(seconds=seconds))


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[Clock]:
    monotonic = time.monotonic
    with time_machine.travel(time.time(), tick=True) as traveller:
        clock = Clock(traveller)
        monkeypatch.setattr(time, "monotonic", lambda: monotonic() + clock.moved)
        yield clock


@pytest.fixture(scope="session")
def running_process() -> Iterator[SandboxProcess]:
    with SandboxProcess() as process:
        yield process


@pytest.fixture
def sandbox(running_process: SandboxProcess, settings: Any) -> Iterator[SandboxProcess]:
    """Both providers in a process of their own, fresh, and configured under their names."""
    running_process.reset()
    running_process.configure(latency=0, rate=None, down="")
    settings.INVOICE_CANCEL = {"PROVIDERS": running_process.settings(deadline=10.0)}
    yield running_process
    running_process.reset()


@pytest.fixture
def at_sandbox() -> Callable[..., InvoiceQuerySet]:
    """Return a function that stores `count` invoices with ids that select a behavior of the sandbox."""
    made = 0

    def make(count: int, behaviour: str = "ordinary", provider: str = "cryptocloud") -> InvoiceQuerySet:
        nonlocal made
        first, made = made, made + count
        ids = [invoice_id(provider, number, behaviour) for number in range(first, made)]
        Invoice.objects.bulk_create([Invoice(provider=provider, external_id=each) for each in ids])
        return Invoice.objects.filter(provider=provider)

    return make
