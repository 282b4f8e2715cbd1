"""Fixtures of the transport tests: no proxies in the environment, servers and transports that are closed at the end."""

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from django_invoice_cancel.domain.secrets import Secret
from django_invoice_cancel.providers.transport import Transport, silence

from .fault_server import Behaviour, Certificates, FaultServer, make_certificates

TOKEN = "tok-3f9c/1d+ae77"
SEEN_BY_REQUESTS = ("_proxy", "_ca_bundle", "ssl_cert_file", "netrc")

Serve = Callable[..., FaultServer]
Connect = Callable[..., Transport]


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Remove this machine's proxies and certificates."""
    for name in list(os.environ):
        if name.lower().endswith(SEEN_BY_REQUESTS):
            monkeypatch.delenv(name)


@pytest.fixture(autouse=True)
def no_minimum_silence(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a new connection wait only one round trip for early bytes. The tests of early answers set a long time."""
    monkeypatch.setattr(silence, "MIN_SECONDS", 0.0)


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Start a server with a behaviour; it is closed after the test."""
    with ExitStack() as stack:
        yield lambda behave, **kwargs: stack.enter_context(FaultServer(_checked(behave), **kwargs))


def _checked(behave: Behaviour) -> Behaviour:
    assert callable(behave)
    return behave


@pytest.fixture
def connect() -> Iterator[Connect]:
    """Make a transport; it is closed after the test."""
    with ExitStack() as stack:

        def make(base_url: str, **kwargs: Any) -> Transport:
            token = Secret(kwargs.pop("token", TOKEN))
            secrets = kwargs.pop("secrets", [token])
            transport = Transport(base_url=base_url, scheme="Bearer", token=token, secrets=secrets, **kwargs)
            stack.callback(transport.close)
            return transport

        yield make
