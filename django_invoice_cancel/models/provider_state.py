"""What all processes share about one provider account: its pause, its rate and when it was last heard of."""

from datetime import timedelta
from typing import Any

from django.db import models
from django.utils.translation import gettext_lazy as _

from ..clock import utc_now
from .fields import ExactCharField, InstantField

RECONCILE_QUIET = timedelta(hours=1)
"""Reconcile that has not run for so long, although something is in doubt, is not scheduled."""


class ProviderState(models.Model):
    """One row an alias, in the invoices' database; made when there is something to say."""

    alias = ExactCharField(_("provider"), max_length=64, primary_key=True)
    paused_at = InstantField(_("paused since"), null=True, blank=True)
    paused_until = InstantField(_("paused until"), null=True, blank=True)
    pause_code = models.CharField(_("reason"), max_length=32, blank=True, default="")
    failures = models.PositiveIntegerField(_("replies in a row that say nothing"), default=0)
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
        return self.seconds_left > 0

    @property
    def seconds_left(self) -> float:
        """Seconds until the pause is over; 0 where there is none."""
        if self.paused_until is None:
            return 0.0
        left: timedelta = self.paused_until - utc_now()
        return max(left.total_seconds(), 0.0)


class NotPaused(models.Expression):
    """A condition for a WHERE: the provider is not paused now.

    Written out, since it is part of every claim: Django's ``Exists`` says the same for 0.5 ms of CPU more.
    """

    conditional = True
    output_field = models.BooleanField()

    def __init__(self, alias: str) -> None:
        super().__init__()
        self.alias = alias

    def as_sql(self, compiler: Any, connection: Any, **kwargs: Any) -> tuple[str, tuple[Any, ...]]:
        """Return ``NOT EXISTS (...)`` and its parameters, for any database."""
        names = ProviderState._meta
        alias, until = names.get_field("alias"), names.get_field("paused_until")
        table, alias_column, until_column = map(connection.ops.quote_name, (names.db_table, alias.column, until.column))
        sql = f"NOT EXISTS (SELECT 1 FROM {table} WHERE {alias_column} = %s AND {until_column} > %s)"  # noqa: S608 - names
        return sql, (self.alias, until.get_db_prep_value(utc_now(), connection, prepared=False))
