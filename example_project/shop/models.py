"""Orders. As in many shops, a column for each provider contains the id of the order's invoice there.

The state of an order follows its invoices (see ``receivers``). Requests to providers are sent after the commit only.
"""

from collections.abc import Collection
from typing import Any

from django.conf import settings
from django.db import models
from django.urls import reverse
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from django_invoice_cancel.models import Invoice

PROVIDER_NAMES = {"cryptocloud": "CryptoCloud", "firekassa": "FireKassa"}


class Order(models.Model):
    """An order of a customer. It has an invoice at each provider that the customer chose; without one, it is cash."""

    class State(models.TextChoices):
        OPEN = "open", _("Awaiting payment")
        PARTIALLY_PAID = "partially_paid", _("Partially paid")
        PAID = "paid", _("Paid")
        EXPIRED = "expired", _("Expired")
        FAILED = "failed", _("Payment failed")
        CANCELED = "canceled", _("Canceled")

    FINAL_STATES = (State.PAID, State.CANCELED)
    CLOSED = (State.CANCELED, State.EXPIRED, State.FAILED)

    customer = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="orders", verbose_name=_("customer")
    )
    number = models.CharField(_("number"), max_length=20, unique=True)
    title = models.CharField(_("item"), max_length=100)
    total = models.DecimalField(_("total"), max_digits=12, decimal_places=2)
    currency = models.CharField(_("currency"), max_length=3, default="USD")
    state = models.CharField(_("state"), max_length=16, choices=State, default=State.OPEN)
    refund_due = models.BooleanField(
        _("refund due"), default=False, help_text=_("A payment arrived that the order does not need.")
    )
    placed_at = models.DateTimeField(_("placed"), default=timezone.now)
    cryptocloud_uuid = models.CharField(_("invoice at CryptoCloud"), max_length=40, blank=True)
    firekassa_invoice_id = models.CharField(_("invoice at FireKassa"), max_length=19, blank=True)
    note = models.CharField(_("note for the staff"), max_length=200, blank=True)

    class Meta:
        verbose_name = _("order")
        verbose_name_plural = _("orders")
        ordering = ("-placed_at", "-number")

    def __str__(self) -> str:
        return _("Order %(number)s") % {"number": self.number}

    def get_absolute_url(self) -> str:
        return reverse("order", args=[self.number])

    @property
    def invoice_ids(self) -> dict[str, str]:
        """The external ids of the order's invoices by provider. Empty for an order that is paid in cash."""
        ids = {"cryptocloud": self.cryptocloud_uuid, "firekassa": self.firekassa_invoice_id}
        return {provider: external_id for provider, external_id in ids.items() if external_id}

    @property
    def invoice_names(self) -> list[str]:
        """The invoices as a customer knows them."""
        return [f"{PROVIDER_NAMES[provider]} {external_id}" for provider, external_id in self.invoice_ids.items()]

    def register_invoice(self, provider: str) -> Invoice:
        """Return the order's invoice at a provider, and register it if necessary.

        Raises:
            ValidationError: The id is not an id of this provider.
        """
        invoice, _created = Invoice.objects.register(
            provider=provider,
            external_id=self.invoice_ids[provider],
            reference=self.number,
            amount=self.total,
            currency=self.currency,
            issued_at=self.placed_at,
        )
        return invoice

    def request_cancel(self, *, actor: Any, reason: str = "") -> bool:
        """Request the cancellation of an open order's invoices. ``receivers`` cancel the order when it is confirmed.

        Returns:
            False if nothing was changed, because the order is no longer open, or is being canceled already.

        Raises:
            ValidationError: The order contains an id that is not an id of its provider. Nothing is requested.
        """
        if self.state != self.State.OPEN:
            return False
        if not self.invoice_ids:
            return bool(Order.objects.filter(pk=self.pk, state=self.State.OPEN).update(state=self.State.CANCELED))
        invoices = [self.register_invoice(provider) for provider in self.invoice_ids]
        requested = [invoice.cancel_on_commit(actor=actor, reason=reason) for invoice in invoices]
        return any(requested)

    def state_from(self, invoices: Collection[Invoice]) -> str:
        """Return the state that follows from all registered invoices. A paid or a canceled order keeps its state."""
        if self.state in self.FINAL_STATES or not invoices:
            return self.state
        # A confirmed cancellation counts, also if the invoice was paid after it.
        ends = {"canceled" if invoice.paid_after_cancel_at else invoice.status for invoice in invoices}
        is_complete = {invoice.provider for invoice in invoices} >= self.invoice_ids.keys()
        if is_complete and ends.issubset(self.CLOSED):
            return next(state for state in self.CLOSED if state in ends)
        statuses = {invoice.status for invoice in invoices}
        if statuses & {"paid", "overpaid"}:
            return self.State.PAID
        return self.State.PARTIALLY_PAID if "partially_paid" in statuses else self.State.OPEN

    def record_refund(self, *, actor: Any) -> None:
        """Record that the payment that the order did not need was returned.

        Raises:
            ResolveNotPossible: More money arrived at the same time.
        """
        for invoice in Invoice.objects.filter(reference=self.number).paid_after_cancel():
            invoice.mark_handled(actor=actor, note="returned the payment", seen=invoice.status)
        Order.objects.filter(pk=self.pk).update(refund_due=False)
