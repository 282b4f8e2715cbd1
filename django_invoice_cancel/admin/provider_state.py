"""What the pages say of a provider that is left alone, or that has not answered lately."""

from __future__ import annotations

from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from .. import conf
from ..domain.outcomes import Outcome
from ..labels import sentence
from ..models import ProviderState
from ..services.results import provider_name
from .formatting import account, clock, number


def sending_disabled() -> list[str]:
    """Return the sentence for the setting SEND if it forbids cancel requests."""
    if conf.read()[0].send:
        return []
    return [_("Sending is disabled by the setting SEND: no invoice is canceled at a provider.")]


def pause_of(state: ProviderState) -> str:
    """Say that a provider is paused, until when and why; empty where it is not."""
    end = state.pause_ends_at
    if not state.is_paused or end is None:
        return ""
    name = provider_name(state.alias)
    why = sentence(Outcome.NOT_PROCESSED, state.pause_code, provider=name)
    return _("%(provider)s is paused until %(when)s: %(why)s") % {
        "provider": account(state.alias),
        "when": clock(end),
        "why": why,
    }


def trouble_of(state: ProviderState) -> str:
    """Say that a provider is paused, else that it did not answer lately; empty where neither is so."""
    if pause := pause_of(state):
        return pause
    if not state.failures:
        return ""
    text = ngettext(
        "%(provider)s gave no usable answer to the last %(count)s request.",
        "%(provider)s gave no usable answer to the last %(count)s requests.",
        state.failures,
    )
    return text % {"provider": account(state.alias), "count": number(state.failures)}
