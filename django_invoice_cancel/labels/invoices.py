"""Texts about one invoice: its status, its situation, its available actions, and the events of its log."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Any

from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from ..domain.audit import Trigger
from ..domain.outcomes import Code, Outcome
from ..domain.statuses import Status
from .results import describe_result

STATUS_LABELS: Mapping[Status, Any] = {
    Status.CREATED: gettext_lazy("Open"),
    Status.CANCELING: gettext_lazy("Being canceled"),
    Status.IN_DOUBT: gettext_lazy("In doubt"),
    Status.CANCELED: gettext_lazy("Canceled"),
    Status.PARTIALLY_PAID: gettext_lazy("Partially paid"),
    Status.PAID: gettext_lazy("Paid"),
    Status.OVERPAID: gettext_lazy("Overpaid"),
    Status.EXPIRED: gettext_lazy("Expired"),
    Status.FAILED: gettext_lazy("Payment failed"),
}

DECISIONS: Mapping[Status, Any] = {
    Status.CANCELED: gettext_lazy("The provider's cabinet shows it canceled"),
    Status.CREATED: gettext_lazy("The provider's cabinet shows it still open"),
    Status.EXPIRED: gettext_lazy("The provider's cabinet shows it expired"),
    Status.FAILED: gettext_lazy("The provider's cabinet shows its payment failed"),
    Status.PARTIALLY_PAID: gettext_lazy("The provider's cabinet shows it partially paid"),
    Status.PAID: gettext_lazy("The provider's cabinet shows it paid"),
    Status.OVERPAID: gettext_lazy("The provider's cabinet shows it overpaid"),
}
"""The decisions that a user can take about an invoice, by the resulting status."""

QUESTIONS: Mapping[str, Any] = {
    "cancel": gettext_lazy("Cancel this invoice?"),
    "check": gettext_lazy("Check with provider?"),
    "resolve": gettext_lazy("Resolve this invoice"),
    "handled": gettext_lazy("Mark late money as handled"),
    "withdraw": gettext_lazy("Withdraw the request to cancel this invoice?"),
}
"""Titles of the confirmation pages."""
CANNOT: Mapping[str, Any] = {
    "cancel": gettext_lazy("Cannot cancel this invoice"),
    "check": gettext_lazy("Cannot check this invoice"),
    "resolve": gettext_lazy("Cannot resolve this invoice"),
    "handled": gettext_lazy("Nothing to handle"),
    "withdraw": gettext_lazy("Nothing to withdraw"),
}
"""Titles of the same pages if the action is not possible."""
BUTTONS: Mapping[str, Any] = {
    "cancel": gettext_lazy("Cancel"),
    "check": gettext_lazy("Check with provider"),
    "resolve": gettext_lazy("Resolve …"),
    "handled": gettext_lazy("Mark as handled"),
    "withdraw": gettext_lazy("Withdraw request …"),
}


def status_label(status: str) -> str:
    """Return the label of a status. A status of a newer version is returned unchanged."""
    return str(STATUS_LABELS[Status(status)]) if status in list(Status) else status


# -- the situation of an invoice ------------------------------------------------------------------------------


class Situation(StrEnum):
    """The known state of an invoice: its status, with other facts that matter."""

    OPEN = "open"
    OPEN_REFUSED = "open_refused"
    OPEN_CONFIRMED = "open_confirmed"
    OPEN_TRIED = "open_tried"
    REQUESTED = "requested"
    REQUESTED_BY = "requested_by"
    LAST_TRY = "last_try"
    ALSO_REQUESTED = "also_requested"
    ALSO_REQUESTED_BY = "also_requested_by"
    CANCELING = "canceling"
    ABANDONED = "abandoned"
    IN_DOUBT = "in_doubt"
    CANCELED = "canceled"
    CANCELED_AS_LEARNED = "canceled_as_learned"
    CANCELED_BY_DECISION = "canceled_by_decision"
    PARTIALLY_PAID = "partially_paid"
    PAID = "paid"
    OVERPAID = "overpaid"
    LATE_MONEY = "late_money"
    LATE_MONEY_HANDLED = "late_money_handled"
    MORE_LATE_MONEY = "more_late_money"
    CONTRADICTED = "contradicted"
    EXPIRED = "expired"
    FAILED = "failed"
    NEWER_STATUS = "newer_status"


SITUATIONS: Mapping[Situation, Any] = {
    Situation.OPEN: gettext_lazy("Open since %(when)s: no payment has been seen."),
    Situation.OPEN_REFUSED: gettext_lazy("Open. At %(when)s %(provider)s refused to cancel it."),
    Situation.OPEN_CONFIRMED: gettext_lazy("Open: at %(when)s %(provider)s said so, the cancel has not happened."),
    Situation.OPEN_TRIED: gettext_lazy("Open. The cancel tried at %(when)s has not happened: %(why)s"),
    Situation.REQUESTED: gettext_lazy(
        "Open. Its cancellation was requested at %(when)s; `reconcile_invoices` tries it from %(next)s on."
    ),
    Situation.REQUESTED_BY: gettext_lazy(
        "Open. Its cancellation was requested by %(who)s at %(when)s; `reconcile_invoices` tries it from %(next)s on."
    ),
    Situation.LAST_TRY: gettext_lazy("The last try was at %(when)s: %(why)s"),
    Situation.ALSO_REQUESTED: gettext_lazy("Its cancellation was requested at %(when)s."),
    Situation.ALSO_REQUESTED_BY: gettext_lazy("Its cancellation was requested by %(who)s at %(when)s."),
    Situation.CANCELING: gettext_lazy("Being canceled since %(when)s: %(provider)s is being asked right now."),
    Situation.ABANDONED: gettext_lazy("Left behind at %(when)s. %(why)s"),
    Situation.IN_DOUBT: gettext_lazy("In doubt since %(when)s. %(why)s"),
    Situation.CANCELED: gettext_lazy("Canceled at %(when)s: %(provider)s confirmed it."),
    Situation.CANCELED_AS_LEARNED: gettext_lazy("Canceled: %(provider)s said so at %(when)s."),
    Situation.CANCELED_BY_DECISION: gettext_lazy(
        "Canceled at %(when)s by decision of %(who)s, not on %(provider)s's own word."
    ),
    Situation.PARTIALLY_PAID: gettext_lazy(
        "Partially paid, as we learned at %(when)s: it holds money, less than asked for."
    ),
    Situation.PAID: gettext_lazy("Paid, as we learned at %(when)s."),
    Situation.OVERPAID: gettext_lazy("Overpaid, as we learned at %(when)s: it holds more money than asked for."),
    Situation.LATE_MONEY: gettext_lazy(
        "Paid although it was canceled, as we learned at %(when)s. It holds a customer's money: deliver or pay back, "
        "then mark it as handled."
    ),
    Situation.LATE_MONEY_HANDLED: gettext_lazy(
        "Paid although it was canceled, as we learned at %(when)s. Handled at %(handled)s by %(who)s."
    ),
    Situation.MORE_LATE_MONEY: gettext_lazy(
        "Paid although it was canceled, as we learned at %(when)s. That was handled, and at %(more)s we learned of "
        "more money: deliver or pay back, then mark it as handled."
    ),
    Situation.CONTRADICTED: gettext_lazy(
        "But at %(when)s %(provider)s reported it as open. "
        "Look it up in the dashboard of %(provider)s, then resolve it."
    ),
    Situation.EXPIRED: gettext_lazy("Expired: %(provider)s closed it, as we learned at %(when)s."),
    Situation.FAILED: gettext_lazy("Payment failed: %(provider)s closed it, as we learned at %(when)s."),
    Situation.NEWER_STATUS: gettext_lazy(
        "Its status is “%(status)s”, which a newer version of this app wrote. "
        "This version only records payments for it."
    ),
}


# -- the log --------------------------------------------------------------------------------------------------

TRIGGER_LABELS: Mapping[str, Any] = {
    Trigger.API: gettext_lazy("API"),
    Trigger.ADMIN: gettext_lazy("admin"),
    Trigger.COMMAND: gettext_lazy("command"),
    Trigger.TASK: gettext_lazy("task"),
    Trigger.ON_COMMIT: gettext_lazy("on commit"),
    Trigger.RECONCILE: gettext_lazy("reconcile"),
    Trigger.WEBHOOK: gettext_lazy("webhook"),
    Trigger.OPERATOR: gettext_lazy("by hand"),
}
_REQUEST_SENT: Mapping[str, Any] = {
    Outcome.CANCELED: gettext_lazy("cancel sent, confirmed after %(time)s"),
    Outcome.ALREADY_CANCELED: gettext_lazy("cancel sent; it was canceled already, said after %(time)s"),
    Outcome.REFUSED: gettext_lazy("cancel sent, refused after %(time)s"),
    Outcome.IN_DOUBT: gettext_lazy("cancel sent, no usable answer after %(time)s"),
}
_NO_REQUEST = frozenset(
    {*(Code.REQUESTED, Code.WITHDRAWN, Code.GIVEN_BACK), *(Code.ABANDONED, Code.HANDLED, Code.MORE_MONEY)}
)
"""Codes of rows that record neither a request nor an answer."""
_WITHOUT_ANSWER = frozenset({Code.NO_ANSWER, Code.UNREACHABLE, Code.ADAPTER_ERROR})
"""Codes of rows whose message comes from this app and not from the provider, if they have no HTTP status."""


def describe_event(
    *, from_status: str, to_status: str, outcome: str, code: str, provider: str, duration: str = ""
) -> str:
    """Return the text of one row of the log.

    Args:
        provider: The name of the provider.
        duration: How long the request took, as text; empty if no request was sent.
    """
    why = str(describe_result(outcome or Outcome.SKIPPED, code, provider=provider))
    if code in _NO_REQUEST:
        return why
    if code == Code.RESOLVED:
        return _("decided: %(status)s") % {"status": status_label(to_status)}
    if not from_status:
        return _("registered")
    if to_status == Status.CANCELING:
        return _("begins to cancel at %(provider)s") % {"provider": provider}
    if duration and code == Code.NO_ANSWER:
        return _("cancel sent, no answer after %(time)s") % {"time": duration}
    if duration and outcome in _REQUEST_SENT:
        return str(_REQUEST_SENT[outcome]) % {"time": duration}
    if code == Code.OBSERVED:
        reported = Status.CANCELED if outcome == Outcome.ALREADY_CANCELED else to_status
        return _("%(provider)s reported: %(status)s") % {"provider": provider, "status": status_label(reported)}
    return _("cancel not carried out: %(why)s") % {"why": why} if duration else why


def message_label(code: str, http_status: int | None) -> str:
    """Return the heading of the message in a row of the log: an error that this app found, or the provider's text."""
    return _("The fault") if http_status is None and code in _WITHOUT_ANSWER else _("The provider's words")
