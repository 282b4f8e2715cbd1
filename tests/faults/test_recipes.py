"""The recipes of the example with a few invoices, on every Django: those of `make serve-celery` and `serve-tasks`.

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
from .reading import broken_logs, disagreements, item_outcomes, requests_each
from .world import EXAMPLE, POLL_SECONDS

COUNT = 200
PREFORKED = ["-m", "celery", "--quiet", "-A", "shop.celery", "worker", "--concurrency", "4", "--loglevel", "ERROR"]
RECIPES = [
    pytest.param("settings_celery", [PREFORKED], id="celery"),
    pytest.param("settings_tasks", [["manage.py", "db_worker", "--no-reload", "--no-startup-delay"]] * 2, id="tasks"),
]


@pytest.mark.parametrize(("recipe", "commands"), RECIPES)
def test_workers_of_a_recipe_finish_an_operation(redis, make_world, recipe, commands):
    world = make_world(server_url("postgres_server"), recipe=recipe, EXAMPLE_REDIS_URL=redis.url)
    world.register({"ordinary": COUNT})
    operation = world.start_operation()
    for command in commands:
        world.start(*command)

    world.wait(lambda: world.progress(operation) == "finished", seconds=60, what="the operation is finished")

    assert item_outcomes(operation) == {"canceled": COUNT}
    assert requests_each(world.sandbox) == {1: COUNT}
    assert disagreements(world.sandbox) == {}
    assert broken_logs() == []


@pytest.mark.parametrize(("recipe", "commands"), RECIPES)
def test_stop_stops_all_workers_and_resume_goes_on(redis, make_world, recipe, commands):
    """A slice looks once a second whether it is stopped: at 50 ms and 20/s no more than two seconds' worth follow."""
    options = {"rate": 20.0}
    world = make_world(server_url("postgres_server"), recipe=recipe, EXAMPLE_REDIS_URL=redis.url, options=options)
    world.register({"ordinary": COUNT})
    for command in commands:
        world.start(*command)
    operation = world.start_operation()
    world.wait(lambda: world.sent() >= 20, seconds=60, what="20 requests")

    operation.stop()
    at_stop = world.sent()
    world.wait_idle(seconds=3)

    assert world.sent() <= at_stop + 2 * 2 * 20
    assert not Invoice.objects.filter(status="canceling").exists()
    assert world.sent() < COUNT
    world.configure(rate=1000.0)
    world.manage("run_bulk_operations", world.resume(operation))
    assert world.progress(operation) == "finished"
    assert item_outcomes(operation) == {"canceled": COUNT}
    assert requests_each(world.sandbox) == {1: COUNT}
    assert disagreements(world.sandbox) == {}
    assert broken_logs() == []


def test_operation_outlives_a_broker_that_is_down(redis, make_world):
    """Nobody could be told: the command says so in its log, and the sweep does the work."""
    world = make_world(server_url("postgres_server"), recipe="settings_celery", EXAMPLE_REDIS_URL=redis.url)
    world.register({"ordinary": 20})
    redis.kill()

    operation = world.start_operation()
    assert operation.progress == "running"
    assert world.sent() == 0
    world.manage("run_bulk_operations")

    assert world.progress(operation) == "finished"
    assert item_outcomes(operation) == {"canceled": 20}
    assert requests_each(world.sandbox) == {1: 20}
    assert disagreements(world.sandbox) == {}
    assert broken_logs() == []


def test_lines_of_the_crontab_run(redis, make_world):
    world = make_world(server_url("postgres_server"), recipe="settings_tasks")
    world.register({"ordinary": 20})
    operation = world.start_operation()
    lines = (EXAMPLE / "crontab").read_text().splitlines()
    commands = [re.split(r"\s+", line, maxsplit=5)[5] for line in lines if line.startswith("*")]
    assert len(commands) == 2

    for command in commands:
        shell = {**world.env, "SHOP": str(EXAMPLE), "PYTHON": sys.executable}
        subprocess.run(["/bin/sh", "-c", command], env=shell, check=True, timeout=60, capture_output=True)

    assert world.progress(operation) == "finished"
    assert item_outcomes(operation) == {"canceled": 20}
    assert requests_each(world.sandbox) == {1: 20}
    assert disagreements(world.sandbox) == {}
    assert broken_logs() == []


def test_serving_at_a_taken_port_leaves_no_worker_behind(tmp_path):
    """The workers inherit the pipe: ``communicate`` comes back only when all have ended."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        arguments = ("--port", port, "--sandbox-port", "0", "--workers", "tasks")
        serving = start("serve.py", *arguments, var=tmp_path, stderr=subprocess.PIPE)
        _output, errors = serving.communicate(timeout=60)
    assert serving.returncode == 1
    assert errors.startswith(f"Port {port} of 127.0.0.1 is taken: ") is True


FOREIGN = {"celery": "a task of another project", "celery.other": "another one"}


def test_serving_with_celery_leaves_other_projects_alone_and_nothing_behind(redis, tmp_path):
    """They share a database of Redis, and the other project uses Celery's default queue."""
    client = pytest.importorskip("redis").Redis.from_url(redis.url, decode_responses=True)
    for queue, message in FOREIGN.items():
        client.lpush(queue, message)
    arguments = ("--port", "0", "--sandbox-port", "0", "--workers", "celery")
    env = {"EXAMPLE_REDIS_URL": redis.url}
    serving = start("serve.py", *arguments, var=tmp_path, stderr=subprocess.DEVNULL, env=env)
    database = tmp_path / "example.sqlite3"
    read_addresses(serving)
    SandboxProcess.wait_until(lambda: set(client.scan_iter()) - set(FOREIGN), 60, every=POLL_SECONDS)
    own = [key for key in client.scan_iter() if key not in FOREIGN]
    assert {key.partition(":")[0] for key in own} == {own[0].partition(":")[0]}
    since = datetime.now(UTC)
    SandboxProcess.wait_until(lambda: worked_on(database, since=f"{since:%F %T}"), 60, every=POLL_SECONDS)

    serving.terminate()
    serving.communicate(timeout=60)

    assert serving.returncode == 143
    assert {key: client.lrange(key, 0, -1) for key in client.scan_iter()} == {
        queue: [message] for queue, message in FOREIGN.items()
    }
    client.close()


def worked_on(database, *, since):
    with closing(sqlite3.connect(database)) as connection:
        sql = "SELECT COUNT(*) FROM invoice_cancel_bulkoperation WHERE worked_at > ?"
        return connection.execute(sql, [since]).fetchone()[0]
