"""The shared state of a provider: pauses, failures and slots. A pause is part of the condition of every claim."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable
from datetime import timedelta
from functools import partial

from django.db import IntegrityError
from django.db.models import F, Q, QuerySet
from django.db.models.functions import Least

from ...bulk.workers import SLOT_HORIZON
from ...domain.clock import utc_now
from ...domain.outcomes import Code, Outcome
from ...labels.results import describe_result
from ...services.results import provider_name
from ..provider_state import ProviderState
from .rows import MOST_COUNTED, RowWriter

logger = logging.getLogger("django_invoice_cancel")


class ProviderStateWriter(RowWriter):
    """Writes the state of provider accounts."""

    def pause(self, alias: str, code: str, seconds: float) -> None:
        """Pause the provider for ``seconds``. A pause never shortens another."""
        if self.repeat(partial(self._pause, alias, code, seconds)) and seconds >= 1:
            _log_pause(alias, code, seconds)

    def _pause(self, alias: str, code: str, seconds: float) -> bool:
        """Write a pause; return whether the provider was not paused before."""
        was_paused = self._corrected(self._states.get_or_create(alias=alias)[0]).is_paused
        now = utc_now()
        until = now + timedelta(seconds=seconds)
        shorter = self._states.filter(Q(paused_until__isnull=True) | Q(paused_until__lt=until), alias=alias)
        return bool(shorter.update(paused_at=now, paused_until=until, pause_code=code)) and not was_paused

    def provider_state(self, alias: str) -> ProviderState | None:
        """Return the state of the provider, after the correction of a pause that a wrong clock wrote."""
        state = self._states.filter(alias=alias).first()
        return None if state is None else self._corrected(state)

    def paused(self, alias: str) -> ProviderState | None:
        """Return the provider's state if it is paused now."""
        state = self.provider_state(alias)
        return state if state is not None and state.is_paused else None

    def correct_pauses(self, states: Iterable[ProviderState]) -> None:
        """Move pauses that begin in the future to now, with the same length."""
        for state in states:
            self._corrected(state)

    def update_provider_state(self, alias: str, *, seconds: float, code: str, failures: int) -> None:
        """Write the state of the provider after a run: a pause of ``seconds`` with a code, else its failures.

        Without failures an expired pause is cleared, but never a pause that another process has just begun.
        """
        now = utc_now()
        heard = {"failures": min(failures, MOST_COUNTED)} | ({} if failures else {"last_success_at": now})
        if not self.repeat(lambda: self._states.filter(alias=alias).update(**heard)):
            self.repeat(lambda: self._states.get_or_create(alias=alias, defaults=heard))
        if code:
            self.pause(alias, code, seconds)
        elif not failures:
            over = self._states.filter(alias=alias, paused_until__lte=now)
            self.repeat(lambda: over.update(paused_at=None, paused_until=None, pause_code=""))

    def count_failure(self, alias: str, code: str, *, most: int, seconds: float) -> None:
        """Count an inconclusive reply. After ``most`` consecutive ones, pause the provider for ``seconds``."""
        own = self._states.filter(alias=alias)
        one_more = partial(own.update, failures=Least(F("failures") + 1, MOST_COUNTED))
        if not self.repeat(one_more):
            try:
                self.repeat(partial(self._states.create, alias=alias, failures=1))
            except IntegrityError:  # inserted concurrently
                self.repeat(one_more)
            else:
                return
        if own.filter(failures__gte=most).exists():
            self.pause(alias, code, seconds)

    def reserve(self, alias: str, count: int, rate: float) -> float:
        """Reserve ``count`` slots at ``rate`` requests a second.

        It is a CAS on the next free slot, so that all processes and machines share the rate. Their clocks must agree to
        within a fraction of a second.

        Returns:
            The first slot in seconds since the epoch, or 0 if no slot is near.
        """
        now = utc_now()
        state = self._states.get_or_create(alias=alias)[0]
        start = state.next_slot(rate, now)
        if start > now + SLOT_HORIZON:
            return 0.0
        own = self._states.filter(alias=alias, next_send_at=state.next_send_at)
        if not own.update(next_send_at=start + timedelta(seconds=count / rate)):
            return 0.0
        return time.time() + (start - now).total_seconds()

    def touch_heartbeat(self, alias: str) -> None:
        """Record that reconciliation ran for this provider."""
        seen = {"last_reconcile_at": utc_now()}
        if not self.repeat(lambda: self._states.filter(alias=alias).update(**seen)):
            self.repeat(lambda: self._states.get_or_create(alias=alias, defaults=seen))

    @property
    def _states(self) -> QuerySet[ProviderState]:
        return ProviderState.objects.using(self.using)

    def _corrected(self, state: ProviderState) -> ProviderState:
        """Move a pause that begins in the future to now, with the same length; a CAS, so it is moved once."""
        if state.begins_in_future:
            now, until = utc_now(), state.pause_ends_at
            own = self._states.filter(alias=state.alias, paused_at=state.paused_at, paused_until=state.paused_until)
            self.repeat(lambda: own.update(paused_at=now, paused_until=until))
            state.paused_at, state.paused_until = now, until
        return state


def _log_pause(alias: str, code: str, seconds: float) -> None:
    if code in (Code.BAD_CREDENTIALS, Code.RATE_LIMITED):
        why = describe_result(Outcome.NOT_PROCESSED, code, provider=provider_name(alias))
    else:
        why = f"its replies contain no status of an invoice ({code})."
    level = logging.ERROR if code == Code.BAD_CREDENTIALS else logging.WARNING
    names = {"provider": alias, "code": code}
    logger.log(level, "%s is paused for %.0f s: %s", alias, seconds, why, extra=names)
