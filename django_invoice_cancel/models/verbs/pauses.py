"""Pause: what all processes know about a provider in trouble. Written at once, read in the claim's own guard."""

from __future__ import annotations

from datetime import timedelta

from django.db.models import Q
from django.utils import timezone

from ..provider_state import ProviderState
from .rows import Rows


class Pauses:
    """The verbs on the state of a provider account."""

    def __init__(self, rows: Rows) -> None:
        self.rows = rows

    def pause(self, alias: str, code: str, seconds: float) -> None:
        """Leave the provider alone for so many seconds; a pause never shortens another."""
        until = timezone.now() + timedelta(seconds=seconds)
        states = ProviderState.objects.using(self.rows.using)
        states.get_or_create(alias=alias)
        shorter = states.filter(Q(paused_until__isnull=True) | Q(paused_until__lt=until), alias=alias)
        shorter.update(paused_until=until, pause_code=code)

    def paused(self, alias: str) -> ProviderState | None:
        """Return the provider's state if it is paused now."""
        states = ProviderState.objects.using(self.rows.using)
        return states.filter(alias=alias, paused_until__gt=timezone.now()).first()
