"""The manager of invoices: register them, and record what webhooks report about them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from asgiref.sync import sync_to_async
from django.db import models

from .. import registry, services
from ..exceptions import InvalidExternalId
from ..intents import Intent, Trigger
from .queryset import InvoiceQuerySet
from .registrations import cleaned_values, id_text
from .verbs import InvoiceVerbs
from .verbs.merging import Conflict, given_values, log_conflicts

if TYPE_CHECKING:
    from .invoice import Invoice

OnConflict = Callable[[Conflict], None]


class InvoiceManager(models.Manager.from_queryset(InvoiceQuerySet)):  # type: ignore[misc]
    """Registers invoices, and records what webhooks report about them."""

    def register(
        self,
        *,
        provider: str,
        external_id: str | int,
        actor: Any = None,
        trigger: str = Trigger.API,
        on_conflict: OnConflict | None = None,
        **fields: Any,
    ) -> tuple[Invoice, bool]:
        """Register an invoice that exists at the provider; return ``(invoice, created)``.

        Idempotent. Of an invoice that is registered, an empty reference, amount, currency and time are filled in;
        nothing else changes. Given values that differ are reported to ``on_conflict``, or logged as a WARNING. Through
        a child class of ``Invoice`` the child's row is inserted too, and ``created`` is True if it was, whether the
        invoice was registered before or not.

        ``fields``: reference, amount (str or Decimal), currency, issued_at, expires_at, status, and the fields that a
        child class adds. Raises ``ValidationError`` for a value that is not acceptable.
        """
        values = {"provider": provider, "external_id": external_id, **fields}
        verbs: InvoiceVerbs = self.get_queryset().verbs
        invoice, is_new, conflict = verbs.register(*self._valid(values), Intent(actor, Trigger(trigger)))
        _report([conflict] if conflict else [], on_conflict)
        return invoice, is_new

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
        invoices = [self._valid(row) for row in rows]
        new, conflicts = self.get_queryset().verbs.register_many(invoices, Intent(actor, Trigger(trigger)))
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
        account = registry.get_provider(provider)
        observed = services.observed_status(account, status, provider_status)
        verbs: InvoiceVerbs = self.get_queryset().verbs
        try:
            invoice = verbs.find(provider, account.clean_id(id_text(external_id)))
        except InvalidExternalId as error:
            services.warn_of_lost_payment(account.alias, observed, str(error))
            return None
        if invoice is None:
            services.warn_of_lost_payment(account.alias, observed, f"{external_id!a} is not registered.")
        else:
            invoice.observe_status(status, provider_status=provider_status, trigger=trigger, actor=actor, reason=reason)
        return invoice

    async def aregister(self, **kwargs: Any) -> tuple[Invoice, bool]:
        return await sync_to_async(self.register)(**kwargs)

    async def aobserve_status(self, *args: Any, **kwargs: Any) -> Invoice | None:
        return await sync_to_async(self.observe_status)(*args, **kwargs)


def _report(conflicts: Sequence[Conflict], on_conflict: OnConflict | None) -> None:
    if on_conflict is None:
        log_conflicts(conflicts)
        return
    for conflict in conflicts:
        on_conflict(conflict)
