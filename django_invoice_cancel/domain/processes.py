"""Values that belong to one process. A forked child makes its own, and does not use those of its parent.

The process id is compared at each use. ``os.register_at_fork`` is not enough, because a server that forks in C, such as
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
        """Values of the parent processes. They are neither used nor released: a thread that does not exist in this
        process may have held their locks, and the parent still uses their sockets."""

    def get(self) -> T:
        """Return the value of this process. Takes no lock, because a lock may have been held during the fork."""
        held = self._held
        if held is None or held[0] != os.getpid():
            self._inherited.append(held)
            held = self._held = (os.getpid(), self._make())
        return held[1]
