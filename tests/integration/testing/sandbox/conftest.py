"""A sandbox for every test, with short delays."""

import pytest

from django_invoice_cancel.testing.sandbox import ProviderSandbox


@pytest.fixture
def sandbox():
    with ProviderSandbox(late_seconds=1.0, slow_seconds=0.05, drip_seconds=0.0005) as running:
        yield running


@pytest.fixture(params=["firekassa", "cryptocloud"])
def dialect(request):
    return request.param
