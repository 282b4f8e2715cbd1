"""Addresses of the pages of an operation, and the requests of their script."""

from typing import Any

from django.test import Client
from django.urls import reverse

from django_invoice_cancel.models import BulkOperation


def operation_url(operation: BulkOperation, name: str = "operation", site: str = "admin") -> str:
    return reverse(f"{site}:invoice_cancel_bulkoperation_{name}", args=[operation.pk])


def run_slice(client: Client, operation: BulkOperation) -> dict[str, Any]:
    """Run a slice as the page's script does."""
    return client.post(operation_url(operation, "run"), headers={"accept": "application/json"}).json()


def poll_progress(client: Client, operation: BulkOperation) -> dict[str, Any]:
    """Read the progress as the page's script does."""
    return client.get(operation_url(operation), {"format": "json"}).json()
