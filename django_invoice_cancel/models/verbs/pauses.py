"""Pause: what all processes know about a provider in trouble. Written at once, read in the claim's own guard."""

from __future__ import annotations

import time
from datetime import timedelta

from django.db.models import Q

from ...clock import utc_now
from ..provider_state import ProviderState
from .rows import Rows

NEAR = timedelta(seconds=1)
"""Slots further away than this are not reserved: who waits for them holds no claim."""


class Pauses:
    """The verbs on the state of a provider account."""

    def __init__(self, rows: Rows) -> None:
        self.rows = rows

    def pause(self, alias: str, code: str, seconds: float) -> None:
        """Leave the provider alone for so many seconds; a pause never shortens another."""
        until = utc_now() + timedelta(seconds=seconds)
        states = ProviderState.objects.using(self.rows.using)
        states.get_or_create(alias=alias)
        shorter = states.filter(Q(paused_until__isnull=True) | Q(paused_until__lt=until), alias=alias)
        shorter.update(paused_until=until, pause_code=code)

    def provider_state(self, alias: str) -> ProviderState | None:
        """Return what is known about the provider."""
        return ProviderState.objects.using(self.rows.using).filter(alias=alias).first()

    def tell_state(self, alias: str, *, seconds: float, code: str, failures: int) -> None:
        """Write what a run learned about the provider: a pause of so many seconds, or that it answers (no code).

        An answer ends a pause that is over, never one that somebody else has just begun.
        """
        now = utc_now()
        states = ProviderState.objects.using(self.rows.using)
        heard = {"failures": failures} | ({} if failures else {"last_success_at": now})
        if not states.filter(alias=alias).update(**heard):
            states.get_or_create(alias=alias, defaults=heard)
        if code:
            self.pause(alias, code, seconds)
        elif not failures:
            over = states.filter(alias=alias, paused_until__lte=now)
            over.update(paused_until=None, pause_code="")

    def reserve(self, alias: str, count: int, rate: float) -> float:
        """Reserve ``count`` slots at ``rate`` a second; return the first (seconds since the epoch), 0 if none is near.

        CAS on the next free slot: all processes and machines share the rate. Their clocks must agree to within a
        fraction of a second.
        """
        now = utc_now()
        states = ProviderState.objects.using(self.rows.using)
        free = states.get_or_create(alias=alias)[0].next_send_at
        start = now if free is None or free < now else free
        if start > now + NEAR:
            return 0.0
        own = states.filter(alias=alias, next_send_at=free)
        if not own.update(next_send_at=start + timedelta(seconds=count / rate)):
            return 0.0
        return time.time() + (start - now).total_seconds()

    def paused(self, alias: str) -> ProviderState | None:
        """Return the provider's state if it is paused now."""
        states = ProviderState.objects.using(self.rows.using)
        return states.filter(alias=alias, paused_until__gt=utc_now()).first()
