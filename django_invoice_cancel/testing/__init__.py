"""Tools for the tests of a project; not for production. No other module of the app imports them.

The names are imported at their first use, so ``python -m django_invoice_cancel.testing.sandbox`` needs no Django, and
only ``ProviderConformance`` needs pytest.
"""

import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .conformance import ProviderConformance as ProviderConformance
    from .factories import make_invoice as make_invoice
    from .sandbox import ProviderSandbox as ProviderSandbox
    from .sandbox import SandboxProcess as SandboxProcess
    from .scripted import ScriptedProvider as ScriptedProvider

_MODULES = {
    "ProviderConformance": ".conformance",
    "ProviderSandbox": ".sandbox",
    "SandboxProcess": ".sandbox",
    "ScriptedProvider": ".scripted",
    "make_invoice": ".factories",
}

__all__ = ["ProviderConformance", "ProviderSandbox", "SandboxProcess", "ScriptedProvider", "make_invoice"]


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if name == "ProviderConformance":
        _rewrite_asserts(f"{__name__}.conformance", f"{__name__}.conformance_base")
    return getattr(import_module(_MODULES[name], __name__), name)


def _rewrite_asserts(*modules: str) -> None:
    """Make pytest rewrite the asserts of modules. This works only before their import."""
    import pytest

    pytest.register_assert_rewrite(*(module for module in modules if module not in sys.modules))
