"""The example's database: an SQLite file or, if ``EXAMPLE_DATABASE_URL`` is set, a PostgreSQL or MariaDB database.

``postgres://USER:PASSWORD@HOST:PORT/NAME`` or ``mysql://...`` (MariaDB too). The example deletes and recreates its
database, so the name of the database must begin with ``example``.
"""

import os
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from django.core.exceptions import ImproperlyConfigured

ENGINES = {"postgres": "postgresql", "postgresql": "postgresql", "mysql": "mysql", "mariadb": "mysql"}


def database(file: Path) -> dict[str, Any]:
    """Return the settings of the database in the environment variable, otherwise of the file."""
    url = os.environ.get("EXAMPLE_DATABASE_URL")
    chosen = server(url) if url else sqlite(file)
    # Every view runs in a transaction, as in most shops, so a cancel request must wait for its commit.
    return {**chosen, "ATOMIC_REQUESTS": True}


def sqlite(file: Path) -> dict[str, Any]:
    return {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": file,
        "OPTIONS": {
            # Without IMMEDIATE, two processes that read and then write fail at once with "database is locked".
            "transaction_mode": "IMMEDIATE",
            "timeout": 20,
            "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;",
        },
    }


def server(url: str) -> dict[str, Any]:
    parts = urlsplit(url)
    name = parts.path.strip("/")
    if parts.scheme not in ENGINES:
        raise ImproperlyConfigured("EXAMPLE_DATABASE_URL must begin with postgres:// or mysql://.")
    if not name.startswith("example"):
        raise ImproperlyConfigured(
            f"The database is recreated, so its name in EXAMPLE_DATABASE_URL must begin with 'example', not {name!r}."
        )
    engine = ENGINES[parts.scheme]
    return {
        "ENGINE": f"django.db.backends.{engine}",
        "NAME": name,
        "USER": unquote(parts.username or ""),
        "PASSWORD": unquote(parts.password or ""),
        "HOST": parts.hostname or "127.0.0.1",
        "PORT": str(parts.port or ""),
        # A worker that runs for days must detect a broken connection before it uses it.
        "CONN_HEALTH_CHECKS": True,
        "OPTIONS": {"charset": "utf8mb4"} if engine == "mysql" else {},
        "TEST": {"NAME": name, "CHARSET": "utf8mb4"} if engine == "mysql" else {"NAME": name},
    }
