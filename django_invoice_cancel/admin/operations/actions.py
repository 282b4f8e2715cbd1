"""From a selection in a change list to a draft of a bulk operation: the three actions.

They write the frozen selection and redirect; they ask no provider, since an action may run in a transaction. What
the selection means is settled here, once: a later click never evaluates it anew.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from django.contrib import admin
from django.contrib.admin import AdminSite
from django.core.exceptions import ImproperlyConfigured, PermissionDenied
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.utils.translation import gettext_lazy as _

from ...models import BulkOperation, Invoice
from ...models.operation import Operation
from ..scope import InvoicePermissions, InvoiceScope, paged
from .confirm import redirect_to, started, starts_at_once

Options = list[Any] | tuple[Any, ...]
"""An option of an admin class as Django takes it."""

_PAGE = 500


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


class CancelInvoicesAction(InvoicePermissions):
    """Cancel, check and resolve from the change list of invoices, or of a model that leads to them.

    On the admin of an order: ``cancel_invoice_path = "invoice"``, the look-up from the order to its invoice. An admin
    with actions of its own lists these too: ``actions = [*CancelInvoicesAction.actions, "mine"]``.

    An override of ``has_cancel_permission`` or ``has_resolve_permission`` decides by row (``obj`` is one of this
    admin's model, None for the model as a whole): rows that are not permitted are listed and not touched. Invoices
    that the site's own admin of invoices does not show to the user are not taken, whichever list leads to them.
    """

    admin_site: AdminSite  # of the ModelAdmin beside this mixin
    cancel_invoice_path = ""
    actions: Any = ("cancel_selected_invoices", "check_selected_invoices", "resolve_selected_invoices")

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
        scope = InvoiceScope.of(self.admin_site, request)
        self._refuse_incomplete_site(scope)
        if scope.is_empty:
            raise PermissionDenied
        rows = queryset.using(BulkOperation.objects.db)
        invoices = self._invoices(rows)
        draft = BulkOperation.objects.draft(
            scope.visible(invoices),
            operation=operation,
            actor=request.user,
            strangers=self._without_invoice(rows),
            hidden=self._with_hidden_invoice(rows, scope.hidden(invoices)),
            not_permitted=self._not_permitted(scope, rows, operation),
        )
        if starts_at_once(draft):
            started(self.admin_site, request, draft)
        return redirect_to(self.admin_site, draft)

    def _refuse_incomplete_site(self, scope: InvoiceScope) -> None:
        name = self.admin_site.name
        if not self.admin_site.is_registered(BulkOperation):
            raise ImproperlyConfigured(
                f"The admin site {name!r} has no pages for bulk operations: "
                "register BulkOperation with BulkOperationAdmin there."
            )
        if not scope.is_registered:
            raise ImproperlyConfigured(
                f"The admin site {name!r} has no admin of invoices, so no user may act on any: "
                "register Invoice with InvoiceAdmin there."
            )

    # -- the invoices of a selection --------------------------------------------------------------------------

    def _invoices(self, rows: QuerySet[Any]) -> QuerySet[Any]:
        path = self.cancel_invoice_path
        keys = rows.order_by().values(f"{path}__id" if path else "id")
        invoices: QuerySet[Any] = Invoice.objects.using(rows.db).filter(pk__in=keys)
        return invoices

    def _without_invoice(self, rows: QuerySet[Any]) -> Iterator[str]:
        if self.cancel_invoice_path:
            yield from map(str, paged(rows.filter(**{f"{self.cancel_invoice_path}__isnull": True})))

    def _with_hidden_invoice(self, rows: QuerySet[Any], hidden: QuerySet[Any]) -> Iterator[str]:
        """Yield the names of selected rows whose invoice the user may not see: the row is named, not the invoice."""
        path = f"{self.cancel_invoice_path}__id" if self.cancel_invoice_path else "id"
        leading = rows.order_by().filter(**{f"{path}__in": hidden.values("pk")})
        yield from map(str, paged(rows.filter(pk__in=leading.values("pk"))))

    def _not_permitted(self, scope: InvoiceScope, rows: QuerySet[Any], operation: Operation) -> Iterator[Any]:
        """Yield the keys of invoices that the user sees and may not act on."""
        refused = scope.hidden(self._invoices(rows), operation=operation)
        yield from refused.order_by().values_list("pk", flat=True)
        if self.cancel_invoice_path:
            yield from self._refused_by_own_hook(scope.request, rows, operation)

    def _refused_by_own_hook(self, request: HttpRequest, rows: QuerySet[Any], operation: Operation) -> Iterator[Any]:
        """Yield the keys of invoices whose order, or the like, this admin's hook does not permit, if it has one."""
        name = "has_resolve_permission" if operation == Operation.RESOLVE else "has_cancel_permission"
        permits: Callable[..., bool] = getattr(self, name)
        if getattr(type(self), name) is getattr(InvoicePermissions, name):
            return
        keys = [row.pk for row in paged(rows) if not permits(request, row)]
        for start in range(0, len(keys), _PAGE):
            refused = rows.model._default_manager.using(rows.db).filter(pk__in=keys[start : start + _PAGE])
            invoices = refused.values_list(f"{self.cancel_invoice_path}__id", flat=True)
            yield from (key for key in invoices if key is not None)
