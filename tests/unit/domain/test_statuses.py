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
MOVERS = ("claim", "record", "late_record", "abandon", "observe", "lookup", "resolve")
ENDS = "canceled expired failed partially_paid paid overpaid"
SOME_MONEY = "partially_paid paid overpaid"

ALLOWED = {
    ("claim", "created"): "canceling",
    ("claim", "in_doubt"): "canceling",
    ("record", "canceling"): f"{ENDS} in_doubt created",
    ("late_record", "created"): f"{ENDS} in_doubt",
    ("late_record", "in_doubt"): ENDS,
    ("abandon", "canceling"): "in_doubt",
    ("observe", "created"): ENDS,
    ("observe", "canceling"): ENDS,
    ("observe", "in_doubt"): ENDS,
    ("observe", "canceled"): SOME_MONEY,
    ("observe", "expired"): SOME_MONEY,
    ("observe", "failed"): SOME_MONEY,
    ("observe", "partially_paid"): "paid overpaid",
    ("observe", "paid"): "overpaid",
    ("lookup", "in_doubt"): "created",
    ("resolve", "created"): ENDS,
    ("resolve", "in_doubt"): f"{ENDS} created",
    ("resolve", "canceled"): f"created expired failed {SOME_MONEY}",
    ("resolve", "expired"): f"created canceled failed {SOME_MONEY}",
    ("resolve", "failed"): f"created canceled expired {SOME_MONEY}",
}
"""Who may move an invoice from where to where; what is not here may not."""


@pytest.mark.parametrize(("mover", "old", "new"), list(product(MOVERS, STATUSES, STATUSES)))
def test_a_move_exists_exactly_if_it_is_in_the_table(mover, old, new):
    expected = new in ALLOWED.get((mover, old), "").split()
    assert may_move(TransitionSource(mover), Status(old), Status(new)) is expected


def test_the_table_above_names_every_mover_and_status():
    assert sorted(MOVERS) == sorted(TransitionSource)
    assert sorted(STATUSES) == sorted(Status)


def test_a_move_that_is_not_in_the_table_raises_in_the_story():
    with pytest.raises(IllegalMove, match="record may not move an invoice from paid to canceled"):
        check_move(TransitionSource.RECORD, Status.PAID, Status.CANCELED)


def test_a_move_in_the_table_does_not_raise():
    assert check_move(TransitionSource.CLAIM, Status.CREATED, Status.CANCELING) is None


@pytest.mark.parametrize("status", STATUSES)
def test_money_and_closed_are_told_apart(status):
    assert has_payment(status) is (status in SOME_MONEY.split())
    assert (Status(status) in CLOSED_STATUSES) is (status in ("canceled", "expired", "failed"))


def test_money_grows_in_this_order():
    assert PAID_STATUSES == ("partially_paid", "paid", "overpaid")
