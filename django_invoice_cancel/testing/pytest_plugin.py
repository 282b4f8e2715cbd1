"""The pytest fixture ``scripted_provider``. Not an entry point: enable it where you want it, in your conftest.py.

``pytest_plugins = ["django_invoice_cancel.testing.pytest_plugin"]``. While the fixture lives, no alias leads to a real
provider.
"""

from typing import Any

import pytest

from .. import conf
from .scripted import ScriptedProvider

__all__ = ["scripted_provider"]

BACKEND = "django_invoice_cancel.testing.ScriptedProvider"
MARKER = "scripted_providers"


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers",
        f"{MARKER}(*aliases, **options): which aliases the fixture scripted_provider configures, and their OPTIONS",
    )


@pytest.fixture
def scripted_provider(request: pytest.FixtureRequest, settings: Any) -> ScriptedProvider:
    """Replace all configured providers by scripted ones; return the first, ``ScriptedProvider.of(alias)`` the others.

    ``@pytest.mark.scripted_providers("shop", "kiosk", supports_lookup=False)`` names other aliases, or options. The
    rest of INVOICE_CANCEL stays as it is. Needs pytest-django: its fixture ``settings`` restores what both have set.
    """
    marker = request.node.get_closest_marker(MARKER) or pytest.mark.scripted_providers().mark
    raw = getattr(settings, conf.SETTING, {})
    aliases = marker.args or tuple(raw.get("PROVIDERS", ())) or ("scripted",)
    providers = {alias: {"BACKEND": BACKEND, "OPTIONS": dict(marker.kwargs)} for alias in aliases}
    settings.INVOICE_CANCEL = {**raw, "PROVIDERS": providers, "PROVIDER_RESOLVER": None}
    return ScriptedProvider.of(aliases[0])
