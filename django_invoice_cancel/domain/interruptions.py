"""Exceptions that belong to the caller: time limits of task queues, Ctrl-C, a canceled coroutine. Plain Python.

They must not be handled as a failure of an adapter, a receiver or the database. The work in progress is recorded, then
they are raised again. Every other ``Exception`` is such a failure.
"""

import signal
from collections.abc import Iterator
from types import CodeType, TracebackType

_KNOWN = frozenset(
    {
        "billiard.exceptions.SoftTimeLimitExceeded",
        "celery.exceptions.SoftTimeLimitExceeded",
        "concurrent.futures._base.CancelledError",
        "dramatiq.middleware.threading.Interrupt",
        "eventlet.timeout.Timeout",
        "gevent.timeout.Timeout",
        "procrastinate.exceptions.JobAborted",
        "rq.timeouts.BaseTimeoutException",
    }
)
"""Subclasses of ``Exception`` that task queues raise in the code of a task, also from another thread."""
_MARK = "_interrupts_invoice_cancel"


def is_interruption(error: BaseException) -> bool:
    """Return whether an exception came from outside of the code that it interrupted.

    True if it is not an ``Exception`` (KeyboardInterrupt, SystemExit, CancelledError), for the known classes of task
    queues and their subclasses, and for every exception that an installed signal handler raised.
    """
    if not isinstance(error, Exception) or _MARK in error.__dict__:
        return True
    names = {f"{cls.__module__}.{cls.__qualname__}" for cls in type(error).__mro__}
    return not names.isdisjoint(_KNOWN) or _is_raised_by_signal_handler(error.__traceback__)


def without_frames(error: BaseException) -> BaseException:
    """Return the exception without traceback and context, because their frames may hold a token.

    ``is_interruption`` returns the same as before, also if only the traceback showed that a signal handler raised it.
    """
    if is_interruption(error):
        error.__dict__[_MARK] = True
    error.__cause__ = error.__context__ = None
    return error.with_traceback(None)


def _is_raised_by_signal_handler(traceback: TracebackType | None) -> bool:
    handlers = set(_signal_handlers())
    while traceback is not None:
        if traceback.tb_frame.f_code in handlers:
            return True
        traceback = traceback.tb_next
    return False


def _signal_handlers() -> Iterator[CodeType]:
    for number in signal.valid_signals():
        handler = signal.getsignal(number)
        handler = getattr(handler, "func", handler)  # functools.partial
        if callable(handler) and not hasattr(handler, "__code__"):
            handler = getattr(handler, "__func__", type(handler).__call__)  # a method, or an object with __call__
        code = getattr(handler, "__code__", None)
        if isinstance(code, CodeType):
            yield code
