"""``python -m tests.integration.admin.packages.site guardian``: render the pages of an admin made with another package.

The class is ``class MyAdmin(InvoiceAdmin, TheirAdmin)``, on this app's model and on a proxy of it. The output is JSON:
page -> [HTTP status, the classes and links that were expected and are missing].
"""

import json
import sys
import tempfile
from typing import Any

import django
from django.conf import settings
from django.core.management import call_command
from django.utils.module_loading import import_string

PACKAGES = {
    # name: (its app, its admin class, {page: what its own template adds})
    "guardian": ("guardian", "guardian.admin.GuardedModelAdmin", {"change": "/permissions/"}),
    "simple-history": ("simple_history", "simple_history.admin.SimpleHistoryAdmin", {}),
    "import-export": (
        "import_export",
        "import_export.admin.ImportExportModelAdmin",
        {"list": "/import/"},
    ),
    "reversion": ("reversion", "reversion.admin.VersionAdmin", {"list": "/recover/"}),
}
OURS = {
    "list": ("ic-attention", "1 in doubt"),
    "change": ("ic-summary", "ic-buttons", "/resolve/"),
    "history": ("ic-summary", "ic-timeline"),
}


def configure(app: str, database: str) -> None:
    from tests import settings as plain

    names = {name: getattr(plain, name) for name in dir(plain) if name.isupper()}
    names["DATABASES"] = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": database}}
    names["INSTALLED_APPS"] = [app, *plain.INSTALLED_APPS]
    names["INVOICE_CANCEL"] = {
        "PROVIDERS": {"shop": {"BACKEND": "django_invoice_cancel.testing.ScriptedProvider", "OPTIONS": {}}}
    }
    settings.configure(**names)
    django.setup()


def keep_history() -> None:
    """Prepare both models for django-simple-history, as a project would by ``register`` and a migration."""
    from django.db import connection
    from simple_history import register

    from django_invoice_cancel.models import Invoice
    from tests.apps.child_models.models import ProxyInvoice

    with connection.schema_editor() as editor:
        for model in (Invoice, ProxyInvoice):
            register(model, app="tests.apps.child_models")
            editor.create_model(model.history.model)


def register(their_admin: type[Any]) -> list[str]:
    """Register the combined admin for the model and for its proxy; return the prefixes of their URLs."""
    from django.contrib import admin

    from django_invoice_cancel.admin import InvoiceAdmin
    from django_invoice_cancel.models import Invoice
    from tests.apps.child_models.models import ProxyInvoice

    combined = type("CombinedAdmin", (InvoiceAdmin, their_admin), {})
    for model in (Invoice, ProxyInvoice):
        if admin.site.is_registered(model):
            admin.site.unregister(model)
        admin.site.register(model, combined)
    return [f"/admin/{model._meta.app_label}/{model._meta.model_name}/" for model in (Invoice, ProxyInvoice)]


def render(prefixes: list[str], theirs: dict[str, str]) -> dict[str, Any]:
    from django.contrib.auth.models import User
    from django.test import Client

    from django_invoice_cancel.testing import make_invoice

    client, invoice = Client(), make_invoice("in_doubt", external_id="A-17")
    client.force_login(User.objects.create_superuser("ada"))
    found = {}
    for prefix in prefixes:
        pages = {"list": "", "change": f"{invoice.pk}/change/", "history": f"{invoice.pk}/history/"}
        for page, address in pages.items():
            response = client.get(prefix + address)
            body = response.content.decode()
            wanted = [*OURS[page], *([theirs[page]] if page in theirs else [])]
            found[prefix + page] = [response.status_code, [each for each in wanted if each not in body]]
    return found


if __name__ == "__main__":
    app, admin_class, theirs = PACKAGES[sys.argv[1]]
    with tempfile.NamedTemporaryFile(suffix=".sqlite3") as file:
        configure(app, file.name)
        call_command("migrate", verbosity=0)
        if app == "simple_history":
            keep_history()
        sys.stdout.write(json.dumps(render(register(import_string(admin_class)), theirs)))
