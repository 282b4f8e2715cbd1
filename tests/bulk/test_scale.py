"""A run needs the same memory for twenty thousand invoices as for one thousand."""

import gc
import resource
from pathlib import Path

import pytest

from django_invoice_cancel.bulk import cancel_invoices
from tests.bulk.reading import statuses

pytestmark = [pytest.mark.django_db, pytest.mark.slow]


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


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="reads /proc")
def test_memory_is_flat(scripted, make):
    shop = scripted(record=False)
    before = highest_of(make(1000))
    after = highest_of(make(20_000).filter(status="created"))
    assert after - before < 10
    assert (shop.cancel_count, statuses()) == (21_000, {"canceled": 21_000})
