"""Claims: win the exclusive right to send a request, give it back, or mark it as abandoned.

A claim is one conditional UPDATE (CAS) without a lock. If two processes try it, the UPDATE of only one changes the row.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from functools import partial, reduce
from operator import or_
from types import MappingProxyType
from typing import Any
from uuid import UUID

from django.db.models import Q

from ... import conf
from ...domain.audit import AuditContext
from ...domain.claims import Claim
from ...domain.clock import utc_now
from ...domain.interruptions import is_interruption
from ...domain.outcomes import LAST_REFUSED, Code, Outcome
from ...domain.ports import InvoicePort
from ...domain.statuses import Status, TransitionSource, check_move
from ...services.eligibility import abandoned, end_of_claim
from ...signals import invoice_status_changed
from ..provider_state import NotPaused, ProviderState
from .answers import REQUEST_CLEARED, match_ids
from .provider_state import ProviderStateWriter
from .rows import Entry
from .transactions import show

logger = logging.getLogger("django_invoice_cancel")

_ANY = Q()
_NOTHING: Mapping[str, Any] = MappingProxyType({})


def _not_refused_since_read(invoices: Iterable[InvoicePort]) -> Q:
    """Return the condition of rows that were not refused after they were read."""
    seen = (Q(pk=i.id, attempt=i.attempt) for i in invoices if i.last_outcome in LAST_REFUSED)
    return reduce(or_, seen, ~Q(last_outcome__in=LAST_REFUSED))


class ClaimWriter(ProviderStateWriter):
    """Moves invoices to ``canceling``, and out of it without an answer."""

    def claim(
        self,
        invoices: Sequence[InvoicePort],
        audit: AuditContext,
        *,
        before: Status = Status.CREATED,
        unless_paused: bool = True,
        unless_refused: bool = False,
        options_digest: str = "",
        guard: Q = _ANY,
        extra_columns: Mapping[str, Any] = _NOTHING,
    ) -> Claim:
        """Claim a group of invoices of one provider.

        The provider and the external id are part of the condition, so that an unsaved edit of the instance in memory
        does not cancel another invoice. For ``before=IN_DOUBT``, so is the attempt in memory, which was looked up. If a
        receiver of the signals is interrupted, the claim is given back before the interruption is raised again.

        Args:
            unless_paused: Claim nothing if the provider is paused, or if another process sends the first request after
                a pause. Otherwise the claim has the right to send this request, see ``Claim.probe``.
            unless_refused: Do not claim invoices that were refused after they were read.
            options_digest: ``Provider.options_digest`` of the sender. A pause because of rejected credentials does not
                apply to other options.
            extra_columns: Further columns to write. An invoice that is given back gets its old values back.

        Returns:
            The claim with the invoices that were won; none if the setting ``SEND`` is False.
        """
        check_move(TransitionSource.CLAIM, before, Status.CANCELING)
        settings = conf.get()
        if not settings.send:
            return Claim(audit, before, settings.claim_ttl)
        invoices = list({invoice.id: invoice for invoice in invoices}.values())  # one row, one request
        claim = Claim(audit, before, settings.claim_ttl)
        claim.snapshot(invoices)
        if unless_refused:
            guard = guard & _not_refused_since_read(invoices)
        if extra_columns:
            claim.undo.update({each.id: {name: getattr(each, name) for name in extra_columns} for each in invoices})
        changes = self._claim_columns(claim) | dict(extra_columns)

        # If this UPDATE wins, the provider has no failures, so a conclusive reply has no count to reset.
        guards = [guard, *([NotPaused(invoices[0].provider, or_failing=True)] if unless_paused else [])]
        try:
            claim = self.run(partial(self._claim_rows, claim, invoices, changes, guards), invoices)
            if claim.invoices or not unless_paused:
                return claim
            return self._claim_at_failing_provider(claim, invoices, changes, guard, options_digest)
        except BaseException as error:
            if claim.invoices and is_interruption(error):  # rows whose claim was not committed are not affected
                with suppress(Exception):
                    self.give_back(claim, claim.invoices)
            raise

    def give_back(self, claim: Claim, invoices: Sequence[InvoicePort]) -> None:
        """Undo the claim of invoices for which nothing was sent. They get their earlier status back."""
        changes = {"status": claim.before, "status_changed_at": utc_now()}
        entry = {"attempt": claim.attempt, "outcome": Outcome.NOT_PROCESSED, "code": Code.GIVEN_BACK}

        def write(is_repeat: bool) -> None:
            for invoice in invoices:
                key = claim.target(invoice).key
                if self._own_claim(claim, key).update(**changes):
                    show(invoice, changes)
                    self._undo(claim, invoice, key)
                    self.append([Entry(invoice, Status.CANCELING, claim.before, claim.audit, key=key, **entry)])  # type: ignore[arg-type]

        self.run(write, invoices)

    def is_claimed(self, claim: Claim, invoice: InvoicePort) -> bool:
        """Return whether the row is still claimed by this claim."""
        is_own: bool = self._own_claim(claim, claim.target(invoice).key).exists()
        return is_own

    def is_overtaken(self, claim: Claim, invoice: InvoicePort) -> bool:
        """Return whether a receiver of the claim's signal moved the invoice out of ``canceling``.

        Reads the row only if there are receivers. Without receivers the request follows the claim at once.
        """
        return invoice_status_changed.has_listeners(self.invoice_model) and not self.is_claimed(claim, invoice)

    def count_repeats(self, invoice: InvoicePort) -> int:
        """Return the number of repeats of the cancel request for the current doubt."""
        log = self.log.filter(invoice_id=invoice.id).order_by("-id")
        count = 0
        for old, new in list(log.values_list("from_status", "to_status")):
            if old == Status.CREATED and new == Status.CANCELING:
                break
            count += old == Status.IN_DOUBT and new == Status.CANCELING
        return count

    def mark_abandoned(self, invoices: Sequence[InvoicePort], audit: AuditContext) -> list[InvoicePort]:
        """Move abandoned claims to ``in_doubt``; return the invoices that were moved.

        ``claim_expires_at`` is kept, because a byte of the request can have been sent until that instant.
        """
        now = utc_now()
        common = {
            "status": Status.IN_DOUBT,
            "last_outcome": Outcome.IN_DOUBT,
            "status_changed_at": now,
            "next_check_at": now,
            "check_count": 0,
        }

        def write(is_repeat: bool) -> list[InvoicePort]:
            moved = []
            for invoice in invoices:
                changes = common | {"claim_expires_at": end_of_claim(invoice, now)}
                own = self.invoices.filter(abandoned(), pk=invoice.id, attempt=invoice.attempt)
                if own.update(**changes):
                    show(invoice, changes)
                    moved.append(invoice)
            entry = {"outcome": Outcome.IN_DOUBT, "code": Code.ABANDONED}
            self.append(
                [Entry(i, Status.CANCELING, Status.IN_DOUBT, audit, i.attempt, **entry) for i in moved]  # type: ignore[arg-type]
            )
            return moved

        moved = self.run(write, invoices)
        for invoice in moved:
            logger.warning("%s: in doubt, because the process that was canceling it has ended.", invoice)
        return moved

    def _claim_rows(
        self,
        claim: Claim,
        invoices: Sequence[InvoicePort],
        changes: Mapping[str, Any],
        guards: Sequence[Any],
        is_repeat: bool,
    ) -> Claim:
        """Write a claim; return it with the invoices that were won."""
        before = claim.before
        count = self._guarded(invoices, before, guards).update(**changes)
        won = list(invoices) if count == len(invoices) else self._won(invoices, claim.attempt, count, is_repeat)
        if count:
            self.append([Entry(invoice, before, Status.CANCELING, claim.audit, claim.attempt) for invoice in won])
        for invoice in won:
            show(invoice, changes)
        claim.invoices[:] = won  # shared by the copies that replace() makes
        return claim

    def _claim_at_failing_provider(
        self,
        claim: Claim,
        invoices: Sequence[InvoicePort],
        changes: Mapping[str, Any],
        guard: Q,
        options_digest: str,
    ) -> Claim:
        """Claim at a provider with failures, after a pause with the right to send the probe; else claim nothing.

        The right is taken outside of the transaction that claims, so that two processes cannot deadlock.
        """
        alias = invoices[0].provider
        if not self._is_failing(alias):
            return claim
        probe = self.take_probe(alias, options_digest=options_digest)
        if probe is None:
            return claim
        claim = replace(claim, is_provider_failing=True, probe=probe)
        write = partial(self._claim_rows, claim, invoices, changes, [guard, NotPaused(alias)])
        try:
            claim = self.run(write, invoices)
        finally:
            if not claim.invoices:
                self.release_probe(probe)
        return claim

    def _own_claim(self, claim: Claim, key: Any) -> Any:
        return self.invoices.filter(pk=key, status=Status.CANCELING, attempt=claim.attempt)

    def _claim_columns(self, claim: Claim) -> dict[str, Any]:
        now = utc_now()
        return {
            "status": Status.CANCELING,
            "attempt": claim.attempt,
            "claim_expires_at": now + timedelta(seconds=claim.ttl),
            "status_changed_at": now,
        }

    def _undo(self, claim: Claim, invoice: InvoicePort, key: Any) -> None:
        """Restore the columns that the claim wrote for a requested cancellation, unless it was withdrawn since."""
        changes = claim.undo.get(key)
        if changes:
            requested = self.invoices.filter(pk=key, cancel_requested_at__isnull=False)
            show(invoice, changes if requested.update(**changes) else REQUEST_CLEARED)

    def _guarded(self, invoices: Sequence[InvoicePort], before: Status, guards: Iterable[Any]) -> Any:
        # One filter(), and exact lookups for one invoice: each further step takes 0.1 ms of CPU time.
        as_read = self._as_read(invoices, before)
        return self.invoices.filter(as_read, *filter(None, guards), status=before, provider=invoices[0].provider)

    def _is_failing(self, alias: str) -> bool:
        """Return whether the provider has counted failures, or was paused and has given no usable answer since."""
        states = ProviderState.objects.using(self.using).filter(alias=alias)
        return states.filter(Q(failures__gt=0) | ~Q(pause_code="")).exists()

    def _as_read(self, invoices: Sequence[InvoicePort], before: Status) -> Q:
        if before != Status.CREATED:
            same = (Q(pk=i.id, external_id=i.external_id, attempt=i.attempt) for i in invoices)
            return reduce(or_, same)
        if len(invoices) == 1:
            return Q(pk=invoices[0].id, external_id=invoices[0].external_id)
        return match_ids((invoice.id, invoice.external_id) for invoice in invoices)

    def _won(self, invoices: Sequence[InvoicePort], attempt: UUID, count: int, is_repeat: bool) -> list[InvoicePort]:
        """Return the invoices of a group that were won: their rows have the attempt of this claim.

        On a repeat, the UPDATE may change no row although the claim was won: after an error at COMMIT, the earlier try
        may have been committed.
        """
        if not count and not is_repeat:
            return []
        rows = self.invoices.filter(pk__in=[i.id for i in invoices], attempt=attempt, status=Status.CANCELING)
        ours = set(rows.values_list("pk", flat=True))
        return [invoice for invoice in invoices if invoice.id in ours]
