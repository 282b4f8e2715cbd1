"""Faults of a process in the random walk: a wrong clock, a crash at a statement, another process at the same row.

One connection is used for both processes. The step of the other process is executed between two statements of the
first one, as on a database that shows the committed changes of others. It waits while the first one has locked the
row.
"""

import itertools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from django.db import connection
from hypothesis import strategies as st

from django_invoice_cancel.models import Invoice, InvoiceTransition

from .model import Killed

AHEAD = 59
"""How far one machine's clock may be ahead of another's, in seconds."""
FIRST_STATEMENTS = 5
"""Where another process may come in: the writer has read its row by then."""


@dataclass(frozen=True)
class Fate:
    """What befalls the process that takes one step."""

    ahead: int = 0
    dies_at: int = 0
    """The SQL statement at which it dies; 0: none."""
    meets_at: int = 0
    """The SQL statement before which another process comes in; 0: none."""
    other: str = ""
    """What the other does: a word of the provider's that it takes in, or ``resolve``."""

    def __repr__(self) -> str:
        told = {"ahead": self.ahead, "dies_at": self.dies_at, "meets_at": self.meets_at, "other": self.other}
        return f"Fate({', '.join(f'{name}={value!r}' for name, value in told.items() if value)})"


CALM, FAST = Fate(), Fate(ahead=AHEAD)
MEETINGS = [Fate(meets_at=n, other=o) for n in range(1, FIRST_STATEMENTS + 1) for o in ("paid", "now", "resolve")]
DEATHS = [Fate(dies_at=number) for number in range(1, 11)]
# Drawn by one small number: larger ones hypothesis draws from what stands in the modules that happen to be loaded.
FATES = st.sampled_from([CALM] * 8 + [FAST] * 6 + DEATHS + MEETINGS)
_numbers = itertools.count(1)
CLOCKS = st.sampled_from([0, AHEAD])


@contextmanager
def dying_at(number: int) -> Iterator[None]:
    """Let this process die at its SQL statement of this number (0: never); an open transaction is rolled back."""
    left = itertools.count(number, -1)

    def execute(execute: Any, sql: str, params: Any, many: Any, context: Any) -> Any:
        step = next(left)
        is_rollback = sql.startswith(("ROLLBACK", "RELEASE"))
        if number and (step == 1 or (step < 1 and not is_rollback)):  # a dead process does nothing more
            raise Killed
        return execute(sql, params, many, context)

    with connection.execute_wrapper(execute):
        yield


class Meeting:
    """Another process that comes in before the so-many-th statement of this one, or when this one lets the row go.

    The row is taken from an UPDATE of an invoice that found it, or a SELECT ... FOR UPDATE, to the end of the
    transaction. Where the first process rolls back, what the other wrote within is gone with it: it is done again.
    """

    def __init__(self, number: int, pk: Any, step: Callable[[str], None]) -> None:
        self.left, self.pk, self.step, self.reason = number, pk, step, f"met {next(_numbers)}"
        self.depth, self.is_taken, self.is_over, self.is_written = 0, False, False, False

    @contextmanager
    def comes(self) -> Iterator[None]:
        try:
            with connection.execute_wrapper(self._execute):
                yield
        finally:
            if not self.is_over:
                self._come()
            elif self.is_written and not self._is_logged():
                self.step(self.reason)

    def _execute(self, execute: Any, sql: str, params: Any, many: Any, context: Any) -> Any:
        self.left -= 1
        if self.left <= 0 and not self.is_over and not self.is_taken:
            self._come()
        result = execute(sql, params, many, context)
        if sql.startswith("SAVEPOINT"):
            self.depth += 1
        elif sql.startswith("RELEASE"):
            self.depth -= 1
            self.is_taken = self.is_taken and self.depth > 0
        elif self.depth and _takes(sql, context["cursor"]):
            self.is_taken = True
        return result

    def _come(self) -> None:
        self.is_over = True
        mine, connection.execute_wrappers[:] = connection.execute_wrappers[:], []
        try:
            self.step(self.reason)
            self.is_written = self._is_logged()
        finally:
            connection.execute_wrappers[:] = mine

    def _is_logged(self) -> bool:
        # By its reason: after a rollback SQLite gives out a key once more.
        return InvoiceTransition.objects.filter(invoice_id=self.pk, reason=self.reason).exists()


def _takes(sql: str, cursor: Any) -> bool:
    if connection.ops.quote_name(Invoice._meta.db_table) not in sql:
        return False
    return "FOR UPDATE" in sql or (sql.startswith("UPDATE") and cursor.rowcount > 0)
