"""The output of a bulk run in a command: progress, results, summary, exit code, and signals.

It does not depend on how invoices are selected. Results are written to stdout. All other output is written to stderr
or, in the table format, to stdout after the results.
"""

from __future__ import annotations

import codecs
import json
import os
import signal
import textwrap
import threading
from collections import Counter
from collections.abc import Container, Generator, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from types import FrameType
from typing import Any

from django.core.management.base import BaseCommand, CommandError, OutputWrapper

from .. import registry
from ..domain.outcomes import CancelResult, Code, Outcome
from ..labels.results import VETOED
from .output import NoProgress, Stream, format_counts, progress, reason_of

INTERRUPTED, IN_DOUBT, NOT_TRIED = 130, 3, 4
"""Exit codes of a run, the most severe first. 0: every invoice got an answer. 5: see ``output``."""

_SETTLED = frozenset(
    {
        *(Code.IN_PROGRESS, Code.IN_DOUBT, Code.HAS_PAYMENT, Code.CLOSED, Code.BEING_CHECKED, Code.DRY_RUN),
        *(Code.NOT_REGISTERED, Code.CHANGED, Code.NOT_FOUND, Code.UNKNOWN_STATUS, Code.STILL_OPEN, Code.NO_LOOKUP),
        Code.VETOED,
    }
)
"""Codes of SKIPPED or NOT_PROCESSED results that a later run would not change. Other codes mean: not tried."""
_UNKNOWN_LIMIT = 10
"""An account that reports this many unknown invoices, and no known one, probably belongs to another project."""
_MAX_REASONS = 5
_STYLES = {"canceled": "SUCCESS", "already_canceled": "SUCCESS", "in_doubt": "WARNING", "not_processed": "WARNING"}
_NO_LOOKUP_HINT = "Do not cancel them again. Run reconcile_invoices --resubmit, or resolve them in the admin."
_WIDTH = 100
_EXAMPLES = 3
_REASON_WIDTH = 70


@dataclass
class _SummaryLine:
    """One line of the summary: the invoices of one provider with one outcome and code."""

    message: str
    count: int = 0
    examples: list[str] = field(default_factory=list)


class RunSummary:
    """Collects the results of one run."""

    def __init__(self, command: BaseCommand, options: dict[str, Any], *, title: str, total: int | None) -> None:
        self.command = command
        self.as_jsonl = options["format"] == "jsonl"
        self.is_silent = options["verbosity"] == 0
        self.title = title
        self.total = total
        self.outcomes: Counter[str] = Counter()
        self.lines: dict[tuple[str, str, str], _SummaryLine] = {}
        self.not_recorded = 0
        self.not_tried = 0
        self.reasons: dict[tuple[str, str], _SummaryLine] = {}
        """Reasons why invoices were not tried, with their counts, by account and code."""
        self.unknown: Counter[str] = Counter()
        self.known: set[str] = set()

    def collect(self, results: Generator[CancelResult, None, None], stop: threading.Event | None = None) -> None:
        """Read all results, and show them as they arrive.

        If the progress output is lost, the run continues. If the results are lost, the run is stopped and requests in
        flight are recorded, because a program that reads the results cannot continue.
        """
        err, out = self.command.stderr, self.command.stdout
        bar = NoProgress() if self.is_silent else progress(err, self.total, self.title)
        with closing(results), bar as shown:
            for result in results:
                self._count(result)
                if self.as_jsonl:
                    out.write(json.dumps(result.as_dict(), ensure_ascii=not _encodes_unicode(out)))
                shown.show(self.outcomes)
                if not self.as_jsonl or self._lost_by() is None:
                    continue
                if stop is None:
                    break
                stop.set()

    def remaining_of(self, limit: int | None) -> int | None:
        """Return the remaining part of ``limit`` after the results so far; None without a limit."""
        return None if limit is None else max(limit - self.outcomes.total(), 0)

    def _lost_by(self) -> OSError | None:
        """Return the error by which stdout was lost; None if it was not lost."""
        lost_by: OSError | None = getattr(self.command.stdout, "lost_by", None)
        return lost_by

    def summarize(self) -> None:
        """Write the outcomes and the reasons; for jsonl to stderr, because stdout contains only results."""
        if not self.is_silent:
            self._write_summary(self.command.stderr if self.as_jsonl else self.command.stdout)

    def _write_summary(self, out: Any) -> None:
        total = self.outcomes.total()
        noun = "invoice" if total == 1 else "invoices"
        out.write(_encodable(out, f"{total:,} {noun}: {format_counts(self.outcomes) or 'nothing to do'}"))
        providers = max((len(provider) for provider, _, _ in self.lines), default=0)
        outcomes = max((len(outcome) for _, outcome, _ in self.lines), default=0)
        indent = " " * (9 + 2 + providers + 2 + outcomes + 2)
        for (provider, outcome, _), line in sorted(self.lines.items(), key=lambda item: -item[1].count):
            text = textwrap.fill(line.message, max(_WIDTH - len(indent), 30), subsequent_indent=indent)
            style = getattr(self.command.style, _STYLES.get(outcome, "NOTICE"))
            word = style(f"{outcome.replace('_', ' '):<{outcomes}}")
            out.write(_encodable(out, f"{line.count:>9,}  {provider:<{providers}}  {word}  {text}"))
            if line.examples:
                more = f" and {line.count - len(line.examples):,} more" if line.count > len(line.examples) else ""
                out.write(_encodable(out, f"{indent}{', '.join(line.examples)}{more}"))

    def exit_code(self, *, is_interrupted: bool) -> int:
        """Return the most severe exit code."""
        if is_interrupted:
            return INTERRUPTED
        if self.outcomes[Outcome.IN_DOUBT] or self.not_recorded:
            return IN_DOUBT
        return NOT_TRIED if self.not_tried or self._unknown_accounts() else 0

    def finish(self, *, is_interrupted: bool, if_in_doubt: str, reported: Container[tuple[str, str]] = ()) -> None:
        """Write the summary, and end the command with its exit code.

        Args:
            is_interrupted: Whether a signal stopped the run.
            if_in_doubt: Advice that is shown if invoices are in doubt.
            reported: Accounts and codes that an earlier run has reported. They are not reported again, but the exit
                code does not change.
        """
        self.summarize()
        code = self.exit_code(is_interrupted=is_interrupted)
        why = []
        if is_interrupted:
            lost_by = self._lost_by() if self.as_jsonl else None
            because = f", because the results cannot be written ({reason_of(lost_by)})" if lost_by else ""
            why.append(f"Interrupted{because}. Requests in flight are recorded; all other invoices are unchanged.")
        without_lookup = self._count_doubts_without_lookup()
        if in_doubt := self.outcomes[Outcome.IN_DOUBT] - without_lookup:
            why.append(f"In doubt: {in_doubt:,}. {if_in_doubt}")
        if without_lookup:
            why.append(f"In doubt, at a provider without a status lookup: {without_lookup:,}. {_NO_LOOKUP_HINT}")
        if self.not_recorded:
            why.append(
                f"Answers that could not be recorded: {self.not_recorded:,}. Run reconcile_invoices to record them."
            )
        why += self._not_tried(reported)
        for alias in self._unknown_accounts():
            why.append(
                f"{alias!r} knows none of these {self.unknown[alias]:,} invoices. Check its base_url, and check that "
                "its credentials belong to the project that issued them."
            )
        if code and not why:
            nowhere: Any = Stream(None)
            self.command.stderr = OutputWrapper(nowhere)  # Django would write the empty error
        if code:
            raise CommandError(" ".join(why), returncode=code)

    def _not_tried(self, reported: Container[tuple[str, str]]) -> list[str]:
        """Return the number of invoices that were not tried, and the reasons, except those reported earlier."""
        lines = [(key[0], line) for key, line in self.reasons.items() if key not in reported]
        if not lines:
            return []
        count = sum(line.count for _, line in lines)
        return [
            f"Not tried or not processed, and unchanged: {count:,}. Run the command again later.",
            *(f"{alias}: {line.message}" for alias, line in lines[:_MAX_REASONS]),
        ]

    def _count_doubts_without_lookup(self) -> int:
        """Return the number of invoices in doubt at accounts without a lookup."""
        doubts = [(alias, line) for (alias, outcome, _), line in self.lines.items() if outcome == Outcome.IN_DOUBT]
        return sum(line.count for alias, line in doubts if not registry.can_look_up(alias))

    def _count(self, result: CancelResult) -> None:
        self.outcomes[str(result.outcome)] += 1
        key = (result.provider, str(result.outcome), result.code)
        line = self.lines.setdefault(key, _SummaryLine(_describe(result)))
        line.count += 1
        if not result.ok and result.code != Code.DRY_RUN and len(line.examples) < _EXAMPLES:
            line.examples.append(result.external_id + (result.veto_reason and f" ({_one_line(result.veto_reason)})"))
        self.not_recorded += not result.is_recorded
        is_settled = result.code in _SETTLED and not result.has_veto_failed
        if result.outcome in (Outcome.SKIPPED, Outcome.NOT_PROCESSED) and not is_settled:
            self.not_tried += 1
            self.reasons.setdefault((result.provider, result.code), _SummaryLine(str(result.message))).count += 1
        if result.outcome == Outcome.REFUSED and result.code == Code.NOT_FOUND:
            self.unknown[result.provider] += 1
        elif result.attempt and result.outcome not in (Outcome.NOT_PROCESSED, Outcome.IN_DOUBT):
            self.known.add(result.provider)

    def _unknown_accounts(self) -> list[str]:
        """Return the accounts that reported ten or more unknown invoices, and no known one."""
        return [alias for alias, n in self.unknown.items() if n >= _UNKNOWN_LIMIT and alias not in self.known]


def _describe(result: CancelResult) -> str:
    """Return the text of all results with this outcome and code. The reasons of the shop are shown as examples."""
    return str(VETOED if result.code == Code.VETOED else result.message)


def _one_line(text: str) -> str:
    """Return a text of the shop in one line, shortened, without characters that control a terminal."""
    printable = "".join(character if character.isprintable() else " " for character in text)
    return textwrap.shorten(printable, _REASON_WIDTH, placeholder="...")


def _encoding(stream: Any) -> str:
    return getattr(stream, "encoding", None) or "utf-8"


def _encodes_unicode(stream: Any) -> bool:
    """Return whether a stream accepts every character. With an old locale it may not."""
    return codecs.lookup(_encoding(stream)).name == "utf-8"


def _encodable(stream: Any, text: str) -> str:
    """Return a text with characters that the stream cannot encode escaped, so that they do not fail a finished run."""
    return text.encode(_encoding(stream), "backslashreplace").decode(_encoding(stream))


@contextmanager
def stop_on_signals() -> Iterator[threading.Event]:
    """Yield an event that SIGINT, SIGTERM or SIGHUP sets. A second signal ends the process. Main thread only.

    A closed terminal sends SIGHUP. If it was ignored at the start, as ``nohup`` does, it stays ignored.
    """
    stop = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    earlier: dict[int, Any] = {}

    def handle(number: int, frame: FrameType | None) -> None:
        stop.set()
        for known in earlier:
            signal.signal(known, _second_signal())
        with suppress(OSError):  # the reader may have received the signal too, or the terminal is closed
            os.write(2, b"\nStopping after the requests in flight are recorded. A second signal stops immediately.\n")

    for wanted in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if wanted != signal.SIGHUP or signal.getsignal(wanted) != signal.SIG_IGN:
            earlier[wanted] = signal.signal(wanted, handle)
    try:
        yield stop
    finally:
        for known, handler in earlier.items():
            signal.signal(known, handler)


def _second_signal() -> Any:
    """Return the handler for a second signal: the system's default, which ends the process even while C code waits.

    For process 1 of a container the system's default does nothing, so a handler ends the process.
    """
    return _end if os.getpid() == 1 else signal.SIG_DFL


def _end(number: int, frame: FrameType | None) -> None:
    os._exit(128 + number)
