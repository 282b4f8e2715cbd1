"""Warnings about providers: sending is disabled, a provider is paused, or its last requests got no usable answer."""

from __future__ import annotations

from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from .. import conf
from ..domain.bidi import isolate
from ..domain.outcomes import Code, Outcome
from ..labels.formatting import format_number, format_time
from ..labels.results import describe_result
from ..models import ProviderState
from ..services.results import provider_name


def account_name(alias: str) -> str:
    """Return the name of the account's provider, with the alias if another account has the same provider name."""
    name, others = provider_name(alias), [other for other in conf.read()[0].providers if other != alias]
    return f"{isolate(alias)} ({name})" if name in map(provider_name, others) else name


def sending_warnings() -> list[str]:
    """Return a warning if the setting SEND disables cancel requests; otherwise an empty list."""
    return [] if conf.read()[0].send else [str(describe_result(Outcome.SKIPPED, Code.SENDING_DISABLED, provider=""))]


def describe_pause(state: ProviderState) -> str:
    """Return the end and the reason of a provider's pause; empty if it is not paused."""
    end = state.pause_ends_at
    if not state.is_paused or end is None:
        if not state.is_being_probed:
            return ""
        text = _("%(provider)s was paused. One request is sent as a test now; the others wait for its answer.")
        return text % {"provider": account_name(state.alias)}
    why = describe_result(Outcome.NOT_PROCESSED, state.pause_code, provider=provider_name(state.alias))
    return _("%(provider)s is paused until %(when)s: %(why)s") % {
        "provider": account_name(state.alias),
        "when": format_time(end),
        "why": why,
    }


def describe_trouble(state: ProviderState) -> str:
    """Return a text about the provider's pause or its last failed requests; empty without such problems."""
    if pause := describe_pause(state):
        return pause
    if not state.failures:
        return ""
    text = ngettext(
        "%(provider)s gave no usable answer to the last %(count)s request.",
        "%(provider)s gave no usable answer to the last %(count)s requests.",
        state.failures,
    )
    return text % {"provider": account_name(state.alias), "count": format_number(state.failures)}
