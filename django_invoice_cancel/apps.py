"""The app configuration. Its label ``invoice_cancel`` is the prefix of tables, permissions and URL names."""

from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _


class InvoiceCancelConfig(AppConfig):
    name = "django_invoice_cancel"
    label = "invoice_cancel"
    verbose_name = _("Invoices at payment providers")
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from . import checks  # noqa: F401 - registers them; needs the models
