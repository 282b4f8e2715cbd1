"""Use the installed wheel as a new user does: create a project, add two settings, migrate, and cancel one invoice.

It runs in an empty directory, in an environment that contains only the wheel and its requirements.
"""

import os
import subprocess
import sys
from pathlib import Path

SETTINGS = """
INSTALLED_APPS += ["django_invoice_cancel"]
INVOICE_CANCEL = {
    "PROVIDERS": {
        "scripted": {"BACKEND": "django_invoice_cancel.testing.ScriptedProvider"},
        "cryptocloud": {
            "BACKEND": "django_invoice_cancel.providers.cryptocloud.CryptoCloud",
            "OPTIONS": {"api_key": "invented"},
        },
        "firekassa": {
            "BACKEND": "django_invoice_cancel.providers.firekassa.FireKassa",
            "OPTIONS": {"base_url": "https://firekassa.invalid", "api_token": "invented"},
        },
    },
}
"""


def main() -> None:
    run("-m", "django", "startproject", "shop", ".")
    with Path("shop/settings.py").open("a") as settings:
        settings.write(SETTINGS)
    run("manage.py", "check")
    run("manage.py", "migrate", "--verbosity", "0")
    cancel_one()


def run(*arguments: str) -> None:
    subprocess.run([sys.executable, "-W", "error", *arguments], check=True)


def cancel_one() -> None:
    import django

    os.environ["DJANGO_SETTINGS_MODULE"] = "shop.settings"
    sys.path.insert(0, str(Path.cwd()))
    django.setup()

    from django_invoice_cancel import __file__ as installed
    from django_invoice_cancel.models import Invoice

    invoice, created = Invoice.objects.register(provider="scripted", external_id="smoke-1", reference="order-1")
    result = invoice.cancel(reason="test of the wheel")
    rows = [(row.from_status, row.to_status) for row in invoice.transitions.order_by("pk")]
    print(f"{installed}\n{result.outcome}: {rows}")
    if not (created and result.ok and invoice.status == "canceled" and rows):
        sys.exit("the invoice is not canceled")


if __name__ == "__main__":
    main()
