"""The sentence for each code, fit for an operator; translated when it is shown."""

from typing import Any

from django.utils.text import format_lazy
from django.utils.translation import gettext_lazy as _
from django.utils.translation import gettext_noop

from .outcomes import Code, Outcome

SENTENCES: dict[str, Any] = {
    Code.CANCELED: _("{provider} confirmed the cancellation."),
    Code.ALREADY_CANCELED: _("It was already canceled."),
    Code.IN_PROGRESS: _("It is being canceled right now."),
    Code.IN_DOUBT: _("It is in doubt whether an earlier cancel happened; reconcile will tell."),
    Code.HAS_PAYMENT: _("It holds money."),
    Code.CLOSED: _("It is closed already: expired or failed."),
    Code.DRY_RUN: _("Dry run: {provider} would be asked."),
    Code.BEING_CHECKED: _("Another process is asking {provider} about it."),
    Code.MISCONFIGURED: _("It cannot be asked for: {detail}"),
    Code.CONFIGURATION_UNAVAILABLE: _("Its provider's configuration could not be read: {detail} Try again later."),
    Code.PROVIDER_PAUSED: _("{provider} is paused after trouble; nothing was sent."),
    Code.NEWER_STATUS: _("Its status was written by a newer version of this app, which must handle it."),
    Code.UNKNOWN_INVOICES: _("{provider} knew none of the invoices before this one: check its credentials."),
    Code.SENDING_DISABLED: _("Sending is disabled by the setting SEND; nothing was sent."),
    Code.NOT_REGISTERED: _("It is not registered any more."),
    Code.NO_INVOICE: _("It has no invoice."),
    Code.NOT_PERMITTED: _("Whoever selected it may not touch it."),
    Code.CHANGED: _("It changed after it was selected."),
    Code.DATABASE_ERROR: _("The database could not lock, read or write it; nothing was sent. Try again later."),
    Code.NOT_IN_DOUBT: _("It is not in doubt."),
    Code.DOUBT_PERIOD: _("{provider} may still carry out the lost request: wait."),
    Code.TOO_MANY_REPEATS: _("The cancel request was repeated without success; a person must decide."),
    Code.NO_LATE_MONEY: _("It was not paid after a cancellation."),
    Code.NOT_FOUND: _("{provider} does not know this invoice."),
    Code.PROVIDER_REFUSED: _("{provider} refused to cancel it."),
    Code.BAD_CREDENTIALS: _("{provider} rejected our credentials."),
    Code.RATE_LIMITED: _("{provider} asks to send fewer requests; try again later."),
    Code.UNREACHABLE: _("{provider} could not be reached; nothing was sent."),
    Code.LEASE_EXPIRED: _("It took too long to begin; nothing was sent."),
    Code.STILL_OPEN: _("{provider} says it is still open."),
    Code.NO_ANSWER: _("No answer from {provider}: it may or may not be canceled."),
    Code.UNREADABLE_ANSWER: _("The answer of {provider} could not be read: it may or may not be canceled."),
    Code.CONTRADICTORY_ANSWER: _("The answers of {provider} contradict each other: it may or may not be canceled."),
    Code.UNKNOWN_STATUS: _("{provider} named a status that is not known here."),
    Code.PROVIDER_ERROR: _("{provider} failed while it was asked: it may or may not be canceled."),
    Code.REDIRECTED: _("{provider} redirected the request: check base_url. It may or may not be canceled."),
    Code.WRONG_ADDRESS: _("The address of {provider} seems wrong: check base_url. It may or may not be canceled."),
    Code.ADAPTER_ERROR: _("The adapter of {provider} failed: it may or may not be canceled."),
    Code.ABANDONED: _("The process that was canceling it is gone: it may or may not be canceled."),
    Code.NO_LOOKUP: _("{provider} cannot be asked for its status; a person or a repeat must decide."),
    Code.RESOLVED: _("Decided by hand."),
    Code.REQUESTED: _("Its cancellation was requested."),
    Code.WITHDRAWN: _("The request to cancel it was withdrawn."),
    Code.GIVEN_BACK: _("It was given back unsent."),
    Code.HANDLED: _("Its late money was marked as handled."),
    Code.OBSERVED: _("{provider} reported its status."),
    Code.MORE_MONEY: _("More money came after its late money had been handled."),
}

_BY_OUTCOME: dict[Outcome, Any] = {
    Outcome.CANCELED: SENTENCES[Code.CANCELED],
    Outcome.ALREADY_CANCELED: SENTENCES[Code.ALREADY_CANCELED],
    Outcome.REFUSED: SENTENCES[Code.PROVIDER_REFUSED],
    Outcome.NOT_PROCESSED: _("{provider} did not process the request; try again later."),
    Outcome.IN_DOUBT: SENTENCES[Code.NO_ANSWER],
    Outcome.SKIPPED: _("Nothing was sent."),
}


def sentence(outcome: Outcome, code: str, *, provider: str, detail: str = "") -> Any:
    """Return the lazy sentence for a result; an adapter's own code gets the sentence of its outcome."""
    template = SENTENCES.get(code, _BY_OUTCOME[outcome])
    return format_lazy(template, provider=provider, detail=detail)


ID_FORMS = (
    gettext_noop("FireKassa's own number of the invoice, 1 to 19 of 0-9, A-Z, a-z, _ and -"),
    gettext_noop("INV- and 1 to 32 of 0-9 and A-Z, with or without the INV-"),
)
"""What the ids of our own adapters look like: they know no Django, so their words are marked for translation here."""


def not_an_id(provider: str, form: str) -> Any:
    """Return the lazy sentence for an id that does not look as the provider's ids do."""
    return format_lazy(_("This is not an id of {provider}: an id is {form}."), provider=provider, form=_(form))
