"""The memory use of a run does not depend on the number of invoices. (``benchmarks/scale.py`` uses 200,000.)"""

import gc
import resource
from pathlib import Path

import pytest

from django_invoice_cancel.bulk import cancel_invoices
from django_invoice_cancel.domain.outcomes import CancelResult
from django_invoice_cancel.models import Invoice
from tests.support.invoices import count_statuses

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.slow]  # a test case would keep each signal


def resident_mb():
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 1e6


def highest_of(invoices):
    highest = 0.0
    for number, result in enumerate(cancel_invoices(invoices)):
        assert result.ok
        if number % 1000 == 999:
            highest = max(highest, resident_mb())
    return highest


def count_kept():
    """Count the invoices and results that are in memory."""
    gc.collect()
    return sum(isinstance(each, Invoice | CancelResult) for each in gc.get_objects())


def test_memory_holds_at_most_a_page_and_a_window(scripted, make):
    """Counts objects, because the memory measured below would not show half a kilobyte for each invoice."""
    shop, invoices = scripted(record=False), make(2000)
    before = count_kept()  # pytest keeps the log records of earlier tests, with the frames of their exceptions
    kept = [count_kept() - before for number, _ in enumerate(cancel_invoices(invoices)) if number % 500 == 499]
    assert len(kept) == 4
    assert max(kept) < 1000  # with each result kept, 2,000 and more
    assert shop.cancel_count == 2000
    assert count_statuses() == {"canceled": 2000}


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="reads /proc")
def test_memory_does_not_grow_with_the_number_of_invoices(scripted, make):
    shop = scripted(record=False)
    for _ in range(14):
        invoices = make(500)
    before = highest_of(invoices.filter(external_id__lt="001000"))
    after = highest_of(invoices.filter(status="created"))
    assert after - before < 5
    assert shop.cancel_count == 7000
    assert count_statuses() == {"canceled": 7000}
