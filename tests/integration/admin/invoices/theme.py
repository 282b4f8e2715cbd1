"""``python -m tests.integration.admin.invoices.theme unfold``: print the invoice pages in an admin theme.

The output is JSON: page -> [HTTP status, the expected texts or the text found instead].
"""

import json
import sys
import tempfile
from typing import Any

import django
from django.conf import settings
from django.core.management import call_command


def configure(theme: str, database: str) -> None:
    from tests import settings as plain

    names = {name: getattr(plain, name) for name in dir(plain) if name.isupper()}
    names["DATABASES"] = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": database}}
    names["INSTALLED_APPS"] = [theme, *plain.INSTALLED_APPS]
    names["INVOICE_CANCEL"] = {
        "PROVIDERS": {"shop": {"BACKEND": "django_invoice_cancel.testing.ScriptedProvider", "OPTIONS": {}}}
    }
    settings.configure(**names)
    django.setup()


def register_with_theme() -> None:
    """Register the admins as a host with django-unfold would: on top of its ModelAdmin."""
    from django.contrib import admin
    from unfold.admin import ModelAdmin

    from django_invoice_cancel.admin import BulkOperationAdmin, InvoiceAdmin
    from django_invoice_cancel.models import BulkOperation, Invoice

    for model, ours in ((Invoice, InvoiceAdmin), (BulkOperation, BulkOperationAdmin)):
        if admin.site.is_registered(model):
            admin.site.unregister(model)
        admin.site.register(model, type(f"Themed{ours.__name__}", (ours, ModelAdmin), {}))


def seen() -> dict[str, Any]:
    from django.contrib.auth.models import User
    from django.test import Client

    from django_invoice_cancel.testing import ScriptedProvider, make_invoice
    from tests.support.invoice_pages import changelist_url, invoice_url

    client, invoice = Client(), make_invoice("in_doubt", external_id="A-17")
    client.force_login(User.objects.create_superuser("ada"))

    def look(address: str, words: str) -> list[Any]:
        response = client.get(address)
        body = response.content.decode()
        return [response.status_code, words if words in body else body]

    found = {
        "list": look(changelist_url(), "1 in doubt (0 min)"),
        "change": look(invoice_url(invoice), "it may or may not be canceled."),
        "history": look(invoice_url(invoice, "history"), "cancellation started"),
        "add": look(f"{changelist_url()}add/", "external_id"),
        "cancel": look(invoice_url(invoice, "cancel"), "Take me back"),
        "resolve": look(invoice_url(invoice, "resolve"), "Status in the provider&#x27;s dashboard"),
    }
    ScriptedProvider.of("shop").set_status("A-17", "canceled")
    status = client.post(invoice_url(invoice, "check")).status_code
    invoice.refresh_from_db()
    return found | {"check": [status, invoice.status]}


if __name__ == "__main__":
    with tempfile.NamedTemporaryFile(suffix=".sqlite3") as file:
        configure(sys.argv[1], file.name)
        call_command("migrate", verbosity=0)
        if sys.argv[1] == "unfold":
            register_with_theme()
        sys.stdout.write(json.dumps(seen()))
