"""Addresses of the pages of an operation, and the requests of their script."""

from typing import Any

from django.test import Client
from django.urls import reverse

from django_invoice_cancel.models import BulkOperation


def operation_url(operation: BulkOperation, name: str = "operation", site: str = "admin") -> str:
    return reverse(f"{site}:invoice_cancel_bulkoperation_{name}", args=[operation.pk])


def run_slice(client: Client, operation: BulkOperation) -> dict[str, Any]:
    """Run a slice as the script of the page that has the operation's key does."""
    headers = {"accept": "application/json", **key_header(operation)}
    return client.post(operation_url(operation, "run"), headers=headers).json()


def poll_progress(client: Client, operation: BulkOperation) -> dict[str, Any]:
    """Read the progress as the script of a page without the operation's key does."""
    return client.get(operation_url(operation), {"format": "json"}).json()


def key_header(operation: BulkOperation) -> dict[str, str]:
    """Return the header with the key that the response to the confirmation or to Continue contained."""
    operation.refresh_from_db(fields=["page_key"])
    return {"x-operation-key": str(operation.page_key)} if operation.page_key else {}


def click_run(client: Client, operation: BulkOperation, site: str = "admin") -> Any:
    """Run a slice as a user without JavaScript does on the page that has the operation's key."""
    operation.refresh_from_db(fields=["page_key"])
    return client.post(operation_url(operation, "run", site), {"page_key": str(operation.page_key or "")})


def continue_and_run(client: Client, operation: BulkOperation, site: str = "admin") -> Any:
    """Continue an operation, and run a slice on the page that this returns."""
    client.post(operation_url(operation, "continue", site))
    return click_run(client, operation, site)
