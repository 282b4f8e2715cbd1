"""A point in time by which everything must be over, shared by all requests of one submit.

Monotonic: a clock that is set does not move it.
"""

from time import monotonic


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
