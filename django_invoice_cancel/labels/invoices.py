"""Texts about one invoice: its status, its situation, its available actions, and the events of its log."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Any

from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from ..domain.audit import Trigger
from ..domain.bidi import isolate
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
    Status.CANCELED: STATUS_LABELS[Status.CANCELED],
    Status.CREATED: gettext_lazy("Still open"),
    Status.EXPIRED: STATUS_LABELS[Status.EXPIRED],
    Status.FAILED: STATUS_LABELS[Status.FAILED],
    Status.PARTIALLY_PAID: STATUS_LABELS[Status.PARTIALLY_PAID],
    Status.PAID: STATUS_LABELS[Status.PAID],
    Status.OVERPAID: STATUS_LABELS[Status.OVERPAID],
}
"""The decisions that a user can take about an invoice, by the resulting status."""

QUESTIONS: Mapping[str, Any] = {
    "cancel": gettext_lazy("Cancel this invoice?"),
    "cancel_now": gettext_lazy("Cancel this invoice now?"),
    "check": gettext_lazy("Check with provider?"),
    "resolve": gettext_lazy("Resolve this invoice"),
    "record": gettext_lazy("Record what the provider shows"),
    "handled": gettext_lazy("Mark the late payment as handled"),
    "withdraw": gettext_lazy("Withdraw the request to cancel this invoice?"),
}
"""Titles of the confirmation pages. Their names, and two variants: ``cancel_now`` of a requested cancellation, and
``record`` of an invoice that was refused."""
CANNOT: Mapping[str, Any] = {
    "cancel": gettext_lazy("Cannot cancel this invoice"),
    "check": gettext_lazy("Cannot check this invoice"),
    "resolve": gettext_lazy("Cannot resolve this invoice"),
    "handled": gettext_lazy("No late payment to handle"),
    "withdraw": gettext_lazy("No cancellation is requested"),
}
"""Titles of the same pages if the action is not possible."""
BUTTONS: Mapping[str, Any] = {
    "cancel": gettext_lazy("Cancel"),
    "cancel_now": gettext_lazy("Cancel now"),
    "check": gettext_lazy("Check with provider"),
    "resolve": gettext_lazy("Resolve…"),
    "record": gettext_lazy("Record what the provider shows…"),
    "handled": gettext_lazy("Mark as handled"),
    "withdraw": gettext_lazy("Withdraw request…"),
}


def status_label(status: str) -> str:
    """Return the label of a status. A status of a newer version is returned unchanged."""
    return str(STATUS_LABELS[Status(status)]) if status in list(Status) else isolate(status)


# -- the situation of an invoice ------------------------------------------------------------------------------


class Situation(StrEnum):
    """The known state of an invoice: its status, with other facts that matter."""

    OPEN = "open"
    OPEN_REFUSED = "open_refused"
    OPEN_CONFIRMED = "open_confirmed"
    OPEN_BY_DECISION = "open_by_decision"
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
    Situation.OPEN: gettext_lazy("Open since %(when)s. No payment received."),
    Situation.OPEN_REFUSED: gettext_lazy("Open. At %(when)s %(provider)s refused to cancel it."),
    Situation.OPEN_CONFIRMED: gettext_lazy("Open. At %(when)s %(provider)s reported it as open: it was not canceled."),
    Situation.OPEN_BY_DECISION: gettext_lazy(
        "Open since %(when)s by decision of %(who)s, not by a report of %(provider)s."
    ),
    Situation.OPEN_TRIED: gettext_lazy("Open. The cancellation tried at %(when)s was not carried out: %(why)s"),
    Situation.REQUESTED: gettext_lazy(
        "Open. Cancellation requested at %(when)s; `reconcile_invoices` tries it after %(next)s."
    ),
    Situation.REQUESTED_BY: gettext_lazy(
        "Open. Cancellation requested by %(who)s at %(when)s; `reconcile_invoices` tries it after %(next)s."
    ),
    Situation.LAST_TRY: gettext_lazy("Last try at %(when)s: %(why)s"),
    Situation.ALSO_REQUESTED: gettext_lazy("Cancellation requested at %(when)s."),
    Situation.ALSO_REQUESTED_BY: gettext_lazy("Cancellation requested by %(who)s at %(when)s."),
    Situation.CANCELING: gettext_lazy("Being canceled since %(when)s. The request to %(provider)s is in flight."),
    Situation.ABANDONED: gettext_lazy("Cancellation interrupted; it began at %(when)s. %(why)s"),
    Situation.IN_DOUBT: gettext_lazy("In doubt since %(when)s. %(why)s"),
    Situation.CANCELED: gettext_lazy("Canceled at %(when)s. %(provider)s confirmed it."),
    Situation.CANCELED_AS_LEARNED: gettext_lazy("Canceled. %(provider)s reported it at %(when)s."),
    Situation.CANCELED_BY_DECISION: gettext_lazy(
        "Canceled at %(when)s by decision of %(who)s, not by a report of %(provider)s."
    ),
    Situation.PARTIALLY_PAID: gettext_lazy(
        "Partially paid (recorded at %(when)s). Less than the amount of the invoice was received."
    ),
    Situation.PAID: gettext_lazy("Paid (recorded at %(when)s)."),
    Situation.OVERPAID: gettext_lazy(
        "Overpaid (recorded at %(when)s). More than the amount of the invoice was received."
    ),
    Situation.LATE_MONEY: gettext_lazy(
        "Paid after cancellation (recorded at %(when)s). "
        "Deliver, or return the customer's money, then mark it as handled."
    ),
    Situation.LATE_MONEY_HANDLED: gettext_lazy(
        "Paid after cancellation (recorded at %(when)s). Handled at %(handled)s by %(who)s."
    ),
    Situation.MORE_LATE_MONEY: gettext_lazy(
        "Paid after cancellation (recorded at %(when)s). "
        "That payment was handled, but more was paid (recorded at %(more)s). "
        "Deliver, or return the money, then mark it as handled."
    ),
    Situation.CONTRADICTED: gettext_lazy(
        "But at %(when)s %(provider)s reported it as open. "
        "Look it up in the dashboard of %(provider)s, then resolve it."
    ),
    Situation.EXPIRED: gettext_lazy("Expired. %(provider)s closed it (recorded at %(when)s)."),
    Situation.FAILED: gettext_lazy("Payment failed. %(provider)s closed it (recorded at %(when)s)."),
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
    Trigger.OPERATOR: gettext_lazy("manual"),
}
_REQUEST_SENT: Mapping[str, Any] = {
    Outcome.CANCELED: gettext_lazy("cancel request sent, confirmed after %(time)s"),
    Outcome.ALREADY_CANCELED: gettext_lazy("cancel request sent; already canceled, answered after %(time)s"),
    Outcome.REFUSED: gettext_lazy("cancel request sent, refused after %(time)s"),
    Outcome.IN_DOUBT: gettext_lazy("cancel request sent, no usable answer after %(time)s"),
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
        return _("cancellation started at %(provider)s") % {"provider": provider}
    if duration and code == Code.NO_ANSWER:
        return _("cancel request sent, no answer after %(time)s") % {"time": duration}
    if duration and outcome in _REQUEST_SENT:
        return str(_REQUEST_SENT[outcome]) % {"time": duration}
    if code == Code.OBSERVED:
        reported = Status.CANCELED if outcome == Outcome.ALREADY_CANCELED else to_status
        return _("%(provider)s reported: %(status)s") % {"provider": provider, "status": status_label(reported)}
    return _("not canceled: %(why)s") % {"why": why} if duration else why


def message_label(code: str, http_status: int | None) -> str:
    """Return the heading of the message in a row of the log: an error that this app found, or the provider's text."""
    return _("Error message") if http_status is None and code in _WITHOUT_ANSWER else _("Provider's message")
