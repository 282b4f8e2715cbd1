"""The items of a stored bulk run: one for each selected invoice, with its lease and its outcome.

Workers lease items by CAS. If a worker crashes, other workers take over its items when the lease has ended.
"""

from collections.abc import Iterable, Sequence
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, Self
from uuid import UUID, uuid4

from django.core.exceptions import EmptyResultSet
from django.db import OperationalError, connections, models
from django.db.models import Case, Exists, F, OuterRef, Q, QuerySet, Value, When
from django.utils.translation import gettext_lazy as _

from ..domain.clock import TOLERANCE, utc_now
from ..domain.outcomes import Code, Outcome
from ..domain.secrets import MESSAGE_LENGTH
from ..domain.statuses import Status
from .fields import ExactCharField, InstantField, PrimaryManager
from .invoice import Invoice
from .transition import InvoiceTransition
from .values import storable, write_texts
from .writes.transactions import Transactions


def left_items(items: "QuerySet[BulkOperationItem]") -> "QuerySet[BulkOperationItem]":
    """Return the items without an outcome."""
    return items.filter(outcome="")


def free_items(items: "QuerySet[BulkOperationItem]") -> "QuerySet[BulkOperationItem]":
    """Return the items without an outcome that no process has leased."""
    return left_items(items).filter(Q(leased_until__isnull=True) | Q(leased_until__lt=utc_now()))


def distinct_providers(items: "QuerySet[BulkOperationItem]") -> list[str]:
    """Return the aliases of the items, each by one step along an index."""
    aliases: Any = items.order_by("provider").values_list("provider", flat=True)
    found = [each for each in [aliases.first()] if each is not None]
    while found and (following := aliases.filter(provider__gt=found[-1]).first()) is not None:
        found.append(following)
    return found


class BulkOperationItemManager(PrimaryManager["BulkOperationItem"]):
    """Stores a selection, leases items to workers, and writes their outcomes. ``operation.items`` is such a manager."""

    def snapshot(self, operation_id: UUID, invoices: QuerySet[Any]) -> None:
        """Insert an item for each invoice in one statement, so that the selection is that of one instant.

        Workers take the items in this order. Invoices that the provider did not know at the last request come last.
        The ORM has no INSERT ... SELECT, and 100,000 single rows would take ten seconds.
        """
        text = models.CharField()
        values = {
            "operation_id": Value(operation_id, models.UUIDField()),
            "invoice_id": F("pk"),
            "provider": F("provider"),
            "attempt": F("attempt"),
            **{name: Value("", text) for name in ("label", "outcome", "code", "veto_reason")},
        }
        selected: Any = Invoice.objects.using(self.db).filter(pk__in=invoices.using(self.db).order_by().values("id"))
        comes_last = Case(When(last_outcome=Code.NOT_FOUND, then=1), default=0)
        rows = selected.order_by(comes_last, "pk").values_list(*values.values())
        try:
            select, params = rows.query.get_compiler(using=self.db).as_sql()
        except EmptyResultSet:  # ``none()``, or an empty list of keys
            return
        quote = connections[self.db].ops.quote_name
        columns = ", ".join(quote(name) for name in values)
        with connections[self.db].cursor() as cursor:
            table = quote(self.model._meta.db_table)
            cursor.execute(f"INSERT INTO {table} ({columns}) {select}", params)

    def left(self) -> "QuerySet[BulkOperationItem]":
        """Return the items without an outcome."""
        return left_items(self.all())

    def free(self) -> "QuerySet[BulkOperationItem]":
        """Return the items without an outcome that no process has leased."""
        return free_items(self.all())

    def providers_left(self) -> list[str]:
        """Return the aliases of the items without an outcome."""
        return distinct_providers(self.left())

    def unknown_so_far(self, provider: str) -> tuple[int, bool]:
        """Return the number of invoices that the provider did not know, and whether it knew one.

        An invoice whose row was canceled before the operation does not count, because the provider did not answer.
        """
        items = self.filter(provider=provider)
        unknown = items.filter(outcome=Outcome.REFUSED, code=Code.NOT_FOUND).count()
        log = InvoiceTransition.objects.filter(operation=OuterRef("operation_id"), invoice_id=OuterRef("invoice_id"))
        is_known = (
            Q(outcome=Outcome.CANCELED)
            | Q(outcome=Outcome.REFUSED) & ~Q(code=Code.NOT_FOUND)
            | Q(Exists(log.filter(outcome=Outcome.ALREADY_CANCELED)), outcome=Outcome.ALREADY_CANCELED)
        )
        return unknown, items.filter(is_known).exists()

    def lease(self, count: int, *, seconds: float, provider: str | None = None) -> "list[BulkOperationItem]":
        """Lease free items by CAS. Items that another process has leased are not free.

        Args:
            count: Maximum number of items.
            seconds: Length of the lease.
            provider: The alias of the items, or None for all.

        Returns:
            The leased items. ``was_leased`` is True if an earlier holder did not conclude or release the item.
        """
        token = uuid4()
        for _attempt in range(3):
            free = self.free().filter(provider=provider) if provider is not None else self.free()
            found = dict(free.order_by("pk").values_list("pk", "token")[:count])
            if not found:
                self._correct_leases()
                return []
            now = utc_now()
            until = now + timedelta(seconds=seconds)
            if _update_each(free, list(found), token=token, leased_at=now, leased_until=until):
                items = list(self.filter(token=token).select_related("invoice").order_by("pk"))
                for item in items:
                    item.was_leased = found[item.pk] is not None
                return items
        return []

    def release(self, items: "Sequence[BulkOperationItem]") -> None:
        """Give back leased items that were not tried.

        If the invoice is claimed, the item keeps its lease: a request may have been sent whose answer could not be
        recorded. The next worker that leases the item reads the log.
        """
        if items:
            claimed = Invoice.objects.filter(pk=OuterRef("invoice_id"), status=Status.CANCELING)
            own = self.left().filter(~Exists(claimed), pk__in=[item.pk for item in items], token=items[0].token)
            Transactions(self.db).repeat(lambda: own.update(token=None, leased_at=None, leased_until=None))

    def _correct_leases(self) -> None:
        """Move leases that begin in the future to now, with the same length. A wrong clock wrote them."""
        now = utc_now()
        ahead = self.left().filter(leased_at__gt=now + TOLERANCE, leased_until__isnull=False)
        leases: Any = ahead.order_by().values_list("token", "leased_at", "leased_until").distinct()
        for token, start, end in leases:
            wrong = self.left().filter(token=token, leased_at=start)
            Transactions(self.db).repeat(partial(wrong.update, leased_at=now, leased_until=now + (end - start)))

    def conclude(self, results: Iterable[tuple[Any, str, str]], *, veto_reason: str = "") -> None:
        """Write outcomes, as (primary key of the invoice, outcome, code), to items without an outcome.

        ``veto_reason`` is the reason of the shop for all of them.
        """
        groups: dict[tuple[str, str], list[Any]] = {}
        for key, outcome, code in results:
            groups.setdefault((str(outcome), str(code)[:32]), []).append(key)
        now = utc_now()
        for (outcome, code), keys in groups.items():
            own = self.left().filter(invoice_id__in=keys)
            changes = {"outcome": outcome, "code": code, "done_at": now}
            if veto_reason:
                self._conclude_vetoed(own, changes, veto_reason)
            else:
                Transactions(self.db).repeat(partial(own.update, **changes))

    def _conclude_vetoed(self, own: "QuerySet[BulkOperationItem]", changes: dict[str, Any], veto_reason: str) -> None:
        def write(texts: list[str]) -> None:
            own.update(**changes, veto_reason=texts[0][:MESSAGE_LENGTH])

        texts = [storable(veto_reason)]
        Transactions(self.db).repeat(lambda: write_texts(write, texts, using=self.db))


if TYPE_CHECKING:

    class ItemsOfOperation(BulkOperationItemManager):
        """The items of one operation: a manager that Django makes for each instance."""

        def __get__(self, instance: object, cls: Any = None) -> Self: ...


def _update_each(rows: "QuerySet[BulkOperationItem]", keys: list[Any], **values: Any) -> int:
    """Update rows by key, and return their number. Rows that the database refuses are left out."""
    try:
        return rows.filter(pk__in=keys).update(**values)
    except OperationalError:
        if len(keys) == 1:
            return 0
    return sum(_update_each(rows, [key], **values) for key in keys)


class BulkOperationItem(models.Model):
    """One invoice of an operation, or one selected object without an invoice."""

    id = models.BigAutoField(primary_key=True)
    operation = models.ForeignKey(
        "invoice_cancel.BulkOperation", on_delete=models.CASCADE, related_name="items", verbose_name=_("bulk operation")
    )
    invoice = models.ForeignKey(
        "invoice_cancel.Invoice",
        on_delete=models.CASCADE,
        null=True,
        blank=True,
        related_name="+",
        verbose_name=_("invoice"),
    )
    provider = ExactCharField(_("provider"), max_length=64, blank=True)
    label = models.CharField(_("label"), max_length=200, blank=True)
    attempt = models.UUIDField(_("attempt"), null=True, blank=True, help_text=_("The attempt as it was selected."))
    token = models.UUIDField(_("token"), null=True, blank=True)
    leased_at = InstantField(_("leased"), null=True, blank=True)
    leased_until = InstantField(_("leased until"), null=True, blank=True)
    outcome = models.CharField(_("outcome"), max_length=16, blank=True)
    code = models.CharField(_("code"), max_length=32, blank=True)
    veto_reason = models.CharField(_("reason of the shop"), max_length=MESSAGE_LENGTH, blank=True)
    done_at = InstantField(_("done"), null=True, blank=True)

    was_leased = False

    objects = BulkOperationItemManager()

    class Meta:
        verbose_name = _("item of a bulk operation")
        verbose_name_plural = _("items of bulk operations")
        default_permissions = ()
        constraints = (models.UniqueConstraint(fields=("operation", "invoice"), name="invoice_cancel_item_once"),)
        indexes = (
            models.Index(fields=("operation", "outcome", "code"), name="invoice_cancel_item_outcome"),
            # The next items of a worker are the next entries of this index, for any number of items.
            models.Index(fields=("operation", "outcome", "provider", "id"), name="invoice_cancel_item_left"),
            models.Index(fields=("token",), name="invoice_cancel_item_token"),
        )

    def __str__(self) -> str:
        return f"{self.label or self.invoice_id}: {self.outcome or '-'}"
