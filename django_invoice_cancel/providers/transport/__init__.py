"""HTTP to a provider, with proof whether a request was sent and whether its answer is complete.

The only package that imports the HTTP library. ``Transport.request`` returns an ``Exchange`` for all network errors; no
object of the library leaves the package.
"""

from .attempt import Deadline
from .client import Transport
from .connections import hooks_missing
from .exchange import Exchange, Kind

__all__ = ["Deadline", "Exchange", "Kind", "Transport", "hooks_missing"]
