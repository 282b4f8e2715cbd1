"""The provider sandbox: a stand-in for FireKassa and CryptoCloud that answers on real sockets.

It stores the provider's own truth, in the provider's status strings, so that a test can compare it with the database.
It does not import Django or other modules of the app. It is not for production and listens on 127.0.0.1 only.
"""

from .behaviours import BEHAVIOURS, Behaviour, invoice_id
from .config import SandboxConfig
from .faults import Gate, Step
from .log import LoggedRequest
from .process import SandboxProcess
from .sandbox import ProviderSandbox

__all__ = [
    "BEHAVIOURS",
    "Behaviour",
    "Gate",
    "LoggedRequest",
    "ProviderSandbox",
    "SandboxConfig",
    "SandboxProcess",
    "Step",
    "invoice_id",
]
