"""From a selection in a change list to a draft of a bulk operation: the three actions.

They write the frozen selection and redirect; they ask no provider, since an action may run in a transaction. What
the selection means is settled here, once: a later click never evaluates it anew.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

from django.contrib import admin
from django.core.exceptions import ImproperlyConfigured
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.utils.translation import gettext_lazy as _

from ..models import BulkOperation, Invoice
from ..models.bulk_operation import Operation
from .starting import redirect_to, started, starts_at_once

if TYPE_CHECKING:
    _ModelAdmin = admin.ModelAdmin[Any]
else:  # a mixin for people's own admins
    _ModelAdmin = object

_PAGE = 500
Permits = Callable[..., bool]


def _offered(*, permission: str, one: Any, selected: Any) -> Callable[[Any], Any]:
    """Declare an action: on the change list and, where Django can do that (6.1), on the change form."""

    def decorate(function: Any) -> Any:
        action = admin.action(permissions=[permission], description=selected)(function)
        locations = getattr(admin, "ActionLocation", None)
        if locations is not None:
            action.locations = [locations.CHANGE_LIST, locations.CHANGE_FORM]
            action.short_description, action.plural_description = one, selected
        return action

    return decorate


class CancelInvoicesAction(_ModelAdmin):
    """Cancel, check and resolve from the change list of invoices, or of a model that leads to them.

    On the admin of an order: ``cancel_invoice_path = "invoice"``, the look-up from the order to its invoice. An admin
    with actions of its own lists these too: ``actions = [*CancelInvoicesAction.actions, "mine"]``.

    Overriding ``has_cancel_permission`` or ``has_resolve_permission`` decides by row (``obj`` is one of this admin's
    model, None where no row is meant): rows that are not permitted are listed, and left alone.
    """

    cancel_invoice_path = ""
    actions = ("cancel_selected_invoices", "check_selected_invoices", "resolve_selected_invoices")

    def has_cancel_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Whether this user may cancel and check at the provider."""
        return request.user.has_perm("invoice_cancel.cancel_invoice")

    def has_resolve_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Whether this user may decide about invoices by hand."""
        return request.user.has_perm("invoice_cancel.resolve_invoice")

    @_offered(permission="cancel", one=_("Cancel this invoice"), selected=_("Cancel selected invoices"))
    def cancel_selected_invoices(self, request: HttpRequest, queryset: QuerySet[Any]) -> HttpResponse:
        return self._draft(request, queryset, Operation.CANCEL)

    @_offered(
        permission="cancel",
        one=_("Check this invoice with provider"),
        selected=_("Check selected invoices with provider"),
    )
    def check_selected_invoices(self, request: HttpRequest, queryset: QuerySet[Any]) -> HttpResponse:
        return self._draft(request, queryset, Operation.CHECK)

    @_offered(
        permission="resolve",
        one=_("Resolve this invoice in doubt"),
        selected=_("Resolve selected invoices in doubt"),
    )
    def resolve_selected_invoices(self, request: HttpRequest, queryset: QuerySet[Any]) -> HttpResponse:
        return self._draft(request, queryset, Operation.RESOLVE)

    def _draft(self, request: HttpRequest, queryset: QuerySet[Any], operation: Operation) -> HttpResponse:
        if not self.admin_site.is_registered(BulkOperation):
            raise ImproperlyConfigured(
                f"The admin site {self.admin_site.name!r} has no pages for bulk operations: "
                "register BulkOperation with BulkOperationAdmin there."
            )
        draft = BulkOperation.objects.draft(
            self._invoices(queryset),
            operation=operation,
            actor=request.user,
            strangers=self._without_invoice(queryset),
            not_permitted=self.not_permitted(request, queryset, operation),
        )
        if starts_at_once(draft):
            started(self.admin_site, request, draft)
        return redirect_to(self.admin_site, draft)

    # -- what the selection means -----------------------------------------------------------------------------

    def _invoices(self, queryset: QuerySet[Any]) -> QuerySet[Any]:
        path = self.cancel_invoice_path
        if not path:
            return queryset
        invoices: QuerySet[Any] = Invoice.objects.filter(pk__in=queryset.order_by().values(f"{path}__id"))
        return invoices

    def _without_invoice(self, queryset: QuerySet[Any]) -> Iterator[str]:
        if self.cancel_invoice_path:
            strangers = queryset.filter(**{f"{self.cancel_invoice_path}__isnull": True}).order_by("pk")
            yield from (str(stranger) for stranger in strangers.iterator(_PAGE))

    def not_permitted(self, request: HttpRequest, queryset: QuerySet[Any], operation: Operation) -> Iterable[Any]:
        """Yield the keys of invoices whose rows the hook does not permit; it is asked only where it is overridden."""
        name = "has_resolve_permission" if operation == Operation.RESOLVE else "has_cancel_permission"
        if getattr(type(self), name) is getattr(CancelInvoicesAction, name):
            return
        permits: Permits = getattr(self, name)
        path = f"{self.cancel_invoice_path}__id" if self.cancel_invoice_path else "id"
        keys = [row.pk for row in queryset.order_by("pk").iterator(_PAGE) if not permits(request, row)]
        for start in range(0, len(keys), _PAGE):
            rows = queryset.model._default_manager.filter(pk__in=keys[start : start + _PAGE])
            yield from (key for key in rows.values_list(path, flat=True) if key is not None)
