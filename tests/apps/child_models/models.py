"""Models of a project that inherit from ``Invoice``: every kind of inheritance that Django has for a concrete model."""

from django.db import models

from django_invoice_cancel.models import Invoice


class ShopInvoice(Invoice):
    """The usual child: its primary key is the link to the invoice."""

    shop = models.CharField(max_length=20, blank=True, default="")
    added_at = models.DateTimeField(auto_now_add=True)


class GiftInvoice(ShopInvoice):
    """A child of a child."""

    message = models.CharField(max_length=100, blank=True)


class NumberedInvoice(Invoice):
    """A child with a primary key of its own, which differs from the invoice's."""

    number = models.AutoField(primary_key=True)


class ProxyInvoice(Invoice):
    """Another class for the same table."""

    class Meta:
        proxy = True
