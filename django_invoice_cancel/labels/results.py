"""Texts of outcomes and codes, for one result and for many invoices with the same code."""

from collections.abc import Mapping
from typing import Any

from django.utils.functional import lazy
from django.utils.text import format_lazy
from django.utils.translation import gettext_lazy as _
from django.utils.translation import gettext_noop, ngettext_lazy, pgettext_lazy

from ..domain.bidi import isolate
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
    Code.IN_PROGRESS: _("It is being canceled now."),
    Code.IN_DOUBT: _("It is in doubt: an earlier cancel request may have been carried out. Reconcile will check it."),
    Code.HAS_PAYMENT: _("A payment was received for it."),
    Code.CLOSED: _("It is already closed: it expired, or its payment failed."),
    Code.DRY_RUN: _("Dry run: a request to {provider} would be sent."),
    Code.BEING_CHECKED: _("Another process is checking it with {provider}."),
    Code.MISCONFIGURED: _("No request can be sent for it: {detail}"),
    Code.CONFIGURATION_UNAVAILABLE: _("Its provider's configuration could not be read: {detail} Try again later."),
    Code.PROVIDER_PAUSED: _("{provider} is paused after failed requests; nothing was sent."),
    Code.NEWER_STATUS: _("Its status was written by a newer version of this app. Use that version."),
    Code.UNKNOWN_INVOICES: _("{provider} found none of the previous invoices. Check its credentials."),
    Code.SENDING_DISABLED: _("The setting SEND disables cancel requests: no invoice is canceled at a provider."),
    Code.VETOED: _("A rule of your shop forbids its cancellation: “{detail}”"),
    Code.NOT_REGISTERED: _("It is no longer registered."),
    Code.NO_INVOICE: _("No invoice was found."),
    Code.NOT_PERMITTED: _("The user who selected it has no permission for it."),
    Code.CHANGED: _("It changed after it was selected."),
    Code.DATABASE_ERROR: _("The database could not lock, read or write it; nothing was sent. Try again later."),
    Code.NOT_IN_DOUBT: _("It needs no decision: it is neither in doubt nor contradicted by its provider."),
    Code.DOUBT_PERIOD: _("{provider} may still carry out the lost request. Wait."),
    Code.TOO_MANY_REPEATS: _("The cancel request was repeated without success."),
    Code.NO_LATE_MONEY: _("It was not paid after a cancellation."),
    Code.NOT_FOUND: _("{provider} did not find this invoice."),
    Code.PROVIDER_REFUSED: _("{provider} refused to cancel it."),
    Code.BAD_CREDENTIALS: _("{provider} rejected our credentials."),
    Code.RATE_LIMITED: _("{provider} asks for fewer requests; try again later."),
    Code.UNREACHABLE: _("{provider} could not be reached; nothing was sent."),
    Code.LEASE_EXPIRED: _("The request could not start in time; nothing was sent."),
    Code.STILL_OPEN: _("{provider} reports it as still open."),
    Code.NO_ANSWER: _("No answer from {provider}: it may or may not be canceled."),
    Code.UNREADABLE_ANSWER: _("The answer of {provider} could not be read: it may or may not be canceled."),
    Code.CONTRADICTORY_ANSWER: _("The answers of {provider} contradict each other: it may or may not be canceled."),
    Code.UNKNOWN_STATUS: _("{provider} reported an unknown status."),
    Code.PROVIDER_ERROR: _("{provider} failed during the request: it may or may not be canceled."),
    Code.REDIRECTED: _("{provider} redirected the request: check base_url. It may or may not be canceled."),
    Code.WRONG_ADDRESS: _("The address of {provider} seems wrong: check base_url. It may or may not be canceled."),
    Code.ADAPTER_ERROR: _("The adapter of {provider} failed: it may or may not be canceled."),
    Code.ABANDONED: _("The process that was canceling it has ended: it may or may not be canceled."),
    Code.NO_LOOKUP: _("{provider} offers no status lookup."),
    Code.RESOLVED: _("Resolved manually."),
    Code.REQUESTED: _("Its cancellation was requested."),
    Code.WITHDRAWN: _("The request to cancel it was withdrawn."),
    Code.GIVEN_BACK: _("It was released; no request was sent."),
    Code.HANDLED: _("Its late payment was marked as handled."),
    Code.OBSERVED: _("{provider} reported its status."),
    Code.MORE_MONEY: _("More was paid after its late payment was handled."),
}

VETOED = _("A rule of your shop forbids its cancellation.")
"""The text for many invoices that the shop forbids to cancel for different reasons."""

_OUTCOME_TEXTS: Mapping[str, Any] = {
    Outcome.CANCELED: CODE_TEXTS[Code.CANCELED],
    Outcome.ALREADY_CANCELED: CODE_TEXTS[Code.ALREADY_CANCELED],
    Outcome.REFUSED: CODE_TEXTS[Code.PROVIDER_REFUSED],
    Outcome.NOT_PROCESSED: _("{provider} did not process the request; try again later."),
    Outcome.IN_DOUBT: _("The answer of {provider} is unclear: it may or may not be canceled."),
    Outcome.SKIPPED: _("Nothing was sent."),
}

_LOOK_IT_UP = _("Look it up in the dashboard of {provider}, then resolve it.")
_NEEDS_DECISION = frozenset({Code.NO_LOOKUP, Code.WITHDRAWN, Code.TOO_MANY_REPEATS, Code.VETOED})
"""Codes of invoices in doubt that neither a lookup nor a repeated cancel request resolves."""


def _isolated(text: Any) -> str:
    return isolate(str(text))


_isolate_later: Any = lazy(_isolated, str)
"""The detail of a result may be translated when it is shown."""


def describe_result(outcome: str, code: str, *, provider: str, detail: str = "") -> Any:
    """Return the lazy text of a result.

    A code that an adapter defines gets the text of its outcome. An outcome of a newer version is returned unchanged.
    """
    if outcome not in _OUTCOME_TEXTS:
        return f"{isolate(outcome)} ({isolate(code)})" if code else isolate(outcome)
    text = CODE_TEXTS.get(code, _OUTCOME_TEXTS[outcome])
    described = format_lazy(text, provider=provider, detail=_isolate_later(detail))
    if outcome == Outcome.IN_DOUBT and code in _NEEDS_DECISION:
        return format_lazy("{} {}", described, format_lazy(_LOOK_IT_UP, provider=provider))
    return described


def describe_failed_veto(error: str) -> str:
    """Return the reason of a veto because the function of the shop failed. ``error`` is the name of a class."""
    return str(_("The check of the shop failed (%(error)s). See the log.") % {"error": error})


def describe_veto_without_reason() -> str:
    """Return the reason of a veto whose text is blank."""
    return str(_("No reason was given."))


def last_outcome_label(outcome: str) -> str:
    """Return the label of an invoice's last outcome, or an empty string."""
    if outcome == Code.NOT_FOUND:
        return str(_("Not found at the provider"))
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
    Code.HAS_PAYMENT: ngettext_lazy("%(count)s with a payment", "%(count)s with payments", "number"),
    Code.IN_PROGRESS: ngettext_lazy("%(count)s being canceled now", "%(count)s being canceled now", "number"),
    Code.CLOSED: ngettext_lazy(
        "%(count)s expired or with a failed payment", "%(count)s expired or with failed payments", "number"
    ),
    Code.ALREADY_CANCELED: ngettext_lazy("%(count)s already canceled", "%(count)s already canceled", "number"),
    Code.NOT_IN_DOUBT: ngettext_lazy("%(count)s not in doubt", "%(count)s not in doubt", "number"),
    Code.NO_LOOKUP: ngettext_lazy(
        "%(count)s at a provider without a status lookup", "%(count)s at providers without a status lookup", "number"
    ),
    Code.DOUBT_PERIOD: ngettext_lazy(
        "%(count)s with a lost request that may still be carried out",
        "%(count)s with lost requests that may still be carried out",
        "number",
    ),
    Code.WITHDRAWN: ngettext_lazy(
        "%(count)s with a withdrawn request to cancel", "%(count)s with withdrawn requests to cancel", "number"
    ),
    Code.TOO_MANY_REPEATS: ngettext_lazy(
        "%(count)s with a cancel request that was repeated too often",
        "%(count)s with cancel requests that were repeated too often",
        "number",
    ),
    Code.CONTRADICTORY_ANSWER: ngettext_lazy(
        "%(count)s contradicted by the provider", "%(count)s contradicted by the provider", "number"
    ),
    Code.PROVIDER_REFUSED: ngettext_lazy("%(count)s refused", "%(count)s refused", "number"),
    Code.SENDING_DISABLED: ngettext_lazy(
        "%(count)s with cancel requests disabled", "%(count)s with cancel requests disabled", "number"
    ),
    Code.NEWER_STATUS: ngettext_lazy(
        "%(count)s with a status of a newer version", "%(count)s with a status of a newer version", "number"
    ),
    Code.MISCONFIGURED: ngettext_lazy(
        "%(count)s with a provider that is not configured, or with an invalid id",
        "%(count)s with providers that are not configured, or with invalid ids",
        "number",
    ),
    Code.VETOED: ngettext_lazy(
        "%(count)s forbidden by a rule of your shop", "%(count)s forbidden by a rule of your shop", "number"
    ),
    Code.PROVIDER_PAUSED: ngettext_lazy("%(count)s at a paused provider", "%(count)s at paused providers", "number"),
    Code.UNKNOWN_INVOICES: ngettext_lazy(
        "%(count)s at a provider that found none of the previous invoices",
        "%(count)s at providers that found none of the previous invoices",
        "number",
    ),
    Code.DATABASE_ERROR: ngettext_lazy("%(count)s with a database error", "%(count)s with database errors", "number"),
    Code.NO_INVOICE: ngettext_lazy("%(count)s not found", "%(count)s not found", "number"),
    Code.NOT_PERMITTED: ngettext_lazy(
        "%(count)s without your permission", "%(count)s without your permission", "number"
    ),
}
"""Texts for the number of invoices with a code. Codes with equal counts are listed in this order."""


def describe_count(code: str, count: int) -> str:
    """Return a text with the number of invoices with a code. A code without a text is shown unchanged."""
    return format_count(CODE_COUNTS[code], count) if code in CODE_COUNTS else f"{format_number(count)} {isolate(code)}"
