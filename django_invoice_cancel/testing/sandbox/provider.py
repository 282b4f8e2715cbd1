"""The state of both providers in one place, and what can be set on it.

Finds out whom a request is for and hands it to an ``Exchange``; decides nothing about invoices itself.
"""

import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from threading import Condition

from .books import Books
from .cryptocloud import CryptoCloudDialect
from .dialect import Dialect, reply_page
from .exchange import Exchange
from .faults import Holds, Scripts
from .firekassa import FireKassaDialect
from .log import Entry, LoggedRequest, RequestLog
from .wire import Line, Reply, Request, render

CREDENTIALS = frozenset({"firekassa_token", "cryptocloud_key", "sign_token"})
"""The knobs that can be set at the start only."""


@dataclass(frozen=True)
class Knobs:
    """What can be set on a sandbox, at its start and while it runs."""

    firekassa_token: str = "sandbox-firekassa-token"  # noqa: S105 - invented, and public
    cryptocloud_key: str = "sandbox-cryptocloud-key"
    sign_token: str | None = None
    """With one, FireKassa demands a right ``Signature``."""
    latency: float | Mapping[str, float] = 0.0
    """Seconds between carrying out and answering; a mapping sets it by dialect."""
    rate: float | None = None
    """Requests a second that each dialect accepts; the rest get 429."""
    down: str = ""
    """``silent``: no request is answered or carried out; ``refuse``: no connection is accepted."""
    late_seconds: float = 3.0
    """How long after its arrival a ``late`` cancel is carried out."""
    slow_seconds: float = 2.0
    """How long a ``slow`` answer takes."""
    drip_seconds: float = 1.0
    """The time between two bytes of a ``drip``."""
    retry_after_seconds: int = 1
    repeat_is_ok: bool = False
    """Whether FireKassa confirms the cancel of an invoice that is canceled already (nobody knows if it does)."""
    keep_requests: bool = True
    """Whether requests are kept whole; without, only their times and counts."""

    def __post_init__(self) -> None:
        if self.down not in ("", "silent", "refuse"):
            raise ValueError(f"down is '', 'silent' or 'refuse', not {self.down!r}.")

    def latency_of(self, dialect: str) -> float:
        """Return the seconds that an answer takes."""
        return self.latency.get(dialect, 0.0) if isinstance(self.latency, Mapping) else self.latency


class Provider:
    """Both providers' state: all that an exchange needs to know."""

    def __init__(self, knobs: Knobs) -> None:
        self.changed = Condition()
        self.knobs: Knobs = knobs
        self.firekassa = FireKassaDialect(knobs.firekassa_token, knobs.sign_token)
        self.cryptocloud = CryptoCloudDialect(knobs.cryptocloud_key)
        dialects: dict[str, Dialect] = {"firekassa": self.firekassa, "cryptocloud": self.cryptocloud}
        self.books = Books(dialects, self.changed)
        self.log = RequestLog(self.changed)
        self.scripts = Scripts(self.changed)
        self.holds = Holds(self.changed)
        self.before_answer: Callable[[LoggedRequest], None] | None = None
        self.base_url = self.elsewhere_url = ""
        self._accepted: dict[str, deque[float]] = {name: deque() for name in dialects}

    def dialect_at(self, path: str) -> Dialect | None:
        """Return who answers at this path."""
        if path.startswith("/api/v2/"):
            return self.firekassa
        return self.cryptocloud if path.startswith("/v2/") else None

    def is_within_rate(self, dialect: Dialect) -> bool:
        """Book a request, or say that the dialect has had enough for this second."""
        if self.knobs.rate is None:
            return True
        now, accepted = time.monotonic(), self._accepted[dialect.name]
        while accepted and accepted[0] <= now - 1:
            accepted.popleft()
        if len(accepted) >= self.knobs.rate:
            return False
        accepted.append(now)
        return True

    def receive(self, request: Request, line: Line) -> None:
        """Begin the exchange of a request that arrived at the provider's port."""
        dialect = self.dialect_at(request.path)
        if dialect is None:
            line.send(render(reply_page(404, b"<h1>404 Not Found</h1>")))
        else:
            Exchange(self, dialect, request, line).arrive()

    def receive_elsewhere(self, request: Request, line: Line) -> None:
        """Note a request that arrived where only a followed redirect leads, and answer as if all were well."""
        self.log.enter(Entry(request, "", "elsewhere", ()), keep=self.knobs.keep_requests)
        line.send(render(Reply(200, b"{}")))
