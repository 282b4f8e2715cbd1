"""The recipes of the example with a few invoices: `make serve-celery` and `serve-tasks`.

Celery runs as in production, one parent with four children. The operations are started and stopped from a shell.
"""

import re
import socket
import sqlite3
import subprocess
import sys
from contextlib import closing
from datetime import UTC, datetime

import pytest

from django_invoice_cancel.models import Invoice
from django_invoice_cancel.testing.sandbox import SandboxProcess
from tests.example.conftest import read_addresses, start

from .conftest import server_url
from .consistency import count_item_outcomes, inconsistent_logs, mismatches, requests_each
from .environment import EXAMPLE, HANG_SECONDS, POLL_SECONDS

COUNT = 200
PREFORKED = ["-m", "celery", "--quiet", "-A", "shop.celery", "worker", "--concurrency", "4", "--loglevel", "ERROR"]
RECIPES = [
    pytest.param("settings_celery", [PREFORKED], id="celery"),
    pytest.param("settings_tasks", [["manage.py", "db_worker", "--no-reload", "--no-startup-delay"]] * 2, id="tasks"),
]


@pytest.mark.parametrize(("recipe", "commands"), RECIPES)
def test_workers_of_a_recipe_finish_an_operation(redis, make_environment, recipe, commands):
    environment = make_environment(server_url("postgres_server"), recipe=recipe, EXAMPLE_REDIS_URL=redis.url)
    environment.register({"ordinary": COUNT})
    operation = environment.start_operation()
    for command in commands:
        environment.start(*command)

    environment.wait(lambda: environment.progress(operation) == "finished", what="the operation is finished")

    assert count_item_outcomes(operation) == {"canceled": COUNT}
    assert requests_each(environment.sandbox) == {1: COUNT}
    assert mismatches(environment.sandbox) == {}
    assert inconsistent_logs() == []


@pytest.mark.parametrize(("recipe", "commands"), RECIPES)
def test_stopped_operation_sends_no_request_until_it_is_resumed(redis, make_environment, recipe, commands):
    """A slice checks once a second whether it is stopped, so at most the requests of two seconds follow."""
    rate = 5.0  # all invoices take 20 seconds, so that a slow machine stops the operation before its end
    environment = make_environment(
        server_url("postgres_server"), recipe=recipe, EXAMPLE_REDIS_URL=redis.url, options={"rate": rate}
    )
    environment.register({"ordinary": COUNT})
    for command in commands:
        environment.start(*command)
    operation = environment.start_operation()
    environment.wait(lambda: environment.sent() >= 10, what="10 requests")

    operation.stop()
    at_stop = environment.sent()
    environment.wait_idle(seconds=3)
    environment.wait(lambda: not Invoice.objects.filter(status="canceling").exists(), what="no invoice is claimed")

    assert environment.sent() <= at_stop + 2 * 2 * rate
    assert environment.sent() < COUNT
    environment.configure(rate=1000.0)
    environment.manage("run_bulk_operations", environment.resume(operation))
    assert environment.progress(operation) == "finished"
    assert count_item_outcomes(operation) == {"canceled": COUNT}
    assert requests_each(environment.sandbox) == {1: COUNT}
    assert mismatches(environment.sandbox) == {}
    assert inconsistent_logs() == []


def test_operation_is_completed_by_the_sweep_if_the_broker_is_down(redis, make_environment):
    environment = make_environment(server_url("postgres_server"), recipe="settings_celery", EXAMPLE_REDIS_URL=redis.url)
    environment.register({"ordinary": 20})
    redis.kill()

    operation = environment.start_operation()
    assert operation.progress == "running"
    assert environment.sent() == 0
    environment.manage("run_bulk_operations")

    assert environment.progress(operation) == "finished"
    assert count_item_outcomes(operation) == {"canceled": 20}
    assert requests_each(environment.sandbox) == {1: 20}
    assert mismatches(environment.sandbox) == {}
    assert inconsistent_logs() == []


def test_commands_of_the_crontab_finish_an_operation(redis, make_environment):
    environment = make_environment(server_url("postgres_server"), recipe="settings_tasks")
    environment.register({"ordinary": 20})
    operation = environment.start_operation()
    lines = (EXAMPLE / "crontab").read_text().splitlines()
    commands = [re.split(r"\s+", line, maxsplit=5)[5] for line in lines if line.startswith("*")]
    assert len(commands) == 2

    for command in commands:
        shell = {**environment.env, "SHOP": str(EXAMPLE), "PYTHON": sys.executable}
        subprocess.run(["/bin/sh", "-c", command], env=shell, check=True, timeout=HANG_SECONDS, capture_output=True)

    assert environment.progress(operation) == "finished"
    assert count_item_outcomes(operation) == {"canceled": 20}
    assert requests_each(environment.sandbox) == {1: 20}
    assert mismatches(environment.sandbox) == {}
    assert inconsistent_logs() == []


def test_serve_with_a_port_in_use_ends_its_workers(tmp_path):
    """The workers inherit the pipe, so ``communicate`` returns only after all have ended."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        arguments = ("--port", port, "--sandbox-port", "0", "--workers", "tasks")
        serving = start("serve.py", *arguments, var=tmp_path, stderr=subprocess.PIPE)
        _output, errors = serving.communicate(timeout=HANG_SECONDS)
    assert serving.returncode == 1
    assert errors.startswith(f"Port {port} of 127.0.0.1 is in use. ") is True


FOREIGN = {"celery": "a task of another project", "celery.other": "another one"}


def test_serve_with_celery_uses_queues_of_its_own_and_empties_them(redis, tmp_path):
    """Both projects share a database of Redis, and the other one uses Celery's default queue."""
    client = pytest.importorskip("redis").Redis.from_url(redis.url, decode_responses=True)
    for queue, message in FOREIGN.items():
        client.lpush(queue, message)
    arguments = ("--port", "0", "--sandbox-port", "0", "--workers", "celery")
    env = {"EXAMPLE_REDIS_URL": redis.url}
    serving = start("serve.py", *arguments, var=tmp_path, stderr=subprocess.DEVNULL, env=env)
    database = tmp_path / "example.sqlite3"
    read_addresses(serving)
    SandboxProcess.wait_until(lambda: set(client.scan_iter()) - set(FOREIGN), HANG_SECONDS, every=POLL_SECONDS)
    own = [key for key in client.scan_iter() if key not in FOREIGN]
    assert {key.partition(":")[0] for key in own} == {own[0].partition(":")[0]}
    since = datetime.now(UTC)
    SandboxProcess.wait_until(lambda: worked_on(database, since=f"{since:%F %T}"), HANG_SECONDS, every=POLL_SECONDS)

    serving.terminate()
    serving.communicate(timeout=HANG_SECONDS)

    assert serving.returncode == 143
    assert {key: client.lrange(key, 0, -1) for key in client.scan_iter()} == {
        queue: [message] for queue, message in FOREIGN.items()
    }
    client.close()


def worked_on(database, *, since):
    with closing(sqlite3.connect(database)) as connection:
        sql = "SELECT COUNT(*) FROM invoice_cancel_bulkoperation WHERE worked_at > ?"
        return connection.execute(sql, [since]).fetchone()[0]
