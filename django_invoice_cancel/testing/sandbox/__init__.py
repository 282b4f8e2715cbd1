"""The provider sandbox: a stand-in for FireKassa and CryptoCloud that answers on real sockets.

It keeps the provider's own truth, in the provider's words, so that a test can compare it with what the app believes.
Imports nothing of Django and nothing of the app. Never for production: it listens on 127.0.0.1 alone.
"""

from .behaviours import BEHAVIOURS, Behaviour, invoice_id
from .exchange import Knobs
from .faults import Held, Step
from .log import LoggedRequest
from .process import SandboxProcess
from .sandbox import ProviderSandbox

__all__ = [
    "BEHAVIOURS",
    "Behaviour",
    "Held",
    "Knobs",
    "LoggedRequest",
    "ProviderSandbox",
    "SandboxProcess",
    "Step",
    "invoice_id",
]
