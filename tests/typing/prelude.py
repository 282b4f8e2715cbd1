"""Names that the Python blocks of the pages use: imports that a page shows once, and a shop's order and request."""

import os
from typing import Any, ClassVar

import pytest
from django.contrib import messages
from django.contrib.auth.models import User
from django.core.mail import mail_managers
from django.db import models, transaction
from django.http import HttpRequest
from django.shortcuts import get_object_or_404, redirect

from django_invoice_cancel.models import Invoice
from django_invoice_cancel.testing import ProviderSandbox

__all__ = [
    "INSTALLED_APPS",
    "Invoice",
    "Order",
    "ProviderSandbox",
    "get_object_or_404",
    "invoice",
    "mail_managers",
    "messages",
    "order",
    "os",
    "postback",
    "pytest",
    "redirect",
    "request",
    "transaction",
]


class Order(models.Model):
    number = models.CharField[str, str](max_length=20)
    cryptocloud_uuid = models.CharField[str, str](max_length=20)
    state = models.CharField[str, str](max_length=20)
    invoice = models.ForeignKey[Invoice, Invoice](Invoice, models.PROTECT)

    objects: ClassVar["models.Manager[Order]"] = models.Manager()

    def __str__(self) -> str:
        return self.number

    def get_absolute_url(self) -> str:
        return f"/orders/{self.number}/"


class AuthenticatedRequest(HttpRequest):
    user: User


INSTALLED_APPS: list[str]
Examplepay: Any  # an adapter that a page shows
invoice: Invoice
order: Order
postback: dict[str, Any]
request: AuthenticatedRequest
