"""Checks at the end of a fire test: provider and database agree on every invoice, and each got at most one request."""

from collections import Counter
from typing import Any

from django_invoice_cancel.models import BulkOperation, Invoice, InvoiceTransition
from django_invoice_cancel.testing.sandbox import SandboxProcess

TRUTHS = {
    # the providers' words for what an invoice is, in ours
    "created": "created",
    "canceled": "canceled",
    "paid": "paid",
    "process": "created",
    "cancel": "canceled",
    "success": "paid",
}


def disagreements(sandbox: SandboxProcess) -> dict[str, tuple[str, str]]:
    """Return what we hold and what the provider holds, of each invoice of which they hold different things."""
    truths = sandbox.truths()
    rows = Invoice.objects.values_list("external_id", "status")
    found = {}
    for external_id, status in rows:
        # An invoice that was never asked for is not known there, and open.
        truth = TRUTHS.get(truths.get(external_id, "created"), truths.get(external_id))
        if status != truth:
            found[external_id] = (status, str(truth))
    return found


def requests_each(sandbox: SandboxProcess) -> Counter[int]:
    """Return how many invoices met how many requests to cancel."""
    return Counter(sandbox.summary()["counts"].get("cancel", {}).values())


def executed_each(sandbox: SandboxProcess) -> Counter[int]:
    """Return for how many invoices a cancel changed the truth how many times."""
    return Counter(count for count in sandbox.summary()["executed"].values() if count)


def item_outcomes(operation: BulkOperation) -> Counter[str]:
    return Counter(operation.items.values_list("outcome", flat=True))


def untrue_items(operation: BulkOperation) -> list[Any]:
    """Return items whose outcome is not what the log says of this operation, the first outcome it wrote."""
    said: dict[Any, set[str]] = {}
    rows = InvoiceTransition.objects.filter(operation=operation.pk).exclude(outcome="").exclude(code="given_back")
    for key, outcome in rows.values_list("invoice_id", "outcome"):
        said.setdefault(key, set()).add(outcome)
    items = operation.items.values_list("invoice_id", "outcome", "code")
    return [item for item in items if item[1] not in said.get(item[0], {"in_doubt"})]


def broken_logs() -> list[Any]:
    """Return invoices whose log is no chain from ``created`` to their status."""
    at: dict[Any, str] = {}
    broken = set()
    moves = InvoiceTransition.objects.order_by("id").values_list("invoice_id", "from_status", "to_status")
    for key, old, new in moves.iterator():
        if at.get(key, "created") != old:
            broken.add(key)
        at[key] = new
    ends = Invoice.objects.values_list("pk", "status")
    return sorted(broken | {key for key, status in ends if at.get(key, "created") != status})


def busiest_second(sandbox: SandboxProcess) -> int:
    """Return the most cancels that arrived within any second."""
    times = sorted(seconds for seconds, operation, _ in sandbox.timeline() if operation == "cancel")
    most, first = 0, 0
    for last, seconds in enumerate(times):
        while times[first] <= seconds - 1.0:
            first += 1
        most = max(most, last - first + 1)
    return most


def per_second(sandbox: SandboxProcess) -> float:
    """Return the cancels a second from the first to the last."""
    times = [seconds for seconds, operation, _ in sandbox.timeline() if operation == "cancel"]
    return (len(times) - 1) / (max(times) - min(times))
