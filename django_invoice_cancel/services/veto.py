"""The veto of the shop: the function in the setting ``VETO`` decides whether an invoice may be canceled.

Only ``eligibility`` calls this module. A function that fails forbids the cancellation, because the shop may have a
reason that it could not report. The failure is logged with its traceback, secrets masked.
"""

from __future__ import annotations

import logging
import traceback
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from django.db import connections, transaction
from django.utils.functional import Promise

from .. import conf, registry
from ..domain.interruptions import is_interruption
from ..domain.outcomes import Code
from ..domain.ports import InvoicePort
from ..labels.results import describe_failed_veto, describe_veto_without_reason

logger = logging.getLogger("django_invoice_cancel")


class Veto(str):
    """The code ``vetoed``, as ``eligibility.find_obstacle`` returns it, with the reason of the shop."""

    __slots__ = ("is_failure", "reason")
    reason: str
    """At most 500 characters, secrets masked."""
    is_failure: bool
    """True if the function of the shop raised, or returned neither a text nor None."""

    def __new__(cls, reason: str, *, is_failure: bool = False) -> Veto:
        veto = super().__new__(cls, Code.VETOED)
        veto.reason, veto.is_failure = registry.sanitize(reason).strip(), is_failure
        return veto


def is_veto_configured() -> bool:
    """Return whether the setting ``VETO`` names a function."""
    return conf.read()[0].veto is not None


def ask_veto(invoice: InvoicePort) -> Veto | None:
    """Return the veto of the shop against a cancellation of this invoice, or None. Only interruptions raise.

    None and an empty string mean that the shop has no objection. In a transaction, the function runs in a savepoint, so
    that its database error does not break the transaction.
    """
    path = conf.read()[0].veto
    if path is None:
        return None
    try:
        with _savepoints():
            answer = registry.resolve(path)(invoice)
            if isinstance(answer, Promise):  # a lazy translation
                answer = str(answer)
    except Exception as error:
        if is_interruption(error):
            raise
        _log(invoice, f"VETO failed, so the invoice is not canceled:\n{''.join(traceback.format_exception(error))}")
        return Veto(describe_failed_veto(type(error).__name__), is_failure=True)
    if answer is None or (isinstance(answer, str) and not answer):
        return None
    if not isinstance(answer, str):
        name = type(answer).__name__
        _log(invoice, f"VETO returned {name}, not a string or None, so the invoice is not canceled.")
        return Veto(describe_failed_veto(name), is_failure=True)
    return Veto(answer.strip() or describe_veto_without_reason())


@contextmanager
def _savepoints() -> Iterator[None]:
    """Open a savepoint on each database that has an open transaction. Opens no transaction."""
    with ExitStack() as stack:
        for connection in connections.all(initialized_only=True):
            if connection.in_atomic_block:
                stack.enter_context(transaction.atomic(using=connection.alias))
        yield


def _log(invoice: InvoicePort, text: str) -> None:
    """Log an error of the shop's function, without the exception itself: its frames may hold secrets."""
    names = {
        "provider": invoice.provider,
        "external_id": invoice.external_id,
        "invoice_id": invoice.id,
        "code": Code.VETOED,
    }
    logger.error("%s: %s", invoice, registry.mask_secrets(text), extra=names)
