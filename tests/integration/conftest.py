"""Fixtures that several layers share."""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.vetoes import PATH, RULE, ShopRule


@pytest.fixture
def shop_rule(settings: Any) -> Iterator[ShopRule]:
    """Configure the setting VETO and scripted accounts: ``firekassa`` repeats requests, ``cryptocloud`` looks up."""
    backend = "django_invoice_cancel.testing.ScriptedProvider"
    repeats = {"supports_lookup": False, "is_repeat_harmless": True}
    providers = {
        "firekassa": {"BACKEND": backend, "OPTIONS": repeats},
        "cryptocloud": {"BACKEND": backend, "OPTIONS": {}},
    }
    settings.INVOICE_CANCEL = {"PROVIDERS": providers, "VETO": PATH}
    RULE.reset()
    yield RULE
    RULE.reset()
