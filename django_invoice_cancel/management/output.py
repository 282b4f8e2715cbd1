"""Output of commands. If a terminal is closed, a disk is full or a reader has exited, the work continues."""

from __future__ import annotations

import os
import time
from collections import Counter
from contextlib import AbstractContextManager, nullcontext, suppress
from importlib.util import find_spec
from typing import Any, Protocol, Self

from django.core.management.base import BaseCommand, CommandError

from ..domain.bidi import escape_overrides

EVERY_SECONDS = 5.0
"""Interval of progress lines without a progress bar, in seconds."""
BAR_EVERY_SECONDS = 0.1


class Progress(Protocol):
    """Shows the number of results by outcome."""

    def __enter__(self) -> Self: ...
    def __exit__(self, *exc: object) -> None: ...
    def show(self, counts: Counter[str]) -> None: ...


def progress(stream: Any, total: int | None, title: str) -> Progress:
    """Return a progress bar if the stream is a terminal and rich is installed (extra ``cli``), otherwise lines."""
    if stream.isatty() and find_spec("rich") is not None:
        return _Bar(stream, total, title)
    return _Lines(stream, total, title)


class NoProgress(nullcontext["NoProgress"]):
    """Shows no progress."""

    def __init__(self) -> None:
        super().__init__(self)

    def show(self, counts: Counter[str]) -> None:
        return


def format_counts(counts: Counter[str]) -> str:
    """Return the counts by outcome as one line."""
    return " · ".join(f"{count:,} {outcome.replace('_', ' ')}" for outcome, count in counts.most_common())


class _Lines(AbstractContextManager["_Lines"]):
    def __init__(self, stream: Any, total: int | None, title: str) -> None:
        self.stream = stream
        self.title = title
        self.total = total
        self.shown_at = time.monotonic()

    def show(self, counts: Counter[str]) -> None:
        if time.monotonic() - self.shown_at >= EVERY_SECONDS:
            self.shown_at = time.monotonic()
            of = "" if self.total is None else f" of {self.total:,}"
            self.stream.write(f"{self.title}: {counts.total():,}{of} ({format_counts(counts)})")
            self.stream.flush()

    def __exit__(self, *exc: object) -> None:
        return None


class _Bar(AbstractContextManager["_Bar"]):
    """Two lines that are shown after the first result: the progress bar, and below it the counts by outcome."""

    def __init__(self, stream: Any, total: int | None, title: str) -> None:
        from rich.console import Console, Group
        from rich.live import Live
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
        from rich.text import Text

        self.bar = Progress(
            TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(compact=True)
        )
        self.task = self.bar.add_task(title, total=total)
        self.outcomes = Text(style="dim")
        console = Console(file=getattr(stream, "_out", stream), stderr=True)
        self.live = Live(Group(self.bar, self.outcomes), console=console, refresh_per_second=8, redirect_stdout=False)
        self.counts: Counter[str] = Counter()
        self.shown_at = 0.0

    def __enter__(self) -> Self:
        return self

    def show(self, counts: Counter[str]) -> None:
        self.counts = counts
        if not self.live.is_started:
            self.live.start()
        if time.monotonic() - self.shown_at >= BAR_EVERY_SECONDS:
            self._update()

    def _update(self) -> None:
        self.shown_at = time.monotonic()
        self.bar.update(self.task, completed=self.counts.total())
        self.outcomes.plain = format_counts(self.counts)

    def __exit__(self, *exc: object) -> None:
        if self.live.is_started:
            self._update()
            self.live.stop()


NOT_REPORTED = 5
"""Exit code of a command that finished its work but could not write its output."""


class Stream:
    """A stream for output. After the first failed write nothing more is written to it."""

    def __init__(self, target: Any) -> None:
        """``target``: None if the process was started without this stream (``>&-``)."""
        self._target = target
        self.lost_by: OSError | None = None

    @property
    def is_absent(self) -> bool:
        """True if the process was started without this stream."""
        return self._target is None

    @property
    def encoding(self) -> str:
        """The encoding of the target; UTF-8 if it accepts text directly."""
        return getattr(self._target, "encoding", None) or "utf-8"

    def isatty(self) -> bool:
        """Return whether this is a terminal that is still open."""
        return self.lost_by is None and hasattr(self._target, "isatty") and bool(self._target.isatty())

    def write(self, text: str) -> int:
        """Write and flush a text unless the stream is lost. An error in a flush at Python's exit cannot be handled.

        Bidirectional overrides are escaped, so that an id or a reference cannot reorder a line.
        """
        if self._target is not None and self.lost_by is None:
            try:
                self._target.write(escape_overrides(text))
                if hasattr(self._target, "flush"):
                    self._target.flush()
            except OSError as error:
                self._lose(error)
        return len(text)

    def flush(self) -> None:
        """Do nothing, because each write is flushed."""

    def _lose(self, error: OSError) -> None:
        """Store the error. If stdout or stderr is the lost file, redirect it to the null device.

        The null device accepts text that is still buffered.
        """
        self.lost_by = error
        with suppress(OSError, AttributeError, ValueError):  # a target without a file
            lost = self._target.fileno()
            with open(os.devnull, "wb") as null:  # noqa: PTH123 - a device
                for number in (1, 2):
                    if _is_open(number) and os.path.sameopenfile(number, lost):
                        os.dup2(null.fileno(), number)


class ReportingCommand(BaseCommand):
    """A command with the exit code 5 if it finished its work but its output was lost."""

    def execute(self, *args: Any, **options: Any) -> str | None:
        """Run the command. Raise ``CommandError`` with the exit code 5 if its output was lost."""
        for name in ("stdout", "stderr"):
            options[name] = Stream(options.get(name) or getattr(getattr(self, name), "_out", None))
        result = super().execute(*args, **options)
        lost_by = options["stdout"].lost_by or options["stderr"].lost_by
        # A dry run does no work. A reader that exits early has read enough of it.
        if lost_by is not None and not (options.get("dry_run") and isinstance(lost_by, BrokenPipeError)):
            raise CommandError(
                f"All work is done, but the output could not be written: {reason_of(lost_by)}.", returncode=NOT_REPORTED
            )
        return result


def reason_of(error: OSError) -> str:
    """Return the reason why a write failed."""
    return error.strerror or type(error).__name__


def _is_open(number: int) -> bool:
    try:
        os.fstat(number)
    except OSError:
        return False
    return True
