"""Scripted steps, and gates that hold requests until a test releases them.

One request consumes one step. A gate holds every request that it matches until it is released. Both apply to cancel
requests by default, and both are thread-safe.
"""

import asyncio
from collections.abc import Callable, Iterable, Iterator
from threading import Condition

from .behaviours import behaviour_named
from .log import LoggedRequest
from .store import CANCEL, OPERATIONS, ParsedRequest

Step = str | bytes | Callable[[LoggedRequest], "str | bytes | None"]
"""The name or code of a behaviour; raw bytes, after which the connection is closed; or a function that returns either.

The function runs in the sandbox's thread. If it returns None, the request gets the ordinary answer.
"""

EVERY = "*"


def check_step(step: Step) -> Step:
    """Return the step, or raise ``ValueError`` if it names an unknown behaviour."""
    if isinstance(step, str):
        behaviour_named(step)
    elif not isinstance(step, bytes) and not callable(step):
        raise TypeError(f"A step must be the name of a behaviour, bytes or a function, not {step!r}.")
    return step


def check_operation(operation: str) -> str:
    """Return the operation, or raise ``ValueError`` if it is unknown."""
    if operation not in OPERATIONS:
        raise ValueError(f"{operation!r} is not an operation. Choose from {', '.join(OPERATIONS)}.")
    return operation


class Scripts:
    """Queues of scripted steps by operation and invoice."""

    def __init__(self, changed: Condition) -> None:
        self._changed = changed
        self._steps: dict[tuple[str, str], list[Iterator[Step]]] = {}

    def add(self, external_id: str, steps: Iterable[Step], operation: str = CANCEL) -> None:
        """Append steps to the queue. An infinite iterator permanently overrides the behaviour of the id."""
        if isinstance(steps, list | tuple):
            steps = [check_step(step) for step in steps]
        with self._changed:
            self._steps.setdefault((check_operation(operation), external_id), []).append(iter(steps))

    def next(self, parsed: ParsedRequest) -> Step | None:
        """Remove and return the next step for a request, or None."""
        if not self._steps:
            return None
        with self._changed:
            for external_id in (*parsed.external_ids, EVERY):
                step = self._pop((parsed.operation, external_id))
                if step is not None:
                    return check_step(step)
        return None

    def clear(self) -> None:
        """Delete all steps."""
        with self._changed:
            self._steps.clear()

    def _pop(self, key: tuple[str, str]) -> Step | None:
        waiting = self._steps.get(key, [])
        while waiting:
            step = next(waiting[0], None)
            if step is not None:
                return step
            waiting.pop(0)
        self._steps.pop(key, None)
        return None


class Gate:
    """Holds requests until a test releases them. As a context manager, it releases them at the end of the block."""

    def __init__(self, changed: Condition, external_id: str, operation: str, when: str) -> None:
        self._changed = changed
        self._external_id, self._operation, self._when = external_id, operation, when
        self._waiting: list[tuple[asyncio.AbstractEventLoop, Callable[[], None]]] = []
        self._arrived = 0
        self._is_open = False

    def wait_arrived(self, timeout: float = 10.0, *, count: int = 1) -> None:
        """Wait until requests have arrived.

        Args:
            timeout: Maximum waiting time in seconds.
            count: Number of requests.

        Raises:
            TimeoutError: Fewer requests arrived in time.
        """
        with self._changed:
            if not self._changed.wait_for(lambda: self._arrived >= count, timeout):
                raise TimeoutError(f"{self._arrived} of {count} requests arrived within {timeout} s.")

    def release(self) -> None:
        """Release the held requests, and stop holding requests."""
        with self._changed:
            self._is_open = True
            waiting, self._waiting = self._waiting, []
        for loop, proceed in waiting:
            loop.call_soon_threadsafe(proceed)

    def __enter__(self) -> "Gate":
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.release()

    def holds(self, parsed: ParsedRequest, when: str, proceed: Callable[[], None]) -> bool:
        """Hold a matching request by storing ``proceed`` until the release. Return whether it is held."""
        if when != self._when or parsed.operation != self._operation:
            return False
        if self._external_id != EVERY and self._external_id not in parsed.external_ids:
            return False
        with self._changed:
            if not self._is_open:
                self._waiting.append((asyncio.get_running_loop(), proceed))
                self._arrived += 1
                self._changed.notify_all()
            return not self._is_open


class Gates:
    """The gates of one sandbox."""

    WHEN = ("before", "after")

    def __init__(self, changed: Condition) -> None:
        self._changed = changed
        self._gates: list[Gate] = []

    def add(self, external_id: str, operation: str, when: str) -> Gate:
        """Add a gate ``before`` or ``after`` the execution of a request."""
        if when not in self.WHEN:
            raise ValueError(f"when must be 'before' or 'after', not {when!r}.")
        gate = Gate(self._changed, external_id, check_operation(operation), when)
        with self._changed:
            self._gates = [*self._gates, gate]
        return gate

    def pass_through(self, parsed: ParsedRequest, when: str, proceed: Callable[[], None]) -> None:
        """Call ``proceed`` now, or when the first gate that holds the request is released."""
        for gate in self._gates:
            if gate.holds(parsed, when, proceed):
                return
        proceed()

    def clear(self) -> None:
        """Release and remove all gates."""
        with self._changed:
            gates, self._gates = self._gates, []
        for gate in gates:
            gate.release()
