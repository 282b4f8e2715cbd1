"""Callbacks after the commit that neither stop the callbacks of the project nor hide interruptions."""

import logging
from collections.abc import Callable
from typing import Any

from django.db import transaction

from ..domain.interruptions import is_interruption

logger = logging.getLogger("django_invoice_cancel")


def call_on_commit(callback: Callable[[], object], *, using: str | None, failure: str, about: Any = "") -> None:
    """Call ``callback`` after the commit of the transaction, or at once if no transaction is open.

    Its errors are logged, so that later callbacks run. An interruption (a task's time limit) is raised. Django's
    ``robust=True`` would log that as well, and the task would go on.

    Args:
        failure: Log message if the callback fails, with a ``%s`` for ``about``.

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
