"""Fixtures of the adapter tests: HTTP answers from a table, and a transport that stores its requests."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pytest
import responses

from django_invoice_cancel.providers.transport import Deadline, Exchange, Transport


@pytest.fixture
def web() -> Iterator[responses.RequestsMock]:
    """Mocked HTTP: a request to an unregistered address raises a ConnectionError."""
    with responses.RequestsMock(assert_all_requests_are_fired=False) as mock:
        yield mock


@dataclass
class Sent:
    """One request that an adapter passed to its transport."""

    method: str
    path: str
    body: bytes | None
    headers: Mapping[str, str]
    deadline: Deadline
    lease: Callable[[float], bool] | None


@pytest.fixture
def exchange_with(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[Sent]]:
    """Return a function that makes transports return these exchanges in turn, and returns the list of requests."""

    def replace_transport(*exchanges: Exchange) -> list[Sent]:
        remaining, sent = list(exchanges), []

        def request(transport: Transport, method: str, path: str, **rest: Any) -> Exchange:
            sent.append(Sent(method, path, **rest))
            return remaining.pop(0)

        monkeypatch.setattr(Transport, "request", request)
        return sent

    return replace_transport


def may_send(seconds_left: float) -> bool:
    """A lease that always permits sending."""
    return True
