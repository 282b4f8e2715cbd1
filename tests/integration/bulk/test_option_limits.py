"""An invalid limit, concurrency or rate is rejected and named before any invoice is claimed."""

from decimal import Decimal

import pytest
from django.core.management import call_command
from django.core.management.base import CommandError

from django_invoice_cancel import operations
from django_invoice_cancel.bulk import cancel_invoices, reconcile_invoices
from django_invoice_cancel.models import BulkOperation, ProviderState
from django_invoice_cancel.operations import advance
from tests.support.invoices import count_statuses
from tests.support.logs import count_invoices_by_log_rows

pytestmark = pytest.mark.django_db

NO_NUMBERS = [True, False, "3", b"3", [3], Decimal(3), float("nan"), float("inf"), float("-inf"), -1, 10**5000]
BAD = {
    "limit": [*NO_NUMBERS, 1.0, 1e300, 10**9 + 1, 2**63],
    "concurrency": [*NO_NUMBERS, 0, 1.5, 1e300, 1001, 2**63],
    "rate": [*NO_NUMBERS, 0, 0.0, -0.5, 1e-320, 1e-6, 0.00099, 1000.1, 1e300],
}
CASES = [
    pytest.param(name, value, id=f"{name} {type(value).__name__} {number}")
    for name, values in BAD.items()
    for number, value in enumerate(values)
]


@pytest.mark.parametrize(("name", "value"), CASES)
def test_invalid_value_is_rejected_before_any_claim(shop, make, name, value):
    invoices = make(3)
    kind = "number of requests a second" if name == "rate" else "whole number"
    with pytest.raises(ValueError, match=rf"^{name} must be a {kind} from .+ to \d+, not .{{1,50}}\.$"):
        cancel_invoices(invoices, **{name: value})
    assert shop.cancel_count == 0
    assert count_statuses() == {"created": 3}
    assert count_invoices_by_log_rows() == {}
    assert not ProviderState.objects.exists()


def type_name(value):
    return type(value).__name__


@pytest.mark.parametrize("value", BAD["limit"], ids=type_name)
def test_invalid_limit_of_a_reconciliation_is_rejected(shop, make, value):
    invoices = make(3)
    with pytest.raises(ValueError, match=r"^limit must be a whole number"):
        reconcile_invoices(invoices, limit=value)
    with pytest.raises(ValueError, match=r"^limit must be a whole number"):
        invoices.cancel(limit=value)
    assert shop.lookup_count == 0
    assert shop.cancel_count == 0


@pytest.mark.parametrize(
    "bounds",
    [{"limit": 0}, {"limit": 10**9}, {"concurrency": 1000}, {"rate": 1000}, {"rate": 1000.0}, {"rate": 0.001}],
    ids=str,
)
def test_largest_and_smallest_values_are_accepted(shop, make, bounds):
    results = list(cancel_invoices(make(1), **bounds))
    expected = 0 if bounds.get("limit") == 0 else 1
    assert len(results) == expected
    assert shop.cancel_count == expected


@pytest.mark.parametrize("value", [0.0009, 1e-320, float("nan"), float("inf"), 1e300, True, "fast"])
def test_command_names_an_invalid_rate(shop, make, value):
    make(3)
    with pytest.raises(CommandError, match="rate"):
        call_command("cancel_invoices", all=True, noinput=True, rate=value)
    assert shop.cancel_count == 0
    assert count_invoices_by_log_rows() == {}


@pytest.mark.parametrize("value", [0, -1, True, 1.5, "3", 1001, 2**63, 10**5000], ids=type_name)
def test_invalid_number_of_workers_is_rejected(shop, make, value):
    invoices = make(3)
    with pytest.raises(ValueError, match=r"^workers must be a whole number from 1 to 1000, not "):
        operations.start(invoices, workers=value)
    assert not BulkOperation.objects.exists()


@pytest.mark.parametrize("value", [-1.0, float("nan"), float("inf"), 1e300, 10**5000, True, "5"], ids=type_name)
def test_invalid_deadline_of_a_slice_is_rejected(shop, make, value):
    operation = operations.start(make(3), actor="Ada")
    with pytest.raises(ValueError, match=r"^deadline must be a number of seconds from 0 to 86400, not "):
        advance(operation.pk, deadline=value)
    assert shop.cancel_count == 0
    assert count_statuses() == {"created": 3}
    assert operation.items.left().count() == 3
