"""What ``demo.py`` and ``serve.py`` share: where the sandbox is, a fresh database, Django set up.

The address and the deadline go through the environment, because ``settings.py`` is read only once.
"""

import os
from pathlib import Path

import django
from django.core.management import call_command

VAR = Path(__file__).resolve().parent / "var"


def set_up_django(*, sandbox_url: str, database: Path, **more: str) -> None:
    """Read the settings with these values, and make the database anew."""
    os.environ["DJANGO_SETTINGS_MODULE"] = "settings"
    os.environ["EXAMPLE_SANDBOX_URL"] = sandbox_url
    os.environ["EXAMPLE_DATABASE"] = str(database)
    os.environ.update({f"EXAMPLE_{name.upper()}": value for name, value in more.items()})
    django.setup()
    remove_database(database)
    call_command("migrate", verbosity=0)


def database_file(name: str) -> Path:
    """Return where a database of the example lives, unless ``EXAMPLE_VAR`` says otherwise."""
    folder = Path(os.environ.get("EXAMPLE_VAR", VAR))
    folder.mkdir(parents=True, exist_ok=True)
    return folder / name


def remove_database(database: Path) -> None:
    """Remove an SQLite file and what it keeps beside it."""
    for suffix in ("", "-wal", "-shm", "-journal"):
        database.with_name(database.name + suffix).unlink(missing_ok=True)
