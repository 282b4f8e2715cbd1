"""The processes that work on bulk operations beside the shop, by recipe, and how they are started and ended.

The settings of a recipe are ``settings_<name>.py``; these are its commands, as you would give them to systemd.
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
        # Four processes under one parent. The schedule's file is beat's own.
        [*CELERY, "worker", "--concurrency", "4", "--loglevel", "WARNING"],
        [*CELERY, "beat", "--schedule", str(var() / "celerybeat"), "--loglevel", "WARNING"],
    ],
    # A worker takes one task at a time, so one process for each worker wanted. What beat does is cron's here.
    "tasks": [[*MANAGE, "db_worker", "--no-reload", "--no-startup-delay"] for _ in range(4)],
}


def check(recipe: str | None) -> None:
    """Exit with a sentence if the workers of a recipe could not run."""
    if recipe == "celery":
        url = os.environ.get("EXAMPLE_REDIS_URL", REDIS_URL)
        try:
            import celery  # noqa: F401 - is it there?
            import redis
        except ImportError as error:
            sys.exit(f"{error}: `make serve-celery` installs it.")
        try:
            with redis.Redis.from_url(url, socket_connect_timeout=3, socket_timeout=3) as client:
                client.ping()
        except (redis.RedisError, OSError, ValueError) as error:
            why = first_line(error).rstrip(".")
            sys.exit(f"Celery needs Redis ({why}): start it, or name another one in EXAMPLE_REDIS_URL.")


@contextmanager
def own_queue(recipe: str | None) -> Iterator[None]:
    """Empty the queue of the recipe's workers at the start, in case a run was killed, and again at the end."""
    if recipe == "celery":
        purge()
    try:
        yield
    finally:
        if recipe == "celery":
            purge()


def purge() -> None:
    """Remove everything of the example's Celery from Redis."""
    import redis
    from django.conf import settings

    with suppress(redis.RedisError), redis.Redis.from_url(settings.CELERY_BROKER_URL) as client:
        for key in client.scan_iter(f"{settings.QUEUE}:*"):
            client.delete(key)


@contextmanager
def workers(recipe: str | None) -> Iterator[None]:
    """Have the processes of a recipe run beside this one; they read the settings that it has in its environment."""
    with ExitStack() as stack:
        for command in COMMANDS[recipe] if recipe else ():
            child = stack.enter_context(subprocess.Popen(command, cwd=HERE))
            stack.callback(child.terminate)
        yield
