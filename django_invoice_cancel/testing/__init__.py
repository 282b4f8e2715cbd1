"""For tests, yours and ours: nothing in here belongs into production, and nothing of the app imports it.

The names are imported when they are asked for: ``python -m django_invoice_cancel.testing.sandbox`` needs no Django,
and only ``ProviderConformance`` needs pytest.
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

_HOMES = {
    "ProviderConformance": ".conformance",
    "ProviderSandbox": ".sandbox",
    "SandboxProcess": ".sandbox",
    "ScriptedProvider": ".scripted",
    "make_invoice": ".factories",
}

__all__ = ["ProviderConformance", "ProviderSandbox", "SandboxProcess", "ScriptedProvider", "make_invoice"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if name == "ProviderConformance":
        _explain_asserts(f"{__name__}.conformance", f"{__name__}.conformance_stage")
    return getattr(import_module(_HOMES[name], __name__), name)


def _explain_asserts(*modules: str) -> None:
    """Let pytest show the values of a failed assert, as it does in test files: before the import, or not at all."""
    import pytest

    pytest.register_assert_rewrite(*(module for module in modules if module not in sys.modules))
