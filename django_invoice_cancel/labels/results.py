"""Texts of outcomes and codes, for one result and for many invoices with the same code."""

from collections.abc import Mapping
from typing import Any

from django.utils.text import format_lazy
from django.utils.translation import gettext_lazy as _
from django.utils.translation import gettext_noop, ngettext_lazy, pgettext_lazy

from ..domain.outcomes import Code, Outcome
from .formatting import format_count, format_number

NOT_TRIED = ""
"""The outcome of an invoice that has no outcome yet."""

OUTCOME_LABELS: Mapping[str, Any] = {
    Outcome.CANCELED: pgettext_lazy("outcome", "Canceled"),
    Outcome.ALREADY_CANCELED: pgettext_lazy("outcome", "Already canceled"),
    Outcome.REFUSED: pgettext_lazy("outcome", "Refused"),
    Outcome.NOT_PROCESSED: pgettext_lazy("outcome", "Not processed"),
    Outcome.IN_DOUBT: pgettext_lazy("outcome", "In doubt"),
    Outcome.SKIPPED: pgettext_lazy("outcome", "Skipped"),
    NOT_TRIED: pgettext_lazy("outcome", "Not tried"),
}
CODE_TEXTS: Mapping[str, Any] = {
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
    Code.SENDING_DISABLED: _("Sending is disabled by the setting SEND: no invoice is canceled at a provider."),
    Code.NOT_REGISTERED: _("It is not registered any more."),
    Code.NO_INVOICE: _("It has no invoice."),
    Code.NOT_PERMITTED: _("Whoever selected it may not touch it."),
    Code.CHANGED: _("It changed after it was selected."),
    Code.DATABASE_ERROR: _("The database could not lock, read or write it; nothing was sent. Try again later."),
    Code.NOT_IN_DOUBT: _("It needs no decision: it is neither in doubt nor contradicted by its provider."),
    Code.DOUBT_PERIOD: _("{provider} may still carry out the lost request: wait."),
    Code.TOO_MANY_REPEATS: _("The cancel request was repeated without success."),
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
    Code.NO_LOOKUP: _("{provider} cannot be asked for the status of an invoice."),
    Code.RESOLVED: _("Decided by hand."),
    Code.REQUESTED: _("Its cancellation was requested."),
    Code.WITHDRAWN: _("The request to cancel it was withdrawn."),
    Code.GIVEN_BACK: _("It was given back unsent."),
    Code.HANDLED: _("Its late money was marked as handled."),
    Code.OBSERVED: _("{provider} reported its status."),
    Code.MORE_MONEY: _("More money came after its late money had been handled."),
}

_OUTCOME_TEXTS: Mapping[str, Any] = {
    Outcome.CANCELED: CODE_TEXTS[Code.CANCELED],
    Outcome.ALREADY_CANCELED: CODE_TEXTS[Code.ALREADY_CANCELED],
    Outcome.REFUSED: CODE_TEXTS[Code.PROVIDER_REFUSED],
    Outcome.NOT_PROCESSED: _("{provider} did not process the request; try again later."),
    Outcome.IN_DOUBT: _("The answer of {provider} does not tell what it did: it may or may not be canceled."),
    Outcome.SKIPPED: _("Nothing was sent."),
}

_LOOK_IT_UP = _("Look it up in the dashboard of {provider}, then resolve it.")
_NEEDS_DECISION = frozenset({Code.NO_LOOKUP, Code.WITHDRAWN, Code.TOO_MANY_REPEATS})
"""Codes of invoices in doubt that neither a lookup nor a repeated cancel request resolves."""


def describe_result(outcome: str, code: str, *, provider: str, detail: str = "") -> Any:
    """Return the lazy text of a result.

    A code that an adapter defines gets the text of its outcome. An outcome of a newer version is returned unchanged.
    """
    if outcome not in _OUTCOME_TEXTS:
        return f"{outcome} ({code})" if code else outcome
    text = CODE_TEXTS.get(code, _OUTCOME_TEXTS[outcome])
    described = format_lazy(text, provider=provider, detail=detail)
    if outcome == Outcome.IN_DOUBT and code in _NEEDS_DECISION:
        return format_lazy("{} {}", described, format_lazy(_LOOK_IT_UP, provider=provider))
    return described


def last_outcome_label(outcome: str) -> str:
    """Return the label of an invoice's last outcome, or an empty string."""
    if outcome == Code.NOT_FOUND:
        return str(_("Unknown to the provider"))
    return str(OUTCOME_LABELS.get(outcome, outcome)) if outcome else ""


ID_FORMS = (
    gettext_noop("FireKassa's own number of the invoice, 1 to 19 of 0-9, A-Z, a-z, _ and -"),
    gettext_noop("INV- and 1 to 32 of 0-9 and A-Z, with or without the INV-"),
)
"""The forms of ids of this package's adapters, marked for translation, because adapters do not import Django."""


def describe_invalid_id(provider: str, form: str) -> Any:
    """Return the lazy text for an id that does not match the form of the provider's ids."""
    return format_lazy(_("This is not an id of {provider}: an id is {form}."), provider=provider, form=_(form))


# -- counts ---------------------------------------------------------------------------------------------------

CODE_COUNTS: Mapping[str, Any] = {
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
"""Texts for the number of invoices with a code. Codes with equal counts are listed in this order."""


def describe_count(code: str, count: int) -> str:
    """Return a text with the number of invoices with a code. A code without a text is shown unchanged."""
    return format_count(CODE_COUNTS[code], count) if code in CODE_COUNTS else f"{format_number(count)} {code}"
