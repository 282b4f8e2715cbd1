"""The facts about one request, shared by the caller, the connection and the watchdog.

An attempt belongs to one thread, which finds it by ``current()``; only ``expire`` is called from another one. Once
``release`` has run, the attempt has no socket any more, so that a reused connection is never hit.
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
    """The end of the time that a submit may take, ``seconds`` from now."""

    __slots__ = ("at",)

    def __init__(self, seconds: float) -> None:
        self.at = monotonic() + seconds

    def left(self) -> float:
        """Return how many seconds are left; negative once it is over."""
        return self.at - monotonic()

    def __repr__(self) -> str:
        return f"<Deadline in {self.left():.3f} s>"


class Watchdog:
    """A heap of attempts by deadline, and a daemon thread that is started by the first of them."""

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
        thread.start()  # may fail: then the next attempt tries again
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
        # nearly all are over long before their deadline: without this the thread would wake up for each of them
        while self._heap and self._heap[0][2].is_released:
            heapq.heappop(self._heap)


_watchdog = PerProcess(Watchdog)
"""The thread of a parent does not exist in its forked child."""


def watch(attempt: Attempt) -> None:
    """Have the watchdog of this process end ``attempt`` at its deadline."""
    _watchdog.get().add(attempt)


_here = threading.local()


class LeaseRefused(Exception):
    """The lease said no: the first byte was not handed out."""


class DeadlineOver(Exception):
    """The time was over before the whole request was handed out."""


class LeaseEnded(Exception):
    """The lease said no after a part of the request was handed out: the rest is not sent."""


class SentTwice(Exception):
    """The HTTP library asked to send a request for the second time."""


class OtherProcess(Exception):
    """The request was begun by the process from which this one was forked."""


class Attempt:
    """The facts of one request; a flag that is set stays set."""

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
        """The HTTP library was called; before that, nothing can have been sent."""
        self.is_real = False
        """The adapter itself took the request, not a mock of it."""
        self.is_tracked = False
        """Its connections report to us, so that ``is_sent`` can be believed."""
        self.is_sent = False
        """The first byte of the request was handed to the socket."""
        self.is_whole = False
        """The last byte of the request was handed to the socket."""
        self.is_early = False
        """Bytes of the answer had arrived before the other side had received the whole request."""
        self.is_refused = False
        """The lease said no."""
        self.is_expired = False
        """The watchdog found the attempt still busy at its deadline."""
        self.is_released = False
        """The request is over, and its connection may serve another one."""
        self.has_interim_answer = False
        """An answer with a status below 200 came before the final one."""
        self.has_surplus = False
        """Bytes had arrived behind the end of the answer."""
        self.has_second_answer = False
        """These bytes begin as another answer."""
        self.is_on_used_connection = False
        """The connection has served an earlier request."""
        self.is_plain = False
        """The final answer was read to its framed end, and nothing but it came."""
        self.http_status: int | None = None
        """The status of the last status line that could be read."""

    @property
    def is_inherited(self) -> bool:
        """Whether this process was forked while its parent made the request, and so does not own it."""
        return self._pid != os.getpid()

    @property
    def may_keep_connection(self) -> bool:
        """Whether the connection may serve another request."""
        return self.may_reuse and self.is_plain and not self.is_inherited

    def watch(self, sock: socket.socket) -> None:
        """Let the watchdog shut ``sock`` down at the deadline; at once if it has been here already."""
        with self._lock:
            self._sock = sock
            if self.is_expired:
                shut_down(sock)

    def release(self) -> None:
        """Take the socket out of the watchdog's reach, for good."""
        with self._lock:
            self.is_released = True
            self._sock = None

    def expire(self) -> None:
        """End the attempt unless it is released. Called by the watchdog's thread."""
        with self._lock:
            if self.is_released:
                return
            self.is_expired = True
            if self._sock is not None:
                shut_down(self._sock)

    @property
    def is_unanswerable(self) -> bool:
        """Whether nothing that arrives can be the answer to the whole request."""
        return self.is_early or (self.is_sent and not self.is_whole)

    def before_first_byte(self) -> None:
        """Raise unless the first byte may still go out."""
        if not self._may_send():
            self.is_refused = True
            raise LeaseRefused

    def before_more_bytes(self) -> None:
        """Raise unless the rest of a request may still go out."""
        if not self._may_send():
            raise LeaseEnded

    def _may_send(self) -> bool:
        left = self.deadline.left()
        if left <= 0:
            raise DeadlineOver
        is_held = self._lease is None or self._lease(left)
        if self.is_inherited:
            raise OtherProcess
        return is_held


def current() -> Attempt | None:
    """Return the attempt of this thread, if there is one."""
    return getattr(_here, "attempt", None)


def make_current(attempt: Attempt | None) -> Attempt | None:
    """Make ``attempt`` the one of this thread and return the one before it."""
    before = current()
    _here.attempt = attempt
    return before


def shut_down(sock: socket.socket) -> None:
    """End both directions of ``sock``; a thread that waits on it wakes up."""
    with suppress(OSError):  # closed or never connected: nobody waits on it
        # unbound: an SSLSocket's own method would unwrap the TLS layer under the thread that reads from it
        socket.socket.shutdown(sock, socket.SHUT_RDWR)
