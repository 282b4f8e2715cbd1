"""Bulk execution of requested cancellations: one attempt for each, logged with its requester as the actor."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from queue import SimpleQueue
from typing import Any

from django.db import DatabaseError

from ..domain.audit import AuditContext, Trigger
from ..domain.claims import Claim
from ..domain.outcomes import CancelResult, Code
from ..domain.ports import InvoicePort, WriterPort
from ..services.cancel import unclaimed_request_result
from .cancel import CancelRun
from .queues import ProviderQueue
from .workers import Job

logger = logging.getLogger("django_invoice_cancel")


class RequestedCancelRun(CancelRun):
    """Carries out the cancellations that ``cancel_on_commit`` requested. Invoices of paused providers stay due."""

    def __init__(self, writer: WriterPort, done: SimpleQueue[Job], **options: Any) -> None:
        super().__init__(writer, AuditContext(trigger=Trigger.ON_COMMIT), done, max_tries=1, **options)

    def _claim(self, invoices: list[InvoicePort]) -> Iterator[Claim]:
        return self.writer.claim_requested(invoices, is_try=True)

    def _read_unclaimed_result(self, queue: ProviderQueue, invoice: InvoicePort) -> CancelResult:
        return unclaimed_request_result(invoice, queue.account)

    def _finish(self, queue: ProviderQueue, invoice: InvoicePort, result: CancelResult) -> None:
        if result.code in (Code.MISCONFIGURED, Code.VETOED):
            self._postpone(invoice)
        super()._finish(queue, invoice, result)

    def _postpone(self, invoice: InvoicePort) -> None:
        try:
            self.writer.postpone_request(invoice)
        except DatabaseError:
            logger.exception("The next attempt of a requested cancellation was not written: %s.", invoice)
