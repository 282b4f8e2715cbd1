"""Pause a provider, as its answers do."""

from typing import Any

from django_invoice_cancel.models import Invoice


def pause_provider(alias: str, code: str = "bad_credentials", seconds: float = 300, **options: Any) -> None:
    """Pause the requests to a provider. The options are those of the writer, such as ``retry_after``."""
    Invoice.objects.all()._writer.pause(alias, code, seconds, **options)
