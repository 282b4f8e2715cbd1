"""Fixtures of the adapter tests: HTTP answers from a table, and a transport that stores its arguments."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest
import responses

from django_invoice_cancel.providers.http import HTTPProvider
from django_invoice_cancel.providers.transport import Deadline, Exchange


@pytest.fixture
def web() -> Iterator[responses.RequestsMock]:
    """Mocked HTTP: a request to an unregistered address raises a ConnectionError."""
    with responses.RequestsMock(assert_all_requests_are_fired=False) as mock:
        yield mock


@dataclass
class Asked:
    method: str
    path: str
    body: bytes | None
    headers: Mapping[str, str]
    deadline: Deadline
    lease: Callable[[float], bool] | None


@dataclass
class NotingTransport:
    """Returns the given exchanges in turn and stores the requests."""

    answers: list[Exchange]
    asked: list[Asked] = field(default_factory=list)
    is_closed: bool = False

    def request(self, method: str, path: str, **rest: Any) -> Exchange:
        self.asked.append(Asked(method, path, **rest))
        return self.answers.pop(0)

    def close(self) -> None:
        self.is_closed = True


@pytest.fixture
def noting(monkeypatch: pytest.MonkeyPatch) -> Callable[..., NotingTransport]:
    """Return a function that puts a noting transport under a provider."""

    def put_under(provider: HTTPProvider, *answers: Exchange) -> NotingTransport:
        transport = NotingTransport(list(answers))
        monkeypatch.setattr(provider, "_transport", transport)
        return transport

    return put_under


def may_send(seconds_left: float) -> bool:
    """A lease that always permits sending."""
    return True
