"""A bulk run as a command shows it: progress, results, summary, exit code, and what Ctrl-C does.

Knows nothing of selections. The results go to stdout, everything about them to stderr or, as a table, after them.
"""

from __future__ import annotations

import codecs
import json
import os
import signal
import textwrap
import threading
from collections import Counter
from collections.abc import Generator, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from types import FrameType
from typing import Any

from django.core.management.base import BaseCommand, CommandError, OutputWrapper

from .. import registry
from ..outcomes import CancelResult, Code, Outcome
from .progress import Silent, progress, words

INTERRUPTED, IN_DOUBT, NOT_TRIED = 130, 3, 4
"""The exit codes of a run, the graver first; 0: every invoice got an answer."""

_NOT_TRIED = frozenset({Code.PROVIDER_PAUSED, Code.MISCONFIGURED})
"""Skipped, and to be run again; ``STILL_OPEN`` is NOT_PROCESSED and an answer: that of a lookup."""
_STYLES = {"canceled": "SUCCESS", "already_canceled": "SUCCESS", "in_doubt": "WARNING", "not_processed": "WARNING"}
_IF_NOBODY_CAN_BE_ASKED = "Do not cancel them again: reconcile_invoices --resubmit or a person settles them."
_WIDTH = 100
_EXAMPLES = 3


@dataclass
class _Line:
    """One line of the summary: the invoices of one provider with one outcome and code."""

    message: str
    count: int = 0
    examples: list[str] = field(default_factory=list)


class Run:
    """Takes in the results of one run."""

    def __init__(self, command: BaseCommand, options: dict[str, Any], *, title: str, total: int | None) -> None:
        self.command = command
        self.as_jsonl = options["format"] == "jsonl"
        self.is_silent = options["verbosity"] == 0
        self.title = title
        self.total = total
        self.outcomes: Counter[str] = Counter()
        self.lines: dict[tuple[str, str, str], _Line] = {}
        self.not_recorded = 0
        self.not_tried = 0
        self.is_read = True
        """Whether somebody still reads what is written: ``| head -1`` does so for a while."""

    def take_in(self, results: Generator[CancelResult, None, None], stop: threading.Event | None = None) -> None:
        """Read the results to their end, showing them as they come; where nobody reads them any more, stop the run."""
        err = self.command.stderr
        bar = Silent() if self.is_silent or _is_closed(err) else progress(err, self.total, self.title)
        with closing(results), bar as shown:
            for result in results:
                self._count(result)
                if self.as_jsonl:
                    with self._read_by_somebody(self.command.stdout) as out:
                        out.write(json.dumps(result.as_dict(), ensure_ascii=not _takes_all(out)))
                with self._read_by_somebody(self.command.stderr):
                    shown.show(self.outcomes)
                if self.is_read:
                    continue
                if stop is None:
                    break
                stop.set()

    def left_of(self, limit: int | None) -> int | None:
        """Return how many of at most ``limit`` invoices have no result yet; None without a limit."""
        return None if limit is None else max(limit - self.outcomes.total(), 0)

    def summarize(self) -> None:
        """Write the outcomes and the reasons (for jsonl to stderr: stdout holds results alone)."""
        if not self.is_silent:
            with self._read_by_somebody(self.command.stderr if self.as_jsonl else self.command.stdout) as out:
                self._write_summary(out)
        with self._read_by_somebody(self.command.stdout) as out:
            out.flush()  # now: what fails at the end of Python cannot be caught

    @contextmanager
    def _read_by_somebody(self, stream: Any) -> Iterator[Any]:
        """Make no error of a reader who has closed the pipe; what is written from then on goes nowhere.

        A stream that was closed before (``>&-``) is what somebody wanted: it goes nowhere too, and the run goes on.
        """
        if _is_closed(stream):
            with open(os.devnull, "w", encoding="utf-8") as nowhere:  # noqa: PTH123 - a device
                yield OutputWrapper(nowhere)
            return
        try:
            yield stream
        except BrokenPipeError:
            self.is_read = False
            _lead_nowhere(stream)

    def _write_summary(self, out: Any) -> None:
        total = self.outcomes.total()
        noun = "invoice" if total == 1 else "invoices"
        out.write(_fitting(out, f"{total:,} {noun}: {words(self.outcomes) or 'nothing to do'}"))
        providers = max((len(provider) for provider, _, _ in self.lines), default=0)
        outcomes = max((len(outcome) for _, outcome, _ in self.lines), default=0)
        indent = " " * (9 + 2 + providers + 2 + outcomes + 2)
        for (provider, outcome, _), line in sorted(self.lines.items(), key=lambda item: -item[1].count):
            text = textwrap.fill(line.message, max(_WIDTH - len(indent), 30), subsequent_indent=indent)
            style = getattr(self.command.style, _STYLES.get(outcome, "NOTICE"))
            word = style(f"{outcome.replace('_', ' '):<{outcomes}}")
            out.write(_fitting(out, f"{line.count:>9,}  {provider:<{providers}}  {word}  {text}"))
            if line.examples:
                more = f" and {line.count - len(line.examples):,} more" if line.count > len(line.examples) else ""
                out.write(_fitting(out, f"{indent}{', '.join(line.examples)}{more}"))

    def exit_code(self, *, is_interrupted: bool) -> int:
        """Return the gravest of what happened."""
        if is_interrupted:
            return INTERRUPTED
        if self.outcomes[Outcome.IN_DOUBT] or self.not_recorded:
            return IN_DOUBT
        return NOT_TRIED if self.not_tried else 0

    def finish(self, *, is_interrupted: bool, if_in_doubt: str) -> None:
        """Summarize, and end the command with its exit code."""
        self.summarize()
        code = self.exit_code(is_interrupted=is_interrupted)
        why = []
        if is_interrupted:
            because = "" if self.is_read else ": nobody reads what is written any more"
            why.append(f"Interrupted{because}. What was in flight is recorded; the rest is unchanged.")
        left_to_people = self._in_doubt_for_people()
        if in_doubt := self.outcomes[Outcome.IN_DOUBT] - left_to_people:
            why.append(f"{in_doubt:,} in doubt. {if_in_doubt}")
        if left_to_people:
            why.append(f"{left_to_people:,} in doubt at a provider that cannot be asked. {_IF_NOBODY_CAN_BE_ASKED}")
        if self.not_recorded:
            why.append(f"{self.not_recorded:,} not recorded: reconcile_invoices repairs that.")
        if self.not_tried:
            why.append(f"{self.not_tried:,} not tried or not processed: unchanged. Run the command again later.")
        if code:
            raise CommandError(" ".join(why), returncode=code)

    def _in_doubt_for_people(self) -> int:
        """Return how many are in doubt that no lookup settles."""
        doubts = [(alias, line) for (alias, outcome, _), line in self.lines.items() if outcome == Outcome.IN_DOUBT]
        return sum(line.count for alias, line in doubts if not registry.can_look_up(alias))

    def _count(self, result: CancelResult) -> None:
        self.outcomes[str(result.outcome)] += 1
        key = (result.provider, str(result.outcome), result.code)
        line = self.lines.setdefault(key, _Line(str(result.message)))
        line.count += 1
        if not result.ok and result.code != Code.DRY_RUN and len(line.examples) < _EXAMPLES:
            line.examples.append(result.external_id)
        self.not_recorded += not result.is_recorded
        is_unprocessed = result.outcome == Outcome.NOT_PROCESSED and result.code != Code.STILL_OPEN
        self.not_tried += is_unprocessed or result.code in _NOT_TRIED


def _is_closed(stream: Any) -> bool:
    """Say whether the process was started without this stream."""
    return getattr(stream, "_out", stream) is None


def _encoding(stream: Any) -> str:
    return getattr(stream, "encoding", None) or "utf-8"


def _takes_all(stream: Any) -> bool:
    """Say whether a stream takes every character: in a locale of old it does not."""
    return codecs.lookup(_encoding(stream)).name == "utf-8"


def _fitting(stream: Any, text: str) -> str:
    """Return a text with what its stream does not take written out: the run is done, nothing may be lost by a dot."""
    return text.encode(_encoding(stream), "backslashreplace").decode(_encoding(stream))


def _lead_nowhere(stream: Any) -> None:
    """Let a pipe that nobody reads swallow all that is still written to it, as stdout and as stderr (``2>&1``)."""
    closed = stream.fileno()
    with open(os.devnull, "wb") as nowhere:  # noqa: PTH123 - a device
        for number in [each for each in (1, 2) if _is_open(each) and os.path.sameopenfile(each, closed)]:
            os.dup2(nowhere.fileno(), number)


def _is_open(number: int) -> bool:
    try:
        os.fstat(number)
    except OSError:
        return False
    return True


def tell(stream: Any, text: str) -> None:
    """Write a line now; where nobody reads it any more, or ever did, it is lost and the work goes on."""
    if _is_closed(stream):
        return
    try:
        stream.write(text)
        stream.flush()
    except BrokenPipeError:
        _lead_nowhere(stream)


@contextmanager
def stopping_on_signals() -> Iterator[threading.Event]:
    """Set the event yielded on SIGINT or SIGTERM; a second signal ends the process. For the main thread alone."""
    stop = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    earlier: dict[int, Any] = {}

    def handle(number: int, frame: FrameType | None) -> None:
        stop.set()
        for known in earlier:
            signal.signal(known, signal.SIG_DFL)  # a KeyboardInterrupt would wait for what is in flight once more
        with suppress(OSError):  # who reads that may have got the signal too, and be gone
            os.write(2, b"\nStopping: what is in flight is recorded first. Once more ends at once.\n")

    for wanted in (signal.SIGINT, signal.SIGTERM):
        earlier[wanted] = signal.signal(wanted, handle)
    try:
        yield stop
    finally:
        for known, handler in earlier.items():
            signal.signal(known, handler)
