"""Orders. As in many shops, a column contains the id of the order's invoice at a provider.

The state of the order follows that of the invoice (see ``receivers``). This module sends no requests to providers.
"""

from django.db import models
from django.urls import reverse
from django.utils import timezone

from django_invoice_cancel.models import Invoice


class Order(models.Model):
    """An order of a customer."""

    class State(models.TextChoices):
        OPEN = "open", "Awaiting payment"
        PAID = "paid", "Paid"
        CANCELED = "canceled", "Canceled"
        LATE_MONEY = "late_money", "Paid after cancellation"

    number = models.CharField(max_length=20, unique=True)
    title = models.CharField(max_length=100)
    total = models.DecimalField(max_digits=12, decimal_places=2)
    currency = models.CharField(max_length=3, default="USD")
    state = models.CharField(max_length=16, choices=State, default=State.OPEN)
    placed_at = models.DateTimeField(default=timezone.now)
    cryptocloud_uuid = models.CharField(max_length=40, blank=True)
    firekassa_invoice_id = models.CharField(max_length=19, blank=True)
    note = models.CharField(max_length=200, blank=True)

    class Meta:
        ordering = ("-placed_at", "-number")

    def __str__(self) -> str:
        return f"Order {self.number}"

    def get_absolute_url(self) -> str:
        return reverse("order", args=[self.number])

    @property
    def invoice_key(self) -> tuple[str, str] | None:
        """Return (provider, external id); None for an order that is paid in cash."""
        if self.cryptocloud_uuid:
            return "cryptocloud", self.cryptocloud_uuid
        if self.firekassa_invoice_id:
            return "firekassa", self.firekassa_invoice_id
        return None

    def register_invoice(self) -> Invoice | None:
        """Return the order's invoice, and register it if necessary; None if the order has no invoice."""
        if self.invoice_key is None:
            return None
        provider, external_id = self.invoice_key
        invoice, _ = Invoice.objects.register(
            provider=provider,
            external_id=external_id,
            reference=self.number,
            amount=self.total,
            currency=self.currency,
            issued_at=self.placed_at,
        )
        return invoice
