"""How a running command shows itself: a bar on a terminal, else a line every few seconds. On stderr only."""

from __future__ import annotations

import time
from collections import Counter
from contextlib import AbstractContextManager, nullcontext
from importlib.util import find_spec
from typing import Any, Protocol, Self

EVERY_SECONDS = 5.0
"""How often a line is written where there is no bar."""
BAR_EVERY_SECONDS = 0.1


class Progress(Protocol):
    """Shows how many results there are, by outcome."""

    def __enter__(self) -> Self: ...
    def __exit__(self, *exc: object) -> None: ...
    def show(self, counts: Counter[str]) -> None: ...


def progress(stream: Any, total: int | None, title: str) -> Progress:
    """Return a bar where the stream is a terminal and rich is installed (extra ``cli``), else lines."""
    if stream.isatty() and find_spec("rich") is not None:
        return _Bar(stream, total, title)
    return _Lines(stream, total, title)


class Silent(nullcontext["Silent"]):
    """Shows nothing."""

    def __init__(self) -> None:
        super().__init__(self)

    def show(self, counts: Counter[str]) -> None:
        return


def words(counts: Counter[str]) -> str:
    """Return counts by outcome as one line."""
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
            self.stream.write(f"{self.title}: {counts.total():,}{of} ({words(counts)})")
            self.stream.flush()

    def __exit__(self, *exc: object) -> None:
        return None


class _Bar(AbstractContextManager["_Bar"]):
    """Two lines, from the first result on: the bar, and under it the outcomes so far."""

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
        self.outcomes.plain = words(self.counts)

    def __exit__(self, *exc: object) -> None:
        if self.live.is_started:
            self._update()
            self.live.stop()
