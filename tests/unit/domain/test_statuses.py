"""The transitions between statuses: one table, every source, every pair."""

from itertools import product

import pytest

from django_invoice_cancel.domain.statuses import (
    CLOSED_STATUSES,
    PAID_STATUSES,
    Status,
    TransitionSource,
    check_move,
    has_payment,
    may_move,
)
from django_invoice_cancel.exceptions import IllegalMove

STATUSES = (
    "created", "canceling", "in_doubt", "canceled", "partially_paid", "paid", "overpaid", "expired", "failed",
)  # fmt: skip
SOURCES = ("claim", "record", "late_record", "abandon", "observe", "lookup", "resolve")
FINAL = "canceled expired failed partially_paid paid overpaid"
PAID = "partially_paid paid overpaid"

ALLOWED = {
    ("claim", "created"): "canceling",
    ("claim", "in_doubt"): "canceling",
    ("record", "canceling"): f"{FINAL} in_doubt created",
    ("late_record", "created"): f"{FINAL} in_doubt",
    ("late_record", "in_doubt"): FINAL,
    ("abandon", "canceling"): "in_doubt",
    ("observe", "created"): FINAL,
    ("observe", "canceling"): FINAL,
    ("observe", "in_doubt"): FINAL,
    ("observe", "canceled"): PAID,
    ("observe", "expired"): PAID,
    ("observe", "failed"): PAID,
    ("observe", "partially_paid"): "paid overpaid",
    ("observe", "paid"): "overpaid",
    ("lookup", "in_doubt"): "created",
    ("resolve", "created"): FINAL,
    ("resolve", "in_doubt"): f"{FINAL} created",
    ("resolve", "canceled"): f"created expired failed {PAID}",
    ("resolve", "expired"): f"created canceled failed {PAID}",
    ("resolve", "failed"): f"created canceled expired {PAID}",
}
"""The permitted transitions, by source and status. All others are refused."""


@pytest.mark.parametrize("source", SOURCES)
def test_source_makes_exactly_the_transitions_of_the_table(source):
    for old, new in product(STATUSES, STATUSES):
        is_permitted = new in ALLOWED.get((source, old), "").split()
        assert may_move(TransitionSource(source), Status(old), Status(new)) is is_permitted, f"{old} to {new}"


def test_table_has_every_source_and_status():
    assert sorted(SOURCES) == sorted(TransitionSource)
    assert sorted(STATUSES) == sorted(Status)


@pytest.mark.parametrize("source", SOURCES)
def test_transition_that_is_not_in_the_table_raises_an_error(source):
    for old, new in product(STATUSES, STATUSES):
        if new in ALLOWED.get((source, old), "").split():
            check_move(TransitionSource(source), Status(old), Status(new))
        else:
            message = f"{source} may not change the status of an invoice from {old} to {new}"
            with pytest.raises(IllegalMove, match=message):
                check_move(TransitionSource(source), Status(old), Status(new))


@pytest.mark.parametrize("status", STATUSES)
def test_paid_and_closed_statuses_are_distinct(status):
    assert has_payment(status) is (status in PAID.split())
    assert (Status(status) in CLOSED_STATUSES) is (status in ("canceled", "expired", "failed"))


def test_paid_statuses_are_in_the_order_of_their_amounts():
    assert PAID_STATUSES == ("partially_paid", "paid", "overpaid")
