"""A dispatcher that never returns, fails halfway or never runs: the operation is stored, and the sweep continues it."""

import functools
import socket
import threading
import time

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.db import connection

from django_invoice_cancel import operations
from django_invoice_cancel.models import BulkOperation
from django_invoice_cancel.models import dispatch as dispatching
from django_invoice_cancel.operations import advance
from tests.integration.tasks.conftest import cancels

pytestmark = pytest.mark.django_db(transaction=True)

STALLED: dict[str, int] = {}
calls: list[str] = []
connections_used: list[object] = []


def publish(operation_id):
    """Publish as a client without a time-out does: connect, send, and wait for the broker's answer."""
    with socket.create_connection(("127.0.0.1", STALLED["port"])) as client:
        client.sendall(operation_id.encode())
        client.recv(1)


def fail_at_second(operation_id):
    calls.append(operation_id)
    if len(calls) == 2:
        raise ConnectionError("the broker is down")


def read_database(operation_id):
    assert BulkOperation.objects.filter(pk=operation_id).exists()
    connections_used.append(connection.connection)


async def never_runs(operation_id):
    calls.append(operation_id)


def makes_a_coroutine(operation_id):
    return never_runs(operation_id)


partly = functools.partial(never_runs)


@pytest.fixture(autouse=True)
def forget():
    calls.clear()
    connections_used.clear()


@pytest.fixture
def stalled_broker():
    """Accept connections and answer none until the end of the test."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        STALLED["port"] = server.getsockname()[1]
        accepted = []

        def accept():
            while True:
                try:
                    accepted.append(server.accept()[0])
                except OSError:
                    return

        threading.Thread(target=accept, daemon=True).start()
        yield accepted
        server.shutdown(socket.SHUT_RDWR)
        for each in accepted:
            each.close()


@pytest.mark.parametrize("step", ["start", "resume"])
def test_broker_that_does_not_answer_leaves_the_operation_running(
    invoices, dispatch, stalled_broker, monkeypatch, caplog, step
):
    monkeypatch.setattr(dispatching, "DISPATCH_SECONDS", 0.3)
    dispatch(f"{__name__}.publish" if step == "start" else None, DISPATCH_WORKERS=4)
    begun = time.monotonic()
    operation = operations.start(invoices(3))
    if step == "resume":
        operation.stop()
        dispatch(f"{__name__}.publish")
        assert operation.resume()
    assert time.monotonic() - begun < 20
    operation.refresh_from_db()
    assert operation.progress == "running"
    assert operation.items.left().count() == 3
    assert len(stalled_broker) == 1
    assert "has not returned after 0.3 s" in caplog.text
    assert cancels() == 0

    assert advance(operation.pk).is_finished
    assert cancels() == 3


def test_failed_message_does_not_affect_the_others(invoices, dispatch, caplog):
    dispatch(f"{__name__}.fail_at_second", DISPATCH_WORKERS=3)
    operation = operations.start(invoices(3))
    operation.refresh_from_db()
    assert len(calls) == 3
    assert operation.chains == 2
    assert "the broker is down" in caplog.text


@pytest.mark.parametrize("name", ["never_runs", "partly"])
def test_async_dispatcher_is_refused_before_anything_is_stored(invoices, dispatch, name):
    dispatch(f"{__name__}.{name}")
    with pytest.raises(ImproperlyConfigured, match="async function"):
        operations.start(invoices(3))
    assert BulkOperation.objects.count() == 0
    assert calls == []


def test_dispatcher_that_returns_a_coroutine_is_logged(invoices, dispatch, caplog):
    dispatch(f"{__name__}.makes_a_coroutine")
    operation = operations.start(invoices(3))
    assert "async function" in caplog.text
    operation.refresh_from_db()
    assert operation.progress == "running"
    assert calls == []


def test_dispatcher_that_uses_the_database_shares_the_callers_connection(invoices, dispatch, monkeypatch):
    monkeypatch.setattr(read_database, "uses_database", True, raising=False)
    dispatch(f"{__name__}.read_database")
    operations.start(invoices(3))
    assert connections_used == [connection.connection]
