"""The shared state of a provider: pauses, probes, failures and slots. A pause is part of the condition of every claim.

A pause that has ended keeps its code until a usable answer arrives. Until then one request at a time is sent, by the
process that has the right to probe.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from functools import partial
from typing import Any

from django.db import IntegrityError
from django.db.models import F, Q, QuerySet
from django.db.models.functions import Least

from ... import registry
from ...bulk.workers import SLOT_HORIZON
from ...domain.claims import Probe
from ...domain.clock import is_ahead, utc_now
from ...domain.outcomes import Code, Outcome
from ...labels.results import describe_result
from ...services.results import provider_name
from ..actors import named_actor
from ..provider_state import PROBE_MARGIN, ProviderState
from .rows import MOST_COUNTED, RowWriter

logger = logging.getLogger("django_invoice_cancel")

RESUME_INTERVAL = timedelta(seconds=10)
"""A pause of one provider can be ended manually once in this time."""
_PROBE_CLEARED = {"probe_until": None}
_PAUSE_CLEARED = {
    "paused_at": None,
    "paused_until": None,
    "pause_code": "",
    "rejected_options": "",
    "retry_after_at": None,
    **_PROBE_CLEARED,
}
_TRIES = 3


class Resumption(StrEnum):
    """The result of ending a pause manually."""

    RESUMED = "resumed"
    NOT_PAUSED = "not_paused"
    TOO_SOON = "too_soon"
    RETRY_AFTER = "retry_after"


@dataclass(frozen=True)
class Resumed:
    """What became of an attempt to end a pause."""

    result: Resumption
    at: datetime | None = None
    """The time from which it is possible: for ``TOO_SOON`` and ``RETRY_AFTER``."""


class ProviderStateWriter(RowWriter):
    """Writes the state of provider accounts."""

    def pause(
        self, alias: str, code: str, seconds: float, *, retry_after: float | None = None, options_digest: str = ""
    ) -> None:
        """Pause the provider for ``seconds``. A pause never shortens another.

        Args:
            alias: The alias of the account.
            code: The code of the reply.
            seconds: The length of the pause.
            retry_after: The provider's own Retry-After in seconds, if it sent one.
            options_digest: ``Provider.options_digest`` of the sender. With other options, a pause after rejected
                credentials ends.
        """
        if self.repeat(partial(self._pause, alias, code, seconds, retry_after, options_digest)) and seconds >= 1:
            _log_pause(alias, code, seconds)

    def _pause(self, alias: str, code: str, seconds: float, retry_after: float | None, options_digest: str) -> bool:
        """Write a pause; return whether the provider was not paused before."""
        state = self._corrected(self._states.get_or_create(alias=alias)[0])
        was_paused, now = state.is_paused, utc_now()
        until = now + timedelta(seconds=seconds)
        own = self._states.filter(alias=alias)
        is_rejection = code == Code.BAD_CREDENTIALS and bool(options_digest)
        rejected = state.with_rejected_options(options_digest) if is_rejection else ""
        changes = {"paused_at": now, "paused_until": until, "pause_code": code, "rejected_options": rejected}
        shorter = own.filter(Q(paused_until__isnull=True) | Q(paused_until__lt=until))
        is_written = bool(shorter.update(**changes, **_PROBE_CLEARED))
        if not is_written and is_rejection:
            own.filter(pause_code=code).update(rejected_options=rejected)
        if retry_after:
            retry_at = now + timedelta(seconds=retry_after)
            earlier = own.filter(Q(retry_after_at__isnull=True) | Q(retry_after_at__lt=retry_at))
            earlier.update(retry_after_at=retry_at)
        return is_written and not was_paused

    def resume(self, alias: str, *, actor: Any = None, force: bool = False) -> Resumed:
        """End the pause of a provider now. The next request is sent as a probe, and its answer decides.

        The pause keeps its code until a usable answer arrives. It is a CAS, so only one of several callers ends it. The
        actor is logged.

        Args:
            alias: The alias of the account.
            actor: A user, a label, or None.
            force: Also before the time has passed that the provider named in a Retry-After header.

        Raises:
            TypeError: ``actor`` has the wrong type.
        """
        label = named_actor(actor)[1]
        for _try in range(_TRIES):
            state = self.provider_state(alias)
            now = utc_now()
            if state is None:
                return Resumed(Resumption.NOT_PAUSED)
            last: datetime | None = state.resumed_at
            if last is not None and now < last + RESUME_INTERVAL and not is_ahead(last, now):
                return Resumed(Resumption.TOO_SOON, last + RESUME_INTERVAL)
            if not state.is_paused:
                return Resumed(Resumption.NOT_PAUSED)
            if not force and state.retry_after_at is not None and state.retry_after_at > now:
                return Resumed(Resumption.RETRY_AFTER, state.retry_after_at)
            own = self._states.filter(alias=alias, paused_until=state.paused_until, resumed_at=last)
            if self.repeat(partial(own.update, paused_until=now, resumed_at=now, **_PROBE_CLEARED)):
                names = {"provider": alias, "code": state.pause_code, "actor": label}
                text = "The pause of %s (%s) was ended by %s. The next request is a probe."
                logger.warning(text, alias, state.pause_code, label or "an unknown actor", extra=names)
                return Resumed(Resumption.RESUMED)
        return Resumed(Resumption.TOO_SOON, utc_now() + RESUME_INTERVAL)

    def take_probe(self, alias: str, *, options_digest: str) -> Probe | None:
        """Take the right to send a request to a provider whose last answers were not usable.

        After a pause only one process has it at a time, until it releases it or dies. It also ends a pause whose
        rejected options differ from ``options_digest``. It is a CAS on the times that were read.

        Returns:
            The right, or None if the provider is paused or another process has it.
        """
        for _try in range(_TRIES):
            state = self.repeat(partial(self.provider_state, alias))
            if state is None or not (state.needs_probe or state.is_paused):
                return Probe(alias, None)
            if state.seconds_left_for(options_digest) or state.is_being_probed:
                return None
            now = utc_now()
            changes = {"probe_until": now + _probe_length(alias), "paused_until": min(state.paused_until or now, now)}
            own = self._states.filter(alias=alias, paused_until=state.paused_until, probe_until=state.probe_until)
            if self.repeat(partial(own.update, **changes)):
                return Probe(alias, changes["probe_until"])
        return None

    def release_probe(self, probe: Probe) -> None:
        """Give back the right to send a probe: its answer was counted, or nothing was sent."""
        if probe.until is not None:
            own = self._states.filter(alias=probe.alias, probe_until=probe.until)
            self.repeat(partial(own.update, **_PROBE_CLEARED))

    def provider_state(self, alias: str) -> ProviderState | None:
        """Return the state of the provider, after the correction of a pause that a wrong clock wrote."""
        state = self._states.filter(alias=alias).first()
        return None if state is None else self._corrected(state)

    def paused(self, alias: str) -> ProviderState | None:
        """Return the provider's state if it is paused now, or if another request is its probe after a pause."""
        state = self.provider_state(alias)
        return state if state is not None and (state.is_paused or state.is_being_probed) else None

    def correct_pauses(self, states: Iterable[ProviderState]) -> None:
        """Move pauses that begin in the future to now, with the same length."""
        for state in states:
            self._corrected(state)

    def update_provider_state(
        self,
        alias: str,
        *,
        seconds: float,
        code: str,
        failures: int,
        retry_after: float | None = None,
        options_digest: str = "",
    ) -> None:
        """Write the state of the provider after a run: a pause of ``seconds`` with a code, else its failures.

        Without failures an expired pause is cleared, but never a pause that another process has just begun. The
        arguments are those of ``pause``.
        """
        now = utc_now()
        heard = {"failures": min(failures, MOST_COUNTED)} | ({} if failures else {"last_success_at": now})
        if not self.repeat(lambda: self._states.filter(alias=alias).update(**heard)):
            self.repeat(lambda: self._states.get_or_create(alias=alias, defaults=heard))
        if code:
            self.pause(alias, code, seconds, retry_after=retry_after, options_digest=options_digest)
        elif not failures:
            over = self._states.filter(alias=alias, paused_until__lte=now)
            self.repeat(lambda: over.update(**_PAUSE_CLEARED))

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
        if state.begins_in_future and state.paused_until is not None:
            now = utc_now()
            ahead: timedelta = state.paused_at - now
            changes = {"paused_at": now, "paused_until": state.paused_until - ahead}
            if state.retry_after_at is not None:
                changes["retry_after_at"] = state.retry_after_at - ahead
            own = self._states.filter(alias=state.alias, paused_at=state.paused_at, paused_until=state.paused_until)
            self.repeat(lambda: own.update(**changes))
            for name, value in changes.items():
                setattr(state, name, value)
        return state


def _probe_length(alias: str) -> timedelta:
    """Return the time for which a probe may be in flight."""
    provider = registry.last_known(alias)
    return timedelta(seconds=0.0 if provider is None else provider.deadline) + PROBE_MARGIN


def _log_pause(alias: str, code: str, seconds: float) -> None:
    if code in (Code.BAD_CREDENTIALS, Code.RATE_LIMITED):
        why = describe_result(Outcome.NOT_PROCESSED, code, provider=provider_name(alias))
    else:
        why = f"its replies contain no status of an invoice ({code})."
    level = logging.ERROR if code == Code.BAD_CREDENTIALS else logging.WARNING
    names = {"provider": alias, "code": code}
    logger.log(level, "%s is paused for %.0f s: %s", alias, seconds, why, extra=names)
