"""A bulk run as a command shows it: progress, results, summary, exit code, and what Ctrl-C does.

Knows nothing of selections. The results go to stdout, everything about them to stderr or, as a table, after them.
"""

from __future__ import annotations

import json
import signal
import threading
from collections import Counter
from collections.abc import Generator, Iterator
from contextlib import closing, contextmanager
from types import FrameType
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from ..outcomes import CancelResult, Code, Outcome
from .progress import progress, words

INTERRUPTED, IN_DOUBT, NOT_TRIED = 130, 3, 4
"""The exit codes of a run, the graver first; 0: every invoice got an answer."""

_NOT_TRIED = frozenset({Code.PROVIDER_PAUSED, Code.MISCONFIGURED})


class Run:
    """Takes in the results of one run."""

    def __init__(self, command: BaseCommand, *, as_jsonl: bool, title: str, total: int | None) -> None:
        self.command = command
        self.as_jsonl = as_jsonl
        self.title = title
        self.total = total
        self.outcomes: Counter[str] = Counter()
        self.reasons: Counter[tuple[str, str, str]] = Counter()
        self.not_recorded = 0
        self.not_tried = 0

    def take_in(self, results: Generator[CancelResult, None, None]) -> None:
        """Read the results to their end, showing them as they come."""
        with closing(results), progress(self.command.stderr, self.total, self.title) as shown:
            for result in results:
                self._count(result)
                if self.as_jsonl:
                    self.command.stdout.write(json.dumps(result.as_dict(), ensure_ascii=False))
                shown.show(self.outcomes)

    def summarize(self) -> None:
        """Write the table of outcomes and reasons (for jsonl to stderr: stdout holds results alone)."""
        out = self.command.stderr if self.as_jsonl else self.command.stdout
        out.write(f"{self.outcomes.total():,} invoices: {words(self.outcomes) or 'nothing to do'}")
        width = max((len(provider) for provider, _, _ in self.reasons), default=0)
        for (provider, outcome, message), count in self.reasons.most_common():
            out.write(f"{count:>9,}  {provider:<{width}}  {outcome.replace('_', ' '):<16}  {message}")

    def exit_code(self, *, is_interrupted: bool) -> int:
        """Return the gravest of what happened."""
        if is_interrupted:
            return INTERRUPTED
        if self.outcomes[Outcome.IN_DOUBT] or self.not_recorded:
            return IN_DOUBT
        return NOT_TRIED if self.not_tried else 0

    def finish(self, *, is_interrupted: bool) -> None:
        """Summarize, and end the command with its exit code."""
        self.summarize()
        code = self.exit_code(is_interrupted=is_interrupted)
        if code:
            raise CommandError(self._why(code), returncode=code)

    def _why(self, code: int) -> str:
        if code == INTERRUPTED:
            return "Interrupted. What was in flight is recorded; the rest is unchanged."
        if code == IN_DOUBT:
            return "Some are in doubt. Do not repeat them: reconcile_invoices finds out."
        return f"{self.not_tried:,} were not tried or not processed; they are unchanged. Run the command again later."

    def _count(self, result: CancelResult) -> None:
        self.outcomes[str(result.outcome)] += 1
        self.reasons[result.provider, str(result.outcome), str(result.message)] += 1
        self.not_recorded += not result.is_recorded
        self.not_tried += result.outcome == Outcome.NOT_PROCESSED or result.code in _NOT_TRIED


@contextmanager
def stopping_on_signals(command: BaseCommand) -> Iterator[threading.Event]:
    """Set the event yielded on SIGINT or SIGTERM; a second signal ends the process. For the main thread alone."""
    stop = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    earlier: dict[int, Any] = {}

    def handle(number: int, frame: FrameType | None) -> None:
        stop.set()
        command.stderr.write("Stopping: recording what is in flight. Once more to end at once.")
        for known, handler in earlier.items():
            signal.signal(known, handler)

    for wanted in (signal.SIGINT, signal.SIGTERM):
        earlier[wanted] = signal.signal(wanted, handle)
    try:
        yield stop
    finally:
        for known, handler in earlier.items():
            signal.signal(known, handler)
