"""The manager of invoices: register them, and record what webhooks report about them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Unpack, cast

from django.db import models

from .. import registry
from ..domain.audit import Trigger
from ..exceptions import InvalidExternalId
from ..services.call_arguments import checked_text, make_intent
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
        """Register an invoice that exists at the provider; return ``(invoice, created)``.

        Idempotent. Of an invoice that is registered, an empty reference, amount, currency and time are filled in;
        nothing else changes. Given values that differ are reported to ``on_conflict``, or logged as a WARNING. Through
        a child class of ``Invoice`` the child's row is inserted too, and ``created`` is True if it was, whether the
        invoice was registered before or not.

        ``fields``: reference, amount (str or Decimal), currency, issued_at, expires_at, status, and the fields that a
        child class adds. Raises ``ValidationError`` for a value that is not acceptable.
        """
        values = {"provider": provider, "external_id": external_id, **fields}
        writer = self.get_queryset()._writer
        invoice, is_new, conflict = writer.register(*self._valid(values), make_intent(actor, trigger))
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
        """Register many at once; return how many were new and how many were known. All or none: bad rows raise.

        ``rows``: mappings with the arguments of ``register``. ``on_conflict`` is called for each invoice whose stored
        values differ from given ones; without it, one WARNING is logged for all of them.
        """
        intent = make_intent(actor, trigger)
        invoices = [self._valid(row) for row in rows]
        new, conflicts = self.get_queryset()._writer.register_many(invoices, intent)
        _report(conflicts, on_conflict)
        return new, len(invoices) - new

    def _valid(self, values: Mapping[str, Any]) -> tuple[Invoice, dict[str, Any]]:
        """Return a new instance with these values and those that were given, or raise ``ValidationError``."""
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
        """Record a status that a webhook reports, as a status of ours or as the provider's status string.

        ``external_id``: a string, or a whole number, which stands for its decimal text. Returns the invoice, or None
        if there is none with this id; a payment that is lost in this way is logged as a WARNING. Of a child class it
        returns the child; an invoice that is not registered as one is returned as an ``Invoice``. Raises ``ValueError``
        for an id of another type and for a status that cannot be observed.
        """
        if isinstance(external_id, bool) or not isinstance(external_id, str | int):
            raise ValueError(f"external_id must be a string or a whole number, not {type(external_id).__name__}.")
        make_intent(actor, trigger, reason)  # raises before an invoice is looked for
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
