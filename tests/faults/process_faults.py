"""Faults of a process: a wrong clock, a crash at a statement, another process that uses the same row.

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

from .provider_model import Killed

AHEAD = 59
"""The difference between the clocks of two machines, in seconds."""
FIRST_STATEMENTS = 5
"""Number of statements before which another process may act. The writer has read its row by then."""


@dataclass(frozen=True)
class ProcessFault:
    """The fault of the process that takes one step."""

    ahead: int = 0
    crash_statement: int = 0
    """Number of the SQL statement at which the process crashes; 0: none."""
    concurrent_statement: int = 0
    """Number of the SQL statement before which another process acts; 0: none."""
    other: str = ""
    """The action of the other process: a status to observe, ``now`` for the provider's present one, or ``resolve``."""

    def __repr__(self) -> str:
        fields = {
            "ahead": self.ahead,
            "crash_statement": self.crash_statement,
            "concurrent_statement": self.concurrent_statement,
            "other": self.other,
        }
        return f"ProcessFault({', '.join(f'{name}={value!r}' for name, value in fields.items() if value)})"


NO_FAULT, CLOCK_AHEAD = ProcessFault(), ProcessFault(ahead=AHEAD)
CONCURRENT_STEPS = [
    ProcessFault(concurrent_statement=n, other=o)
    for n in range(1, FIRST_STATEMENTS + 1)
    for o in ("paid", "now", "resolve")
]
CRASHES = [ProcessFault(crash_statement=number) for number in range(1, 11)]
# Drawn by one small number: hypothesis draws larger ones from the constants of the loaded modules.
PROCESS_FAULTS = st.sampled_from([NO_FAULT] * 8 + [CLOCK_AHEAD] * 6 + CRASHES + CONCURRENT_STEPS)
_numbers = itertools.count(1)
CLOCKS = st.sampled_from([0, AHEAD])


@contextmanager
def crash_at(number: int) -> Iterator[None]:
    """Crash this process at its SQL statement of this number (0: never). An open transaction is rolled back."""
    left = itertools.count(number, -1)

    def execute(execute: Any, sql: str, params: Any, many: Any, context: Any) -> Any:
        step = next(left)
        is_rollback = sql.startswith(("ROLLBACK", "RELEASE"))
        if number and (step == 1 or (step < 1 and not is_rollback)):  # a crashed process executes nothing
            raise Killed
        return execute(sql, params, many, context)

    with connection.execute_wrapper(execute):
        yield


class ConcurrentProcess:
    """Another process that acts before the given statement of this one, or when this one releases the row.

    The row is locked by an UPDATE of an invoice, or a SELECT ... FOR UPDATE, until the end of the transaction. If
    the first process rolls back, the writes of the other are rolled back with it, so its step is repeated.
    """

    def __init__(self, number: int, pk: Any, step: Callable[[str], None]) -> None:
        self.left, self.pk, self.step, self.reason = number, pk, step, f"concurrent {next(_numbers)}"
        self.depth, self.is_row_locked, self.is_run, self.is_written = 0, False, False, False

    @contextmanager
    def running(self) -> Iterator[None]:
        try:
            with connection.execute_wrapper(self._execute):
                yield
        finally:
            if not self.is_run:
                self._run_step()
            elif self.is_written and not self._is_logged():
                self.step(self.reason)

    def _execute(self, execute: Any, sql: str, params: Any, many: Any, context: Any) -> Any:
        self.left -= 1
        if self.left <= 0 and not self.is_run and not self.is_row_locked:
            self._run_step()
        result = execute(sql, params, many, context)
        if sql.startswith("SAVEPOINT"):
            self.depth += 1
        elif sql.startswith("RELEASE"):
            self.depth -= 1
            self.is_row_locked = self.is_row_locked and self.depth > 0
        elif self.depth and _locks_invoice(sql, context["cursor"]):
            self.is_row_locked = True
        return result

    def _run_step(self) -> None:
        self.is_run = True
        wrappers, connection.execute_wrappers[:] = connection.execute_wrappers[:], []
        try:
            self.step(self.reason)
            self.is_written = self._is_logged()
        finally:
            connection.execute_wrappers[:] = wrappers

    def _is_logged(self) -> bool:
        # Identified by its reason, because SQLite reuses keys after a rollback.
        return InvoiceTransition.objects.filter(invoice_id=self.pk, reason=self.reason).exists()


def _locks_invoice(sql: str, cursor: Any) -> bool:
    if connection.ops.quote_name(Invoice._meta.db_table) not in sql:
        return False
    return "FOR UPDATE" in sql or (sql.startswith("UPDATE") and cursor.rowcount > 0)
