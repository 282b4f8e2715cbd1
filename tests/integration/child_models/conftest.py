"""A scripted account for the tests of child classes."""

from typing import Any

import pytest

from django_invoice_cancel.testing import ScriptedProvider

SCRIPTED = "django_invoice_cancel.testing.ScriptedProvider"


@pytest.fixture
def account(settings: Any) -> ScriptedProvider:
    """The scripted account ``shop``, which cancels every open invoice."""
    settings.INVOICE_CANCEL = {"PROVIDERS": {"shop": {"BACKEND": SCRIPTED, "OPTIONS": {}}}}
    return ScriptedProvider.of("shop")
