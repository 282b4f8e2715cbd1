"""Output of commands: a closed terminal, a full disk or a reader that has exited loses the output, not the work."""

from __future__ import annotations

import os
from contextlib import suppress
from typing import Any

from django.core.management.base import BaseCommand, CommandError

NOT_REPORTED = 5
"""Exit code of a command that did its work and could not write what came of it."""


class Stream:
    """A stream to write to. The first write that fails loses it: from then on nothing is written."""

    def __init__(self, target: Any) -> None:
        """``target``: None if the process was started without this stream (``>&-``)."""
        self._target = target
        self.lost_by: OSError | None = None

    @property
    def is_absent(self) -> bool:
        """Whether the process was started without this stream."""
        return self._target is None

    @property
    def encoding(self) -> str:
        """The encoding of the target; UTF-8 if it takes text as it is."""
        return getattr(self._target, "encoding", None) or "utf-8"

    def isatty(self) -> bool:
        """Return whether this is a terminal that is still open."""
        return self.lost_by is None and hasattr(self._target, "isatty") and bool(self._target.isatty())

    def write(self, text: str) -> int:
        """Write a text now, unless the stream is lost: a failure at the end of Python could not be handled."""
        if self._target is not None and self.lost_by is None:
            try:
                self._target.write(text)
                if hasattr(self._target, "flush"):
                    self._target.flush()
            except OSError as error:
                self._lose(error)
        return len(text)

    def flush(self) -> None:
        """Do nothing: each write is flushed."""

    def _lose(self, error: OSError) -> None:
        """Remember the error, and let the null device take what is still buffered, in stdout as in stderr."""
        self.lost_by = error
        with suppress(OSError, AttributeError, ValueError):  # a target without a file
            lost = self._target.fileno()
            with open(os.devnull, "wb") as null:  # noqa: PTH123 - a device
                for number in (1, 2):
                    if _is_open(number) and os.path.sameopenfile(number, lost):
                        os.dup2(null.fileno(), number)


class ReportingCommand(BaseCommand):
    """A command whose exit code is 5 if it did its work and its output was lost."""

    def execute(self, *args: Any, **options: Any) -> str | None:
        """Run the command; raise ``CommandError`` with the exit code 5 if its output was lost."""
        for name in ("stdout", "stderr"):
            options[name] = Stream(options.get(name) or getattr(getattr(self, name), "_out", None))
        result = super().execute(*args, **options)
        lost_by = options["stdout"].lost_by or options["stderr"].lost_by
        # There is no work in a preview: a reader that exits has seen enough of it.
        if lost_by is not None and not (options.get("dry_run") and isinstance(lost_by, BrokenPipeError)):
            raise CommandError(f"Done, not reported: {reason_of(lost_by)}.", returncode=NOT_REPORTED)
        return result


def reason_of(error: OSError) -> str:
    """Return the reason for which a write failed."""
    return error.strerror or type(error).__name__


def _is_open(number: int) -> bool:
    try:
        os.fstat(number)
    except OSError:
        return False
    return True
