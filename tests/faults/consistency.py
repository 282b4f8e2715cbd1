"""Comparisons of the database with the provider: the statuses, the counts of requests, the log and the rate."""

from collections import Counter
from statistics import median
from typing import Any

from django_invoice_cancel.models import BulkOperation, Invoice, InvoiceTransition
from django_invoice_cancel.testing.sandbox import SandboxProcess

TRUTHS = {
    # the provider's status strings, and the status of the invoice
    "created": "created",
    "canceled": "canceled",
    "paid": "paid",
    "process": "created",
    "cancel": "canceled",
    "success": "paid",
}


def mismatches(sandbox: SandboxProcess) -> dict[str, tuple[str, str]]:
    """Return the stored status and the provider's status of each invoice for which they differ."""
    truths = sandbox.truths()
    rows = Invoice.objects.values_list("external_id", "status")
    found = {}
    for external_id, status in rows:
        # The sandbox does not know an invoice without a request. It is open.
        truth = TRUTHS.get(truths.get(external_id, "created"), truths.get(external_id))
        if status != truth:
            found[external_id] = (status, str(truth))
    return found


def requests_each(sandbox: SandboxProcess) -> Counter[int]:
    """Return the number of invoices by the number of cancel requests."""
    return Counter(sandbox.summary()["counts"].get("cancel", {}).values())


def executed_each(sandbox: SandboxProcess) -> Counter[int]:
    """Return the number of invoices by the number of cancel requests that the provider executed."""
    return Counter(count for count in sandbox.summary()["executed"].values() if count)


def count_item_outcomes(operation: BulkOperation) -> Counter[str]:
    return Counter(operation.items.values_list("outcome", flat=True))


def items_contradicting_log(operation: BulkOperation) -> list[Any]:
    """Return the items whose outcome is not in the log of this operation."""
    logged: dict[Any, set[str]] = {}
    rows = InvoiceTransition.objects.filter(operation=operation.pk).exclude(outcome="").exclude(code="given_back")
    for key, outcome in rows.values_list("invoice_id", "outcome"):
        logged.setdefault(key, set()).add(outcome)
    items = operation.items.values_list("invoice_id", "outcome", "code")
    return [item for item in items if item[1] not in logged.get(item[0], {"in_doubt"})]


def inconsistent_logs() -> list[Any]:
    """Return the invoices whose log is not a chain of transitions from ``created`` to their status."""
    at: dict[Any, str] = {}
    wrong = set()
    moves = InvoiceTransition.objects.order_by("id").values_list("invoice_id", "from_status", "to_status")
    for key, old, new in moves.iterator():
        if at.get(key, "created") != old:
            wrong.add(key)
        at[key] = new
    ends = Invoice.objects.values_list("pk", "status")
    return sorted(wrong | {key for key, status in ends if at.get(key, "created") != status})


def cancel_times(sandbox: SandboxProcess, provider: str | None = None) -> list[float]:
    """Return the times at which cancel requests arrived, in order; those of one provider if it is given."""
    invoices = Invoice.objects.filter(provider=provider) if provider else Invoice.objects.all()
    ids = set(invoices.values_list("external_id", flat=True))
    return sorted(seconds for seconds, operation, first in sandbox.timeline() if operation == "cancel" and first in ids)


def max_per_second(times: list[float]) -> int:
    """Return the highest number of these times within one second."""
    most, first = 0, 0
    for last, seconds in enumerate(times):
        while times[first] <= seconds - 1.0:
            first += 1
        most = max(most, last - first + 1)
    return most


def median_per_second(times: list[float]) -> float:
    """Return the median number of these times in the seconds from the first to the last.

    Unlike the mean, it does not depend on a few seconds in which a busy machine does not run the workers.
    """
    counts = Counter(int(seconds - times[0]) for seconds in times)
    return median(counts[second] for second in range(int(times[-1] - times[0])))
