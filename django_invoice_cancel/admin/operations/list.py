"""The list of bulk operations, past and present, and who may do what with them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar
from uuid import UUID

from django.contrib import admin
from django.db.models import Count, Exists, F, IntegerField, OuterRef, QuerySet, Subquery
from django.db.models.constants import LOOKUP_SEP
from django.db.models.functions import Coalesce
from django.http import Http404, HttpRequest, HttpResponse
from django.utils.html import format_html
from django.utils.text import capfirst
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from ...domain.outcomes import CONFIRMS_CANCEL
from ...models import BulkOperation, BulkOperationItem
from ...models.operation import Operation, Progress
from .. import formatting
from ..formatting import in_local_time
from ..scope import InvoiceScope, condition_of_items, visible_items
from .actions import Options
from .confirm import address, redirect_to

if TYPE_CHECKING:
    _ModelAdmin = admin.ModelAdmin[BulkOperation]
else:  # generic for the type checker alone
    _ModelAdmin = admin.ModelAdmin


class InterruptedFilter(admin.SimpleListFilter):
    """Operations that nobody works on, though there is something to do."""

    title = gettext_lazy("needs attention")
    parameter_name = "attention"
    INTERRUPTED = "interrupted"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        return [(self.INTERRUPTED, gettext_lazy("Interrupted"))]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any] | None:
        if self.value() != self.INTERRUPTED:
            return None
        return queryset.filter(pk__in=BulkOperation.objects.interrupted().values("pk"))


class OperationList(_ModelAdmin):
    """The list of operations. None is added, changed or deleted by hand."""

    list_display: Options = ("name", "by", "created_at", "state", "result")
    list_display_links: Options | None = None
    list_filter: ClassVar[Options] = (InterruptedFilter, "operation", "progress")
    list_per_page = 50
    show_full_result_count = False
    actions: Options | None = None

    # -- permissions ------------------------------------------------------------------------------------------

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """A user who may act may look, others need ``view_bulkoperation``; both need sight of this site's invoices."""
        can_act = self.has_cancel_permission(request, obj) or self.has_resolve_permission(request, obj)
        may_look = can_act or super().has_view_permission(request, obj)
        return may_look and not InvoiceScope.of(self.admin_site, request).is_empty

    def has_cancel_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Whether this user may confirm, run, stop and continue what asks a provider."""
        return request.user.has_perm("invoice_cancel.cancel_invoice")

    def has_resolve_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Whether this user may confirm, run, stop and continue what decides by hand."""
        return request.user.has_perm("invoice_cancel.resolve_invoice")

    def may(self, request: HttpRequest, operation: str, obj: Any = None) -> bool:
        """Say whether this user may do what this kind of operation does."""
        if operation == Operation.RESOLVE:
            return self.has_resolve_permission(request, obj)
        return self.has_cancel_permission(request, obj)

    # -- the list ---------------------------------------------------------------------------------------------

    def get_list_display(self, request: HttpRequest) -> Any:
        return in_local_time(BulkOperation, super().get_list_display(request))

    def get_queryset(self, request: HttpRequest) -> QuerySet[BulkOperation]:
        """Return the operations of which the user sees an invoice at least, with the counts of the visible ones."""
        scope = InvoiceScope.of(self.admin_site, request)
        operations = super().get_queryset(request)
        if scope.is_empty:
            return operations.none()
        seen = condition_of_items(scope, _items_in_question(request))
        every = BulkOperationItem.objects.filter(operation=OuterRef("pk")).order_by()
        items = visible_items(every, seen, request)
        if seen:
            operations = operations.filter(Exists(items) | ~Exists(every))
        good, untried = items.filter(outcome__in=CONFIRMS_CANCEL), items.filter(outcome=formatting.UNTRIED)
        return operations.annotate(
            visible_total=_counted(items) if seen else F("total"),
            good_count=_counted(good),
            untried_count=_counted(untried),
        )

    def lookup_allowed(self, lookup: str, value: Any, request: HttpRequest | None = None) -> bool:
        """Refuse a search by ``total``: it counts the hidden invoices, too."""
        is_total = lookup.partition(LOOKUP_SEP)[0] == "total"
        return not is_total and super().lookup_allowed(lookup, value, request)  # type: ignore[arg-type]

    @admin.display(description=gettext_lazy("operation"), ordering="operation")
    def name(self, operation: Any) -> str:
        title = formatting.title(operation, operation.visible_total)
        return format_html('<a href="{}">{}</a>', address(self.admin_site, operation), title)

    @admin.display(description=gettext_lazy("by"), ordering="actor_label")
    def by(self, operation: BulkOperation) -> str:
        return operation.actor_label

    @admin.display(description=gettext_lazy("progress"), ordering="progress")
    def state(self, operation: BulkOperation) -> str:
        return _("Interrupted") if operation.is_interrupted else operation.get_progress_display()

    @admin.display(description=gettext_lazy("result"))
    def result(self, operation: Any) -> str:
        if operation.progress == Progress.DRAFT:
            return ""
        total = operation.visible_total
        done = total - operation.untried_count
        if operation.operation == Operation.CANCEL:
            text = _("%(good)s canceled, %(done)s of %(count)s done")
        else:
            text = ngettext("%(done)s of %(count)s done", "%(done)s of %(count)s done", total)
        counts = {"good": operation.good_count, "done": done, "count": total}
        return text % {name: formatting.number(count) for name, count in counts.items()}

    def changelist_view(self, request: HttpRequest, extra_context: Any = None) -> HttpResponse:
        """Nothing is selected here: Django's "Select ... to view" would say so, and not in every language rightly."""
        title = capfirst(self.opts.verbose_name_plural)
        return super().changelist_view(request, {"title": title, **(extra_context or {})})

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: Any = None
    ) -> HttpResponse:
        """Send whoever comes from the log or a bookmark to the one address of the operation."""
        operation = self.get_object(request, object_id)
        if operation is None:
            raise Http404
        return redirect_to(self.admin_site, operation)


def _items_in_question(request: HttpRequest) -> QuerySet[BulkOperationItem]:
    """Return the items whose invoices matter to a request: those of one operation if it is a page of that."""
    pk = request.resolver_match.kwargs.get("pk") if request.resolver_match else None
    return BulkOperationItem.objects.filter(operation=pk) if isinstance(pk, UUID) else BulkOperationItem.objects.all()


def _counted(items: QuerySet[Any]) -> Any:
    counted = items.values("operation").annotate(count=Count("pk")).values("count")
    return Coalesce(Subquery(counted, output_field=IntegerField()), 0)
