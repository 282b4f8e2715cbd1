"""The summary at the top of an invoice's page: its state, and the reasons why actions are not possible.

It is derived from the invoice's row and log only. An unknown outcome is shown as unknown.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime

from django.utils.html import format_html, format_html_join
from django.utils.translation import gettext as _

from ...domain.audit import Wanted
from ...domain.bidi import isolate
from ...domain.outcomes import Code, Outcome
from ...domain.statuses import INTERNAL_STATUSES, PAID_STATUSES, Status, is_known
from ...labels.formatting import format_money, format_time
from ...labels.invoices import SITUATIONS, Situation
from ...labels.results import describe_result
from ...models import Invoice, InvoiceTransition, ProviderState
from ...models.actors import named_actor
from ...services.cancel import ineligible_result
from ...services.eligibility import Account, doubt_over_at, is_in_doubt
from ...services.results import provider_name
from ..provider_state import describe_pause

Log = Sequence[InvoiceTransition]
"""The latest rows of an invoice's log, newest first."""


def describe_invoice(invoice: Invoice, log: Log) -> str:
    """Return the state of the invoice in one or two sentences."""
    if not is_known(invoice.status):
        return str(SITUATIONS[Situation.NEWER_STATUS] % {"status": isolate(invoice.status)})
    if invoice.paid_after_cancel_at is not None and invoice.status in PAID_STATUSES:
        return _describe_late_money(invoice, log, invoice.paid_after_cancel_at)
    text = _describe_abandoned(invoice) if invoice.is_abandoned else _BY_STATUS[Status(invoice.status)](invoice, log)
    if invoice.contradicted_at is not None:
        return f"{text} {_fill(Situation.CONTRADICTED, invoice, invoice.contradicted_at)}"
    if invoice.cancel_requested_at is None or invoice.status not in INTERNAL_STATUSES:
        return text
    requester = _find_requester(invoice, log)
    situation = Situation.ALSO_REQUESTED_BY if requester else Situation.ALSO_REQUESTED
    return f"{text} {_fill(situation, invoice, invoice.cancel_requested_at, who=requester)}"


def mark_code(text: str) -> str:
    """Return a text as escaped HTML. Parts between backticks become code."""
    parts = text.split("`")
    return format_html_join(
        "", "{}", ((format_html("<code>{}</code>", p) if i % 2 else p,) for i, p in enumerate(parts))
    )


def format_amount(invoice: Invoice) -> str:
    """Return the invoice's amount with its currency; empty if it is unknown."""
    return "" if invoice.amount is None else format_money(invoice.amount, invoice.currency)


def explain_obstacle(
    wanted: str, invoice: Invoice, code: str, account: Account, pause: ProviderState | None = None
) -> str:
    """Return the text for a code of ``eligibility.find_obstacle``; empty if the code is empty.

    Args:
        pause: The state of the provider. If it is paused, the text contains the end of the pause.
    """
    if code == Code.PROVIDER_PAUSED and pause is not None:
        return describe_pause(pause)
    if not code:
        return ""
    if wanted not in (Wanted.CANCEL, Wanted.REPEAT):
        return str(describe_result(Outcome.SKIPPED, code, provider=provider_name(invoice.provider)))
    text = str(ineligible_result(wanted, invoice, code, account).message)
    if wanted == Wanted.REPEAT and code == Code.DOUBT_PERIOD and is_in_doubt(invoice):
        again = _("The cancel request can be repeated after %(when)s.")
        return f"{text} {again % {'when': format_time(doubt_over_at(invoice))}}"
    return text


# -- by status ------------------------------------------------------------------------------------------------


def _describe_open(invoice: Invoice, log: Log) -> str:
    if invoice.cancel_requested_at is not None:
        return _describe_requested(invoice, log, invoice.cancel_requested_at)
    last = next((row for row in log if row.outcome), None)
    reopened = next((row for row in log if row.to_status == Status.CREATED and row.from_status != row.to_status), None)
    if reopened is not None and reopened.code == Code.RESOLVED and (last is None or last.pk <= reopened.pk):
        who = isolate(reopened.actor_label)
        return _fill(Situation.OPEN_BY_DECISION, invoice, reopened.created_at, who=who)
    if last is None or not invoice.last_outcome:
        return _fill(Situation.OPEN, invoice, invoice.issued_at)
    if last.outcome == Outcome.REFUSED:
        return _fill(Situation.OPEN_REFUSED, invoice, last.created_at)
    if last.code == Code.STILL_OPEN:
        return _fill(Situation.OPEN_CONFIRMED, invoice, last.created_at)
    return _fill(Situation.OPEN_TRIED, invoice, last.created_at, why=_explain(invoice, last))


def _describe_requested(invoice: Invoice, log: Log, since: datetime) -> str:
    requester = _find_requester(invoice, log)
    situation = Situation.REQUESTED_BY if requester else Situation.REQUESTED
    text = _fill(situation, invoice, since, who=requester, next=format_time(invoice.cancel_try_at or since))
    last = next((row for row in log if row.outcome), None)
    if last is None or last.created_at < since:
        return text
    return f"{text} {_fill(Situation.LAST_TRY, invoice, last.created_at, why=_explain(invoice, last))}"


def _find_requester(invoice: Invoice, log: Log) -> str:
    """Return the name of the user in the latest request for a cancellation."""
    row = next((row for row in log if row.code == Code.REQUESTED), None)
    if row is None:  # older than the rows in ``log``
        row = invoice.transitions.filter(code=Code.REQUESTED).order_by("-id").first()
    return isolate(row.actor_label) if row else ""


def _describe_canceling(invoice: Invoice, log: Log) -> str:
    return _fill(Situation.CANCELING, invoice, invoice.status_changed_at)


def _describe_abandoned(invoice: Invoice) -> str:
    why = str(describe_result(Outcome.IN_DOUBT, Code.ABANDONED, provider=provider_name(invoice.provider)))
    return _fill(Situation.ABANDONED, invoice, invoice.status_changed_at, why=why)


def _describe_in_doubt(invoice: Invoice, log: Log) -> str:
    row = next((row for row in log if row.to_status == Status.IN_DOUBT and row.from_status != row.to_status), None)
    outcome, code = (row.outcome, row.code) if row else (Outcome.IN_DOUBT, "")
    why = str(describe_result(outcome, code, provider=provider_name(invoice.provider)))
    return _fill(Situation.IN_DOUBT, invoice, invoice.status_changed_at, why=why)


def _describe_canceled(invoice: Invoice, log: Log) -> str:
    row = next((row for row in log if row.to_status == Status.CANCELED and row.from_status != row.to_status), None)
    if row is not None and row.code == Code.RESOLVED:
        return _fill(Situation.CANCELED_BY_DECISION, invoice, row.created_at, who=isolate(row.actor_label))
    if row is not None and row.outcome == Outcome.CANCELED:
        return _fill(Situation.CANCELED, invoice, row.created_at)
    return _fill(Situation.CANCELED_AS_LEARNED, invoice, invoice.status_changed_at)


def _describe_settled(invoice: Invoice, log: Log) -> str:
    return _fill(Situation(invoice.status), invoice, invoice.status_changed_at)


def _describe_late_money(invoice: Invoice, log: Log, since: datetime) -> str:
    if invoice.paid_after_cancel_handled_at is not None:
        row = next((row for row in log if row.code == Code.HANDLED), None)
        user = None if row else invoice.paid_after_cancel_handled_by
        who = isolate(row.actor_label if row else named_actor(user)[1]) or _("an unknown user")
        handled = format_time(invoice.paid_after_cancel_handled_at)
        return _fill(Situation.LATE_MONEY_HANDLED, invoice, since, handled=handled, who=who)
    more = next((row for row in log if row.code == Code.MORE_MONEY), None)
    if more is not None:
        return _fill(Situation.MORE_LATE_MONEY, invoice, since, more=format_time(more.created_at))
    return _fill(Situation.LATE_MONEY, invoice, since)


_BY_STATUS: Mapping[Status, Callable[[Invoice, Log], str]] = {
    Status.CREATED: _describe_open,
    Status.CANCELING: _describe_canceling,
    Status.IN_DOUBT: _describe_in_doubt,
    Status.CANCELED: _describe_canceled,
    **dict.fromkeys((*PAID_STATUSES, Status.EXPIRED, Status.FAILED), _describe_settled),
}


def _explain(invoice: Invoice, row: InvoiceTransition) -> str:
    return str(describe_result(row.outcome, row.code, provider=provider_name(invoice.provider)))


def _fill(situation: Situation, invoice: Invoice, when: datetime, **more: str) -> str:
    values = {"when": format_time(when), "provider": provider_name(invoice.provider), **more}
    return str(SITUATIONS[situation] % values)
