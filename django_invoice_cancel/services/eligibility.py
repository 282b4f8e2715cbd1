"""Eligibility of an invoice for an action. Pages, previews, single calls and bulk runs use the same decision.

The functions return codes; the modules that show them look up the texts. The reasons are checked in this order: status,
configuration, id, the veto of the shop, and last the temporary ones (sending disabled, a pause).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.db.models import Case, CharField, Exists, F, OuterRef, Q, QuerySet, Subquery, Value, When
from django.db.models.functions import Coalesce

from .. import conf, registry
from ..domain.audit import Wanted
from ..domain.clock import utc_now
from ..domain.outcomes import LAST_REFUSED, Code
from ..domain.ports import InvoicePort, ProviderStatePort
from ..domain.statuses import CLOSED_STATUSES, PAID_STATUSES, Status, is_known
from ..exceptions import InvalidExternalId
from ..providers.base import Provider
from .veto import Veto, ask_veto, is_veto_configured

Account = Provider | ImproperlyConfigured
"""The provider of an alias, or the error of its configuration."""


NOT_NOW = frozenset({Code.SENDING_DISABLED, Code.PROVIDER_PAUSED, Code.CONFIGURATION_UNAVAILABLE})
"""Temporary reasons. A caller may wait until they no longer apply."""
MOST_REPEATS = 3
"""Maximum number of repeats of the cancel request for one doubt, at a provider without lookup."""

CONTRADICTED, REFUSED, LATE_MONEY = "contradicted", "refused", "late_money"
"""States in addition to the statuses. A state of a doubt has the name of the code that it returns."""

_UNABLE: Mapping[str, Code] = MappingProxyType(
    {
        Status.CANCELING: Code.IN_PROGRESS,
        Status.IN_DOUBT: Code.IN_DOUBT,
        Status.CANCELED: Code.ALREADY_CANCELED,
        **dict.fromkeys(PAID_STATUSES, Code.HAS_PAYMENT),
        **dict.fromkeys(CLOSED_STATUSES - {Status.CANCELED}, Code.CLOSED),
    }
)
_WITHOUT_LOOKUP: Mapping[str, Code] = MappingProxyType(
    {**_UNABLE, Status.IN_DOUBT: Code.NO_LOOKUP, CONTRADICTED: Code.CONTRADICTORY_ANSWER}
)
_DOUBTS = frozenset({Status.IN_DOUBT, Code.DOUBT_PERIOD, Code.WITHDRAWN, Code.TOO_MANY_REPEATS})
_DECIDABLE = _DOUBTS | {CONTRADICTED}


# -- the decision ---------------------------------------------------------------------------------------------


def find_obstacle(
    wanted: str,
    invoice: InvoicePort,
    account: Account | None = None,
    *,
    waits_for: Collection[str] = (),
    find_veto: Callable[[InvoicePort], Veto | None] = ask_veto,
) -> str:
    """Return the code of the reason why an action does not apply to the invoice in memory; empty if it applies.

    The code of a veto is a ``Veto``, which has the reason of the shop.

    Args:
        wanted: The action, one of ``Wanted``.
        account: The return value of ``account_of``. If it is None, it is read if needed.
        waits_for: Codes of ``NOT_NOW`` that the caller waits for. They are not returned.
        find_veto: Returns the veto of the shop, if nothing else prevents a cancel request. Pass another function if the
            shop was asked before, or will be asked later.
    """
    if account is None and wanted in (Wanted.CANCEL, Wanted.CHECK, Wanted.REPEAT):
        account = account_of(invoice.provider)
    if wanted == Wanted.REPEAT and not _is_repeat(wanted, account):
        wanted = Wanted.CHECK
    state = state_of(wanted, invoice)
    if account is None and state == REFUSED:
        account = account_of(invoice.provider)
    reason = _find_state_obstacle(wanted, state, account)
    is_request = wanted in (Wanted.CANCEL, Wanted.CHECK, Wanted.REPEAT)
    if not reason and is_request:
        reason = _find_id_obstacle(invoice, account)
    if (not reason or reason in waits_for) and can_be_vetoed(wanted, account):
        found = find_veto(invoice)
        if found is not None:
            return found
    if not reason and is_request:
        reason = find_temporary_obstacle(wanted, account)
    return "" if reason in waits_for else reason


def can_be_vetoed(wanted: str, account: Account | None) -> bool:
    """Return whether the shop decides about this action: it sends a cancel request, and the setting VETO is set."""
    return (wanted == Wanted.CANCEL or _is_repeat(wanted, account)) and is_veto_configured()


def find_obstacle_in_state(wanted: str, state: str, account: Account, *, waits_for: Collection[str] = ()) -> str:
    """Return the code for all invoices of an account in a state of ``state_in``. Ids and vetoes are not checked."""
    reason = _find_state_obstacle(wanted, state, account) or find_temporary_obstacle(wanted, account)
    return "" if reason in waits_for else reason


def find_temporary_obstacle(wanted: str, account: Account | None, pause: ProviderStatePort | None = None) -> str:
    """Return the code of a temporary reason: the setting SEND, or a pause in ``pause``, the state of the provider.

    A provider whose pause has ended counts as paused while another request is its probe.
    A pause does not make an invoice ineligible, so only callers that do not wait for it pass ``pause``.
    """
    if (wanted == Wanted.CANCEL or _is_repeat(wanted, account)) and not conf.get().send:
        return Code.SENDING_DISABLED
    return Code.PROVIDER_PAUSED if pause is not None and (pause.is_paused or pause.is_being_probed) else ""


def find_request_obstacle(invoice: InvoicePort, account: Account) -> str:
    """Return the code of an invalid configuration or id, with which no request can be sent in any status."""
    return _find_account_obstacle(account) or _find_id_obstacle(invoice, account)


def _find_state_obstacle(wanted: str, state: str, account: Account | None) -> str:
    if not is_known(state) and state not in _STATES:
        return Code.NEWER_STATUS
    if wanted == Wanted.HANDLED:
        return {LATE_MONEY: "", Code.HANDLED: Code.HANDLED}.get(state, Code.NO_LATE_MONEY)
    if wanted == Wanted.REOPEN and state in (REFUSED, Code.DOUBT_PERIOD):
        return Code.DOUBT_PERIOD if state == Code.DOUBT_PERIOD else Code.NOT_IN_DOUBT
    if wanted in (Wanted.RESOLVE, Wanted.REOPEN):
        is_open_to_decision = state == REFUSED and isinstance(account, Provider) and not account.supports_lookup
        return "" if is_open_to_decision or state in _DECIDABLE else Code.NOT_IN_DOUBT
    if wanted == Wanted.CANCEL:
        return _UNABLE.get(state, "") or _find_account_obstacle(account)
    if state == Status.CANCELING:
        return Code.IN_PROGRESS
    return _find_account_obstacle(account) or _find_lookup_obstacle(wanted, state, account)


def _find_lookup_obstacle(wanted: str, state: str, account: Account | None) -> str:
    """Return the code of the reason why a check of an invoice in this state would find out nothing."""
    if isinstance(account, Provider) and account.supports_lookup:
        return ""
    if _is_repeat(wanted, account) and state in _DOUBTS:
        return "" if state == Status.IN_DOUBT else state
    return Code.NO_LOOKUP if state in _DOUBTS else _WITHOUT_LOOKUP.get(state, Code.NO_LOOKUP)


def _find_account_obstacle(account: Account | None) -> str:
    if isinstance(account, Provider):
        return ""
    is_momentary = isinstance(account, registry.ConfigurationUnavailable)
    return Code.CONFIGURATION_UNAVAILABLE if is_momentary else Code.MISCONFIGURED


def _find_id_obstacle(invoice: InvoicePort, account: Account | None) -> str:
    return (
        "" if isinstance(account, Provider) and is_normalized_id(invoice.external_id, account) else Code.MISCONFIGURED
    )


def _is_repeat(wanted: str, account: Account | None) -> bool:
    """Return whether the action repeats the cancel request."""
    can_repeat = isinstance(account, Provider) and account.is_repeat_harmless and not account.supports_lookup
    return wanted == Wanted.REPEAT and can_repeat


def is_refused(invoice: InvoicePort) -> bool:
    """Return whether the provider refused the last cancellation of an open invoice."""
    return state_of(Wanted.RESOLVE, invoice) == REFUSED


# -- accounts and ids -----------------------------------------------------------------------------------------


def account_of(alias: str) -> Account:
    """Return the provider of an alias, or the error of its configuration."""
    try:
        return registry.get_provider(alias)
    except ImproperlyConfigured as error:
        return error


def is_normalized_id(external_id: str, provider: Provider) -> bool:
    """Return whether an id is stored in the form that is sent to the provider."""
    try:
        return provider.clean_id(external_id) == external_id
    except InvalidExternalId:
        return False


# -- states ---------------------------------------------------------------------------------------------------

_STATES = frozenset(
    {CONTRADICTED, REFUSED, LATE_MONEY, Code.HANDLED, Code.DOUBT_PERIOD, Code.WITHDRAWN, Code.TOO_MANY_REPEATS}
)
_WITH_PERIOD = (Wanted.REPEAT, Wanted.REOPEN)
_WITH_CONTRADICTION = (Wanted.CHECK, Wanted.REPEAT, Wanted.RESOLVE, Wanted.REOPEN)


def state_of(wanted: str, invoice: InvoicePort) -> str:
    """Return the state of an invoice in memory, as ``state_in`` does for rows."""
    status: str = invoice.status
    if not is_known(status):
        return status
    if wanted == Wanted.HANDLED:
        return _state_of_money(invoice)
    if is_in_doubt(invoice):
        return _state_of_doubt(wanted, invoice)
    if wanted in _WITH_CONTRADICTION and status in CLOSED_STATUSES and invoice.contradicted_at is not None:
        return CONTRADICTED
    is_refused = status == Status.CREATED and invoice.last_outcome in LAST_REFUSED
    return REFUSED if is_refused and wanted in (Wanted.RESOLVE, Wanted.REOPEN) else status


def _state_of_money(invoice: InvoicePort) -> str:
    if invoice.paid_after_cancel_at is None:
        return str(invoice.status)
    return LATE_MONEY if invoice.paid_after_cancel_handled_at is None else Code.HANDLED


def _state_of_doubt(wanted: str, invoice: InvoicePort) -> str:
    if wanted in _WITH_PERIOD and utc_now() < doubt_over_at(invoice):
        return Code.DOUBT_PERIOD
    if wanted != Wanted.REPEAT:
        return Status.IN_DOUBT
    writer = invoice._writer
    if writer.is_withdrawn(invoice):
        return Code.WITHDRAWN
    return Code.TOO_MANY_REPEATS if writer.count_repeats(invoice) >= MOST_REPEATS else Status.IN_DOUBT


def state_in(wanted: str, log: QuerySet[Any], prefix: str = "") -> Case:
    """Return the expression of an invoice's state, for counts by account and state.

    Args:
        wanted: The action, one of ``Wanted``.
        log: The transitions of invoices.
        prefix: The path to the invoice, as in ``invoice__``.
    """
    in_doubt = doubtful(prefix)
    whens: list[When] = []
    if wanted in _WITH_PERIOD:
        whens.append(When(in_doubt & _in_period(prefix), then=Value(Code.DOUBT_PERIOD)))
    if wanted == Wanted.REPEAT:
        repeats = _since_claim(log, prefix)
        vain = repeats.filter(from_status=Status.IN_DOUBT, to_status=Status.CANCELING).order_by("id")
        nth = vain.values("id")[MOST_REPEATS - 1 : MOST_REPEATS]
        whens += [
            When(in_doubt & Q(Exists(repeats.filter(code=Code.WITHDRAWN))), then=Value(Code.WITHDRAWN)),
            When(in_doubt & Q(Exists(nth)), then=Value(Code.TOO_MANY_REPEATS)),
        ]
    whens.append(When(in_doubt, then=Value(Status.IN_DOUBT)))
    if wanted in _WITH_CONTRADICTION:
        closed = {f"{prefix}status__in": CLOSED_STATUSES, f"{prefix}contradicted_at__isnull": False}
        whens.append(When(Q(**closed), then=Value(CONTRADICTED)))
    if wanted in (Wanted.RESOLVE, Wanted.REOPEN):
        refused = {f"{prefix}status": Status.CREATED, f"{prefix}last_outcome__in": LAST_REFUSED}
        whens.append(When(Q(**refused), then=Value(REFUSED)))
    return Case(*whens, default=F(f"{prefix}status"), output_field=CharField())


def _in_period(prefix: str) -> Q:
    """Return the condition that the doubt period of an invoice in doubt is not over, as in ``doubt_over_at``."""
    end, over = f"{prefix}claim_expires_at", utc_now() - timedelta(seconds=conf.get().doubt_period)
    since = Q(**{f"{prefix}status": Status.CANCELING}) | Q(**{f"{prefix}status_changed_at__gt": over})
    return Q(**{f"{end}__gt": over}) | (Q(**{f"{end}__isnull": True}) & since)


def _since_claim(log: QuerySet[Any], prefix: str) -> QuerySet[Any]:
    """Return the transitions of an outer row's invoice since its claim from ``created``."""
    key = f"{prefix}pk" if not prefix else f"{prefix.removesuffix('__')}_id"
    claims = log.filter(invoice_id=OuterRef("invoice_id"), from_status=Status.CREATED, to_status=Status.CANCELING)
    last = Subquery(claims.order_by("-id").values("id")[:1])
    return log.filter(invoice_id=OuterRef(key), id__gt=Coalesce(last, 0))


# -- doubts ---------------------------------------------------------------------------------------------------

ABANDONED_AFTER = timedelta(seconds=60)
"""A claim is abandoned this long after its end, because the clocks of two machines differ."""
FURTHEST_AHEAD = timedelta(days=1) + ABANDONED_AFTER
"""The furthest valid end of a claim or due time of a check or request. A later time was written by a wrong clock."""


def is_far_ahead(instant: datetime | None, now: datetime) -> bool:
    """Return whether the end of a claim or the time of a check was written by a wrong clock."""
    return instant is not None and instant > now + FURTHEST_AHEAD


def is_abandoned(invoice: InvoicePort) -> bool:
    """Return whether the claim of the invoice is abandoned, as ``abandoned`` does for rows."""
    now, end = utc_now(), invoice.claim_expires_at
    is_over = end is None or end < now - ABANDONED_AFTER or is_far_ahead(end, now)
    return is_over and invoice.status == Status.CANCELING


def abandoned(prefix: str = "") -> Q:
    """Return the condition of an invoice whose claim is abandoned (rule 4).

    A claim without an end, or with an end that is far ahead, counts as abandoned, else it would stay claimed forever.
    ``prefix`` is the path to the invoice, as in ``invoice__``.
    """
    now, end = utc_now(), f"{prefix}claim_expires_at"
    is_over = Q(**{f"{end}__lt": now - ABANDONED_AFTER}) | Q(**{f"{end}__gt": now + FURTHEST_AHEAD})
    return Q(**{f"{prefix}status": Status.CANCELING}) & (is_over | Q(**{f"{end}__isnull": True}))


def is_in_doubt(invoice: InvoicePort) -> bool:
    """Return whether a cancel request of the invoice may have been carried out. True for an abandoned claim."""
    return invoice.status == Status.IN_DOUBT or is_abandoned(invoice)


def doubtful(prefix: str = "") -> Q:
    """Return the condition of an invoice in doubt, an abandoned claim included."""
    return Q(**{f"{prefix}status": Status.IN_DOUBT}) | abandoned(prefix)


def end_of_claim(invoice: InvoicePort, now: datetime) -> datetime:
    """Return the last instant at which a byte of an abandoned claim's request can have been sent.

    If the row has no valid end, the claim counts as won now, so that the doubt period is never too short.
    """
    end: datetime | None = invoice.claim_expires_at
    if end is None or is_far_ahead(end, now):
        return now + timedelta(seconds=conf.read()[0].claim_ttl)
    return end


def doubt_over_at(invoice: InvoicePort) -> datetime:
    """Return the end of the doubt period: the provider can no longer carry out the last attempt after it."""
    last_byte: datetime = invoice.claim_expires_at or invoice.status_changed_at
    if invoice.status == Status.CANCELING:
        last_byte = end_of_claim(invoice, utc_now())
    return last_byte + timedelta(seconds=conf.get().doubt_period)
