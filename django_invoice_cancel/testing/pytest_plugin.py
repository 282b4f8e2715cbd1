"""The pytest fixture ``scripted_provider``. It is not an entry point: a project enables it in its conftest.py.

``pytest_plugins = ["django_invoice_cancel.testing.pytest_plugin"]``. While the fixture is active, no alias leads to a
real provider.
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
    """Replace all configured providers with scripted ones.

    ``@pytest.mark.scripted_providers("shop", "kiosk", supports_lookup=False)`` sets other aliases or options. The
    other settings of INVOICE_CANCEL are kept. Requires pytest-django: its ``settings`` fixture restores the settings.

    Returns:
        The provider of the first alias. Use ``ScriptedProvider.of(alias)`` for the others.
    """
    marker = request.node.get_closest_marker(MARKER) or pytest.mark.scripted_providers().mark
    raw = getattr(settings, conf.SETTING, {})
    aliases = marker.args or tuple(raw.get("PROVIDERS", ())) or ("scripted",)
    providers = {alias: {"BACKEND": BACKEND, "OPTIONS": dict(marker.kwargs)} for alias in aliases}
    settings.INVOICE_CANCEL = {**raw, "PROVIDERS": providers, "PROVIDER_RESOLVER": None}
    return ScriptedProvider.of(aliases[0])
