"""Fixtures of the tests about models and rules: the clock, a second instance, the sent signals."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import responses
import time_machine

from django_invoice_cancel import signals
from tests.support.writes import INSTANT


@pytest.fixture(autouse=True)
def nobody_is_asked() -> Iterator[None]:
    """The writer sends no requests: no test of this folder ends with a request."""
    with responses.RequestsMock() as web:
        yield
        assert len(web.calls) == 0


@pytest.fixture
def clock() -> Iterator[time_machine.Traveller]:
    """The clock, stopped at noon; ``clock.shift(seconds)`` moves it."""
    with time_machine.travel(INSTANT.timestamp(), tick=False) as traveller:
        yield traveller


@pytest.fixture
def sent_signals() -> Iterator[list[str]]:
    """The signals that went out, in order: "paid_after_cancel", or "old > new" for a change of status."""
    received: list[str] = []

    def changed(*, old_status: str, new_status: str, **kwargs: Any) -> None:
        received.append(f"{old_status} > {new_status}")

    def paid(**kwargs: Any) -> None:
        received.append("paid_after_cancel")

    signals.invoice_status_changed.connect(changed)
    signals.invoice_paid_after_cancel.connect(paid)
    yield received
    signals.invoice_status_changed.disconnect(changed)
    signals.invoice_paid_after_cancel.disconnect(paid)


@pytest.fixture
def limits(settings: Any) -> Callable[..., None]:
    """Return a function that sets other values in INVOICE_CANCEL."""

    def change(**values: Any) -> None:
        settings.INVOICE_CANCEL = settings.INVOICE_CANCEL | values

    return change
