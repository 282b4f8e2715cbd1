"""The append-only log: one row for each change of status, and for each answer that did not change it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Never, Self

from django.db import models
from django.utils.translation import gettext_lazy as _

from ..exceptions import TransitionsAreAppendOnly
from .actors import acting_user
from .fields import InstantField

_REFUSAL = "The log of transitions is append-only: rows are neither changed nor deleted."


class InvoiceTransitionQuerySet(models.QuerySet["InvoiceTransition"]):
    """Rows of the log, read-only."""

    def update(self, **kwargs: Any) -> Never:
        raise TransitionsAreAppendOnly(_REFUSAL)

    def delete(self) -> Never:
        raise TransitionsAreAppendOnly(_REFUSAL)

    def bulk_create(
        self,
        objs: Iterable[InvoiceTransition],
        batch_size: int | None = None,
        ignore_conflicts: bool = False,  # noqa: FBT002 - Django's signature
        update_conflicts: bool = False,  # noqa: FBT002 - Django's signature
        *args: Any,
        **kwargs: Any,
    ) -> list[InvoiceTransition]:
        if update_conflicts:
            raise TransitionsAreAppendOnly(_REFUSAL)
        return super().bulk_create(objs, batch_size, ignore_conflicts, update_conflicts, *args, **kwargs)

    bulk_create.alters_data = True  # type: ignore[attr-defined]
    update.alters_data = True  # type: ignore[attr-defined]
    delete.alters_data = True  # type: ignore[attr-defined]
    delete.queryset_only = True  # type: ignore[attr-defined]

    def history(self) -> Self:
        """Rows that changed the status, oldest first."""
        return self.exclude(from_status=models.F("to_status")).order_by("id")


if TYPE_CHECKING:
    from .invoice import Invoice
    from .typed import LongText, Number, NumberOrNone, Text, Time, TypedManager, UUIDOrNone

    _Manager = TypedManager["InvoiceTransition", InvoiceTransitionQuerySet]
else:
    _Manager = models.Manager.from_queryset(InvoiceTransitionQuerySet)


class InvoiceTransitionManager(_Manager):
    """The manager of the log."""

    if TYPE_CHECKING:  # made from the query set

        def history(self) -> InvoiceTransitionQuerySet: ...
        def update(self, **kwargs: Any) -> Never: ...


if TYPE_CHECKING:

    class InvoiceTransitions(InvoiceTransitionManager, _Manager):
        """The rows of one invoice: a manager that Django makes for each instance."""

        def __get__(self, instance: object, cls: Any = None) -> Self: ...


class InvoiceTransition(models.Model):
    """One row of the log of an invoice: the actor, the provider's answer, and the change of status."""

    id: Number = models.BigAutoField(primary_key=True)
    invoice: models.ForeignKey[Any, Invoice] = models.ForeignKey(
        "invoice_cancel.Invoice", on_delete=models.PROTECT, related_name="transitions", verbose_name=_("invoice")
    )
    from_status: Text = models.CharField(_("from"), max_length=16, blank=True)
    to_status: Text = models.CharField(_("to"), max_length=16)
    attempt: UUIDOrNone = models.UUIDField(_("attempt"), null=True, blank=True)
    actor = acting_user(_("actor"))
    actor_label: Text = models.CharField(_("actor"), max_length=150, blank=True)
    trigger: Text = models.CharField(_("trigger"), max_length=16)
    reason: LongText = models.TextField(_("reason"), blank=True)
    operation: UUIDOrNone = models.UUIDField(_("bulk operation"), null=True, blank=True, db_index=True)
    outcome: Text = models.CharField(_("outcome"), max_length=16, blank=True)
    code: Text = models.CharField(_("code"), max_length=32, blank=True)
    http_status: NumberOrNone = models.PositiveSmallIntegerField(_("HTTP status"), null=True, blank=True)
    provider_message: Text = models.CharField(_("provider's message"), max_length=500, blank=True)
    duration_ms: NumberOrNone = models.PositiveIntegerField(_("duration (ms)"), null=True, blank=True)
    created_at: Time = InstantField(_("time"))

    objects = InvoiceTransitionManager()

    if TYPE_CHECKING:  # made by Django
        invoice_id: int
        actor_id: Any

    class Meta:
        verbose_name = _("transition")
        verbose_name_plural = _("transitions")
        default_permissions = ("view",)
        ordering = ("id",)

    def __str__(self) -> str:
        return f"{self.from_status or '-'} > {self.to_status} ({self.trigger} {self.code})"

    def save(self, *args: Any, **kwargs: Any) -> None:
        if not self._state.adding:
            raise TransitionsAreAppendOnly(_REFUSAL)
        kwargs["force_insert"] = True
        super().save(*args, **kwargs)

    def delete(self, *args: Any, **kwargs: Any) -> Never:
        raise TransitionsAreAppendOnly(_REFUSAL)

    save.alters_data = True  # type: ignore[attr-defined]
    delete.alters_data = True  # type: ignore[attr-defined]
