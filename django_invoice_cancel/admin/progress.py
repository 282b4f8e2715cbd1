"""How far an operation is: the bar, the sentence, the one button. As a page shows it and as its script reads it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from functools import cached_property
from typing import Any

from django.db.models import Count
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from .. import conf
from ..bulk_operations import pauses
from ..messages import sentence
from ..models import BulkOperation, ProviderState
from ..models.bulk_operation import Progress
from ..outcomes import Outcome
from . import texts
from .times import clock

ORDER = (*Outcome, texts.UNTRIED)
SHORTEST_PAUSE_SECONDS = 3.0
"""A pause shorter than this is not worth a sentence."""


@dataclass(frozen=True)
class Snapshot:
    """An operation at one moment, for one person."""

    operation: BulkOperation
    counts: Mapping[str, int]
    """Items by outcome."""
    may_act: bool
    """Whether this person may work on it."""

    @classmethod
    def of(cls, operation: BulkOperation, *, may_act: bool) -> Snapshot:
        rows = operation.items.order_by().values("outcome").annotate(count=Count("pk"))
        return cls(operation, {row["outcome"]: row["count"] for row in rows}, may_act)

    @property
    def left(self) -> int:
        return self.counts.get(texts.UNTRIED, 0)

    @property
    def done(self) -> int:
        return self.operation.total - self.left

    @property
    def percent(self) -> int:
        """Rounded down: 100 means done."""
        return 100 * self.done // self.operation.total if self.operation.total else 100

    @property
    def is_running(self) -> bool:
        return self.operation.progress == Progress.RUNNING

    @property
    def is_over(self) -> bool:
        return self.operation.progress == Progress.FINISHED

    @property
    def mode(self) -> str:
        """What the page does: ``drive`` the work, ``watch`` others do it, or nothing."""
        if not self.is_running:
            return ""
        return "drive" if self.may_act and conf.get().dispatch is None else "watch"

    @property
    def button(self) -> str:
        """The one thing to do about it: ``stop``, ``continue``, or nothing."""
        if not self.may_act or self.is_over:
            return ""
        if self.is_running and not self._waits_for_worker:
            return "stop"
        return "continue"

    @cached_property
    def paused(self) -> list[ProviderState]:
        """The states of the providers that are left, if all of them are paused."""
        if not self.is_running:
            return []
        aliases = self.operation.items.providers_left()
        states = pauses(self.operation, aliases)
        long_ones = [state for state in states.values() if state.seconds_left > SHORTEST_PAUSE_SECONDS]
        return long_ones if aliases and len(long_ones) == len(aliases) else []

    @property
    def wait_seconds(self) -> float:
        return min((state.seconds_left for state in self.paused), default=0.0)

    @property
    def sentence(self) -> str:
        """Return the one sentence of state."""
        if self.is_over:
            return texts.headline(self.operation, self.counts)
        if not self.is_running:
            return _("Stopped. %(rest)s") % {"rest": self._untried()}
        if self.paused:
            return self._paused()
        if self.mode == "drive":
            return _("This page is doing the work: closing it pauses, nothing is lost.")
        if self._waits_for_worker:
            return _("No worker has worked on it lately. %(rest)s") % {"rest": self._untried()}
        if conf.get().dispatch is None:
            return _("Another page does the work, as long as it is open.")
        return _("A worker is doing the work; you can close this page.")

    @property
    def amount_done(self) -> str:
        """Return how much is done, for the bar's text."""
        text = ngettext("%(done)s of %(count)s done", "%(done)s of %(count)s done", self.operation.total)
        return text % {"done": texts.number(self.done), "count": texts.number(self.operation.total)}

    @property
    def tab_title(self) -> str:
        title = texts.title(self.operation)
        return title if self.is_over else f"{self.percent}% · {title}"

    def rows(self) -> list[dict[str, Any]]:
        """Return the counts by outcome, as they are shown."""
        return [
            {
                "outcome": outcome or "untried",
                "label": texts.outcome_label(self.operation, outcome),
                "count": texts.number(self.counts[outcome]),
            }
            for outcome in ORDER
            if self.counts.get(outcome)
        ]

    def as_dict(self) -> dict[str, Any]:
        """Return what the page's script reads."""
        return {
            "state": self.state,
            "done": self.done,
            "total": self.operation.total,
            "amount_done": self.amount_done,
            "sentence": self.sentence,
            "tab_title": self.tab_title,
            "counts": self.rows(),
            "wait_seconds": self.wait_seconds,
        }

    @property
    def state(self) -> str:
        """Change of this means that the page is another one: it is loaded anew."""
        return f"{self.operation.progress} {self.mode} {self.button}"

    @property
    def _waits_for_worker(self) -> bool:
        return conf.get().dispatch is not None and not self.paused and self.operation.is_interrupted

    def _untried(self) -> str:
        text = ngettext(
            "%(count)s invoice was not tried and is unchanged.",
            "%(count)s invoices were not tried and are unchanged.",
            self.left,
        )
        return text % {"count": texts.number(self.left)}

    def _paused(self) -> str:
        names = [
            str(sentence(Outcome.NOT_PROCESSED, state.pause_code, provider=texts.account(state.alias)))
            for state in self.paused
        ]
        goes_on = timezone.now() + timedelta(seconds=self.wait_seconds)
        text = _("Paused until %(time)s: %(why)s %(rest)s")
        return text % {
            "time": clock(goes_on),
            "why": " ".join(names),
            "rest": self._untried(),
        }
