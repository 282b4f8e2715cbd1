"""The log of received requests, either complete or as times and counts.

A request is logged before it is handled, so a test that detects its arrival can count it. ``executed`` is set when
the cancellation is executed.
"""

import time
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from threading import Condition

from .store import OPERATIONS
from .wire import Request


@dataclass(frozen=True)
class LoggedRequest:
    """A request as it reached the provider."""

    time: float
    """Seconds since the epoch."""
    monotonic: float
    """Monotonic time in seconds."""
    dialect: str
    """``firekassa`` or ``cryptocloud``."""
    operation: str
    """``cancel``, ``lookup``, ``list``, ``create``, ``other``; ``elsewhere`` for a request that followed a redirect."""
    method: str
    path: str
    """The path with the query string."""
    headers: Mapping[str, str]
    """The headers, with lower-case names."""
    body: bytes
    external_ids: tuple[str, ...]
    executed: bool
    """Whether the request changed an invoice at the provider."""

    @property
    def external_id(self) -> str:
        """The first id of the request, or an empty string."""
        return self.external_ids[0] if self.external_ids else ""


class LogEntry:
    """A logged request in compact form."""

    __slots__ = ("dialect", "executed", "external_ids", "monotonic", "operation", "request", "time")

    def __init__(self, request: Request, dialect: str, operation: str, external_ids: tuple[str, ...]) -> None:
        self.time, self.monotonic = time.time(), time.monotonic()
        self.request, self.dialect, self.operation, self.external_ids = request, dialect, operation, external_ids
        self.executed = False

    def public(self) -> LoggedRequest:
        """Return the public form."""
        request = self.request
        path = f"{request.path}?{request.query}" if request.query else request.path
        return LoggedRequest(
            self.time,
            self.monotonic,
            self.dialect,
            self.operation,
            request.method,
            path,
            request.headers,
            request.body,
            self.external_ids,
            self.executed,
        )


class RequestLog:
    """All requests since the start or the last reset."""

    def __init__(self, changed: Condition) -> None:
        self._changed = changed
        self.clear()

    def clear(self) -> None:
        """Delete all requests."""
        with self._changed:
            self._entries: list[LogEntry] = []
            self._timeline: list[tuple[float, str, str]] = []
            self._totals: Counter[str] = Counter()
            self._counts: defaultdict[str, Counter[str]] = defaultdict(Counter)

    def enter(self, entry: LogEntry, *, keep: bool) -> None:
        """Log a request: completely if ``keep`` is set, otherwise only its time and counts."""
        with self._changed:
            if keep:
                self._entries.append(entry)
            first = entry.external_ids[0] if entry.external_ids else ""
            self._timeline.append((entry.monotonic, entry.operation, first))
            self._totals[entry.operation] += 1
            counts = self._counts[entry.operation]
            for external_id in entry.external_ids:
                counts[external_id] += 1
            self._changed.notify_all()

    def requests(self) -> list[LoggedRequest]:
        """Return the stored requests, in order of arrival."""
        with self._changed:
            return [entry.public() for entry in self._entries]

    def timeline(self) -> list[tuple[float, str, str]]:
        """Return (monotonic time, operation, first id) of every request, in order of arrival."""
        with self._changed:
            return list(self._timeline)

    def count(self, operation: str, external_id: str | None = None) -> int:
        """Return the number of requests for an operation, of all invoices or of one."""
        if operation not in (*OPERATIONS, "elsewhere"):
            raise ValueError(f"{operation!r} is not an operation. Choose from {', '.join(OPERATIONS)}, elsewhere.")
        with self._changed:
            return self._totals[operation] if external_id is None else self._counts[operation][external_id]

    def summary(self) -> dict[str, dict[str, object]]:
        """Return all counts: ``totals`` by operation, ``counts`` by operation and id."""
        with self._changed:
            return {
                "totals": dict(self._totals),
                "counts": {operation: dict(counts) for operation, counts in self._counts.items()},
            }
