"""Texts about bulk operations: their titles, their buttons, and the headline of a report."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext_lazy, pgettext, pgettext_lazy

from ..domain.audit import Wanted
from ..domain.bidi import isolate
from ..domain.outcomes import CONFIRMS_CANCEL, Code, Outcome
from .formatting import format_count, format_number
from .results import CODE_COUNTS, NOT_TRIED, OUTCOME_LABELS, describe_count

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
_RECORD_QUESTION = ngettext_lazy(
    "Record what the provider shows for %(count)s invoice?",
    "Record what the provider shows for %(count)s invoices?",
    "number",
)
_RECORD_CONFIRM = ngettext_lazy(
    "Yes, record it for %(count)s invoice", "Yes, record it for %(count)s invoices", "number"
)
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
_GOOD: Mapping[str, tuple[str, ...]] = {
    Wanted.CANCEL: tuple(CONFIRMS_CANCEL),
    Wanted.CHECK: tuple(outcome for outcome in Outcome if outcome != Outcome.SKIPPED),
    Wanted.RESOLVE: tuple(outcome for outcome in Outcome if outcome != Outcome.SKIPPED),
}
_GOOD_COUNTS: Mapping[str, Any] = {
    Wanted.CANCEL: ngettext_lazy("%(count)s canceled", "%(count)s canceled", "number"),
    Wanted.CHECK: ngettext_lazy("%(count)s checked", "%(count)s checked", "number"),
    Wanted.RESOLVE: ngettext_lazy("%(count)s resolved", "%(count)s resolved", "number"),
}
_UNTRIED: Mapping[str, Any] = {NOT_TRIED: ngettext_lazy("%(count)s not tried", "%(count)s not tried", "number")}
_IN_DOUBT: Mapping[str, Any] = {Outcome.IN_DOUBT: ngettext_lazy("%(count)s in doubt", "%(count)s in doubt", "number")}
_BAD_COUNTS: Mapping[str, Mapping[str, Any]] = {
    Wanted.CANCEL: {
        Outcome.REFUSED: ngettext_lazy("%(count)s refused", "%(count)s refused", "number"),
        **_IN_DOUBT,
        Outcome.NOT_PROCESSED: ngettext_lazy("%(count)s not processed", "%(count)s not processed", "number"),
        **_UNTRIED,
    },
    Wanted.CHECK: {
        Outcome.IN_DOUBT: ngettext_lazy("%(count)s still in doubt", "%(count)s still in doubt", "number"),
        **_UNTRIED,
    },
    Wanted.RESOLVE: _UNTRIED,
}
_LEFT_ALONE = ngettext_lazy("%(count)s left alone: %(reasons)s", "%(count)s left alone: %(reasons)s", "number")
_OTHER_REASONS = ngettext_lazy("%(count)s for another reason", "%(count)s for other reasons", "number")
_REASONS: Mapping[str, Any] = {
    Code.HAS_PAYMENT: pgettext_lazy("reason", "payment received"),
    Code.CLOSED: pgettext_lazy("reason", "expired or payment failed"),
    Code.ALREADY_CANCELED: pgettext_lazy("reason", "already canceled"),
    Code.IN_DOUBT: pgettext_lazy("reason", "in doubt"),
    Code.IN_PROGRESS: pgettext_lazy("reason", "being canceled"),
    Code.NOT_IN_DOUBT: pgettext_lazy("reason", "not in doubt"),
    Code.CHANGED: pgettext_lazy("reason", "changed after the selection"),
    Code.NO_LOOKUP: pgettext_lazy("reason", "no status lookup"),
    Code.NO_INVOICE: pgettext_lazy("reason", "no invoice found"),
    Code.NOT_PERMITTED: pgettext_lazy("reason", "no permission"),
    Code.VETOED: pgettext_lazy("reason", "forbidden by a rule of your shop"),
}
"""Lasting reasons why an invoice is left alone. Other codes are failures that someone has to correct."""
_FOLLOW_UPS: Mapping[tuple[str, str], Any] = {
    (Wanted.CANCEL, Wanted.CANCEL): gettext_lazy("Try these again"),
    (Wanted.CHECK, Wanted.CANCEL): gettext_lazy("Cancel these"),
}
"""Labels of the buttons of a report, by the kinds of this operation and of the next one."""


def describe_operation(kind: str, count: int) -> str:
    """Return the title of an operation. A newer version may have stored an unknown ``kind``."""
    return format_count(_TITLES[kind], count) if kind in _TITLES else f"{isolate(kind)}: {format_number(count)}"


def confirmation_title(kind: str, count: int, *, is_record: bool = False) -> str:
    """Return the title of the confirmation page for this number of eligible invoices.

    Args:
        kind: The kind of the operation.
        count: The number of eligible invoices.
        is_record: Whether all of them were refused, so that the decision records what the provider's dashboard shows.
    """
    if not count:
        return str(_CANNOT[kind])
    return format_count(_RECORD_QUESTION if is_record else _QUESTIONS[kind], count)


def confirm_label(kind: str, count: int, *, is_record: bool = False) -> str:
    """Return the label of the button that confirms an operation. ``is_record`` is that of ``confirmation_title``."""
    return format_count(_RECORD_CONFIRM if is_record else _CONFIRM[kind], count)


def left_out_title(kind: str, count: int) -> str:
    """Return the heading of the list of reasons why invoices are left out."""
    return format_count(_LEFT_OUT[kind], count)


def started_message() -> str:
    """Return the text of the entry in the admin's log about the start of an operation. The entry has its title."""
    return _("Started.")


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


Counts = Mapping[tuple[str, str], int]
"""The number of invoices by outcome and code."""


def describe_report(kind: str, counts: Counts) -> str:
    """Return the headline of a report: "3 canceled; 2 left alone: payment received."

    Args:
        kind: The kind of the operation.
        counts: The number of invoices by outcome and code.
    """
    sums: Counter[str] = Counter()
    reasons: Counter[str] = Counter()
    for (outcome, code), count in counts.items():
        if _is_left_alone(kind, outcome, code):
            reasons[code] += count
        else:
            sums[outcome] += count
    good = sum(sums[outcome] for outcome in _GOOD[kind])
    bad = [format_count(text, sums[outcome]) for outcome, text in _BAD_COUNTS[kind].items() if sums[outcome]]
    left_alone = [_describe_left_alone(reasons)] if reasons else []
    return f"{'; '.join([format_count(_GOOD_COUNTS[kind], good), *bad, *left_alone])}."


def has_failures(kind: str, counts: Counts) -> bool:
    """Return whether an invoice was neither processed as intended nor left alone for a lasting reason."""
    return any(
        code not in _REASONS if _is_left_alone(kind, outcome, code) else outcome in _BAD_COUNTS[kind]
        for (outcome, code), count in counts.items()
        if count
    )


def _is_left_alone(kind: str, outcome: str, code: str) -> bool:
    """Return whether nothing was sent for an invoice, or the provider refused because it is paid or closed."""
    is_settled = kind == Wanted.CANCEL and outcome == Outcome.REFUSED and code in (Code.HAS_PAYMENT, Code.CLOSED)
    return outcome == Outcome.SKIPPED or is_settled


def _describe_left_alone(reasons: Counter[str]) -> str:
    total = reasons.total()
    texts = [describe_count(code, count) for code, count in reasons.most_common() if code in CODE_COUNTS]
    others = sum(count for code, count in reasons.items() if code not in CODE_COUNTS)
    if others:
        texts.append(format_count(_OTHER_REASONS, others))
    if len(reasons) == 1 and (code := next(iter(reasons))) in _REASONS:
        texts = [str(_REASONS[code])]
    return str(_LEFT_ALONE % {"number": total, "count": format_number(total), "reasons": ", ".join(texts)})
