"""How far an operation is: the bar, the sentence, the one button. As a page shows it and as its script reads it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from functools import cached_property
from typing import Any

from django.db.models import Count, Max
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from ... import conf
from ...domain.clock import utc_now
from ...domain.outcomes import Outcome
from ...labels import sentence
from ...models import BulkOperation, ProviderState
from ...models.operation import Progress
from ...operations.slices import DISABLED_SECONDS, is_sending_disabled, pauses
from .. import formatting
from ..formatting import clock
from ..provider_state import sending_disabled
from ..scope import OperationSight

ORDER = (*Outcome, formatting.UNTRIED)
SHORTEST_PAUSE_SECONDS = 3.0
"""A pause shorter than this is not worth a sentence."""
HELD_SECONDS = 2.0
"""How often a page looks whether what others have in hand is free."""


@dataclass(frozen=True)
class Snapshot:
    """An operation at one moment, as one user may see it."""

    sight: OperationSight
    counts: Mapping[str, int]
    """Visible items by outcome."""
    may_act: bool
    """Whether this person may work on it."""

    @classmethod
    def of(cls, sight: OperationSight, *, may_act: bool) -> Snapshot:
        rows = sight.items.order_by().values("outcome").annotate(count=Count("pk"))
        return cls(sight, {row["outcome"]: row["count"] for row in rows}, may_act)

    @property
    def operation(self) -> BulkOperation:
        return self.sight.operation

    @property
    def total(self) -> int:
        return self.sight.total

    @property
    def left(self) -> int:
        return self.counts.get(formatting.UNTRIED, 0)

    @property
    def done(self) -> int:
        return self.total - self.left

    @property
    def percent(self) -> int:
        """Rounded down: 100 means done."""
        return 100 * self.done // self.total if self.total else 100

    @property
    def is_running(self) -> bool:
        return self.operation.progress == Progress.RUNNING

    @property
    def is_over(self) -> bool:
        return self.operation.progress == Progress.FINISHED

    @property
    def mode(self) -> str:
        """What the page does: ``drive`` the work, ``watch`` others do it or end it, or nothing."""
        if self.is_stopping:
            return "watch"
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
        aliases = self.sight.providers_left()
        states = pauses(self.operation, aliases)
        long_ones = [state for state in states.values() if state.seconds_left > SHORTEST_PAUSE_SECONDS]
        return long_ones if aliases and len(long_ones) == len(aliases) else []

    @property
    def is_disabled(self) -> bool:
        """Whether it runs, and the setting SEND forbids its requests."""
        return self.is_running and self.left > 0 and is_sending_disabled(self.operation)

    @cached_property
    def _in_hand(self) -> tuple[int, bool]:
        """How many of those that are left somebody took and did not give back, and whether they may have them still."""
        taken = self.sight.left().filter(token__isnull=False)
        found = taken.aggregate(count=Count("pk"), until=Max("leased_until"))
        return found["count"], found["until"] is not None and found["until"] > utc_now()

    @property
    def is_stopping(self) -> bool:
        """Whether it is stopped, and requests that were under way may still be answered."""
        return self.operation.progress == Progress.STOPPED and self._in_hand[1]

    @cached_property
    def is_held(self) -> bool:
        """Whether this page could do the work, and all of what is left is in other hands."""
        return self.mode == "drive" and self.left > 0 and not self.paused and not self.sight.free().exists()

    @property
    def wait_seconds(self) -> float:
        if self.is_disabled:
            return DISABLED_SECONDS
        return min((state.seconds_left for state in self.paused), default=HELD_SECONDS if self.is_held else 0.0)

    @property
    def sentence(self) -> str:
        """Return the one sentence of state."""
        if self.is_over or not formatting.is_known(self.operation):
            return formatting.headline(self.operation, self.counts, self.total)
        if self.is_stopping:
            return _("Stopping: no more is sent; what is under way is still answered.")
        if not self.is_running:
            return _("Stopped. %(rest)s") % {"rest": self._untried()}
        if self.is_disabled:
            return " ".join([*sending_disabled(), self._untried()])
        if self.paused:
            return self._paused()
        if self.is_held:
            return _("Another page, or one that was closed, has the rest in hand: this page waits until it lets go.")
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
        text = ngettext("%(done)s of %(count)s done", "%(done)s of %(count)s done", self.total)
        return text % {"done": formatting.number(self.done), "count": formatting.number(self.total)}

    @property
    def tab_title(self) -> str:
        title = formatting.title(self.operation, self.total)
        return title if self.is_over else f"{self.percent}% · {title}"

    def rows(self) -> list[dict[str, Any]]:
        """Return the counts by outcome, as they are shown."""
        return [
            {
                "outcome": outcome or "untried",
                "label": formatting.outcome_label(self.operation, outcome),
                "count": formatting.number(self.counts[outcome]),
            }
            for outcome in (*ORDER, *sorted(set(self.counts) - set(ORDER)))
            if self.counts.get(outcome)
        ]

    def as_dict(self) -> dict[str, Any]:
        """Return what the page's script reads."""
        return {
            "state": self.state,
            "done": self.done,
            "total": self.total,
            "amount_done": self.amount_done,
            "sentence": self.sentence,
            "tab_title": self.tab_title,
            "counts": self.rows(),
            "wait_seconds": self.wait_seconds,
            "is_held": self.is_held,
        }

    @property
    def state(self) -> str:
        """Change of this means that the page is another one: it is loaded anew."""
        paused = " paused" if self.paused else ""
        return f"{self.operation.progress} {self.mode} {self.button}{paused}"

    @property
    def _waits_for_worker(self) -> bool:
        return (
            conf.get().dispatch is not None
            and not self.paused
            and not self.is_disabled
            and self.operation.is_interrupted
        )

    def _untried(self) -> str:
        """Say what was not tried, and that of what somebody took and did not give back more is not known yet."""
        in_hand = self._in_hand[0]
        untried = self.left - in_hand
        said = []
        if untried or not in_hand:
            text = ngettext(
                "%(count)s invoice was not tried and is unchanged.",
                "%(count)s invoices were not tried and are unchanged.",
                untried,
            )
            said.append(text % {"count": formatting.number(untried)})
        if in_hand:
            text = ngettext(
                "%(count)s invoice was in hand: what became of it is not known yet.",
                "%(count)s invoices were in hand: what became of them is not known yet.",
                in_hand,
            )
            said.append(text % {"count": formatting.number(in_hand)})
        return " ".join(said)

    def _paused(self) -> str:
        names = [
            str(sentence(Outcome.NOT_PROCESSED, state.pause_code, provider=formatting.account(state.alias)))
            for state in self.paused
        ]
        goes_on = utc_now() + timedelta(seconds=self.wait_seconds)
        text = _("Paused until %(time)s: %(why)s %(rest)s")
        return text % {
            "time": clock(goes_on),
            "why": " ".join(names),
            "rest": self._untried(),
        }
