"""Requested cancellations: store a request, claim requested invoices, withdraw a request.

A request survives crashes, pauses and lost answers. ``answers.REQUEST_CLEARED`` lists its columns; only the events of
rule 13 clear them.
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
"""Time until a request is due for other processes. The process that committed it sends it at once."""


class RequestWriter(ClaimWriter):
    """Records, claims and withdraws requested cancellations."""

    def request_cancel(self, invoice: InvoicePort, audit: AuditContext) -> bool:
        """Store the request in the caller's transaction. Return False if the invoice is not ``created``.

        A repeated request is logged, and keeps the time and the back-off of the first.
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
            self.append([Entry(invoice, row.status, row.status, audit, code=Code.REQUESTED)])
            return True

        return self.join(write, [invoice])

    def withdraw(self, invoice: InvoicePort, audit: AuditContext) -> bool:
        """Clear the request. Return False if a cancel request was sent that may still succeed."""

        def write() -> bool:
            row = self.lock(invoice.id)
            if row is None:
                return True
            if row.cancel_requested_at is not None:
                self.write(row, **REQUEST_CLEARED)
                self.append([Entry(invoice, row.status, row.status, audit, row.attempt, code=Code.WITHDRAWN)])
            carry_over(row, invoice)
            return row.status not in INTERNAL_STATUSES

        return self.join(write, [invoice])

    def is_withdrawn(self, invoice: InvoicePort) -> bool:
        """Return whether the request was withdrawn after the cancel request that left the invoice in doubt."""
        for row in self.log.filter(invoice_id=invoice.id).order_by("-id"):
            if row.code == Code.WITHDRAWN:
                return True
            if row.from_status == Status.CREATED and row.to_status == Status.CANCELING:
                break
        return False

    def claim_requested(
        self,
        invoices: Sequence[InvoicePort],
        *,
        is_try: bool,
        unless_paused: bool = False,
        options_digest: str = "",
    ) -> Iterator[Claim]:
        """Claim requested invoices of one provider; yield each claim after its commit.

        All invoices of a claim have the same audit context, so there is one claim for each actor and reason. If a
        request was withdrawn, or tried by another process, after it was read, it is not claimed. With ``is_try`` the
        claim sets the time of the next try by the back-off.
        """
        for audit, group in self._by_requester(invoices):
            by_count: dict[int, list[InvoicePort]] = defaultdict(list)
            for invoice in group:
                by_count[invoice.cancel_try_count if is_try else 0].append(invoice)
            for count, some in by_count.items():
                guard, extra = Q(cancel_requested_at__isnull=False), {}
                if is_try:
                    guard, extra = guard & Q(cancel_try_count=count), _next_try(count, utc_now())
                yield self.claim(
                    some,
                    audit,
                    unless_paused=unless_paused,
                    options_digest=options_digest,
                    guard=guard,
                    extra_columns=extra,
                )

    def postpone_request(self, invoice: InvoicePort) -> None:
        """Set the time of the next try without a claim, because nothing can be sent for this invoice now."""
        changes = _next_try(invoice.cancel_try_count, utc_now())
        own = {"pk": invoice.id, "status": Status.CREATED, "cancel_try_count": invoice.cancel_try_count}

        def write(is_repeat: bool) -> None:
            if self.invoices.filter(**own, cancel_requested_at__isnull=False).update(**changes):
                show(invoice, changes)

        self.run(write, [invoice])

    def _by_requester(self, invoices: Sequence[InvoicePort]) -> list[tuple[AuditContext, list[InvoicePort]]]:
        """Return the invoices, grouped by the actor and the reason of their latest request."""
        log = self.log.filter(invoice_id__in=[invoice.id for invoice in invoices], code=Code.REQUESTED)
        rows = log.order_by("id").values_list("invoice_id", "actor_id", "actor_label", "reason")
        latest = {pk: (key, label, reason) for pk, key, label, reason in rows}
        groups: dict[AuditContext, list[InvoicePort]] = defaultdict(list)
        for invoice in invoices:
            key, label, reason = latest.get(invoice.id, (None, "", ""))
            groups[AuditContext(LoggedActor(key, label), Trigger.ON_COMMIT, reason)].append(invoice)
        return list(groups.items())


def _next_try(count: int, now: datetime) -> dict[str, Any]:
    """Return the columns after a try that was preceded by ``count`` others."""
    due = now + BACK_OFF[min(count, len(BACK_OFF) - 1)]
    return {"cancel_try_at": due, "cancel_try_count": min(count + 1, MOST_COUNTED)}
