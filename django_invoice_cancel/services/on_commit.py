"""Callbacks after the commit that neither stop those of the project nor hide what interrupts them."""

import logging
from collections.abc import Callable
from typing import Any

from django.db import transaction

from ..domain.interruptions import is_interruption

logger = logging.getLogger("django_invoice_cancel")


def call_on_commit(callback: Callable[[], object], *, using: str | None, failure: str, about: Any = "") -> None:
    """Call ``callback`` once the transaction is committed; at once if there is none.

    Its errors are logged, so that later callbacks run; what interrupts it (a task's time limit) is raised. Django's
    ``robust=True`` would log that too, and the task would go on.

    Args:
        failure: Message of the log if the callback fails, with a ``%s`` for ``about``.

    Raises:
        TransactionManagementError: Autocommit is off and no transaction is open.
    """

    def call() -> None:
        try:
            callback()
        except Exception as error:
            if is_interruption(error):
                raise
            logger.exception(failure, about)

    transaction.on_commit(call, using=using)
