"""The state of one request, shared by the caller, the connection and the watchdog.

An attempt belongs to one thread, which gets it from ``current()``. Only ``expire`` is called from another thread.
After ``release`` the attempt no longer has a socket, so the watchdog never shuts a reused connection down.
"""

from __future__ import annotations

import heapq
import itertools
import os
import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from time import monotonic

from ...domain.processes import PerProcess


class Deadline:
    """The end of the time for one ``cancel`` or ``lookup``.

    Args:
        seconds: Number of seconds from now to the deadline.
    """

    __slots__ = ("at",)

    def __init__(self, seconds: float) -> None:
        self.at = monotonic() + seconds

    def left(self) -> float:
        """Return the remaining seconds; negative after the deadline."""
        return self.at - monotonic()

    def __repr__(self) -> str:
        return f"<Deadline in {self.left():.3f} s>"


class Watchdog:
    """A heap of attempts, ordered by deadline, and a daemon thread that the first attempt starts."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Attempt]] = []
        self._numbers = itertools.count()
        self._wake = threading.Condition(threading.Lock())
        self._thread: threading.Thread | None = None

    def add(self, attempt: Attempt) -> None:
        """Call ``attempt.expire()`` at its deadline."""
        entry = (attempt.deadline.at, next(self._numbers), attempt)
        with self._wake:
            heapq.heappush(self._heap, entry)
            if self._heap[0] is entry:
                self._wake.notify()
            if self._thread is None:
                self._start()

    def _start(self) -> None:
        thread = threading.Thread(target=self._run, name="invoice-cancel-deadlines", daemon=True)
        thread.start()  # may fail; the next attempt tries again
        self._thread = thread

    def _run(self) -> None:
        while True:
            with self._wake:
                attempt = self._next_due()
            attempt.expire()

    def _next_due(self) -> Attempt:
        while True:
            self._drop_released()
            left = self._heap[0][0] - monotonic() if self._heap else None
            if left is not None and left <= 0:
                return heapq.heappop(self._heap)[2]
            self._wake.wait(left)

    def _drop_released(self) -> None:
        # Nearly all attempts end long before their deadline. Without this, the thread would wake up for each of them.
        while self._heap and self._heap[0][2].is_released:
            heapq.heappop(self._heap)


_watchdog = PerProcess(Watchdog)
"""A forked child process needs its own watchdog: it does not inherit the thread of its parent."""


def watch(attempt: Attempt) -> None:
    """Register ``attempt`` with the watchdog of this process, which ends it at its deadline."""
    _watchdog.get().add(attempt)


_here = threading.local()


class LeaseRefused(Exception):
    """The lease was refused before the first byte was sent."""


class DeadlineOver(Exception):
    """The deadline passed before the whole request was sent."""


class LeaseEnded(Exception):
    """The lease was refused after a part of the request was sent. The rest is not sent."""


class SentTwice(Exception):
    """The HTTP library tried to send a request for the second time."""


class OtherProcess(Exception):
    """The parent of this forked process started the request."""


class Attempt:
    """The state of one request. A flag is never cleared after it was set."""

    __slots__ = (
        "_lease",
        "_lock",
        "_pid",
        "_sock",
        "deadline",
        "has_interim_answer",
        "has_second_answer",
        "has_surplus",
        "http_status",
        "is_begun",
        "is_early",
        "is_expired",
        "is_on_used_connection",
        "is_plain",
        "is_real",
        "is_refused",
        "is_released",
        "is_sent",
        "is_tracked",
        "is_whole",
        "may_reuse",
    )

    def __init__(
        self, deadline: Deadline, lease: Callable[[float], bool] | None = None, *, may_reuse: bool = True
    ) -> None:
        self.deadline = deadline
        self.may_reuse = may_reuse
        """The connection may serve another request after a plain exchange."""
        self._lease = lease
        self._lock = threading.Lock()
        self._pid = os.getpid()
        self._sock: socket.socket | None = None
        self.is_begun = False
        """The HTTP library was called. Before that, nothing can have been sent."""
        self.is_real = False
        """A real HTTP adapter handles the request, not a mock."""
        self.is_tracked = False
        """The connection reports to this attempt, so ``is_sent`` is reliable."""
        self.is_sent = False
        """The first byte of the request was passed to the socket."""
        self.is_whole = False
        """The last byte of the request was passed to the socket."""
        self.is_early = False
        """Bytes of an answer arrived before the server had received the whole request."""
        self.is_refused = False
        """The lease was refused before the first byte."""
        self.is_expired = False
        """The attempt was not finished at its deadline."""
        self.is_released = False
        """The request is finished, and its connection may serve another one."""
        self.has_interim_answer = False
        """An answer with a status below 200 arrived before the final one."""
        self.has_surplus = False
        """More bytes arrived after the end of the answer."""
        self.has_second_answer = False
        """These bytes look like the beginning of another answer."""
        self.is_on_used_connection = False
        """The connection has served an earlier request."""
        self.is_plain = False
        """The final answer was read to its framed end, and no other bytes arrived."""
        self.http_status: int | None = None
        """The status of the last status line that could be read."""

    @property
    def is_inherited(self) -> bool:
        """True if the parent of this forked process made the request, so that this process does not own it."""
        return self._pid != os.getpid()

    @property
    def may_keep_connection(self) -> bool:
        """Whether the connection may serve another request."""
        return self.may_reuse and self.is_plain and not self.is_inherited

    def watch(self, sock: socket.socket) -> None:
        """Register the socket for the watchdog to shut down at the deadline; if it has passed, shut it down now."""
        with self._lock:
            self._sock = sock
            if self.is_expired:
                shut_down(sock)

    def release(self) -> None:
        """Detach the socket, so that the watchdog cannot shut it down."""
        with self._lock:
            self.is_released = True
            self._sock = None

    def expire(self) -> None:
        """End the attempt unless it was released. Called by the watchdog's thread."""
        with self._lock:
            if self.is_released:
                return
            self.is_expired = True
            if self._sock is not None:
                shut_down(self._sock)

    @property
    def is_unanswerable(self) -> bool:
        """True if no received bytes can be the answer to the whole request."""
        return self.is_early or (self.is_sent and not self.is_whole)

    def before_first_byte(self) -> None:
        """Raise an exception unless the first byte may still be sent."""
        if not self._may_send():
            self.is_refused = True
            raise LeaseRefused

    def before_more_bytes(self) -> None:
        """Raise an exception unless the rest of the request may still be sent."""
        if not self._may_send():
            raise LeaseEnded

    def _may_send(self) -> bool:
        left = self.deadline.left()
        if left <= 0:
            raise DeadlineOver
        is_lease_valid = self._lease is None or self._lease(left)
        if self.is_inherited:
            raise OtherProcess
        return is_lease_valid


def current() -> Attempt | None:
    """Return the attempt of this thread, or None."""
    return getattr(_here, "attempt", None)


def make_current(attempt: Attempt | None) -> Attempt | None:
    """Set the attempt of this thread and return the previous one."""
    before = current()
    _here.attempt = attempt
    return before


def shut_down(sock: socket.socket) -> None:
    """Shut down both directions of ``sock``, which wakes up a thread that waits for it."""
    with suppress(OSError):  # closed or never connected: no thread waits for it
        # Unbound, because the method of an SSLSocket would unwrap the TLS layer while another thread reads from it.
        socket.socket.shutdown(sock, socket.SHUT_RDWR)
