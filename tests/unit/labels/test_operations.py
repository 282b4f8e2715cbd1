"""The number of invoices with the intended result, by the kind of the operation."""

import pytest

from django_invoice_cancel.labels.operations import count_successes

COUNTS = {
    "canceled": 1,
    "already_canceled": 2,
    "refused": 4,
    "not_processed": 8,
    "in_doubt": 16,
    "skipped": 32,
    "": 64,
}
"""Each count is a different bit, so that a sum shows which outcomes it contains. Untried items have no outcome."""


@pytest.mark.parametrize(
    ("kind", "expected"),
    [("cancel", 1 + 2), ("check", 1 + 2 + 4 + 8), ("resolve", 1 + 2 + 4 + 8 + 16)],
    ids=["cancel: confirmed", "check: status known", "resolve: decided"],
)
def test_only_invoices_with_the_intended_result_are_successes(kind: str, expected: int) -> None:
    assert count_successes(kind, COUNTS) == expected
