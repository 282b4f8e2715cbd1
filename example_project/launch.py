"""Common parts of ``demo.py`` and ``serve.py``: signals, the sandbox's address, a new database, Django's setup.

If something is not usable, the process exits with one sentence.

The address and the deadline are passed in the environment, because ``settings.py`` is read only once.
"""

import os
import signal
import sys
import warnings
from pathlib import Path

import django
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.core.management import call_command
from django.db import DatabaseError, connection

HERE = Path(__file__).resolve().parent


def end_on_signals() -> None:
    """Exit cleanly on Ctrl-C, SIGTERM and a closed terminal."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell starts a background job with SIGINT ignored
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) != signal.SIG_IGN:  # ignored by nohup
            signal.signal(number, lambda number, frame: sys.exit(128 + number))


def first_line(error: Exception) -> str:
    """Return the first line of an error's text."""
    return str(error).strip().partition("\n")[0]


def set_up_django(*, sandbox_url: str, database: Path, recipe: str = "settings", **more: str) -> None:
    """Load the settings with these values, and recreate the database."""
    os.environ["DJANGO_SETTINGS_MODULE"] = recipe
    os.environ["EXAMPLE_SANDBOX_URL"] = sandbox_url
    os.environ["EXAMPLE_DATABASE"] = str(database)
    os.environ.update({f"EXAMPLE_{name.upper()}": value for name, value in more.items()})
    try:
        django.setup()
        make_database()
    except (ImproperlyConfigured, DatabaseError) as error:
        sys.exit(f"The example's database cannot be used: {first_line(error)}")


def make_database() -> None:
    """Recreate the example's database with empty tables."""
    if connection.vendor == "sqlite":
        remove_database(Path(settings.DATABASES["default"]["NAME"]))
        call_command("migrate", verbosity=0)
    else:
        # Django can replace a database on a server only as a test database. The name of ours is the name in its TEST.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # a server that does not answer raises an exception
            connection.creation.create_test_db(verbosity=0, autoclobber=True)


def database_file(name: str) -> Path:
    """Return the path of a database of the example. ``EXAMPLE_VAR`` sets another folder."""
    folder = var()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / name).open("ab").close()
    except OSError as error:
        sys.exit(f"{folder / name} cannot be written ({error.strerror}). Set EXAMPLE_VAR to another folder.")
    return folder / name


def var() -> Path:
    """Return the folder for all files that the example writes."""
    return Path(os.environ.get("EXAMPLE_VAR", HERE / "var")).absolute()


def remove_database(database: Path) -> None:
    """Delete an SQLite file and the files that SQLite creates for it."""
    for suffix in ("", "-wal", "-shm", "-journal"):
        database.with_name(database.name + suffix).unlink(missing_ok=True)
