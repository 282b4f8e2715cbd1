"""HTTP requests to a provider. An ``Exchange`` proves whether a request was sent and whether its answer is complete.

This is the only package that imports the HTTP library. ``Transport.request`` returns an ``Exchange`` for all network
errors. No object of the library leaves the package.
"""

from .attempt import Deadline
from .client import Transport
from .connections import hooks_missing
from .exchange import Exchange, Kind

__all__ = ["Deadline", "Exchange", "Kind", "Transport", "hooks_missing"]
