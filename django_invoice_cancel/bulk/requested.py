"""Requested cancellations in bulk: one try each, logged under those who requested them."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any

from django.db import DatabaseError

from ..domain.audit import Intent, Trigger
from ..domain.claims import Claim
from ..domain.outcomes import CancelResult, Code
from ..services.cancel import request_not_claimed
from .cancel import Engine
from .queues import Track
from .workers import Job

if TYPE_CHECKING:
    from ..models import Invoice
    from ..models.writes import InvoiceWriter

logger = logging.getLogger("django_invoice_cancel")


class RequestEngine(Engine):
    """Carries out what ``cancel_on_commit`` requested. Invoices of paused providers keep their turn."""

    def __init__(self, writer: InvoiceWriter, done: SimpleQueue[Job], **options: Any) -> None:
        super().__init__(writer, Intent(trigger=Trigger.ON_COMMIT), done, tries=1, **options)

    def _claims(self, invoices: list[Invoice]) -> Iterator[Claim]:
        return self.writer.claim_requested(invoices, is_try=True)

    def _not_claimed(self, track: Track, invoice: Invoice) -> CancelResult:
        return request_not_claimed(invoice, track.account)

    def _finish(self, track: Track, invoice: Invoice, said: CancelResult) -> None:
        if said.code == Code.MISCONFIGURED:
            self._postpone(invoice)
        super()._finish(track, invoice, said)

    def _postpone(self, invoice: Invoice) -> None:
        try:
            self.writer.postpone_request(invoice)
        except DatabaseError:
            logger.exception("The next try of a requested cancellation was not written: %s.", invoice)
