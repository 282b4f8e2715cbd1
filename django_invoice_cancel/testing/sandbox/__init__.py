"""The provider sandbox: simulates FireKassa and CryptoCloud on real sockets.

It stores the state of each invoice as the provider's status string, so that a test can compare it with the database.
It imports neither Django nor other modules of the app. It is not for production, and listens on 127.0.0.1 only.
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
