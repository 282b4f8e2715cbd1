"""What ``demo.py`` and ``serve.py`` share: where the sandbox is, a fresh database, Django set up.

The address and the deadline go through the environment, because ``settings.py`` is read only once.
"""

import os
from pathlib import Path

import django
from django.conf import settings
from django.core.management import call_command
from django.db import connection

VAR = Path(__file__).resolve().parent / "var"


def set_up_django(*, sandbox_url: str, database: Path, recipe: str = "settings", **more: str) -> None:
    """Read the settings with these values, and make the database anew."""
    os.environ["DJANGO_SETTINGS_MODULE"] = recipe
    os.environ["EXAMPLE_SANDBOX_URL"] = sandbox_url
    os.environ["EXAMPLE_DATABASE"] = str(database)
    os.environ.update({f"EXAMPLE_{name.upper()}": value for name, value in more.items()})
    django.setup()
    make_database()


def make_database() -> None:
    """Make the example's database anew, with empty tables."""
    if connection.vendor == "sqlite":
        remove_database(Path(settings.DATABASES["default"]["NAME"]))
        call_command("migrate", verbosity=0)
    else:
        # Django knows how to replace a database on a server for its tests alone; ours is called what its TEST is.
        connection.creation.create_test_db(verbosity=0, autoclobber=True)


def database_file(name: str) -> Path:
    """Return where a database of the example lives, unless ``EXAMPLE_VAR`` says otherwise."""
    folder = Path(os.environ.get("EXAMPLE_VAR", VAR))
    folder.mkdir(parents=True, exist_ok=True)
    return folder / name


def remove_database(database: Path) -> None:
    """Remove an SQLite file and what it keeps beside it."""
    for suffix in ("", "-wal", "-shm", "-journal"):
        database.with_name(database.name + suffix).unlink(missing_ok=True)
