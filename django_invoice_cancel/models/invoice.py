"""The model ``Invoice``. The merchant's order has a foreign key to it, or finds it by provider and external id.

``save()`` does not write the fields that only the writer changes. Each public method calls a service.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import TYPE_CHECKING, Any, ClassVar, Self, TypeAlias

from django.core.exceptions import ImproperlyConfigured, ValidationError
from django.core.validators import MinValueValidator
from django.db import models, router
from django.db.models.signals import pre_save
from django.dispatch import receiver
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from .. import registry
from ..domain import statuses
from ..domain.audit import Trigger, Wanted
from ..domain.bidi import isolate
from ..domain.clock import utc_now
from ..domain.outcomes import CancelResult
from ..domain.statuses import CLOSED_STATUSES, INTERNAL_STATUSES, Status, has_payment
from ..exceptions import InvalidExternalId
from ..labels.invoices import STATUS_LABELS
from ..labels.results import describe_invalid_id
from ..services import results
from ..services.call_arguments import build_audit_context, checked_text
from ..services.cancel import cancel_invoice, cancel_on_commit
from ..services.eligibility import find_obstacle, is_abandoned
from ..services.reconcile import observe_invoice, reconcile_invoice
from .actors import acting_user
from .fields import AmountField, ExactCharField, InstantField, displayable
from .manager import InvoiceManager
from .queryset import refuse_writer_fields, reset_writer_fields
from .typed import async_twin
from .values import unstorable, untimely
from .writes import InvoiceWriter
from .writes.transactions import WRITER_FIELDS

if TYPE_CHECKING:
    from .transition import InvoiceTransitions
    from .typed import AmountOrNone, Number, Text, Time, TimeOrNone, UUIDOrNone


class Invoice(models.Model):
    """One invoice at one provider: its data, its status, and the times that cancellation and reconciliation need."""

    Status: TypeAlias = statuses.Status

    id: Number = models.BigAutoField(primary_key=True)
    provider = ExactCharField(_("provider"), max_length=64, help_text=_("The alias in INVOICE_CANCEL."))
    external_id = ExactCharField(_("external id"), max_length=100, help_text=_("The provider's id of the invoice."))
    reference: Text = models.CharField(
        _("reference"), max_length=255, blank=True, help_text=_("Your own order number.")
    )
    amount: AmountOrNone = AmountField(
        _("amount"), max_digits=38, decimal_places=18, null=True, blank=True, validators=[MinValueValidator(0)]
    )
    currency: Text = models.CharField(_("currency"), max_length=16, blank=True)
    issued_at: Time = models.DateTimeField(_("issued"), default=timezone.now, validators=[displayable])
    expires_at: TimeOrNone = models.DateTimeField(_("expires"), null=True, blank=True, validators=[displayable])
    created_at: Time = models.DateTimeField(_("registered"), default=timezone.now, editable=False)

    # Changed only by the writer (WRITER_FIELDS).
    status = ExactCharField(
        _("status"),
        max_length=16,
        default=Status.CREATED,
        choices=[(str(s), label) for s, label in STATUS_LABELS.items()],
    )
    status_changed_at: Time = InstantField(_("status changed"), default=utc_now, editable=False)
    status_confirmed_at: TimeOrNone = InstantField(
        _("confirmed by the provider"), null=True, blank=True, editable=False
    )
    attempt: UUIDOrNone = models.UUIDField(_("attempt"), null=True, blank=True, editable=False)
    claim_expires_at: TimeOrNone = InstantField(_("claim expires"), null=True, blank=True, editable=False)
    cancel_requested_at: TimeOrNone = InstantField(_("cancel requested"), null=True, blank=True, editable=False)
    cancel_try_at: TimeOrNone = InstantField(
        _("next try of the requested cancellation"), null=True, blank=True, editable=False
    )
    cancel_try_count: Number = models.PositiveIntegerField(
        _("tries of the requested cancellation"), default=0, editable=False
    )
    next_check_at: TimeOrNone = InstantField(_("next check"), null=True, blank=True, editable=False)
    check_count: Number = models.PositiveIntegerField(_("checks"), default=0, editable=False)
    # An outcome, or "not_found": refused because the provider does not know the invoice.
    last_outcome: Text = models.CharField(_("last outcome"), max_length=16, blank=True, default="", editable=False)
    contradicted_at: TimeOrNone = InstantField(_("contradicted by the provider"), null=True, blank=True, editable=False)
    paid_after_cancel_at: TimeOrNone = InstantField(_("paid after cancellation"), null=True, blank=True, editable=False)

    paid_after_cancel_handled_at: TimeOrNone = InstantField(
        _("late payment handled"), null=True, blank=True, editable=False
    )
    paid_after_cancel_handled_by = acting_user(_("late payment handled by"), editable=False)

    objects: ClassVar[InvoiceManager[Self]] = InvoiceManager()

    if TYPE_CHECKING:  # made by Django
        transitions: InvoiceTransitions
        paid_after_cancel_handled_by_id: Any

        def get_status_display(self) -> str: ...

    class Meta:
        verbose_name = _("invoice")
        verbose_name_plural = _("invoices")
        permissions = (
            ("cancel_invoice", _("Can cancel and check invoices at the provider")),
            ("resolve_invoice", _("Can resolve invoices in doubt and handle late payments")),
        )
        constraints = (
            models.UniqueConstraint(fields=("provider", "external_id"), name="invoice_cancel_provider_id"),
            models.CheckConstraint(
                condition=models.Q(status__in=[str(status) for status in Status]), name="invoice_cancel_status"
            ),
        )
        indexes = (
            models.Index(fields=("status", "next_check_at"), name="invoice_cancel_due"),
            models.Index(fields=("provider", "status", "id"), name="invoice_cancel_walk"),
            models.Index(fields=("status", "issued_at"), name="invoice_cancel_issued"),
            models.Index(fields=("reference",), name="invoice_cancel_reference"),
            models.Index(fields=("cancel_requested_at",), name="invoice_cancel_requested"),
            models.Index(fields=("status", "cancel_try_at"), name="invoice_cancel_try_due"),
            models.Index(fields=("contradicted_at",), name="invoice_cancel_contradicted"),
            models.Index(fields=("paid_after_cancel_at",), name="invoice_cancel_late_money"),
        )

    def __str__(self) -> str:
        return f"{isolate(str(self.provider))} {isolate(str(self.external_id))}"

    # -- saving -----------------------------------------------------------------------------------------------

    def save(self, *, update_fields: Iterable[str] | None = None, **kwargs: Any) -> None:
        """Insert a new invoice; of a stored one, save only the fields that the writer does not manage.

        A copy of a stored invoice (``pk = None``, ``_state.adding = True``) is a new invoice: its status and the other
        fields of the writer get their defaults.

        Args:
            update_fields: The fields to save.
            **kwargs: The other arguments of ``Model.save``.

        Raises:
            ValueError: ``update_fields`` contains a field that only the writer changes.
        """
        using = kwargs.get("using")
        if self._state.adding and self._state.db is not None:
            reset_writer_fields(self)
        if self._state.adding or (using and using != self._state.db):
            kwargs["force_insert"] = (models.Model,)  # also in the tables of all parents
        elif update_fields is None:
            update_fields = self._host_fields()
        else:
            update_fields = list(update_fields)
            refuse_writer_fields(update_fields)
        super().save(update_fields=update_fields, **kwargs)

    def _host_fields(self) -> list[str]:
        deferred = self.get_deferred_fields()  # attnames: a foreign key's ends in _id
        columns = (field.attname for field in self._meta.concrete_fields if not field.primary_key)
        return [column for column in columns if column not in WRITER_FIELDS and column not in deferred]

    def clean_fields(self, exclude: Collection[str] | None = None) -> None:
        """Validate the values as Django does, and refuse values that a database cannot store or would round."""
        excluded = set(exclude or ())
        errors = untimely(self, excluded)
        try:
            super().clean_fields(exclude=excluded | set(errors))
        except ValidationError as error:
            errors = error.update_error_dict(errors)
        errors |= unstorable(self, excluded | set(errors), using=router.db_for_write(Invoice, instance=self))
        if errors:
            raise ValidationError(errors)

    def clean(self) -> None:
        """Normalize the id; refuse an alias that is not configured, and an id that its adapter does not accept."""
        try:
            provider = registry.get_provider(self.provider)
        except ImproperlyConfigured as error:
            raise ValidationError({"provider": str(error)}) from error
        try:
            self.external_id = provider.clean_id(self.external_id)
        except InvalidExternalId as error:
            raise ValidationError(
                {"external_id": describe_invalid_id(provider.verbose_name, provider.id_form)}
            ) from error
        if self._state.adding and self.status in INTERNAL_STATUSES:
            raise ValidationError({"status": _("A new invoice cannot be in doubt or being canceled.")})

    # -- questions --------------------------------------------------------------------------------------------

    @property
    def is_closed(self) -> bool:
        """True if the invoice is canceled, expired or failed, so that it accepts no payment."""
        return self.status in CLOSED_STATUSES

    @property
    def has_payment(self) -> bool:
        """True if a payment has been received."""
        return has_payment(self.status)

    @property
    def is_abandoned(self) -> bool:
        """True if the process that was canceling the invoice has ended and its claim has expired."""
        return is_abandoned(self)

    @property
    def is_resolvable(self) -> bool:
        """True if ``resolve`` applies: in doubt, contradicted, or refused by a provider without lookup."""
        return not find_obstacle(Wanted.RESOLVE, self)

    @property
    def _writer(self) -> InvoiceWriter:
        """The writer of the status and the log, in the database of this invoice."""
        return InvoiceWriter(type(self), router.db_for_write(Invoice, instance=self))

    # -- actions ----------------------------------------------------------------------------------------------

    def cancel(self, *, actor: Any = None, reason: str = "", trigger: str = Trigger.API) -> CancelResult:
        """Cancel the invoice at its provider.

        The cancel request is sent at most once. If it is not known whether the provider carried it out, the invoice
        becomes ``in_doubt``, and reconciliation determines the result.

        Args:
            actor: A user, a label, or None. It is logged.
            reason: Required if ``REQUIRE_REASON`` is set. It is logged.
            trigger: The entry point that is logged.

        Returns:
            The result of an invoice that is canceled, now or before.

        Raises:
            CancelError: The invoice is not canceled, or the answer could not be stored. The subclass and ``result``
                show the reason.
            CancelInTransaction: Inside a transaction. Nothing was sent or written. Use ``cancel_on_commit``.
            TypeError: ``actor`` or ``reason`` has the wrong type.
            ValueError: The invoice was not saved, or an argument is invalid.
        """
        return results.raise_unless_ok(cancel_invoice(self, actor=actor, trigger=Trigger(trigger), reason=reason))

    def cancel_on_commit(self, *, actor: Any = None, reason: str = "") -> bool:
        """Request the cancellation in the caller's transaction, and send it after the commit.

        The request is stored until it is carried out, refused or withdrawn; ``reconcile_invoices`` tries again later.

        Args:
            actor: A user, a label, or None. It is logged.
            reason: Required if ``REQUIRE_REASON`` is set. It is logged.

        Returns:
            False if the invoice is not ``created``. Then nothing is stored.

        Raises:
            TypeError: ``actor`` or ``reason`` has the wrong type.
            ValueError: The invoice was not saved, or a required reason is missing.
        """
        return cancel_on_commit(self, actor=actor, reason=reason)

    def withdraw(self, *, actor: Any = None, reason: str = "", trigger: str = Trigger.API) -> bool:
        """Withdraw a requested cancellation, so that it is not tried again. Works in any status and any transaction.

        Args:
            actor: A user, a label, or None. It is logged.
            reason: It is logged.
            trigger: The entry point that is logged.

        Returns:
            False if a cancel request was sent that may still succeed.
        """
        return self._writer.withdraw(self, build_audit_context(actor, trigger, reason))

    def observe_status(
        self,
        status: str | None = None,
        *,
        provider_status: str | None = None,
        trigger: str = Trigger.WEBHOOK,
        actor: Any = None,
        reason: str = "",
    ) -> bool:
        """Record a status that was reported from outside, without a request. Works inside any transaction.

        Args:
            status: A status of this package.
            provider_status: The provider's status string, in place of ``status``.
            trigger: The entry point that is logged.
            actor: A user, a label, or None. It is logged.
            reason: It is logged.

        Returns:
            True if the status of the invoice changed.

        Raises:
            ValueError: Not exactly one of ``status`` and ``provider_status`` is given, or no provider can report the
                status.
            TypeError: ``actor``, ``reason`` or ``provider_status`` has the wrong type.
            ImproperlyConfigured: ``provider_status`` is given, and the alias is not configured.
        """
        audit = build_audit_context(actor, trigger, reason)
        return observe_invoice(self, status, provider_status=provider_status, audit=audit)

    def reconcile(self, *, resubmit: bool = False, actor: Any = None) -> CancelResult:
        """Look the invoice up at its provider and record the answer. Provider and network errors never raise.

        Args:
            resubmit: Repeat the cancel request after the doubt period, if the provider has no lookup and its adapter
                declares a repeat harmless.
            actor: A user, a label, or None. It is logged.

        Returns:
            The result, also for an invoice that was not looked up.

        Raises:
            CancelInTransaction: Inside a transaction. Nothing was sent or written.
            ValueError: The invoice was not saved.
        """
        return reconcile_invoice(self, resubmit=resubmit, actor=actor)

    def resolve(self, status: str, *, actor: Any, reason: str) -> None:
        """Record the decision of a named person about the status of the invoice. Works inside any transaction.

        Args:
            status: The status that was decided. A contradicted invoice may also be resolved to the status that it has.
            actor: The person: a user or a label.
            reason: The reason of the decision. Both are logged.

        Raises:
            ResolveNotPossible: ``is_resolvable`` is False, the invoice has changed, or the status is ``created`` and
                the doubt period is not over.
            ValueError: An argument is invalid or missing.
        """
        self._writer.resolve(self, Status(status), build_audit_context(actor, Trigger.OPERATOR, reason))

    def mark_handled(self, *, actor: Any, note: str, seen: str = "") -> bool:
        """Record that a named person has handled a payment on an invoice whose cancellation was confirmed.

        Args:
            actor: The person: a user or a label.
            note: A description of the action. Both are logged.
            seen: The status that the person saw, so that a larger payment is not marked as well.

        Returns:
            False if the payment was marked before.

        Raises:
            ResolveNotPossible: There is no such payment, or the status is no longer ``seen``.
            ValueError: An argument is invalid.
        """
        audit = build_audit_context(actor, Trigger.OPERATOR, note, argument="note")
        return self._writer.mark_handled(self, audit, seen=checked_text("seen", seen))

    acancel = async_twin(cancel)
    awithdraw = async_twin(withdraw)
    aobserve_status = async_twin(observe_status)
    areconcile = async_twin(reconcile)
    aresolve = async_twin(resolve)
    amark_handled = async_twin(mark_handled)


@receiver(pre_save, dispatch_uid="invoice_cancel.raw_save")
def guard_raw_save(sender: type[models.Model], instance: Any, using: str, raw: bool, **kwargs: Any) -> None:
    """Guard the status against raw saves, which call ``Model.save_base`` and bypass the ``save`` of this class."""
    if raw and sender._meta.concrete_model is Invoice and instance.pk is not None:
        InvoiceWriter(Invoice, using).guard_raw_save(instance)


# A template's {{ invoice.cancel }} must not cancel.
for _owner, _names in (
    (Invoice, "save cancel cancel_on_commit withdraw observe_status reconcile resolve mark_handled"),
    (Invoice, "acancel awithdraw aobserve_status areconcile aresolve amark_handled"),
    (InvoiceManager, "register register_many observe_status aregister aobserve_status"),
):
    for _name in _names.split():
        vars(_owner)[_name].alters_data = True
