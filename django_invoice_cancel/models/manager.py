"""The manager of invoices: register them, and record what webhooks report about them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Unpack, cast

from django.db import models

from .. import registry
from ..domain.audit import Trigger
from ..exceptions import InvalidExternalId
from ..services.call_arguments import build_audit_context, checked_text
from ..services.reconcile import observed_status, warn_of_lost_payment
from .queryset import InvoiceQuerySet, InvoiceT
from .registrations import InvoiceFields, cleaned_values, id_text
from .typed import async_twin
from .writes.answers import Conflict, given_values, log_conflicts

if TYPE_CHECKING:
    from .invoice import Invoice
    from .typed import TypedManager

    _Manager = TypedManager[InvoiceT, InvoiceQuerySet[InvoiceT]]
else:
    _Manager = models.Manager.from_queryset(InvoiceQuerySet)

OnConflict = Callable[[Conflict], None]


class InvoiceManager(_Manager[InvoiceT]):
    """Registers invoices, and records what webhooks report about them."""

    if TYPE_CHECKING:  # made from the query set

        def as_invoices(self) -> InvoiceQuerySet: ...
        def cancelable(self, *, include_refused: bool = False) -> InvoiceQuerySet[InvoiceT]: ...
        def in_doubt(self) -> InvoiceQuerySet[InvoiceT]: ...
        def abandoned(self) -> InvoiceQuerySet[InvoiceT]: ...
        def due_for_reconciling(self) -> InvoiceQuerySet[InvoiceT]: ...
        def requested(self) -> InvoiceQuerySet[InvoiceT]: ...
        def due_for_canceling(self) -> InvoiceQuerySet[InvoiceT]: ...
        def requested_long_ago(self) -> InvoiceQuerySet[InvoiceT]: ...
        def unpaid_since(self, when: datetime | timedelta) -> InvoiceQuerySet[InvoiceT]: ...
        def paid_after_cancel(self) -> InvoiceQuerySet[InvoiceT]: ...
        def contradicted(self) -> InvoiceQuerySet[InvoiceT]: ...
        def needing_attention(self) -> InvoiceQuerySet[InvoiceT]: ...

    def register(
        self,
        *,
        provider: str,
        external_id: str | int,
        actor: Any = None,
        trigger: str = Trigger.API,
        on_conflict: OnConflict | None = None,
        **fields: Unpack[InvoiceFields],
    ) -> tuple[InvoiceT, bool]:
        """Register an invoice that exists at the provider. Idempotent.

        If the invoice is registered already, only its empty fields are filled in: reference, amount, currency and
        times. The manager of a child class of ``Invoice`` also inserts the row of the child.

        Args:
            provider: The alias in ``PROVIDERS``.
            external_id: The provider's id of the invoice. A whole number is converted to its decimal text.
            actor: A user, a label, or None. It is logged if the invoice is new and its status is not ``created``.
            trigger: The entry point that is logged with it.
            on_conflict: Called if given values differ from the stored ones, which are kept. Without it, a WARNING is
                logged.
            **fields: ``reference``, ``amount`` (str, int or Decimal), ``currency``, ``issued_at``, ``expires_at``,
                ``status``, and the fields that a child class adds.

        Returns:
            ``(invoice, created)``. For a child class, ``created`` is True if the row of the child was inserted.

        Raises:
            ValidationError: A value is not valid.
            TypeError: ``actor`` has the wrong type.
        """
        values = {"provider": provider, "external_id": external_id, **fields}
        writer = self.get_queryset()._writer
        invoice, is_new, conflict = writer.register(*self._valid(values), build_audit_context(actor, trigger))
        _report([conflict] if conflict else [], on_conflict)
        return cast("InvoiceT", invoice), is_new

    def register_many(
        self,
        rows: Iterable[Mapping[str, Any]],
        *,
        actor: Any = None,
        trigger: str = Trigger.API,
        on_conflict: OnConflict | None = None,
    ) -> tuple[int, int]:
        """Register many invoices in one transaction. If a row is invalid, no invoice is registered.

        Args:
            rows: Mappings with ``provider``, ``external_id`` and the ``fields`` of ``register``.
            actor: A user, a label, or None. It is logged as in ``register``.
            trigger: The entry point that is logged with it.
            on_conflict: Called for each invoice whose stored values differ from the given ones. Without it, one WARNING
                is logged for all of them.

        Returns:
            The number of new invoices, and the number of the other rows, whose invoices were registered already.

        Raises:
            ValidationError: A value of a row is not valid.
            TypeError: ``actor`` has the wrong type.
        """
        audit = build_audit_context(actor, trigger)
        invoices = [self._valid(row) for row in rows]
        new, conflicts = self.get_queryset()._writer.register_many(invoices, audit)
        _report(conflicts, on_conflict)
        return new, len(invoices) - new

    def _valid(self, values: Mapping[str, Any]) -> tuple[Invoice, dict[str, Any]]:
        """Return a new instance and the given values without empty ones, or raise ``ValidationError``."""
        cleaned = cleaned_values(values, self.model)
        invoice: Invoice = self.model(**cleaned)
        invoice.full_clean(validate_unique=False, validate_constraints=False)
        return invoice, given_values(invoice, list(cleaned))

    def observe_status(
        self,
        provider: str,
        external_id: str | int,
        status: str | None = None,
        *,
        provider_status: str | None = None,
        trigger: str = Trigger.WEBHOOK,
        actor: Any = None,
        reason: str = "",
    ) -> Invoice | None:
        """Record a status that a webhook reports, without a request. Works inside any transaction.

        Args:
            provider: The alias in ``PROVIDERS``.
            external_id: The provider's id of the invoice. A whole number is converted to its decimal text.
            status: A status of this package.
            provider_status: The provider's status string, in place of ``status``.
            trigger: The entry point that is logged.
            actor: A user, a label, or None. It is logged.
            reason: It is logged.

        Returns:
            The invoice, or None if it is not registered; then a reported payment is logged as a WARNING. The manager of
            a child class returns the child, or an ``Invoice`` if the invoice has no row of the child.

        Raises:
            ValueError: The id is not a string or a whole number, not exactly one of ``status`` and
                ``provider_status`` is given, or no provider can report the status.
            TypeError: ``actor``, ``reason`` or ``provider_status`` has the wrong type.
            ImproperlyConfigured: The alias is not configured.
        """
        if isinstance(external_id, bool) or not isinstance(external_id, str | int):
            raise ValueError(f"external_id must be a string or a whole number, not {type(external_id).__name__}.")
        build_audit_context(actor, trigger, reason)  # raises before the invoice is searched
        account = registry.get_provider(checked_text("provider", provider))
        observed = observed_status(account, status, provider_status)
        writer = self.get_queryset()._writer
        try:
            found = writer.find(account.alias, account.clean_id(id_text(external_id)))
        except InvalidExternalId as error:
            warn_of_lost_payment(account.alias, observed, str(error))
            return None
        invoice = cast("Invoice | None", found)
        if invoice is None:
            warn_of_lost_payment(account.alias, observed, f"{external_id!a} is not registered.")
        else:
            invoice.observe_status(status, provider_status=provider_status, trigger=trigger, actor=actor, reason=reason)
        return invoice

    aregister = async_twin(register)
    aobserve_status = async_twin(observe_status)


def _report(conflicts: Sequence[Conflict], on_conflict: OnConflict | None) -> None:
    if on_conflict is None:
        log_conflicts(conflicts)
        return
    for conflict in conflicts:
        on_conflict(conflict)
