"""The environment of a fault test: its own database, the providers in a process, and a recipe's worker processes.

The example's settings and commands are used unchanged. The results are read from the database in this process and
counted at the provider.
"""

import json
import os
import random
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from django.db import connections

from django_invoice_cancel.models import BulkOperation, Invoice
from django_invoice_cancel.testing.sandbox import SandboxProcess, invoice_id
from tests import settings as test_settings

from .servers import end

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = ROOT / "example_project"
LATER_SECONDS = str(Path(__file__).with_name("manage_later.py"))
POLL_SECONDS = 0.2
HANG_SECONDS = 300.0
"""What takes longer than this has failed. Each step takes a few seconds on an idle machine."""

WORKERS = {
    # One process each, so that a kill -9 ends a whole worker.
    "settings_celery": [
        "-m",
        "celery",
        "--quiet",
        "-A",
        "shop.celery",
        "worker",
        "--pool",
        "solo",
        "--loglevel",
        "ERROR",
    ],
    "settings_tasks": ["manage.py", "db_worker", "--no-reload", "--no-startup-delay"],
}


class Environment:
    """A database, the sandbox, and the worker processes of a recipe."""

    def __init__(self, database_url: str, sandbox: SandboxProcess, folder: Path, *, recipe: str, **more: Any) -> None:
        self.database_url = database_url
        self.sandbox = sandbox
        self.recipe = recipe
        self.workers: list[subprocess.Popen[bytes]] = []
        self.errors = folder / "stderr"
        providers = sandbox.settings(deadline=10.0, **more.pop("options", {}))
        providers["firekassa"]["OPTIONS"]["lookup"] = True
        self.invoice_cancel = {"PROVIDERS": providers, **more.pop("settings", {})}
        self.env = {
            **os.environ,
            "PYTHONPATH": f"{ROOT}{os.pathsep}{EXAMPLE}",
            "DJANGO_SETTINGS_MODULE": "tests.faults.recipe_settings",
            "FAULT_TEST_RECIPE": recipe,
            "FAULT_TEST_INVOICE_CANCEL": json.dumps(self.invoice_cancel),
            "EXAMPLE_DATABASE_URL": database_url,
            "EXAMPLE_LOG_LEVEL": "ERROR",
            **more,
        }

    # -- commands -------------------------------------------------------------------------------------------------

    def make_database(self) -> None:
        self._python("-c", "import django; django.setup(); import launch; launch.make_database()")

    def manage(self, *arguments: str, seconds_later: float = 0, codes: tuple[int, ...] = (0,)) -> str:
        """Run a command of ``manage.py`` with its clock moved forward by ``seconds_later``. Return its output."""
        script = [LATER_SECONDS, str(seconds_later)] if seconds_later else ["manage.py"]
        return self._python(*script, *arguments, codes=codes)

    def _python(self, *arguments: str, codes: tuple[int, ...] = (0,)) -> str:
        command = [sys.executable, *arguments]
        done = subprocess.run(
            command, cwd=EXAMPLE, env=self.env, capture_output=True, text=True, timeout=HANG_SECONDS, check=False
        )
        assert done.returncode in codes, f"{arguments}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done.stdout.strip()

    # -- workers --------------------------------------------------------------------------------------------------

    def start_worker(self) -> "subprocess.Popen[bytes]":
        named = ["--hostname", f"faults{len(self.workers)}-{os.getpid()}@localhost"]
        return self.start(*WORKERS[self.recipe], *(named if self.recipe == "settings_celery" else ()))

    def start(self, *arguments: str) -> "subprocess.Popen[bytes]":
        """Start a process of the example. Its output is appended to ``errors``."""
        with self.errors.open("ab") as errors:
            command = [sys.executable, *arguments]
            child = subprocess.Popen(command, cwd=EXAMPLE, env=self.env, stdout=errors, stderr=errors)
        self.workers.append(child)
        return child

    def end_workers(self) -> None:
        for child in self.workers:
            if child.poll() is None:
                end(child)
        self.workers.clear()

    # -- state ---------------------------------------------------------------------------------------------------

    def register(self, behaviours: dict[str, int]) -> None:
        """Store open invoices: the given number of each behaviour, alternating between both providers."""
        drawn = [behaviour for behaviour, count in behaviours.items() for _ in range(count)]
        random.Random(1).shuffle(drawn)  # noqa: S311 - five faults in a row would pause the provider
        rows = []
        for number, behaviour in enumerate(drawn):
            provider = ("cryptocloud", "firekassa")[number % 2]
            rows.append(Invoice(provider=provider, external_id=invoice_id(provider, number, behaviour)))
        Invoice.objects.bulk_create(rows, batch_size=1000)

    def start_operation(self) -> BulkOperation:
        """Start an operation on all invoices from a shell."""
        return BulkOperation.objects.get(pk=self.manage("cancel_invoices", "--all", "--noinput", "--background"))

    def progress(self, operation: BulkOperation) -> str:
        operation.refresh_from_db()
        return operation.progress

    def resume(self, operation: BulkOperation) -> str:
        """Resume the operation without sending a task. Return its id."""
        BulkOperation.objects.filter(pk=operation.pk).update(progress="running")
        return str(operation.pk)

    def configure(self, **options: Any) -> None:
        """Set options of both providers for the processes that are started later."""
        for provider in self.invoice_cancel["PROVIDERS"].values():
            provider["OPTIONS"].update(options)
        self.env["FAULT_TEST_INVOICE_CANCEL"] = json.dumps(self.invoice_cancel)

    def wait(self, condition: Callable[[], object], *, what: str) -> None:
        try:
            self.sandbox.wait_until(condition, HANG_SECONDS, every=POLL_SECONDS)
        except TimeoutError as error:
            raise TimeoutError(f"{what}: not after {HANG_SECONDS:g} s.\n{self.errors.read_text()[-4000:]}") from error

    def wait_idle(self, *, seconds: float) -> None:
        """Wait until no request has arrived for ``seconds``."""
        with suppress(TimeoutError):
            while True:
                last = self.sent()
                self.sandbox.wait_until(lambda last=last: self.sent() != last, seconds, every=POLL_SECONDS)

    def close_connection(self) -> None:
        """Close this process's connection before the server stops."""
        connections["default"].close()

    def sent(self) -> int:
        """Return the number of received cancel requests."""
        return self.sandbox.count("cancel")


@contextmanager
def use_database(database_url: str) -> Iterator[None]:
    """Replace the default database of this process."""
    mine = connections.settings["default"]
    other = connections.configure_settings({"default": test_settings.database(database_url, "default")})
    _replace(other["default"])
    try:
        yield
    finally:
        _replace(mine)


def _replace(settings: dict[str, Any]) -> None:
    connections["default"].close()
    del connections["default"]
    connections.settings["default"] = settings
