"""Values that belong to one process: a forked child makes its own, and leaves those of its parent alone.

The process id is compared at each use. ``os.register_at_fork`` does not suffice: a server that forks in C, such as
uWSGI, does not run its hooks.
"""

import os
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class PerProcess(Generic[T]):
    """Hold one value for each process, made by ``make`` at its first use there."""

    def __init__(self, make: Callable[[], T]) -> None:
        self._make = make
        self._held: tuple[int, T] | None = None
        self._inherited: list[object] = []
        """Values of the processes from which this one was forked. Neither used nor released: a thread that does not
        exist here may have held their locks, and their sockets are still in use there."""

    def get(self) -> T:
        """Return the value of this process. Takes no lock, since one may have been held during the fork."""
        held = self._held
        if held is None or held[0] != os.getpid():
            self._inherited.append(held)
            held = self._held = (os.getpid(), self._make())
        return held[1]
