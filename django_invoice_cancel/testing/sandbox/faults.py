"""What a test asks for beyond the rule of the ids: scripted steps, and requests that are held.

A step is used up by one request; a hold keeps every request that it matches until it is released. Both apply to
cancels unless told otherwise, and both are safe to use from any thread.
"""

import asyncio
from collections.abc import Callable, Iterable, Iterator
from threading import Condition

from .behaviours import behaviour_named
from .log import LoggedRequest
from .store import CANCEL, OPERATIONS, Question

Step = str | bytes | Callable[[LoggedRequest], "str | bytes | None"]
"""A behaviour's name or code; raw bytes, after which the connection is closed; or a function that returns either
(None: ordinary). The function runs in the sandbox's thread."""

EVERY = "*"


def checked_step(step: Step) -> Step:
    """Return the step, or raise ``ValueError`` where it names no behaviour."""
    if isinstance(step, str):
        behaviour_named(step)
    elif not isinstance(step, bytes) and not callable(step):
        raise TypeError(f"A step is a behaviour's name, bytes or a function, not {step!r}.")
    return step


def checked_operation(operation: str) -> str:
    """Return the operation, or raise ``ValueError`` where there is none of this name."""
    if operation not in OPERATIONS:
        raise ValueError(f"{operation!r} is no operation; there are {', '.join(OPERATIONS)}.")
    return operation


class Scripts:
    """The steps that wait for their requests."""

    def __init__(self, changed: Condition) -> None:
        self._changed = changed
        self._steps: dict[tuple[str, str], list[Iterator[Step]]] = {}

    def add(self, external_id: str, steps: Iterable[Step], operation: str = CANCEL) -> None:
        """Put steps behind those that wait; an endless iterator never gives the id back to the rule."""
        if isinstance(steps, list | tuple):
            steps = [checked_step(step) for step in steps]
        with self._changed:
            self._steps.setdefault((checked_operation(operation), external_id), []).append(iter(steps))

    def next(self, question: Question) -> Step | None:
        """Use up and return the step for a request; None where none waits."""
        if not self._steps:
            return None
        with self._changed:
            for external_id in (*question.external_ids, EVERY):
                step = self._pop((question.operation, external_id))
                if step is not None:
                    return checked_step(step)
        return None

    def clear(self) -> None:
        """Drop all steps."""
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


class Held:
    """A gate at which requests wait until a test lets them go."""

    def __init__(self, changed: Condition, external_id: str, operation: str, when: str) -> None:
        self._changed = changed
        self._external_id, self._operation, self._when = external_id, operation, when
        self._waiting: list[tuple[asyncio.AbstractEventLoop, Callable[[], None]]] = []
        self._arrived = 0
        self._is_open = False

    def wait_arrived(self, timeout: float = 10.0, *, count: int = 1) -> None:
        """Wait until ``count`` requests have come to the gate; ``TimeoutError`` after ``timeout`` seconds."""
        with self._changed:
            if not self._changed.wait_for(lambda: self._arrived >= count, timeout):
                raise TimeoutError(f"{self._arrived} of {count} requests arrived within {timeout} s.")

    def release(self) -> None:
        """Let go those that wait, and hold none from now on."""
        with self._changed:
            self._is_open = True
            waiting, self._waiting = self._waiting, []
        for loop, go_on in waiting:
            loop.call_soon_threadsafe(go_on)

    def __enter__(self) -> "Held":
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.release()

    def holds(self, question: Question, when: str, go_on: Callable[[], None]) -> bool:
        """Keep ``go_on`` until released and say so, if the gate is shut and stands in this request's way."""
        if when != self._when or question.operation != self._operation:
            return False
        if self._external_id != EVERY and self._external_id not in question.external_ids:
            return False
        with self._changed:
            if not self._is_open:
                self._waiting.append((asyncio.get_running_loop(), go_on))
                self._arrived += 1
                self._changed.notify_all()
            return not self._is_open


class Holds:
    """All gates."""

    WHEN = ("before", "after")

    def __init__(self, changed: Condition) -> None:
        self._changed = changed
        self._gates: list[Held] = []

    def add(self, external_id: str, operation: str, when: str) -> Held:
        """Put up a gate ``before`` or ``after`` the request is carried out."""
        if when not in self.WHEN:
            raise ValueError(f"A request is held before or after it is carried out, not {when!r}.")
        gate = Held(self._changed, external_id, checked_operation(operation), when)
        with self._changed:
            self._gates = [*self._gates, gate]
        return gate

    def pass_through(self, question: Question, when: str, go_on: Callable[[], None]) -> None:
        """Call ``go_on``: at once, or when the first gate that holds the request is released."""
        for gate in self._gates:
            if gate.holds(question, when, go_on):
                return
        go_on()

    def clear(self) -> None:
        """Release and take down all gates."""
        with self._changed:
            gates, self._gates = self._gates, []
        for gate in gates:
            gate.release()
