"""The list of bulk operations, and the permissions for their pages."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar
from uuid import UUID

from django.contrib import admin
from django.contrib.admin.views.main import ChangeList
from django.core.exceptions import PermissionDenied
from django.db.models import Count, Exists, F, IntegerField, OuterRef, Q, QuerySet, Subquery
from django.db.models.constants import LOOKUP_SEP
from django.db.models.functions import Coalesce
from django.http import Http404, HttpRequest, HttpResponse
from django.utils.html import format_html
from django.utils.text import capfirst
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from ...domain.outcomes import CONFIRMS_CANCEL
from ...labels.formatting import format_number
from ...labels.operations import describe_operation
from ...labels.results import NOT_TRIED
from ...models import BulkOperation, BulkOperationItem
from ...models.operation import Operation, Progress
from ..local_times import localize_columns
from ..pages import CheckedParameters, keep_filter
from ..scope import InvoiceScope, condition_of_items, visible_items
from .actions import Options
from .confirm import operation_url, redirect_to

if TYPE_CHECKING:
    _ModelAdmin = admin.ModelAdmin[BulkOperation]
else:  # generic for type checkers only
    _ModelAdmin = admin.ModelAdmin


class InterruptedFilter(admin.SimpleListFilter):
    """Running operations that no page and no worker is processing."""

    title = gettext_lazy("needs attention")
    parameter_name = "attention"
    INTERRUPTED = "interrupted"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        return [(self.INTERRUPTED, gettext_lazy("Interrupted"))]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any] | None:
        if self.value() != self.INTERRUPTED:
            return None
        return queryset.filter(pk__in=BulkOperation.objects.interrupted().values("pk"))


class OperationChangeList(ChangeList):
    """Annotates the counts here, because the pages of one operation do not need these costly subqueries."""

    def get_queryset(self, request: HttpRequest, exclude_parameters: Any = None) -> QuerySet[Any]:
        model_admin: Any = self.model_admin
        annotated: QuerySet[Any] = model_admin.annotate_counts(
            request, super().get_queryset(request, exclude_parameters)
        )
        return annotated


class OperationList(CheckedParameters, _ModelAdmin):
    """The list of operations. Users cannot add, change or delete operations here."""

    list_display: Options = ("name", "by", "created_at", "state", "result")
    list_display_links: Options | None = None
    list_filter: ClassVar[Options] = (InterruptedFilter, "operation", "progress")
    list_per_page = 50
    show_full_result_count = False

    # -- permissions ------------------------------------------------------------------------------------------

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Return whether the user may act or has ``view_bulkoperation``, and may see invoices on this site."""
        can_view = self.has_act_permission(request, obj) or super().has_view_permission(request, obj)
        return can_view and not InvoiceScope.of(self.admin_site, request).is_empty

    def has_act_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Return whether the user may act on operations of some kind."""
        return self.has_cancel_permission(request, obj) or self.has_resolve_permission(request, obj)

    def has_cancel_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Return whether the user may start, run, stop and continue cancellations and checks."""
        return request.user.has_perm("invoice_cancel.cancel_invoice")

    def has_resolve_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Return whether the user may start, run, stop and continue operations that resolve invoices."""
        return request.user.has_perm("invoice_cancel.resolve_invoice")

    def has_step_permission(self, request: HttpRequest, operation: str, obj: Any = None) -> bool:
        """Return whether the user may perform an operation of this kind."""
        if operation == Operation.RESOLVE:
            return self.has_resolve_permission(request, obj)
        return self.has_cancel_permission(request, obj)

    # -- the list ---------------------------------------------------------------------------------------------

    def get_list_display(self, request: HttpRequest) -> Any:
        return localize_columns(BulkOperation, super().get_list_display(request))

    def get_queryset(self, request: HttpRequest) -> QuerySet[BulkOperation]:
        """Return the operations with at least one visible invoice."""
        operations: QuerySet[BulkOperation] = super().get_queryset(request)
        if InvoiceScope.of(self.admin_site, request).is_empty:
            return operations.none()
        visible = self._visible_condition(request)
        if not visible:
            return operations
        return operations.filter(Exists(visible_items(_own_items(), visible, request)) | ~Exists(_own_items()))

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        return OperationChangeList

    def get_changelist_instance(self, request: HttpRequest) -> Any:
        """Add the URL of its page, which keeps the filter of this list, to each row."""
        changelist = super().get_changelist_instance(request)
        for operation in changelist.result_list:
            operation.page_url = keep_filter(self, request, operation_url(self.admin_site, operation))
        return changelist

    def annotate_counts(self, request: HttpRequest, operations: QuerySet[BulkOperation]) -> QuerySet[BulkOperation]:
        """Annotate the operations of the list with the counts of their visible invoices."""
        visible = self._visible_condition(request)
        items = visible_items(_own_items(), visible, request)
        return operations.annotate(
            visible_total=_count_items(items) if visible else F("total"),
            good_count=_count_items(items.filter(outcome__in=CONFIRMS_CANCEL)),
            not_tried_count=_count_items(items.filter(outcome=NOT_TRIED)),
        )

    def _visible_condition(self, request: HttpRequest) -> Q:
        return condition_of_items(InvoiceScope.of(self.admin_site, request), _relevant_items(request))

    def lookup_allowed(self, lookup: str, value: Any, request: HttpRequest | None = None) -> bool:
        """Reject lookups of ``total``, because it includes hidden invoices."""
        is_total = lookup.partition(LOOKUP_SEP)[0] == "total"
        return not is_total and super().lookup_allowed(lookup, value, request)

    @admin.display(description=gettext_lazy("operation"), ordering="operation")
    def name(self, operation: Any) -> str:
        title = describe_operation(operation.operation, operation.visible_total)
        return format_html('<a href="{}">{}</a>', operation.page_url, title)

    @admin.display(description=gettext_lazy("by"), ordering="actor_label")
    def by(self, operation: BulkOperation) -> str:
        return format_html("<bdi>{}</bdi>", operation.actor_label)

    @admin.display(description=gettext_lazy("progress"), ordering="progress")
    def state(self, operation: BulkOperation) -> str:
        return _("Interrupted") if operation.is_interrupted else operation.get_progress_display()

    @admin.display(description=gettext_lazy("result"))
    def result(self, operation: Any) -> str:
        if operation.progress == Progress.DRAFT:
            return ""
        total = operation.visible_total
        done = total - operation.not_tried_count
        if operation.operation == Operation.CANCEL:
            text = _("%(good)s canceled, %(done)s of %(count)s done")
        else:
            text = ngettext("%(done)s of %(count)s done", "%(done)s of %(count)s done", total)
        counts = {"good": operation.good_count, "done": done, "count": total}
        return text % {name: format_number(count) for name, count in counts.items()}

    def changelist_view(self, request: HttpRequest, extra_context: Any = None) -> HttpResponse:
        """Replace Django's title "Select ... to view"."""
        title = capfirst(self.opts.verbose_name_plural)
        return super().changelist_view(request, {"title": title, **(extra_context or {})})

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: Any = None
    ) -> HttpResponse:
        """Redirect bookmarks and links of the admin's log to the page of the operation.

        The response does not reveal whether an operation exists that the user may not view.
        """
        if not self.has_view_permission(request):
            raise PermissionDenied
        operation = self.get_object(request, object_id)
        if operation is None or not self.has_view_permission(request, operation):
            raise Http404
        return redirect_to(self.admin_site, operation)


def _relevant_items(request: HttpRequest) -> QuerySet[BulkOperationItem]:
    """Return the items whose invoices are checked for a request: on the page of one operation, only its items."""
    pk = request.resolver_match.kwargs.get("pk") if request.resolver_match else None
    return BulkOperationItem.objects.filter(operation=pk) if isinstance(pk, UUID) else BulkOperationItem.objects.all()


def _own_items() -> QuerySet[BulkOperationItem]:
    """Return the items of the operation of the outer query."""
    return BulkOperationItem.objects.filter(operation=OuterRef("pk")).order_by()


def _count_items(items: QuerySet[Any]) -> Any:
    counted = items.values("operation").annotate(count=Count("pk")).values("count")
    return Coalesce(Subquery(counted, output_field=IntegerField()), 0)
