"""Transactions on the database of invoices. They are short, begin with a write, and are repeated after a lost lock.

The writer opens its transactions only here. If a write fails, the instances in memory get their old values.
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, TypeVar

from django.db import InterfaceError, InternalError, OperationalError, connections, transaction

from ...domain.ports import InvoicePort
from ...exceptions import CancelInTransaction

T = TypeVar("T")

logger = logging.getLogger("django_invoice_cancel")

_RETRIED = (OperationalError, InternalError, InterfaceError)
"""A lost lock, deadlock or connection. PostgreSQL reports a session that was idle for too long by InternalError."""
_TRIES = 3

WRITER_FIELDS = (
    "status",
    "attempt",
    "claim_expires_at",
    "cancel_requested_at",
    "cancel_try_at",
    "cancel_try_count",
    "next_check_at",
    "check_count",
    "last_outcome",
    "status_changed_at",
    "status_confirmed_at",
    "contradicted_at",
    "paid_after_cancel_at",
    "paid_after_cancel_handled_at",
    "paid_after_cancel_handled_by_id",
)
"""The columns of an invoice that only the writer changes."""


class Transactions:
    """Runs writes and reads on one database, and repeats them after a lost lock, deadlock or connection."""

    def __init__(self, using: str) -> None:
        self.using = using
        self.waits_again = True
        """True if a write is tried again after a lock time-out, for which the database has waited already."""
        self._interruption: BaseException | None = None

    @contextmanager
    def durable(self) -> Iterator[None]:
        """Open a transaction that is certainly committed at its end, or raise ``CancelInTransaction``.

        ``durable=True`` detects ATOMIC_REQUESTS, and allows the transaction of a TestCase. With autocommit off it
        would raise no error and commit nothing, so that is checked separately.
        """
        connection = connections[self.using]
        if not connection.in_atomic_block and not connection.get_autocommit():
            raise CancelInTransaction(_refusal("autocommit is off"))
        with ExitStack() as stack:
            try:
                stack.enter_context(transaction.atomic(using=self.using, durable=True))
            except RuntimeError as error:
                raise CancelInTransaction(_refusal("a transaction is open")) from error
            yield

    def refuse_inside_transaction(self) -> None:
        """Raise ``CancelInTransaction`` if no request may be sent now. Sends no query to the database."""
        with self.durable():
            return

    def run(self, write: Callable[[bool], T], invoices: Sequence[InvoicePort] = (), *, waits_again: bool = False) -> T:
        """Run a write in a durable transaction, up to three times on a lost lock, deadlock or connection.

        If all tries fail, the exception is raised, and the instances in memory have their old values.

        Args:
            write: Called with True if an earlier try may have been committed (an error at COMMIT).
            invoices: Instances in memory that ``write`` changes.
            waits_again: Try again also after a lock time-out, even in a bulk run.
        """
        before = [_carried_values(invoice) for invoice in invoices]
        for tries in range(1, _TRIES + 1):
            try:
                with self.durable():
                    return write(tries > 1)
            except Exception as error:
                if error is self._interruption:  # raised by a receiver, after the commit
                    raise
                for invoice, carried in zip(invoices, before, strict=True):
                    _restore_values(invoice, carried)
                if tries == _TRIES or not isinstance(error, _RETRIED):
                    raise
                if not (waits_again or self.waits_again) and is_lock_timeout(error):
                    raise
                logger.debug("Trying a write again after a database error.", exc_info=True)
            self._before_retry(tries)
        raise AssertionError("unreachable: the last try returns or raises")

    def repeat(self, call: Callable[[], T]) -> T:
        """Call a function up to three times on a deadlock or a lost connection; in a transaction only once.

        Use it for reads, and for single statements that may be executed twice. They need no transaction.
        """
        for tries in range(1, _TRIES + 1):
            try:
                return call()
            except _RETRIED as error:
                if tries == _TRIES or connections[self.using].in_atomic_block or is_lock_timeout(error):
                    raise
                logger.debug("Repeating a statement after a database error.", exc_info=True)
            self._before_retry(tries)
        raise AssertionError("unreachable: the last try returns or raises")

    def _before_retry(self, tries: int) -> None:
        if not connections[self.using].in_atomic_block:  # else the transaction belongs to a test case
            connections[self.using].close_if_unusable_or_obsolete()
        time.sleep(random.uniform(0.01, 0.05) * tries)  # noqa: S311 - jitter, not cryptography

    def join(self, write: Callable[[], T], invoices: Sequence[InvoicePort] = ()) -> T:
        """Run a write in the caller's transaction. If no transaction is open, do the same as ``run``."""
        connection = connections[self.using]
        if connection.in_atomic_block or not connection.get_autocommit():
            with transaction.atomic(using=self.using):
                return write()
        return self.run(lambda is_repeat: write(), invoices)

    @property
    def may_read_stale(self) -> bool:
        """True if a plain read may miss rows that were committed after the first read of the caller's transaction.

        This happens on MariaDB and MySQL under REPEATABLE READ, where only a locking read returns them. PostgreSQL
        refuses to lock a row that changed since then.
        """
        connection = connections[self.using]
        return connection.vendor == "mysql" and connection.in_atomic_block


def is_lock_timeout(error: BaseException) -> bool:
    """Return whether the database gave up waiting for a lock (PostgreSQL 55P03, MySQL and MariaDB 1205)."""
    cause = error.__cause__
    state = getattr(cause, "sqlstate", None) or getattr(cause, "pgcode", None)
    return state == "55P03" or bool(error.args and error.args[0] == 1205)


def _refusal(what: str) -> str:
    return (
        f"No request may be sent while {what} on the invoices' database, because a rollback would lose its result. "
        "Use invoice.cancel_on_commit(), or exempt the view with @transaction.non_atomic_requests. "
        "Nothing was sent or written."
    )


def show(invoice: InvoicePort, changes: Mapping[str, Any]) -> None:
    """Set the values that were written to the row on the instance in memory."""
    for name, value in changes.items():
        setattr(invoice, name, value)


def _carried_values(invoice: InvoicePort) -> dict[str, Any]:
    return {name: vars(invoice)[name] for name in WRITER_FIELDS if name in vars(invoice)}


def _restore_values(invoice: InvoicePort, carried: dict[str, Any]) -> None:
    for name in set(WRITER_FIELDS) - set(carried):
        vars(invoice).pop(name, None)  # the field was deferred
    show(invoice, carried)


def carry_over(row: InvoicePort, invoice: InvoicePort) -> None:
    """Copy the writer's fields from a row to an instance. Its other fields do not change."""
    if row is not invoice:
        show(invoice, {name: getattr(row, name) for name in WRITER_FIELDS})
