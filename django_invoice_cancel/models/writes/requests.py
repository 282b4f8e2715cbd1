"""Requested cancellations: note a request, claim what was requested, withdraw it.

A request outlives crashes, pauses and lost answers: ``records.REQUEST_CLEARED`` names the columns that keep it, and
only the events of rule 13 clear them.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from typing import Any

from django.db.models import Q

from ...domain.audit import AuditContext, LoggedActor, Trigger
from ...domain.claims import Claim
from ...domain.clock import utc_now
from ...domain.outcomes import Code
from ...domain.ports import InvoicePort
from ...domain.statuses import INTERNAL_STATUSES, Status
from .answers import REQUEST_CLEARED
from .claims import ClaimWriter
from .observations import BACK_OFF
from .rows import MOST_COUNTED, Entry
from .transactions import carry_over, show

FIRST_TRY = timedelta(seconds=60)
"""How long after a request it is due: the process that committed it sends it at once, if it is still alive."""


class RequestWriter(ClaimWriter):
    """Records, claims and withdraws requested cancellations."""

    def request_cancel(self, invoice: InvoicePort, intent: AuditContext) -> bool:
        """Note in the caller's transaction that the invoice is to be canceled; return False unless it is ``created``.

        A repeated request is logged, and keeps the time of the first and its back-off.
        """

        def write() -> bool:
            row = self.lock(invoice.id)
            if row is None:
                return False
            carry_over(row, invoice)
            is_same = (row.provider, row.external_id) == (invoice.provider, invoice.external_id)
            if row.status != Status.CREATED or not is_same:
                return False
            if row.cancel_requested_at is None:
                now = utc_now()
                changes = {"cancel_requested_at": now, "cancel_try_at": now + FIRST_TRY, "cancel_try_count": 0}
                self.write(row, **changes)
                carry_over(row, invoice)
            self.append([Entry(invoice, row.status, row.status, intent, code=Code.REQUESTED)])
            return True

        return self.join(write, [invoice])

    def withdraw(self, invoice: InvoicePort, intent: AuditContext) -> bool:
        """Clear the request; return False if a cancel request was sent that may still succeed."""

        def write() -> bool:
            row = self.lock(invoice.id)
            if row is None:
                return True
            if row.cancel_requested_at is not None:
                self.write(row, **REQUEST_CLEARED)
                self.append([Entry(invoice, row.status, row.status, intent, row.attempt, code=Code.WITHDRAWN)])
            carry_over(row, invoice)
            return row.status not in INTERNAL_STATUSES

        return self.join(write, [invoice])

    def is_withdrawn(self, invoice: InvoicePort) -> bool:
        """Return whether the request was withdrawn after the cancel request that the invoice is in doubt about."""
        for row in self.log.filter(invoice_id=invoice.id).order_by("-id"):
            if row.code == Code.WITHDRAWN:
                return True
            if row.from_status == Status.CREATED and row.to_status == Status.CANCELING:
                break
        return False

    def claim_requested(
        self, invoices: Sequence[InvoicePort], *, is_try: bool, unless_paused: bool = False
    ) -> Iterator[Claim]:
        """Claim invoices of one provider for those who requested it; yield each claim once it is committed.

        A claim has one intent and one log entry for all of its invoices, so there is one for each actor and reason.
        ``is_try``: the claim moves the back-off on. A request that was withdrawn, or tried by another process since
        it was read, is not claimed.
        """
        for intent, group in self._by_requester(invoices):
            by_count: dict[int, list[InvoicePort]] = defaultdict(list)
            for invoice in group:
                by_count[invoice.cancel_try_count if is_try else 0].append(invoice)
            for count, some in by_count.items():
                guard, extra = Q(cancel_requested_at__isnull=False), {}
                if is_try:
                    guard, extra = guard & Q(cancel_try_count=count), _next_try(count, utc_now())
                yield self.claim(some, intent, unless_paused=unless_paused, guard=guard, extra_columns=extra)

    def postpone_request(self, invoice: InvoicePort) -> None:
        """Move the back-off of a request on without a claim: nothing can be sent for this invoice as it is."""
        changes = _next_try(invoice.cancel_try_count, utc_now())
        own = {"pk": invoice.id, "status": Status.CREATED, "cancel_try_count": invoice.cancel_try_count}

        def write(is_repeat: bool) -> None:
            if self.invoices.filter(**own, cancel_requested_at__isnull=False).update(**changes):
                show(invoice, changes)

        self.run(write, [invoice])

    def _by_requester(self, invoices: Sequence[InvoicePort]) -> list[tuple[AuditContext, list[InvoicePort]]]:
        """Return the invoices by the actor and the reason of their latest request."""
        log = self.log.filter(invoice_id__in=[invoice.id for invoice in invoices], code=Code.REQUESTED)
        rows = log.order_by("id").values_list("invoice_id", "actor_id", "actor_label", "reason")
        latest = {pk: (key, label, reason) for pk, key, label, reason in rows}
        groups: dict[AuditContext, list[InvoicePort]] = defaultdict(list)
        for invoice in invoices:
            key, label, reason = latest.get(invoice.id, (None, "", ""))
            groups[AuditContext(LoggedActor(key, label), Trigger.ON_COMMIT, reason)].append(invoice)
        return list(groups.items())


def _next_try(count: int, now: datetime) -> dict[str, Any]:
    """Return the columns after the try that follows ``count`` others."""
    due = now + BACK_OFF[min(count, len(BACK_OFF) - 1)]
    return {"cancel_try_at": due, "cancel_try_count": min(count + 1, MOST_COUNTED)}
