"""What is known of an invoice, in the one sentence with which its page begins; and why it is not to be canceled now.

Told from the row and its log alone. What is not known is called so: never "failed", never "canceled" by hope.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime

from django.utils.html import format_html, format_html_join
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from ...domain.audit import Wanted
from ...domain.outcomes import Code, Outcome
from ...domain.statuses import MONEY, OURS_ALONE, Status, is_known
from ...labels import LOOK_THERE, NO_ANSWER, NOT_BECAUSE
from ...models import Invoice, InvoiceTransition, ProviderState
from ...models.actors import named_actor
from ...services.cancel import not_done
from ...services.eligibility import MOST_REPEATS, NOT_NOW, Account, doubt_over_at, is_in_doubt
from ...services.results import provider_name
from ..formatting import clock, money, why
from ..provider_state import pause_of, sending_disabled

Log = Sequence[InvoiceTransition]
"""The latest rows of an invoice's log, newest first."""


def state_of(invoice: Invoice, log: Log) -> str:
    """Return what is known of the invoice, in one sentence or two."""
    if not is_known(invoice.status):
        text = _(
            "Its status is “%(status)s”, which a newer version of this app wrote. "
            "This version only records payments for it."
        )
        return text % {"status": invoice.status}
    if invoice.paid_after_cancel_at is not None and invoice.status in MONEY:
        return _late_money(invoice, log, invoice.paid_after_cancel_at)
    state = _abandoned(invoice) if invoice.is_abandoned else _STATES[Status(invoice.status)](invoice, log)
    if invoice.contradicted_at is not None:
        return f"{state} {_contradiction(invoice, invoice.contradicted_at)}"
    if invoice.cancel_requested_at is None or invoice.status not in OURS_ALONE:
        return state
    return f"{state} {_request_under_way(invoice, log, invoice.cancel_requested_at)}"


def marked(text: str) -> str:
    """Return a text of ours as HTML, escaped, with what stands between backticks as code."""
    parts = text.split("`")
    return format_html_join(
        "", "{}", ((format_html("<code>{}</code>", p) if i % 2 else p,) for i, p in enumerate(parts))
    )


def money_of(invoice: Invoice) -> str:
    """Return the invoice's amount as people read it; empty where it is not known."""
    return "" if invoice.amount is None else money(invoice.amount, invoice.currency)


def reason_not(wanted: str, invoice: Invoice, code: str, account: Account, pause: ProviderState | None = None) -> str:
    """Return the sentence for a code of ``why_not`` on the page of one invoice; empty for an empty code."""
    if not code or (pause is not None and code == Code.PROVIDER_PAUSED):
        return pause_of(pause) if code and pause is not None else ""
    if code == Code.SENDING_DISABLED:
        return " ".join(sending_disabled())
    text = NOT_BECAUSE[wanted].get(code)
    if text is None and wanted == Wanted.REPEAT and code not in NOT_NOW | {Code.MISCONFIGURED}:
        text = NO_ANSWER
    if text is None:
        return str(not_done(Wanted.CANCEL, invoice, code, account).message)
    if code == Code.NO_LOOKUP and is_in_doubt(invoice):
        text = LOOK_THERE
    names = {"provider": provider_name(invoice.provider), "count": MOST_REPEATS}
    if code == Code.DOUBT_PERIOD:
        names["when"] = clock(doubt_over_at(invoice))
    return str(text % names)


# -- by status ------------------------------------------------------------------------------------------------


def _open(invoice: Invoice, log: Log) -> str:
    if invoice.cancel_requested_at is not None:
        return _requested(invoice, log, invoice.cancel_requested_at)
    last = next((row for row in log if row.outcome), None)
    if last is None or not invoice.last_outcome:
        return _say(_("Open since %(when)s: no payment has been seen."), invoice, invoice.issued_at)
    if last.outcome == Outcome.REFUSED:
        return _say(_("Open. At %(when)s %(provider)s refused to cancel it."), invoice, last.created_at)
    if last.code == Code.STILL_OPEN:
        return _say(_("Open: at %(when)s %(provider)s said so, the cancel has not happened."), invoice, last.created_at)
    said = why(last.outcome, last.code, provider=provider_name(invoice.provider))
    return _say(_("Open. The cancel tried at %(when)s has not happened: %(why)s"), invoice, last.created_at, why=said)


def _requested(invoice: Invoice, log: Log, since: datetime) -> str:
    text = _("Open. Its cancellation was requested at %(when)s; `reconcile_invoices` tries it from %(next)s on.")
    who = _requester(invoice, log)
    if who:
        text = _(
            "Open. Its cancellation was requested by %(who)s at %(when)s; "
            "`reconcile_invoices` tries it from %(next)s on."
        )
    said = _say(text, invoice, since, who=who, next=clock(invoice.cancel_try_at or since))
    last = next((row for row in log if row.outcome), None)
    if last is None or last.created_at < since:
        return said
    result = why(last.outcome, last.code, provider=provider_name(invoice.provider))
    return f"{said} {_say(_('The last try was at %(when)s: %(why)s'), invoice, last.created_at, why=result)}"


def _request_under_way(invoice: Invoice, log: Log, since: datetime) -> str:
    """Return who requested the cancellation of an invoice that is in doubt or being canceled."""
    who = _requester(invoice, log)
    if not who:
        return _say(_("Its cancellation was requested at %(when)s."), invoice, since)
    return _say(_("Its cancellation was requested by %(who)s at %(when)s."), invoice, since, who=who)


def _requester(invoice: Invoice, log: Log) -> str:
    """Return the name in the latest request."""
    row = next((row for row in log if row.code == Code.REQUESTED), None)
    if row is None:  # further back than the rows at hand
        row = invoice.transitions.filter(code=Code.REQUESTED).order_by("-id").first()
    return row.actor_label if row else ""


def _canceling(invoice: Invoice, log: Log) -> str:
    return _say(
        _("Being canceled since %(when)s: %(provider)s is being asked right now."), invoice, invoice.status_changed_at
    )


def _abandoned(invoice: Invoice) -> str:
    return _say(
        _(
            "Left behind at %(when)s: the process that was asking %(provider)s to cancel it is gone. "
            "It may or may not be canceled."
        ),
        invoice,
        invoice.status_changed_at,
    )


_DOUBTS: Mapping[str, object] = {
    Code.NO_ANSWER: gettext_lazy(
        "In doubt since %(when)s: we asked %(provider)s to cancel and got no answer. It may or may not be canceled."
    ),
    Code.UNREADABLE_ANSWER: gettext_lazy(
        "In doubt since %(when)s: we asked %(provider)s to cancel and could not read the answer. "
        "It may or may not be canceled."
    ),
    Code.PROVIDER_ERROR: gettext_lazy(
        "In doubt since %(when)s: we asked %(provider)s to cancel and it failed. It may or may not be canceled."
    ),
    Code.ABANDONED: gettext_lazy(
        "In doubt since %(when)s: the process that was asking %(provider)s to cancel it is gone. "
        "It may or may not be canceled."
    ),
}
_DOUBT = gettext_lazy(
    "In doubt since %(when)s: we asked %(provider)s to cancel and its answer does not tell what it did. "
    "It may or may not be canceled."
)


def _in_doubt(invoice: Invoice, log: Log) -> str:
    began = next((row for row in log if row.to_status == Status.IN_DOUBT and row.from_status != row.to_status), None)
    text = _DOUBTS.get(began.code, _DOUBT) if began else _DOUBT
    return _say(str(text), invoice, invoice.status_changed_at)


def _canceled(invoice: Invoice, log: Log) -> str:
    row = next((row for row in log if row.to_status == Status.CANCELED and row.from_status != row.to_status), None)
    if row is not None and row.code == Code.RESOLVED:
        text = _("Canceled at %(when)s by decision of %(who)s, not on %(provider)s's own word.")
        return _say(text, invoice, row.created_at, who=row.actor_label)
    if row is not None and row.outcome == Outcome.CANCELED:
        return _say(_("Canceled at %(when)s: %(provider)s confirmed it."), invoice, row.created_at)
    return _say(_("Canceled: %(provider)s said so at %(when)s."), invoice, invoice.status_changed_at)


def _paid(invoice: Invoice, log: Log) -> str:
    texts = {
        Status.PARTIALLY_PAID: _("Partially paid, as we learned at %(when)s: it holds money, less than asked for."),
        Status.PAID: _("Paid, as we learned at %(when)s."),
        Status.OVERPAID: _("Overpaid, as we learned at %(when)s: it holds more money than asked for."),
    }
    return _say(texts[Status(invoice.status)], invoice, invoice.status_changed_at)


def _late_money(invoice: Invoice, log: Log, since: datetime) -> str:
    if invoice.paid_after_cancel_handled_at is not None:
        text = _("Paid although it was canceled, as we learned at %(when)s. Handled at %(handled)s by %(who)s.")
        handled = next((row for row in log if row.code == Code.HANDLED), None)
        user = None if handled else invoice.paid_after_cancel_handled_by
        who = handled.actor_label if handled else named_actor(user)[1] or _("an unknown user")
        return _say(text, invoice, since, handled=clock(invoice.paid_after_cancel_handled_at), who=who)
    more = next((row for row in log if row.code == Code.MORE_MONEY), None)
    if more is not None:
        text = _(
            "Paid although it was canceled, as we learned at %(when)s. That was handled, and at %(more)s we learned of "
            "more money: deliver or pay back, then mark it as handled."
        )
        return _say(text, invoice, since, more=clock(more.created_at))
    text = _(
        "Paid although it was canceled, as we learned at %(when)s. It holds a customer's money: deliver or pay back, "
        "then mark it as handled."
    )
    return _say(text, invoice, since)


def _contradiction(invoice: Invoice, since: datetime) -> str:
    text = _(
        "But at %(when)s %(provider)s reported it as open. "
        "Look it up in the dashboard of %(provider)s, then resolve it."
    )
    return _say(text, invoice, since)


def _expired(invoice: Invoice, log: Log) -> str:
    return _say(_("Expired: %(provider)s closed it, as we learned at %(when)s."), invoice, invoice.status_changed_at)


def _failed(invoice: Invoice, log: Log) -> str:
    return _say(
        _("Payment failed: %(provider)s closed it, as we learned at %(when)s."), invoice, invoice.status_changed_at
    )


_STATES: Mapping[Status, Callable[[Invoice, Log], str]] = {
    Status.CREATED: _open,
    Status.CANCELING: _canceling,
    Status.IN_DOUBT: _in_doubt,
    Status.CANCELED: _canceled,
    **dict.fromkeys(MONEY, _paid),
    Status.EXPIRED: _expired,
    Status.FAILED: _failed,
}


def _say(text: str, invoice: Invoice, when: datetime, **more: str) -> str:
    return text % {"when": clock(when), "provider": provider_name(invoice.provider), **more}
