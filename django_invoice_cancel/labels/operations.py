"""Texts about bulk operations: their titles, their buttons, and the headline of a report."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext, ngettext_lazy, pgettext, pgettext_lazy

from ..domain.audit import Wanted
from ..domain.outcomes import CONFIRMS_CANCEL, Outcome
from .formatting import format_count, format_number
from .results import NOT_TRIED, OUTCOME_LABELS

NEWER_OPERATION = gettext_lazy("A newer version of this app wrote this operation. This version only shows it.")
_TITLES: Mapping[str, Any] = {
    Wanted.CANCEL: ngettext_lazy("Cancellation of %(count)s invoice", "Cancellation of %(count)s invoices", "number"),
    Wanted.CHECK: ngettext_lazy("Check of %(count)s invoice", "Check of %(count)s invoices", "number"),
    Wanted.RESOLVE: ngettext_lazy("Resolution of %(count)s invoice", "Resolution of %(count)s invoices", "number"),
}
_QUESTIONS: Mapping[str, Any] = {
    Wanted.CANCEL: ngettext_lazy("Cancel %(count)s invoice?", "Cancel %(count)s invoices?", "number"),
    Wanted.CHECK: ngettext_lazy("Check %(count)s invoice?", "Check %(count)s invoices?", "number"),
    Wanted.RESOLVE: ngettext_lazy("Resolve %(count)s invoice?", "Resolve %(count)s invoices?", "number"),
}
_CANNOT: Mapping[str, Any] = {
    Wanted.CANCEL: gettext_lazy("Cannot cancel invoices"),
    Wanted.CHECK: gettext_lazy("Cannot check invoices"),
    Wanted.RESOLVE: gettext_lazy("Cannot resolve invoices"),
}
_CONFIRM: Mapping[str, Any] = {
    Wanted.CANCEL: ngettext_lazy("Yes, cancel %(count)s invoice", "Yes, cancel %(count)s invoices", "number"),
    Wanted.CHECK: ngettext_lazy("Yes, check %(count)s invoice", "Yes, check %(count)s invoices", "number"),
    Wanted.RESOLVE: ngettext_lazy("Yes, resolve %(count)s invoice", "Yes, resolve %(count)s invoices", "number"),
}
_LEFT_OUT: Mapping[str, Any] = {
    Wanted.CANCEL: ngettext_lazy(
        "%(count)s invoice will not be canceled. Reason:",
        "%(count)s invoices will not be canceled. Reasons:",
        "number",
    ),
    Wanted.CHECK: ngettext_lazy(
        "%(count)s invoice will not be checked. Reason:", "%(count)s invoices will not be checked. Reasons:", "number"
    ),
    Wanted.RESOLVE: ngettext_lazy(
        "%(count)s invoice will not be resolved. Reason:",
        "%(count)s invoices will not be resolved. Reasons:",
        "number",
    ),
}
_STARTED: Mapping[str, Any] = {
    Wanted.CANCEL: ngettext_lazy(
        "Started the cancellation of %(count)s invoice.", "Started the cancellation of %(count)s invoices.", "number"
    ),
    Wanted.CHECK: ngettext_lazy(
        "Started the check of %(count)s invoice.", "Started the check of %(count)s invoices.", "number"
    ),
    Wanted.RESOLVE: ngettext_lazy(
        "Started the resolution of %(count)s invoice.", "Started the resolution of %(count)s invoices.", "number"
    ),
}
_STOPPED = ngettext_lazy("Stopped with %(count)s invoice left.", "Stopped with %(count)s invoices left.", "number")
_CONTINUED = ngettext_lazy(
    "Continued with %(count)s invoice left.", "Continued with %(count)s invoices left.", "number"
)
_ENDED = ngettext_lazy(
    "Stopped for good with %(count)s invoice left.", "Stopped for good with %(count)s invoices left.", "number"
)
_CHECK_LABELS: Mapping[str, Any] = {
    **OUTCOME_LABELS,
    Outcome.ALREADY_CANCELED: pgettext_lazy("outcome", "Canceled"),
    Outcome.REFUSED: pgettext_lazy("outcome", "Paid or closed"),
    Outcome.NOT_PROCESSED: pgettext_lazy("outcome", "Open"),
}
"""Labels of outcomes in an operation that checks invoices."""
_FOLLOW_UPS: Mapping[tuple[str, str], Any] = {
    (Wanted.CANCEL, Wanted.CANCEL): gettext_lazy("Try these again"),
    (Wanted.CHECK, Wanted.CANCEL): gettext_lazy("Cancel these"),
}
"""Labels of the buttons of a report, by the kinds of this operation and of the next one."""


def describe_operation(kind: str, count: int) -> str:
    """Return the title of an operation. A newer version may have stored an unknown ``kind``."""
    return format_count(_TITLES[kind], count) if kind in _TITLES else f"{kind}: {format_number(count)}"


def confirmation_title(kind: str, count: int) -> str:
    """Return the title of the confirmation page for this number of eligible invoices."""
    return format_count(_QUESTIONS[kind], count) if count else str(_CANNOT[kind])


def confirm_label(kind: str, count: int) -> str:
    """Return the label of the button that confirms an operation."""
    return format_count(_CONFIRM[kind], count)


def left_out_title(kind: str, count: int) -> str:
    """Return the heading of the list of reasons why invoices are left out."""
    return format_count(_LEFT_OUT[kind], count)


def started_message(kind: str, count: int) -> str:
    """Return the text of the entry in the admin's log about the start of an operation."""
    return format_count(_STARTED[kind], count)


def stopped_message(left: int) -> str:
    """Return the text of the entry in the admin's log about a stop, with the number of remaining invoices."""
    return format_count(_STOPPED, left)


def continued_message(left: int) -> str:
    """Return the text of the entry in the admin's log about a continuation, with the number of remaining invoices."""
    return format_count(_CONTINUED, left)


def ended_message(left: int) -> str:
    """Return the text of the entry in the admin's log about an early end, with the number of remaining invoices."""
    return format_count(_ENDED, left)


def outcome_label(kind: str, outcome: str) -> str:
    """Return the label of an outcome in an operation of this kind."""
    if kind == Wanted.RESOLVE and outcome:
        return pgettext("outcome", "Unchanged") if outcome == Outcome.SKIPPED else pgettext("outcome", "Resolved")
    labels = _CHECK_LABELS if kind == Wanted.CHECK else OUTCOME_LABELS
    return str(labels.get(outcome, outcome))


def follow_up_label(kind: str, step: str, outcome: str) -> str:
    """Return the label of the button that starts the next operation on items with this outcome."""
    if step == Wanted.RESOLVE and outcome != Outcome.IN_DOUBT:
        return _("Record what the provider shows")
    default = _("Resolve these") if step == Wanted.RESOLVE else _("Check these")
    return str(_FOLLOW_UPS.get((kind, step), default))


def describe_report(kind: str, counts: Mapping[str, int], total: int) -> str:
    """Return the headline of a report.

    Args:
        kind: The kind of the operation.
        counts: The number of invoices by outcome.
        total: The number of all invoices.
    """
    if kind == Wanted.CHECK:
        return _describe_checked(counts)
    good = count_successes(kind, counts)
    if kind == Wanted.CANCEL:
        text = ngettext("%(good)s of %(count)s canceled.", "%(good)s of %(count)s canceled.", total)
    else:
        text = ngettext("%(good)s of %(count)s resolved.", "%(good)s of %(count)s resolved.", total)
    return text % {"good": format_number(good), "count": format_number(total)}


def count_successes(kind: str, counts: Mapping[str, int]) -> int:
    """Return the number of invoices with the intended result: canceled, with a known status, or resolved."""
    if kind == Wanted.CANCEL:
        return sum(counts.get(outcome, 0) for outcome in CONFIRMS_CANCEL)
    bad = {NOT_TRIED, Outcome.SKIPPED} | ({Outcome.IN_DOUBT} if kind == Wanted.CHECK else set())
    return sum(count for outcome, count in counts.items() if outcome not in bad)


def _describe_checked(counts: Mapping[str, int]) -> str:
    done = sum(count for outcome, count in counts.items() if outcome not in (NOT_TRIED, Outcome.SKIPPED))
    text = ngettext(
        "%(count)s invoice checked; in doubt: %(doubt)s.", "%(count)s invoices checked; in doubt: %(doubt)s.", done
    )
    return text % {"count": format_number(done), "doubt": format_number(counts.get(Outcome.IN_DOUBT, 0))}
