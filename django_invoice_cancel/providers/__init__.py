"""Public names for authors of adapters. Each provider has its own module in this package.

The names are imported at their first use, so ``django.setup()`` does not import the HTTP library. No module of this
package imports Django.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ..domain.outcomes import Code as Code
    from ..domain.outcomes import LookupReply as LookupReply
    from ..domain.outcomes import Outcome as Outcome
    from ..domain.outcomes import ProviderReply as ProviderReply
    from ..domain.secrets import Secret as Secret
    from ..domain.statuses import Status as Status
    from ..exceptions import InvalidExternalId as InvalidExternalId
    from ..exceptions import ProviderMisconfigured as ProviderMisconfigured
    from .base import Lease as Lease
    from .base import Provider as Provider
    from .http import HTTPProvider as HTTPProvider
    from .transport import Deadline as Deadline
    from .transport import Exchange as Exchange

_MODULES = {
    "Code": "..domain.outcomes",
    "Deadline": ".transport",
    "Exchange": ".transport",
    "HTTPProvider": ".http",
    "InvalidExternalId": "..exceptions",
    "Lease": ".base",
    "LookupReply": "..domain.outcomes",
    "Outcome": "..domain.outcomes",
    "Provider": ".base",
    "ProviderMisconfigured": "..exceptions",
    "ProviderReply": "..domain.outcomes",
    "Secret": "..domain.secrets",
    "Status": "..domain.statuses",
}
"""The modules that define the public names."""

__all__ = [
    "Code",
    "Deadline",
    "Exchange",
    "HTTPProvider",
    "InvalidExternalId",
    "Lease",
    "LookupReply",
    "Outcome",
    "Provider",
    "ProviderMisconfigured",
    "ProviderReply",
    "Secret",
    "Status",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_MODULES[name], __name__), name)
