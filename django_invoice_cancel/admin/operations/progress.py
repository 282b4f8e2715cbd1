"""Progress of an operation, for the page and for its script: the progress bar, a text about its state, and a button."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property
from typing import Any

from django.db.models import Count, Max
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from ... import conf
from ...domain.bidi import isolate
from ...domain.clock import utc_now
from ...domain.outcomes import Outcome
from ...labels.formatting import format_number, format_seconds_ago, format_time, format_time_ago
from ...labels.operations import NEWER_OPERATION, describe_operation, describe_report, has_failures, outcome_label
from ...labels.results import NOT_TRIED, describe_result
from ...models import BulkOperation, ProviderState
from ...models.operation import Progress
from ...operations.pauses import DISABLED_SECONDS, find_pauses, is_sending_disabled
from ..provider_state import account_name, sending_warnings
from ..scope import OperationScope

OUTCOME_ORDER = (*Outcome, NOT_TRIED)
SHORTEST_PAUSE_SECONDS = 3.0
"""Shorter pauses are not shown."""
QUIET_PAGE = timedelta(seconds=5)
"""If no page has the operation's key, it counts as interrupted after this time without activity."""
LEASED_POLL_SECONDS = 2.0
"""Interval in which a page checks whether items that are leased by others are free again."""


@dataclass(frozen=True)
class Snapshot:
    """The progress of an operation at one moment, limited to the items that one user may see."""

    scope: OperationScope
    counts: Mapping[str, int]
    """Visible items by outcome."""
    can_act: bool
    """Whether the user may process, stop and continue the operation."""
    is_driver: bool = False
    """Whether this is the page that has the operation's key, and may process it."""

    @classmethod
    def of(cls, scope: OperationScope, *, can_act: bool, is_driver: bool = False) -> Snapshot:
        rows = scope.items.order_by().values("outcome").annotate(count=Count("pk"))
        return cls(scope, {row["outcome"]: row["count"] for row in rows}, can_act, is_driver)

    @property
    def operation(self) -> BulkOperation:
        return self.scope.operation

    @property
    def total(self) -> int:
        return self.scope.total

    @property
    def left(self) -> int:
        return self.counts.get(NOT_TRIED, 0)

    @property
    def done(self) -> int:
        return self.total - self.left

    @property
    def percent(self) -> int:
        """The progress in percent, rounded down, so that 100 means done."""
        return 100 * self.done // self.total if self.total else 100

    @property
    def is_running(self) -> bool:
        return self.operation.progress == Progress.RUNNING

    @property
    def is_over(self) -> bool:
        return self.operation.progress == Progress.FINISHED

    @property
    def mode(self) -> str:
        """The task of the page's script: ``drive`` (process items), ``watch`` (poll) or ``idle`` (poll slowly)."""
        if self.is_stopping:
            return "watch"
        if not self.is_running:
            return "idle"
        return "drive" if self.can_act and self.is_driver and conf.get().dispatch is None else "watch"

    @cached_property
    def buttons(self) -> tuple[str, ...]:
        """The buttons to show, in this order: ``stop``, ``continue``, ``end``."""
        if not self.can_act or self.is_over:
            return ()
        if not self.is_running or self.is_interrupted:
            return ("continue", "end")
        if self.mode == "drive" or conf.get().dispatch is not None:
            return ("stop",)
        return ("stop", "continue", "end")

    @cached_property
    def is_interrupted(self) -> bool:
        """Whether the operation is running, but no page and no worker processes it."""
        if not self.is_running or self.mode == "drive" or self.is_disabled:
            return False
        if self.operation.is_interrupted:
            return not self.paused or conf.get().dispatch is None
        return conf.get().dispatch is None and self._was_page_closed

    @property
    def _was_page_closed(self) -> bool:
        """Whether the page that processed the operation was closed, and nothing else processes it."""
        is_quiet = utc_now() - self._last_activity > QUIET_PAGE
        return self.operation.page_key is None and is_quiet and not self._leased[1]

    @cached_property
    def paused(self) -> list[ProviderState]:
        """The states of the remaining providers if all of them are paused; otherwise empty."""
        if not self.is_running:
            return []
        aliases = self.scope.providers_left()
        states = find_pauses(self.operation, aliases)
        long_ones = [state for state in states.values() if state.seconds_left > SHORTEST_PAUSE_SECONDS]
        return long_ones if aliases and len(long_ones) == len(aliases) else []

    @property
    def is_disabled(self) -> bool:
        """Whether the operation is running and the setting SEND disables its requests."""
        return self.is_running and self.left > 0 and is_sending_disabled(self.operation)

    @cached_property
    def _leased(self) -> tuple[int, bool]:
        """The number of remaining items with an unreturned lease, and whether a lease is still valid."""
        taken = self.scope.left().filter(token__isnull=False)
        found = taken.aggregate(count=Count("pk"), until=Max("leased_until"))
        return found["count"], found["until"] is not None and found["until"] > utc_now()

    @property
    def is_stopping(self) -> bool:
        """Whether the operation is stopped while requests may still be in flight."""
        return self.operation.progress == Progress.STOPPED and self._leased[1]

    @cached_property
    def is_leased_elsewhere(self) -> bool:
        """Whether this page should process items, but others have leased all remaining ones."""
        return self.mode == "drive" and self.left > 0 and not self.paused and not self.scope.free().exists()

    @property
    def wait_seconds(self) -> float:
        if self.is_disabled:
            return DISABLED_SECONDS
        return min(
            (state.seconds_left for state in self.paused),
            default=LEASED_POLL_SECONDS if self.is_leased_elsewhere else 0.0,
        )

    @property
    def sentence(self) -> str:
        """The state of the operation, in one or two sentences."""
        if self.is_over or not self.operation.is_known:
            return self.headline
        if self.is_stopping:
            return _("Stopping. No more requests are sent; requests in flight are completed.")
        if not self.is_running:
            return f"{self._describe_stop()} {self._describe_rest()}"
        if self.is_interrupted:
            return self._describe_interruption()
        if self.is_disabled:
            return " ".join([*sending_warnings(), self._describe_rest()])
        if self.paused:
            return self._describe_pauses()
        if self.is_leased_elsewhere:
            return _(
                "Another page, which may be closed, has reserved the remaining invoices. "
                "This page continues when they are released."
            )
        if self.mode == "drive":
            return _("This page does the work. If you close it, the operation pauses; nothing is lost.")
        if conf.get().dispatch is None:
            return self._describe_other_page()
        return self._describe_workers()

    @property
    def headline(self) -> str:
        """The headline of the report."""
        if not self.operation.is_known:
            return str(NEWER_OPERATION)
        report = describe_report(self.operation.operation, self._counts_by_code)
        return f"{report} {self._describe_end()}" if self.is_over and self.left else report

    @property
    def has_failures(self) -> bool:
        """Whether an invoice was not processed as intended, and was not left alone for a lasting reason either."""
        return has_failures(self.operation.operation, self._counts_by_code)

    @cached_property
    def _counts_by_code(self) -> dict[tuple[str, str], int]:
        rows = self.scope.items.order_by().values("outcome", "code").annotate(count=Count("pk"))
        return {(row["outcome"], row["code"]): row["count"] for row in rows}

    @property
    def title(self) -> str:
        """The name of the operation."""
        return describe_operation(self.operation.operation, self.total)

    @property
    def amount_done(self) -> str:
        """The number of finished invoices, for the text of the progress bar."""
        text = ngettext("%(done)s of %(count)s done", "%(done)s of %(count)s done", self.total)
        return text % {"done": format_number(self.done), "count": format_number(self.total)}

    @property
    def tab_title(self) -> str:
        return self.title if self.is_over else f"{self.percent}% · {self.title}"

    def rows(self) -> list[dict[str, Any]]:
        """Return the counts by outcome, with their labels."""
        return [
            {
                "outcome": outcome or "untried",
                "label": outcome_label(self.operation.operation, outcome),
                "count": format_number(self.counts[outcome]),
            }
            for outcome in (*OUTCOME_ORDER, *sorted(set(self.counts) - set(OUTCOME_ORDER)))
            if self.counts.get(outcome)
        ]

    def as_dict(self) -> dict[str, Any]:
        """Return the values that the page's script reads."""
        return {
            "state": self.state,
            "changed_by": self.changed_by,
            "done": self.done,
            "total": self.total,
            "amount_done": self.amount_done,
            "sentence": self.sentence,
            "tab_title": self.tab_title,
            "counts": self.rows(),
            "wait_seconds": self.wait_seconds,
            "is_leased_elsewhere": self.is_leased_elsewhere,
        }

    @property
    def state(self) -> str:
        """The state of the page. If it changes, the page's script replaces the content of the page."""
        paused = " paused" if self.paused else ""
        return f"{self.operation.progress} {self.mode} {','.join(self.buttons)}{paused}"

    @property
    def changed_by(self) -> str:
        """Who continued and stopped the operation, and the number of later ones. It is compared like ``state``."""
        operation = self.operation
        followers = BulkOperation.objects.using(operation.database).filter(continues=operation)
        count = followers.exclude(progress=Progress.DRAFT).count()
        return f"{isolate(operation.runner_label)} / {isolate(operation.stopped_by_label)} / {count}"

    def _describe_stop(self) -> str:
        name = isolate(self.operation.stopped_by_label)
        return _("Stopped by %(name)s.") % {"name": name} if name else _("Stopped.")

    def _describe_end(self) -> str:
        name = self.operation.stopped_by_label
        return _("Stopped for good by %(name)s.") % {"name": isolate(name)} if name else _("Stopped for good.")

    @property
    def _last_activity(self) -> datetime:
        return self.operation.last_activity_at or self.operation.created_at

    def _describe_interruption(self) -> str:
        if conf.get().dispatch is not None:
            return self._describe_workers()
        text = _("Interrupted %(ago)s.") % {"ago": format_time_ago(self._last_activity)}
        return f"{text} {self._describe_pauses() if self.paused else self._describe_rest()}"

    def _describe_other_page(self) -> str:
        ago = format_time_ago(self._last_activity)
        if self.operation.page_key is None:
            return _("The last requests are being completed (last activity: %(ago)s).") % {"ago": ago}
        texts = {"name": isolate(self.operation.runner_label), "ago": format_time_ago(self._last_activity)}
        if not self.can_act:
            return _("Another page, opened by %(name)s, does the work (last activity: %(ago)s).") % texts
        return (
            _(
                "Another page, opened by %(name)s, does the work (last activity: %(ago)s). "
                "If it is closed, continue here."
            )
            % texts
        )

    def _describe_workers(self) -> str:
        """Return a text about the last activity of the workers, or about a dispatch after which none has started."""
        operation = self.operation
        if operation.has_failed_dispatch and operation.dispatched_at is not None:
            text = _("Handing it to the workers failed %(ago)s: %(error)s. %(rest)s")
            ago = format_seconds_ago(operation.dispatched_at)
            return text % {
                "ago": ago,
                "error": isolate(operation.dispatch_error.rstrip(".")),
                "rest": self._describe_rest(),
            }
        if not operation.has_started:
            when = operation.dispatched_at or operation.started_at or operation.created_at
            text = _("Handed to the workers %(ago)s; none has started.") % {"ago": format_seconds_ago(when)}
            return f"{text} {self._describe_rest()}" if self.is_interrupted else text
        when = operation.worked_at or operation.last_activity_at or operation.created_at
        if self.is_interrupted:
            text = _("No worker is processing this operation; the last one was active %(ago)s. %(rest)s")
            return text % {"ago": format_time_ago(when), "rest": self._describe_rest()}
        return _("A worker does the work; it was active %(ago)s. You can close this page.") % {
            "ago": format_seconds_ago(when)
        }

    def _describe_rest(self) -> str:
        """Return a text about the invoices that were not tried, and about those whose result is not known yet."""
        leased = self._leased[0]
        not_tried = self.left - leased
        sentences = []
        if not_tried or not leased:
            text = ngettext(
                "%(count)s invoice was not tried and is unchanged.",
                "%(count)s invoices were not tried and are unchanged.",
                not_tried,
            )
            sentences.append(text % {"count": format_number(not_tried)})
        if leased:
            text = ngettext(
                "%(count)s invoice was in progress; its result is not known yet.",
                "%(count)s invoices were in progress; their results are not known yet.",
                leased,
            )
            sentences.append(text % {"count": format_number(leased)})
        return " ".join(sentences)

    def _describe_pauses(self) -> str:
        reasons = [
            str(describe_result(Outcome.NOT_PROCESSED, state.pause_code, provider=account_name(state.alias)))
            for state in self.paused
        ]
        resumes_at = utc_now() + timedelta(seconds=self.wait_seconds)
        text = _("Paused until %(time)s: %(why)s %(rest)s")
        return text % {
            "time": format_time(resumes_at),
            "why": " ".join(reasons),
            "rest": self._describe_rest(),
        }
