"""The sentence for each code: of a result, of many invoices, of what cannot be done with one. Translated when shown."""

from collections.abc import Mapping
from typing import Any

from django.utils.text import format_lazy
from django.utils.translation import gettext_lazy as _
from django.utils.translation import gettext_noop, ngettext_lazy

from .domain.audit import Wanted
from .domain.outcomes import Code, Outcome

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


# -- why something cannot be done -----------------------------------------------------------------------------

COUNTED: Mapping[str, Any] = {
    Code.IN_DOUBT: ngettext_lazy("%(count)s in doubt", "%(count)s in doubt", "number"),
    Code.HAS_PAYMENT: ngettext_lazy("%(count)s holds money", "%(count)s hold money", "number"),
    Code.IN_PROGRESS: ngettext_lazy("%(count)s being canceled now", "%(count)s being canceled now", "number"),
    Code.CLOSED: ngettext_lazy("%(count)s expired or failed", "%(count)s expired or failed", "number"),
    Code.ALREADY_CANCELED: ngettext_lazy("%(count)s already canceled", "%(count)s already canceled", "number"),
    Code.NOT_IN_DOUBT: ngettext_lazy("%(count)s not in doubt", "%(count)s not in doubt", "number"),
    Code.NO_LOOKUP: ngettext_lazy(
        "%(count)s at a provider that cannot be asked", "%(count)s at a provider that cannot be asked", "number"
    ),
    Code.DOUBT_PERIOD: ngettext_lazy(
        "%(count)s whose lost request may still be carried out",
        "%(count)s whose lost requests may still be carried out",
        "number",
    ),
    Code.WITHDRAWN: ngettext_lazy(
        "%(count)s whose request to cancel was withdrawn", "%(count)s whose requests to cancel were withdrawn", "number"
    ),
    Code.TOO_MANY_REPEATS: ngettext_lazy(
        "%(count)s whose cancel request was repeated too often",
        "%(count)s whose cancel requests were repeated too often",
        "number",
    ),
    Code.CONTRADICTORY_ANSWER: ngettext_lazy(
        "%(count)s contradicted by the provider", "%(count)s contradicted by the provider", "number"
    ),
    Code.SENDING_DISABLED: ngettext_lazy(
        "%(count)s for which sending is disabled", "%(count)s for which sending is disabled", "number"
    ),
    Code.NEWER_STATUS: ngettext_lazy(
        "%(count)s with a status of a newer version", "%(count)s with a status of a newer version", "number"
    ),
    Code.MISCONFIGURED: ngettext_lazy(
        "%(count)s with a provider that is not configured, or with an invalid id",
        "%(count)s with providers that are not configured, or with invalid ids",
        "number",
    ),
    Code.NO_INVOICE: ngettext_lazy("%(count)s without an invoice", "%(count)s without an invoice", "number"),
    Code.NOT_PERMITTED: ngettext_lazy("%(count)s that you may not touch", "%(count)s that you may not touch", "number"),
}
"""Why so many of the invoices of a draft are left out; in this order if they are as many."""

NEWER = _("Its status was written by a newer version of this app.")
NO_ANSWER = _("%(provider)s cannot be asked for an invoice's status.")
LOOK_THERE = _("%(provider)s cannot be asked for an invoice's status: look in its cabinet, then resolve.")
_UNRESOLVABLE: Mapping[str, Any] = {
    Code.NOT_IN_DOUBT: _(
        "Only an invoice in doubt, one whose status the provider contradicts, and one that was refused by "
        "a provider that cannot be asked can be resolved manually."
    ),
    Code.DOUBT_PERIOD: _("The provider may still carry out the lost request: wait."),
    Code.NEWER_STATUS: NEWER,
}
NOT_BECAUSE: Mapping[str, Mapping[str, Any]] = {
    Wanted.CANCEL: {
        Code.IN_DOUBT: _("Not to be canceled now: first find out what became of the request that was sent."),
        Code.IN_PROGRESS: _("Not to be canceled now: somebody is at it."),
        Code.HAS_PAYMENT: _("Not to be canceled: it holds money."),
        **dict.fromkeys((Code.CLOSED, Code.ALREADY_CANCELED), _("Not to be canceled: it takes no money any more.")),
        Code.NEWER_STATUS: NEWER,
    },
    Wanted.REPEAT: {
        Code.IN_PROGRESS: _("A cancel is under way: its answer is waited for."),
        Code.DOUBT_PERIOD: _(
            "%(provider)s cannot be asked for an invoice's status, and may still carry out the lost request: "
            "the cancel can be repeated from %(when)s on."
        ),
        Code.WITHDRAWN: _("The request to cancel it was withdrawn: look in %(provider)s's dashboard, then resolve."),
        Code.TOO_MANY_REPEATS: ngettext_lazy(
            "The cancel was repeated %(count)d time in vain: look in %(provider)s's cabinet, then resolve.",
            "The cancel was repeated %(count)d times in vain: look in %(provider)s's cabinet, then resolve.",
            "count",
        ),
        Code.NEWER_STATUS: NEWER,
    },
    Wanted.RESOLVE: _UNRESOLVABLE,
    Wanted.REOPEN: _UNRESOLVABLE,
    Wanted.HANDLED: {
        Code.NO_LATE_MONEY: _("This invoice was not paid after a cancellation."),
        Code.HANDLED: _("There is no late money that waits to be handled."),
        Code.NEWER_STATUS: NEWER,
    },
}
"""Why this cannot be done with one invoice, by intention and code; other codes have the sentence of a result."""
