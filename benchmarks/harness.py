"""What the benchmarks share: a Django of their own, a database of its own, the sandbox in a process of its own.

Everything runs on 127.0.0.1. ``--database`` is ``sqlite`` (WAL, synchronous=NORMAL) or ``postgres://USER@HOST:PORT/NAME``;
a test database is made for the run and removed after it.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import django
from django.conf import settings

RUNS = 5


def database(url: str) -> dict[str, Any]:
    if url == "sqlite":
        file = Path(tempfile.mkdtemp(), "benchmark.sqlite3")
        pragmas = "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;"
        options = {"transaction_mode": "IMMEDIATE", "timeout": 20, "init_command": pragmas}
        return {"ENGINE": "django.db.backends.sqlite3", "NAME": file, "OPTIONS": options, "TEST": {"NAME": file}}
    parts = urlsplit(url)
    engine = "postgresql" if parts.scheme.startswith("postgres") else "mysql"
    return {
        "ENGINE": f"django.db.backends.{engine}",
        "NAME": parts.path.strip("/"),
        "USER": parts.username or "",
        "PASSWORD": parts.password or "",
        "HOST": parts.hostname or "127.0.0.1",
        "PORT": parts.port or "",
    }


@contextmanager
def project(database_url: str) -> Iterator[None]:
    """Set Django up with a fresh database."""
    settings.configure(
        DATABASES={"default": database(database_url)},
        INSTALLED_APPS=["django.contrib.auth", "django.contrib.contenttypes", "django_invoice_cancel"],
        USE_TZ=True,
        SECRET_KEY="invented-for-benchmarks",
        INVOICE_CANCEL={"PROVIDERS": {}},
        LOGGING_CONFIG=None,
    )
    django.setup()
    from django.test.utils import setup_databases, teardown_databases

    made = setup_databases(verbosity=0, interactive=False)
    try:
        yield
    finally:
        teardown_databases(made, verbosity=0)


def use(providers: dict[str, Any], **more: Any) -> None:
    """Point INVOICE_CANCEL at these providers."""
    from django.core.signals import setting_changed

    settings.INVOICE_CANCEL = {"PROVIDERS": providers, **more}
    setting_changed.send(sender=None, setting="INVOICE_CANCEL", value=settings.INVOICE_CANCEL, enter=True)


_next_id = 100_000_000


def register(count: int, provider: str = "firekassa") -> Any:
    """Register so many fresh invoices, all of which the sandbox cancels without a fuss; return their query set."""
    from django_invoice_cancel.models import Invoice

    global _next_id
    first, _next_id = _next_id, _next_id + count
    known = Invoice.objects.order_by("-pk").values_list("pk", flat=True).first() or 0
    rows = (Invoice(provider=provider, external_id=f"{number}00") for number in range(first, first + count))
    Invoice.objects.bulk_create(rows, batch_size=2000)
    return Invoice.objects.filter(pk__gt=known)


def measured(run: Callable[[], Any]) -> tuple[float, float]:
    """Return wall and CPU seconds (all threads of this process) of one call."""
    wall, cpu = time.perf_counter(), time.process_time()
    run()
    return time.perf_counter() - wall, time.process_time() - cpu


def median(values: list[float]) -> float:
    return statistics.median(values)
