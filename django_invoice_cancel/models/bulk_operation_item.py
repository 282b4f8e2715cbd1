"""What a stored bulk run says of one invoice: what was selected, who works on it now, what came of it, once."""

from typing import Any
from uuid import UUID

from django.core.exceptions import EmptyResultSet
from django.db import connections, models
from django.db.models import F, QuerySet, Value
from django.utils.translation import gettext_lazy as _

from .fields import ExactCharField
from .invoice import Invoice


class BulkOperationItemManager(models.Manager["BulkOperationItem"]):
    """Writes the items of a selection."""

    def freeze(self, operation_id: UUID, invoices: QuerySet[Any]) -> None:
        """Insert an item for each invoice, in one statement: the selection of one instant, however large it is.

        INSERT ... SELECT, which the ORM has no word for: 100,000 rows one by one take ten seconds.
        """
        text = models.CharField()
        values = {
            "operation_id": Value(operation_id, models.UUIDField()),
            "invoice_id": F("pk"),
            "provider": F("provider"),
            "attempt": F("attempt"),
            **{name: Value("", text) for name in ("label", "outcome", "code")},
        }
        selected: Any = Invoice.objects.using(self.db).filter(pk__in=invoices.using(self.db).order_by().values("pk"))
        rows = selected.order_by("pk").values_list(*values.values())
        try:
            select, params = rows.query.get_compiler(using=self.db).as_sql()
        except EmptyResultSet:  # ``none()``, or an empty list of keys
            return
        quote = connections[self.db].ops.quote_name
        columns = ", ".join(quote(name) for name in values)
        with connections[self.db].cursor() as cursor:
            table = quote(self.model._meta.db_table)
            cursor.execute(f"INSERT INTO {table} ({columns}) {select}", params)


class BulkOperationItem(models.Model):
    """One invoice of an operation, or one selected thing that has no invoice."""

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
    leased_until = models.DateTimeField(_("leased until"), null=True, blank=True)
    outcome = models.CharField(_("outcome"), max_length=16, blank=True)
    code = models.CharField(_("code"), max_length=32, blank=True)
    done_at = models.DateTimeField(_("done"), null=True, blank=True)

    was_leased = False

    objects = BulkOperationItemManager()

    class Meta:
        verbose_name = _("item of a bulk operation")
        verbose_name_plural = _("items of bulk operations")
        default_permissions = ()
        constraints = (models.UniqueConstraint(fields=("operation", "invoice"), name="invoice_cancel_item_once"),)
        indexes = (
            models.Index(fields=("operation", "outcome", "code"), name="invoice_cancel_item_outcome"),
            # A worker's next few items are the next entries of it, however many there are.
            models.Index(fields=("operation", "outcome", "provider", "id"), name="invoice_cancel_item_left"),
            models.Index(fields=("token",), name="invoice_cancel_item_token"),
        )

    def __str__(self) -> str:
        return f"{self.label or self.invoice_id}: {self.outcome or '-'}"
