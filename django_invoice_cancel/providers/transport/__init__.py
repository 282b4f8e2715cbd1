"""HTTP to a provider, such that "was it sent?" and "is this the whole answer?" are known and not guessed.

The only package that imports the HTTP library. Nothing of that library leaves it: ``Transport.request`` returns an
``Exchange`` for whatever the network does.
"""

from .attempt import Deadline
from .client import Transport
from .connections import hooks_missing
from .exchange import Exchange, Kind

__all__ = ["Deadline", "Exchange", "Kind", "Transport", "hooks_missing"]
