"""New connections wait only one round trip for early bytes: the servers of these tests send none."""

import pytest

from django_invoice_cancel.providers.transport import silence


@pytest.fixture(autouse=True)
def no_minimum_silence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(silence, "MIN_SECONDS", 0.0)
