"""Shutdown of generators that the garbage collector closes.

A collection may begin at any statement: while this thread holds the lock of a database connection, of a logging
handler or of a connection pool, while a transaction is open, or in a worker thread of the run that is closed. Work that
waits for one of them would never end, so another thread does it.
"""

from __future__ import annotations

import _thread
import gc
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any

_here = threading.local()


def watch_collections() -> None:
    """Record from now on whether a garbage collection is in progress in a thread."""
    if _note not in gc.callbacks:
        gc.callbacks.append(_note)


def is_collecting() -> bool:
    """Return whether a garbage collection is in progress in this thread."""
    return getattr(_here, "is_collecting", False)


def _note(phase: str, info: dict[str, Any]) -> None:
    _here.is_collecting = phase == "start"


def run_in_background(work: Callable[[], None]) -> None:
    """Call a function in another thread; the process waits for its end.

    Another thread starts that thread, because ``Thread.start`` takes a lock that this one may hold. Nothing is called
    if the system cannot start a thread or the interpreter exits.
    """

    def start() -> None:
        threading.Thread(target=work, name="invoice-cancel-abandoned", daemon=False).start()

    with suppress(RuntimeError):
        _thread.start_new_thread(start, ())
