"""Fixtures of the destructive tests: isolated environments on the database servers, removed after each test."""

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from django.db import connection

from django_invoice_cancel.testing.sandbox import SandboxProcess

from .environment import Environment, use_database
from .servers import Redis


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.parent == Path(__file__).parent:
            item.add_marker("destructive")


@pytest.fixture
def redis() -> Iterator[Redis]:
    with Redis() as server:
        yield server


@pytest.fixture
def make_environment(tmp_path: Path, settings: Any, django_db_blocker: Any) -> Iterator[Callable[..., Environment]]:
    """Return a function that makes an environment on a database server. It is removed after the test."""
    with ExitStack() as stack:

        def make(server_url: str, *, latency: float = 0.05, **options: Any) -> Environment:
            url = f"{server_url}/example_faults_{os.getpid()}"
            sandbox = stack.enter_context(SandboxProcess(latency=latency, keep_requests=False))
            environment = Environment(url, sandbox, tmp_path, **options)
            environment.make_database()
            stack.enter_context(django_db_blocker.unblock())
            stack.enter_context(use_database(url))
            settings.INVOICE_CANCEL = {**environment.invoice_cancel}
            stack.callback(drop_database)
            stack.callback(environment.end_workers)
            return environment

        yield make


def drop_database() -> None:
    name = connection.settings_dict["NAME"]
    connection.close()
    force = " WITH (FORCE)" if connection.vendor == "postgresql" else ""
    with connection._nodb_cursor() as cursor:
        cursor.execute(f"DROP DATABASE {connection.ops.quote_name(name)}{force}")


def server_url(name: str) -> str:
    """Return the address of one of the machine's database servers."""
    variable = f"INVOICE_CANCEL_TEST_{name.upper()}_URL"
    if not os.environ.get(variable):
        pytest.skip(f"needs {name}: set {variable}")
    return os.environ[variable].rstrip("/")
