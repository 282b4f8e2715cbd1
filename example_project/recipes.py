"""The worker processes for bulk operations, by recipe, and their start and stop.

The settings of a recipe are in ``settings_<name>.py``. These are its commands, as systemd would start them.
"""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress

from launch import HERE, first_line, var

REDIS_URL = "redis://127.0.0.1:6379/0"
CELERY = [sys.executable, "-m", "celery", "--quiet", "-A", "shop.celery"]
MANAGE = [sys.executable, "manage.py"]

COMMANDS: dict[str, list[list[str]]] = {
    "celery": [
        # Four processes with one parent. The schedule file belongs to beat.
        [*CELERY, "worker", "--concurrency", "4", "--loglevel", "WARNING"],
        [*CELERY, "beat", "--schedule", str(var() / "celerybeat"), "--loglevel", "WARNING"],
    ],
    # A worker runs one task at a time, so each of the wanted workers is a process. Cron replaces beat.
    "tasks": [[*MANAGE, "db_worker", "--no-reload", "--no-startup-delay"] for _ in range(4)],
}


def check(recipe: str | None) -> None:
    """Exit with a sentence if the workers of a recipe cannot run."""
    if recipe == "celery":
        url = os.environ.get("EXAMPLE_REDIS_URL", REDIS_URL)
        try:
            import celery  # noqa: F401 - checks that it is installed
            import redis
        except ImportError as error:
            sys.exit(f"{error}. `make serve-celery` installs it.")
        try:
            with redis.Redis.from_url(url, socket_connect_timeout=3, socket_timeout=3) as client:
                client.ping()
        except (redis.RedisError, OSError, ValueError) as error:
            why = first_line(error).rstrip(".")
            sys.exit(f"Celery requires Redis ({why}). Start it, or set EXAMPLE_REDIS_URL to another one.")


@contextmanager
def own_queue(recipe: str | None) -> Iterator[None]:
    """Empty the queue of the recipe's workers at the end, and at the start, because a run may have been killed."""
    if recipe == "celery":
        purge()
    try:
        yield
    finally:
        if recipe == "celery":
            purge()


def purge() -> None:
    """Delete everything of the example's Celery from Redis."""
    import redis
    from django.conf import settings

    with suppress(redis.RedisError), redis.Redis.from_url(settings.CELERY_BROKER_URL) as client:
        for key in client.scan_iter(f"{settings.QUEUE}:*"):
            client.delete(key)


@contextmanager
def workers(recipe: str | None) -> Iterator[None]:
    """Run the processes of a recipe in parallel. They get their settings from the environment."""
    with ExitStack() as stack:
        for command in COMMANDS[recipe] if recipe else ():
            child = stack.enter_context(subprocess.Popen(command, cwd=HERE))
            stack.callback(child.terminate)
        yield
