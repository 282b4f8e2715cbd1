"""What the pages of an operation say, in one place: titles, headlines, labels, amounts."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from django.utils.formats import number_format
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext, ngettext_lazy

from .. import conf
from ..labels import sentence
from ..models import BulkOperation
from ..models.bulk_operation import Operation, Progress
from ..outcomes import CONFIRMS_CANCEL, Code, Outcome
from ..results import provider_name

UNTRIED = ""
"""The outcome of an item that has none yet."""

_DO: Mapping[str, Any] = {
    Operation.CANCEL: ngettext_lazy("Cancel %(count)s invoice", "Cancel %(count)s invoices", "number"),
    Operation.CHECK: ngettext_lazy("Check %(count)s invoice", "Check %(count)s invoices", "number"),
    Operation.RESOLVE: ngettext_lazy("Resolve %(count)s invoice", "Resolve %(count)s invoices", "number"),
}
_ASK: Mapping[str, Any] = {
    Operation.CANCEL: ngettext_lazy("Cancel %(count)s invoice?", "Cancel %(count)s invoices?", "number"),
    Operation.CHECK: ngettext_lazy("Check %(count)s invoice?", "Check %(count)s invoices?", "number"),
    Operation.RESOLVE: ngettext_lazy("Resolve %(count)s invoice?", "Resolve %(count)s invoices?", "number"),
}
_YES: Mapping[str, Any] = {
    Operation.CANCEL: ngettext_lazy("Yes, cancel %(count)s invoice", "Yes, cancel %(count)s invoices", "number"),
    Operation.CHECK: ngettext_lazy("Yes, check %(count)s invoice", "Yes, check %(count)s invoices", "number"),
    Operation.RESOLVE: ngettext_lazy("Yes, resolve %(count)s invoice", "Yes, resolve %(count)s invoices", "number"),
}
_CANNOT: Mapping[str, Any] = {
    Operation.CANCEL: gettext_lazy("Cannot cancel invoices"),
    Operation.CHECK: gettext_lazy("Cannot check invoices"),
    Operation.RESOLVE: gettext_lazy("Cannot resolve invoices"),
}
_LOGGED: Mapping[str, Any] = {
    Operation.CANCEL: ngettext_lazy(
        "Started to cancel %(count)s invoice.", "Started to cancel %(count)s invoices.", "number"
    ),
    Operation.CHECK: ngettext_lazy(
        "Started to check %(count)s invoice.", "Started to check %(count)s invoices.", "number"
    ),
    Operation.RESOLVE: ngettext_lazy(
        "Started to resolve %(count)s invoice.", "Started to resolve %(count)s invoices.", "number"
    ),
}
_OUTCOMES: Mapping[str, Any] = {
    Outcome.CANCELED: gettext_lazy("Canceled"),
    Outcome.ALREADY_CANCELED: gettext_lazy("Already canceled"),
    Outcome.REFUSED: gettext_lazy("Refused"),
    Outcome.NOT_PROCESSED: gettext_lazy("Not processed"),
    Outcome.IN_DOUBT: gettext_lazy("In doubt"),
    Outcome.SKIPPED: gettext_lazy("Skipped"),
    UNTRIED: gettext_lazy("Not tried"),
}
_CHECKED: Mapping[str, Any] = {
    **_OUTCOMES,
    Outcome.ALREADY_CANCELED: gettext_lazy("Canceled"),
    Outcome.REFUSED: gettext_lazy("Paid or closed"),
    Outcome.NOT_PROCESSED: gettext_lazy("Open"),
}


def number(value: int) -> str:
    """Return a count as people read it: 1,014."""
    return number_format(value, use_l10n=True, force_grouping=True)


def counted(text: Any, count: int) -> str:
    """Fill a count into a text that has plural forms."""
    return str(text % {"number": count, "count": number(count)})


def short(amount: Decimal) -> Decimal:
    """Return an amount with at least two places and no more than it has: 23.90 for the database's 23.90000000."""
    whole, _point, places = f"{amount:f}".partition(".")  # rounding fails for more digits than the context has
    return Decimal(f"{whole}.{places.rstrip('0').ljust(2, '0')}")


def money(amount: Decimal, currency: str) -> str:
    """Return an amount as people read it, in as many places as it needs: 1,501.50 USD."""
    amount = short(amount)
    places = -int(amount.as_tuple().exponent)
    shown = number_format(amount, decimal_pos=places, use_l10n=True, force_grouping=True)
    return f"{shown} {currency}".strip()


def account(alias: str) -> str:
    """Return what people call an account: its provider's name; with the alias where another account has that name."""
    name, others = provider_name(alias), [other for other in conf.read()[0].providers if other != alias]
    return f"{alias} ({name})" if name in map(provider_name, others) else name


def is_known(operation: BulkOperation) -> bool:
    """Return whether this version knows what the operation does and how far it is; a newer one may have written it."""
    return operation.operation in Operation.values and operation.progress in Progress.values


def why(outcome: str, code: str, *, provider: str, detail: str = "") -> str:
    """Return the sentence for an outcome and its code; the words themselves if a newer version wrote them."""
    if outcome not in _OUTCOMES:
        return f"{outcome} ({code})" if code else outcome
    return str(sentence(Outcome(outcome), code, provider=provider, detail=detail))


def title(operation: BulkOperation, count: int) -> str:
    if operation.operation not in _DO:
        return f"{operation.operation}: {number(count)}"
    return counted(_DO[operation.operation], count)


def question(operation: BulkOperation, count: int) -> str:
    return counted(_ASK[operation.operation], count) if count else str(_CANNOT[operation.operation])


def consent(operation: BulkOperation, count: int) -> str:
    return counted(_YES[operation.operation], count)


def log_line(operation: BulkOperation) -> str:
    return counted(_LOGGED[operation.operation], operation.total)


def outcome_word(outcome: str) -> str:
    """Return the word for the outcome of a cancel; empty where there was none."""
    if outcome == Code.NOT_FOUND:
        return _("Unknown to the provider")
    return str(_OUTCOMES.get(outcome, outcome)) if outcome else ""


def outcome_label(operation: BulkOperation, outcome: str) -> str:
    """Return the word for an outcome, as it is read in this kind of operation."""
    if operation.operation == Operation.RESOLVE and outcome:
        return _("Unchanged") if outcome == Outcome.SKIPPED else _("Resolved")
    labels = _CHECKED if operation.operation == Operation.CHECK else _OUTCOMES
    return str(labels.get(outcome, outcome))


def headline(operation: BulkOperation, counts: Mapping[str, int], total: int) -> str:
    """Return the one sentence of a report on ``total`` invoices."""
    if not is_known(operation):
        return _("A newer version of this app wrote this operation. This version only shows it.")
    if operation.operation == Operation.CHECK:
        return _checked(counts)
    good = _good(operation, counts)
    if operation.operation == Operation.CANCEL:
        text = ngettext("%(good)s of %(count)s canceled.", "%(good)s of %(count)s canceled.", total)
    else:
        text = ngettext("%(good)s of %(count)s resolved.", "%(good)s of %(count)s resolved.", total)
    return text % {"good": number(good), "count": number(total)}


def is_all_done(operation: BulkOperation, counts: Mapping[str, int], total: int) -> bool:
    """Return whether every invoice of an operation ended as intended: canceled, found out about, resolved."""
    return _good(operation, counts) == total


def _good(operation: BulkOperation, counts: Mapping[str, int]) -> int:
    if operation.operation == Operation.CANCEL:
        return sum(counts.get(outcome, 0) for outcome in CONFIRMS_CANCEL)
    bad = {UNTRIED, Outcome.SKIPPED} | ({Outcome.IN_DOUBT} if operation.operation == Operation.CHECK else set())
    return sum(count for outcome, count in counts.items() if outcome not in bad)


def _checked(counts: Mapping[str, int]) -> str:
    done = sum(count for outcome, count in counts.items() if outcome not in (UNTRIED, Outcome.SKIPPED))
    text = ngettext(
        "%(count)s invoice checked; in doubt: %(doubt)s.", "%(count)s invoices checked; in doubt: %(doubt)s.", done
    )
    return text % {"count": number(done), "doubt": number(counts.get(Outcome.IN_DOUBT, 0))}
