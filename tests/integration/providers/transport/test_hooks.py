"""A system check warns if connections cannot report whether a request was sent."""

import http.client

import pytest
import urllib3
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection

from django_invoice_cancel.providers.transport import Transport, hooks_missing

from .conftest import Connect


def test_all_hooks_are_installed(connect: Connect) -> None:
    assert hooks_missing() == []
    assert connect("https://provider.test").tracks_connections


@pytest.mark.parametrize(
    ("owner", "name"),
    [
        (HTTPAdapter, "get_connection_with_tls_context"),
        (urllib3.HTTPConnectionPool, "_put_conn"),
        (HTTPConnection, "is_connected"),
        (http.client.HTTPResponse, "_close_conn"),
    ],
)
def test_missing_hook_is_named(owner: type, name: str, connect: Connect, monkeypatch: pytest.MonkeyPatch) -> None:
    transport: Transport = connect("https://provider.test")
    monkeypatch.delattr(owner, name)

    assert hooks_missing() == [f"{owner.__name__}.{name}"]
    assert not transport.tracks_connections


def test_pool_manager_without_its_table_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    from django_invoice_cancel.providers.transport import connections

    monkeypatch.setattr(connections, "PoolManager", object)

    assert hooks_missing() == ["PoolManager.pool_classes_by_scheme"]
