"""The state of a provider account that all processes share: its pause, its rate, and its last answers."""

from datetime import datetime, timedelta
from typing import Any

from django.db import models
from django.utils.translation import gettext_lazy as _

from .. import registry
from ..bulk.workers import SLOT_HORIZON, max_slots
from ..domain.clock import TOLERANCE, is_ahead, utc_now
from ..domain.numbers import REQUEST_SECONDS
from ..domain.outcomes import Code
from .fields import ExactCharField, InstantField

RECONCILE_QUIET = timedelta(hours=1)
"""If an invoice is in doubt and reconciliation has not run for this time, it is not scheduled."""
PROBE_MARGIN = timedelta(seconds=30)
"""Time by which the right to send a probe outlives the longest request, for slots and for receivers of signals."""
LONGEST_PROBE = timedelta(seconds=REQUEST_SECONDS.most) + PROBE_MARGIN
MOST_DIGESTS = 7
"""Maximum number of rejected configurations that are stored for an account."""


class ProviderState(models.Model):
    """The state of one alias, in the database of the invoices. The row is inserted with the first change."""

    alias = ExactCharField(_("provider"), max_length=64, primary_key=True)
    paused_at = InstantField(_("paused since"), null=True, blank=True)
    paused_until = InstantField(_("paused until"), null=True, blank=True)
    pause_code = models.CharField(_("reason"), max_length=32, blank=True, default="")
    rejected_options = models.CharField(_("digests of rejected options"), max_length=255, blank=True, default="")
    retry_after_at = InstantField(_("end of the provider's Retry-After"), null=True, blank=True)
    resumed_at = InstantField(_("pause last ended by a person"), null=True, blank=True)
    probe_until = InstantField(_("end of the current probe"), null=True, blank=True)
    failures = models.PositiveIntegerField(_("consecutive requests without a usable answer"), default=0)
    next_send_at = InstantField(_("next free slot"), null=True, blank=True)
    last_success_at = InstantField(_("last answer"), null=True, blank=True)
    last_reconcile_at = InstantField(_("last reconcile"), null=True, blank=True)

    class Meta:
        verbose_name = _("provider state")
        verbose_name_plural = _("provider states")
        default_permissions = ("view",)

    def __str__(self) -> str:
        return self.alias

    @property
    def is_paused(self) -> bool:
        """True if the provider is paused now."""
        return self.seconds_left > 0

    @property
    def seconds_left(self) -> float:
        """Remaining seconds of the pause; 0 if the provider is not paused."""
        return self.seconds_left_for(None)

    def seconds_left_for(self, options_digest: str | None) -> float:
        """Return the remaining seconds of the pause for a sender with these options; None: the configured ones."""
        now = utc_now()
        end = self._end(now, options_digest)
        return 0.0 if end is None else max((end - now).total_seconds(), 0.0)

    @property
    def pause_ends_at(self) -> datetime | None:
        """The end of the pause. A pause that begins in the future was written by a wrong clock, and counts from now."""
        return self._end(utc_now(), None)

    @property
    def needs_probe(self) -> bool:
        """True if no usable answer has arrived since the last pause: one request at a time is sent."""
        return bool(self.pause_code)

    @property
    def is_being_probed(self) -> bool:
        """True if a process has the right to send the first request after a pause, and its answer is not known yet."""
        return self.probe_seconds_left > 0

    @property
    def probe_seconds_left(self) -> float:
        """Remaining seconds of that right. An end that is far ahead was written by a wrong clock, and is ignored."""
        now = utc_now()
        if self.probe_until is None or not now < self.probe_until <= now + LONGEST_PROBE + TOLERANCE:
            return 0.0
        seconds: float = (self.probe_until - now).total_seconds()
        return seconds

    def has_changed_options(self, options_digest: str | None = None) -> bool:
        """Return whether the credentials were rejected and the options differ from all that were.

        Args:
            options_digest: ``Provider.options_digest`` of the sender. None: that of the current configuration.
        """
        if self.pause_code != Code.BAD_CREDENTIALS or not self.rejected_options:
            return False
        digest = registry.options_digest(self.alias) if options_digest is None else options_digest
        return digest not in ("", *self.rejected_options.split(","))

    def with_rejected_options(self, options_digest: str) -> str:
        """Return the digests of the rejected options and this one, the latest last."""
        known = self.rejected_options.split(",") if self.rejected_options else []
        others = [digest for digest in known if digest != options_digest]
        return ",".join([*others, options_digest][-MOST_DIGESTS:])

    @property
    def begins_in_future(self) -> bool:
        """True if the clock that wrote the pause was ahead, or has been set back since."""
        return is_ahead(self.paused_at, utc_now())

    def _end(self, now: datetime, options_digest: str | None) -> datetime | None:
        start: datetime | None = self.paused_at
        end: datetime | None = self.paused_until
        if end is None or end <= now:
            return end
        if self.has_changed_options(options_digest):
            return self.retry_after_at or now
        return end if start is None or not is_ahead(start, now) else now + (end - start)

    def next_slot(self, rate: float, now: datetime) -> datetime:
        """Return the next free slot at a rate in requests a second, at the earliest ``now``.

        A stored slot further ahead than the largest group at this rate can reserve was written by a wrong clock, or for
        a far lower rate. It is ignored, because it would block every process.
        """
        free: datetime | None = self.next_send_at
        furthest = now + SLOT_HORIZON + timedelta(seconds=max_slots(rate) / rate) + TOLERANCE
        return free if free is not None and now < free <= furthest else now


class NotPaused(models.Expression):
    """The SQL condition that the provider is not paused now.

    With ``or_failing`` also that it has no failures and that a usable answer has arrived since its last pause.

    It is written as SQL because it is part of every claim. Django's ``Exists`` would take 0.5 ms more CPU time.
    """

    conditional = True
    output_field = models.BooleanField()

    def __init__(self, alias: str, *, or_failing: bool = False) -> None:
        super().__init__()
        self.alias = alias
        self.or_failing = or_failing

    def as_sql(self, compiler: Any, connection: Any, **kwargs: Any) -> tuple[str, tuple[Any, ...]]:
        """Return ``NOT EXISTS (...)`` and its parameters, for any database."""
        names = ProviderState._meta
        fields: list[Any] = [names.get_field(name) for name in ("alias", "paused_until", "failures", "pause_code")]
        alias, until, failures, code = (connection.ops.quote_name(field.column) for field in fields)
        trouble = f"({until} > %s OR {failures} > 0 OR {code} <> '')" if self.or_failing else f"{until} > %s"
        table = connection.ops.quote_name(names.db_table)
        sql = f"NOT EXISTS (SELECT 1 FROM {table} WHERE {alias} = %s AND {trouble})"  # noqa: S608 - names
        return sql, (self.alias, fields[1].get_db_prep_value(utc_now(), connection, prepared=False))
