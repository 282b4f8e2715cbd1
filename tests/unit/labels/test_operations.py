"""The headline of a report, and whether an invoice of the operation failed."""

import pytest
from django.utils.translation import override

from django_invoice_cancel.labels.operations import describe_report, has_failures

CASES = {
    "all canceled": ("cancel", {("canceled", "canceled"): 2, ("already_canceled", ""): 1}, "3 canceled.", False),
    "paid before": (
        "cancel",
        {("canceled", "canceled"): 3, ("skipped", "has_payment"): 2},
        "3 canceled; 2 left alone: payment received.",
        False,
    ),
    "paid at the provider": (
        "cancel",
        {("canceled", "canceled"): 3, ("refused", "has_payment"): 1, ("skipped", "has_payment"): 1},
        "3 canceled; 2 left alone: payment received.",
        False,
    ),
    "several reasons": (
        "cancel",
        {("canceled", "canceled"): 1_000, ("skipped", "in_doubt"): 1, ("skipped", "has_payment"): 2},
        "1,000 canceled; 3 left alone: 2 with payments, 1 in doubt.",
        False,
    ),
    "failures": (
        "cancel",
        {
            ("canceled", "canceled"): 1,
            ("refused", "not_found"): 2,
            ("in_doubt", "no_answer"): 3,
            ("not_processed", "unreachable"): 4,
            ("", ""): 5,
        },
        "1 canceled; 2 refused; 3 in doubt; 4 not processed; 5 not tried.",
        True,
    ),
    "paused": (
        "cancel",
        {("skipped", "provider_paused"): 2},
        "0 canceled; 2 left alone: 2 at paused providers.",
        True,
    ),
    "checked": (
        "check",
        {("canceled", ""): 1, ("refused", "has_payment"): 1, ("not_processed", "still_open"): 1},
        "3 checked.",
        False,
    ),
    "checked, in doubt": ("check", {("in_doubt", "no_answer"): 1}, "1 checked; 1 still in doubt.", True),
    "resolved": (
        "resolve",
        {("canceled", "resolved"): 2, ("skipped", "not_in_doubt"): 1},
        "2 resolved; 1 left alone: not in doubt.",
        False,
    ),
}


@pytest.mark.parametrize(("kind", "counts", "headline", "failed"), CASES.values(), ids=CASES)
def test_headline_names_what_happened(kind, counts, headline, failed):
    assert describe_report(kind, counts) == headline
    assert has_failures(kind, counts) is failed


def test_headline_in_russian():
    counts = {("canceled", "canceled"): 3, ("skipped", "has_payment"): 2}
    with override("ru"):
        assert describe_report("cancel", counts) == "Отменено: 3; без изменений: 2 (есть оплата)."
