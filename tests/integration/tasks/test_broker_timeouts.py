"""The documented settings of Celery's brokers: publishing ends in time, wherever the broker stops answering."""

import logging
import os
import re
import socket
import threading
import time
from urllib.parse import urlsplit

import pytest

from django_invoice_cancel import operations
from django_invoice_cancel.models import Invoice
from django_invoice_cancel.models.dispatch import DISPATCH_SECONDS
from django_invoice_cancel.operations import advance
from tests.docs.pages import text_of
from tests.integration.tasks.conftest import cancels

celery = pytest.importorskip("celery", reason="only with the dependency group celery")
pytestmark = pytest.mark.django_db(transaction=True)

QUEUE = "invoice-cancel-tests-of-time-outs"
publish = None


def dispatch_by_celery(operation_id):
    publish(operation_id)


def documented_settings(broker):
    """Return the settings of Celery in docs/howto/workers.md; ``broker`` names whose transport options are wanted."""
    lines = re.findall(r"^CELERY_\w+ = .*$", text_of("docs/howto/workers.md"), re.MULTILINE)
    wanted = [line for line in lines if "TRANSPORT_OPTIONS" not in line or line.endswith(f"# {broker}")]
    namespace = {}
    exec("\n".join(wanted), namespace)  # noqa: S102 - our own page
    return {name: value for name, value in namespace.items() if name.startswith("CELERY_")}


@pytest.fixture
def publisher(monkeypatch):
    """Return a function that makes ``publish`` send a task to a broker, with the documented settings."""

    def set_up(url, broker):
        app = celery.Celery("time-outs", broker=url, set_as_current=False)
        app.config_from_object({**documented_settings(broker), "CELERY_TASK_DEFAULT_QUEUE": QUEUE}, namespace="CELERY")

        @app.task(name="advance_bulk")
        def advance_bulk(operation_id):
            raise AssertionError("No worker takes it.")

        monkeypatch.setattr(f"{__name__}.publish", advance_bulk.delay)
        return app

    return set_up


@pytest.fixture
def stalling():
    """Return a function that starts a proxy of a broker and returns its port.

    After ``segments`` of the client it passes nothing on, and keeps the connections open. Without a broker it never
    answers.
    """
    sockets = [socket.create_server(("127.0.0.1", 0))]
    is_stalled = threading.Event()

    def start(target=None, segments=0):
        server = sockets[0]
        counter = []

        def pump(source, sink, is_client):
            try:
                while data := source.recv(65536):
                    counter.extend([1] if is_client else [])
                    if len(counter) > segments:
                        is_stalled.set()
                    if not is_stalled.is_set():
                        sink.sendall(data)
            except OSError:
                return

        def accept():
            while True:
                try:
                    client, _ = server.accept()
                except OSError:
                    return
                sockets.append(client)
                if target is None:
                    continue
                broker = socket.create_connection(target)
                sockets.append(broker)
                for arguments in ((client, broker, True), (broker, client, False)):
                    threading.Thread(target=pump, args=arguments, daemon=True).start()

        threading.Thread(target=accept, daemon=True).start()
        return server.getsockname()[1]

    yield start
    for each in reversed(sockets):
        with each:
            if each is sockets[0]:
                each.shutdown(socket.SHUT_RDWR)


def assert_left_to_the_sweep(invoices, caplog):
    begun = time.monotonic()
    with caplog.at_level(logging.ERROR):
        operation = operations.start(invoices(3))
    assert time.monotonic() - begun < DISPATCH_SECONDS
    operation.refresh_from_db()
    assert operation.progress == "running"
    assert operation.items.left().count() == 3
    assert cancels() == 0
    assert "has not returned after" not in caplog.text  # the client's own time-outs ended it
    assert re.search(r"timed out|Timeout", caplog.text)
    assert advance(operation.pk).is_finished
    assert cancels() == 3
    assert set(Invoice.objects.values_list("status", flat=True)) == {"canceled"}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("broker", "url"), [("Redis", "redis://127.0.0.1:{}/0"), ("RabbitMQ", "amqp://guest:guest@127.0.0.1:{}//")]
)
def test_broker_that_never_answers(invoices, dispatch, publisher, stalling, caplog, broker, url):
    publisher(url.format(stalling()), broker)
    dispatch(f"{__name__}.dispatch_by_celery", DISPATCH_WORKERS=1)
    assert_left_to_the_sweep(invoices, caplog)


@pytest.mark.needs_service("rabbitmq")
@pytest.mark.parametrize("segments", [4, 5, 7], ids=["opening a channel", "declaring the queue", "publishing"])
def test_rabbitmq_that_stops_answering(invoices, dispatch, publisher, stalling, caplog, segments):
    address = urlsplit(os.environ["INVOICE_CANCEL_TEST_RABBITMQ_URL"])
    port = stalling((address.hostname, address.port), segments)
    publisher(f"amqp://{address.username}:{address.password}@127.0.0.1:{port}/{address.path[1:]}", "RabbitMQ")
    dispatch(f"{__name__}.dispatch_by_celery", DISPATCH_WORKERS=1)
    assert_left_to_the_sweep(invoices, caplog)


@pytest.mark.needs_service("redis")
@pytest.mark.parametrize("segments", [1, 2])
def test_redis_that_stops_answering(invoices, dispatch, publisher, stalling, caplog, segments):
    address = urlsplit(os.environ["INVOICE_CANCEL_TEST_REDIS_URL"])
    port = stalling((address.hostname, address.port), segments)
    publisher(f"redis://127.0.0.1:{port}{address.path}", "Redis")
    dispatch(f"{__name__}.dispatch_by_celery", DISPATCH_WORKERS=1)
    assert_left_to_the_sweep(invoices, caplog)


@pytest.mark.needs_service("rabbitmq")
def test_idle_worker_receives_the_message_from_rabbitmq(invoices, dispatch, publisher, caplog):
    """A consumer with these time-outs waits for longer than they last."""
    app = publisher(os.environ["INVOICE_CANCEL_TEST_RABBITMQ_URL"], "RabbitMQ")
    options = documented_settings("RabbitMQ")["CELERY_BROKER_TRANSPORT_OPTIONS"]
    dispatch(f"{__name__}.dispatch_by_celery", DISPATCH_WORKERS=2)
    with app.connection_for_read() as connection, connection.default_channel as channel:
        channel.queue_delete(QUEUE)
        received = []
        consumer = connection.Consumer(app.amqp.queues[QUEUE], callbacks=[lambda body, _: received.append(body[0][0])])
        with consumer:
            with pytest.raises(TimeoutError):
                connection.drain_events(timeout=options["read_timeout"] + 0.5)
            operation = operations.start(invoices(3))
            while len(received) < 2:
                connection.drain_events(timeout=10)
        channel.queue_delete(QUEUE)
    operation.refresh_from_db()
    assert received == [str(operation.pk)] * 2
    assert operation.chains == 2
    assert cancels() == 0
    assert "Traceback" not in caplog.text
