"""The processes that work on bulk operations beside the shop, by recipe, and how they are started and ended.

The settings of a recipe are ``settings_<name>.py``; these are its commands, as you would give them to systemd.
"""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

HERE = Path(__file__).resolve().parent
CELERY = [sys.executable, "-m", "celery", "--quiet", "-A", "shop.celery"]
MANAGE = [sys.executable, "manage.py"]

COMMANDS: dict[str, list[list[str]]] = {
    "celery": [
        # Four processes under one parent. The schedule's file is beat's own.
        [*CELERY, "worker", "--concurrency", "4", "--loglevel", "WARNING"],
        [*CELERY, "beat", "--schedule", str(HERE / "var" / "celerybeat"), "--loglevel", "WARNING"],
    ],
    # A worker takes one task at a time, so one process for each worker wanted. What beat does is cron's here.
    "tasks": [[*MANAGE, "db_worker", "--no-reload", "--no-startup-delay"] for _ in range(4)],
}


@contextmanager
def workers(recipe: str | None) -> Iterator[None]:
    """Have the processes of a recipe run beside this one; they read the settings that it has in its environment."""
    with ExitStack() as stack:
        for command in COMMANDS[recipe] if recipe else ():
            child = stack.enter_context(subprocess.Popen(command, cwd=HERE))
            stack.callback(child.terminate)
        yield
