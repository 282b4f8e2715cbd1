"""One thread that ends what is still going on at its deadline.

Time-outs of single reads bound nothing in total: a peer that sends one byte a second keeps a request alive for ever.
The thread never touches a request that is over: ``Attempt.expire`` decides, under the attempt's lock.
"""

import heapq
import itertools
import threading
from time import monotonic

from ...processes import PerProcess
from .attempt import Attempt


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
