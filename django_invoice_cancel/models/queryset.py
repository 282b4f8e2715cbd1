"""The query set of invoices. Each method completes the phrase "invoices that are ...".

It refuses to write fields that only the writer may change.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import closing
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Self

from django.db import models, transaction
from django.db.models import Q
from django.db.models.utils import resolve_callables

from ..bulk import BulkReport, cancel_invoices
from ..domain.audit import Trigger
from ..domain.clock import utc_now
from ..domain.outcomes import CancelResult, Outcome
from ..domain.statuses import Status
from ..services.eligibility import FURTHEST_AHEAD, abandoned, doubtful
from .fields import as_plain
from .writes import InvoiceWriter
from .writes.transactions import WRITER_FIELDS

if TYPE_CHECKING:
    from typing_extensions import TypeVar

    from .invoice import Invoice

    InvoiceT = TypeVar("InvoiceT", bound=Invoice, default=Invoice, covariant=True)
else:  # Python 3.11 has no defaults of type variables
    from typing import TypeVar

    InvoiceT = TypeVar("InvoiceT")

_END = datetime(9999, 1, 1, tzinfo=UTC)
_NOT_OPEN = [status for status in Status if status != Status.CREATED]
REQUEST_OVERDUE = timedelta(minutes=15)
"""A requested cancellation that has waited longer than this needs attention."""


def refuse_writer_fields(names: Iterable[str]) -> None:
    """Raise ``ValueError`` if one of the names is a field that only the writer changes."""
    for name in names:
        if name in WRITER_FIELDS or f"{name}_id" in WRITER_FIELDS:
            raise ValueError(
                f"Only the methods cancel, observe_status, reconcile, resolve and mark_handled write {name!r}, "
                "because a stale value could overwrite the provider's status."
            )


def _is_set(name: str) -> Q:
    """Return the condition that a time is set, as a comparison: for IS NOT NULL, SQLite does not use its index."""
    return Q(**{f"{name}__gt": datetime(1970, 1, 2, tzinfo=UTC)})


def reset_writer_fields(invoice: Invoice) -> None:
    """Reset the fields of the writer, in a copy of a stored invoice, to the defaults of a new one."""
    for field in invoice._meta.concrete_fields:
        if field.attname in WRITER_FIELDS:
            setattr(invoice, field.attname, field.get_default())


def _is_copy(invoice: Any) -> bool:
    """Return whether an instance without a primary key was read from a database."""
    return invoice.pk is None and invoice._state.db is not None


def _is_far_ahead(name: str, now: datetime) -> Q:
    """Return the condition that a time is far ahead, as a range with two ends, for which SQLite uses its index."""
    return Q(**{f"{name}__range": (now + FURTHEST_AHEAD, _END)})


def _is_overdue(now: datetime) -> Q:
    """Return the condition that a request has waited too long, or that its time is far ahead."""
    long_ago = _is_set("cancel_requested_at") & Q(cancel_requested_at__lt=now - REQUEST_OVERDUE)
    return long_ago | _is_far_ahead("cancel_requested_at", now)


class InvoiceQuerySet(models.QuerySet[InvoiceT]):
    """Invoices, selected by the actions that apply to them."""

    @property
    def _writer(self) -> InvoiceWriter:
        """The writer of the status and the log, in the database of this query set."""
        self._for_write = True  # as QuerySet.update does: the router returns the writable database
        return InvoiceWriter(self.model, self.db)

    def as_invoices(self) -> InvoiceQuerySet:
        """Return the same invoices as instances of ``Invoice``, also for a child class with its own table."""
        own: Any = self.model._meta.get_field("external_id").model
        if self.model._meta.concrete_model is own:
            return self
        using = getattr(self, "_db", None)
        return InvoiceQuerySet(own, using=using).filter(pk__in=self.order_by().values("id"))

    def cancelable(self, *, include_refused: bool = False) -> Self:
        """Invoices that may be canceled: those that are ``created`` and whose cancellation was not refused before.

        Invoices that the provider did not know are included, because the request may have used another project's key.

        Args:
            include_refused: Include invoices whose last cancellation was refused.
        """
        open_ones = self.filter(status=Status.CREATED)
        return open_ones if include_refused else open_ones.exclude(last_outcome=Outcome.REFUSED)

    def in_doubt(self) -> Self:
        """Invoices whose cancel request may or may not have been carried out."""
        return self.filter(status=Status.IN_DOUBT)

    def abandoned(self) -> Self:
        """Invoices with an expired claim, because the process that claimed them has ended."""
        return self.filter(abandoned())

    def due_for_reconciling(self) -> Self:
        """Invoices that are due for a lookup: in doubt, abandoned, or once more after they have left doubt.

        An invoice in doubt is also due if its next check has no time. A time that is far ahead counts as due.
        """
        now = utc_now()
        checked = (Status.IN_DOUBT, Status.CREATED)
        return self.filter(  # each term is one range of the index on status and next_check_at
            Q(status__in=checked, next_check_at__lte=now)
            | Q(_is_far_ahead("next_check_at", now), status__in=checked)
            | Q(status=Status.IN_DOUBT, next_check_at__isnull=True)
            | abandoned()
        )

    def requested(self) -> Self:
        """Open invoices whose cancellation was requested with ``cancel_on_commit`` and is not carried out yet."""
        return self.filter(_is_set("cancel_requested_at"), status=Status.CREATED)

    def due_for_canceling(self) -> Self:
        """Invoices with a requested cancellation whose next try is due."""
        now = utc_now()
        return self.filter(  # each term is one range of an index
            Q(_is_set("cancel_requested_at"), status=Status.CREATED, cancel_try_at__lte=now)
            | Q(_is_far_ahead("cancel_try_at", now), _is_set("cancel_requested_at"), status=Status.CREATED)
            # Not status=..., for which SQLite would read all open invoices.
            | Q(_is_set("cancel_requested_at"), ~Q(status__in=_NOT_OPEN), cancel_try_at__isnull=True)
        )

    def requested_long_ago(self) -> Self:
        """Open invoices whose requested cancellation has waited for more than 15 minutes."""
        return self.filter(_is_overdue(utc_now()), status=Status.CREATED)

    def unpaid_since(self, when: datetime | timedelta) -> Self:
        """Open invoices without a payment that were issued before ``when``.

        Args:
            when: An instant, or an age as a ``timedelta``.
        """
        instant = as_plain(utc_now() - when) if isinstance(when, timedelta) else when
        return self.filter(status=Status.CREATED, issued_at__lt=instant)

    def paid_after_cancel(self) -> Self:
        """Invoices with both a payment and a confirmed cancellation that are not marked as handled."""
        return self.filter(_is_set("paid_after_cancel_at"), paid_after_cancel_handled_at__isnull=True)

    def contradicted(self) -> Self:
        """Invoices that are stored as closed and that the provider reported as open."""
        return self.filter(_is_set("contradicted_at"))

    def needing_attention(self) -> Self:
        """Invoices that need an operator or reconciliation."""
        return self.filter(
            doubtful()
            | Q(_is_set("paid_after_cancel_at"), paid_after_cancel_handled_at__isnull=True)
            | _is_overdue(utc_now())
            | _is_set("contradicted_at")
        )

    # -- bulk cancellation --------------------------------------------------------------------------------------

    def cancel(
        self,
        *,
        actor: Any = None,
        reason: str = "",
        trigger: str = Trigger.API,
        on_result: Callable[[CancelResult], None] | None = None,
        limit: int | None = None,
    ) -> BulkReport:
        """Cancel these invoices at their providers. Errors of a provider or of one row never raise.

        All results are kept in memory. For very many invoices use ``bulk.cancel_invoices``.

        Args:
            actor: A user, a label, or None. It is logged.
            reason: Required if ``REQUIRE_REASON`` is set. It is logged.
            trigger: The entry point that is logged.
            on_result: Called with each result, after it is recorded.
            limit: Maximum number of invoices.

        Returns:
            A report with one result for each invoice.

        Raises:
            CancelInTransaction: Inside a transaction. Nothing was sent or written.
            TypeError: ``actor`` or ``reason`` has the wrong type.
            ValueError: The query set is sliced, combined, made of ``values()``, or restricted by ``distinct()`` on
                fields or by a window function. Or ``limit`` is invalid, or a required reason is missing.
        """
        report = BulkReport()
        results = cancel_invoices(self, actor=actor, reason=reason, trigger=Trigger(trigger), limit=limit)
        with closing(results):
            for result in results:
                report.results.append(result)
                if on_result is not None:
                    on_result(result)
        return report

    # -- fields that only the writer may change ---------------------------------------------------------------

    def update(self, **kwargs: Any) -> int:
        refuse_writer_fields(kwargs)
        return super().update(**kwargs)

    def bulk_update(self, objs: Iterable[InvoiceT], fields: Iterable[str], batch_size: int | None = None) -> int:
        fields = list(fields)
        refuse_writer_fields(fields)
        return super().bulk_update(objs, fields, batch_size=batch_size)

    def bulk_create(
        self,
        objs: Iterable[InvoiceT],
        batch_size: int | None = None,
        ignore_conflicts: bool = False,  # noqa: FBT002 - Django's signature
        update_conflicts: bool = False,  # noqa: FBT002 - Django's signature
        update_fields: Collection[str] | None = None,
        unique_fields: Collection[str] | None = None,
    ) -> list[InvoiceT]:
        refuse_writer_fields(update_fields or ())
        objs = list(objs)
        for copied in (each for each in objs if _is_copy(each)):
            reset_writer_fields(copied)
        return super().bulk_create(objs, batch_size, ignore_conflicts, update_conflicts, update_fields, unique_fields)

    cancel.alters_data = True  # type: ignore[attr-defined]
    cancel.queryset_only = True  # type: ignore[attr-defined]

    def update_or_create(
        self,
        defaults: Mapping[str, Any] | None = None,
        create_defaults: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> tuple[InvoiceT, bool]:
        """Do the same as Django without the writer's fields: Django adds their times to ``update_fields``."""
        refuse_writer_fields(defaults or ())
        self._for_write = True
        with transaction.atomic(using=self.db):
            new = defaults if create_defaults is None else create_defaults
            invoice, is_new = self.select_for_update().get_or_create(new, **kwargs)
            if not is_new:
                for name, value in resolve_callables(defaults or {}):
                    setattr(invoice, name, value)
                invoice.save(using=self.db)
        return invoice, is_new

    update_or_create.alters_data = True  # type: ignore[attr-defined]
    update.alters_data = True  # type: ignore[attr-defined]
    bulk_update.alters_data = True  # type: ignore[attr-defined]
    bulk_create.alters_data = True  # type: ignore[attr-defined]
