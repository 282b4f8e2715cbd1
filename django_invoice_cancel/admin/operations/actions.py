"""The three actions of a change list: cancel, check and resolve the selected invoices.

An action stores the selection as the draft of a bulk operation and redirects to its page. It sends no request to a
provider, because it may run in a transaction. The selection is evaluated only once, by the action.
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
from ..scope import ROW_BATCH_SIZE, InvoicePermissions, InvoiceScope, iterate_in_batches
from .confirm import needs_confirmation, redirect_to, start_draft
from .origin import describe_origin

Options = list[Any] | tuple[Any, ...]
"""An option of an admin class, in the types that Django accepts."""


class CancelInvoicesAction(InvoicePermissions):
    """Mixin with the actions "cancel", "check" and "resolve" for a change list of invoices or of a related model.

    In the admin of a related model, such as an order, set ``cancel_invoice_path`` to the lookup path from the model
    to its invoice, for example ``"invoice"`` or ``"payment__invoice"``. An admin with its own actions lists both:
    ``actions = [*CancelInvoicesAction.actions, "mine"]``.

    Override ``has_cancel_permission`` or ``has_resolve_permission`` to decide about single rows: ``obj`` is a row of
    this admin's model, or None for the whole model. Rows without permission are listed but not processed. Invoices
    that the site's own invoice admin hides from the user are never processed.

    Raises:
        ImproperlyConfigured: By the actions, if ``BulkOperation`` or ``Invoice`` is not registered on the admin site.
    """

    admin_site: AdminSite  # of the ModelAdmin beside this mixin
    cancel_invoice_path = ""
    actions: Any = ("cancel_selected_invoices", "check_selected_invoices", "resolve_selected_invoices")

    # Not on the change form, where Django 6.1 would make "Run" its first button: Enter in a field would run the action.
    @admin.action(permissions=["cancel"], description=_("Cancel selected invoices"))
    def cancel_selected_invoices(self, request: HttpRequest, queryset: QuerySet[Any]) -> HttpResponse:
        return self._create_draft(request, queryset, Operation.CANCEL)

    @admin.action(permissions=["cancel"], description=_("Check selected invoices with provider"))
    def check_selected_invoices(self, request: HttpRequest, queryset: QuerySet[Any]) -> HttpResponse:
        return self._create_draft(request, queryset, Operation.CHECK)

    @admin.action(permissions=["resolve"], description=_("Resolve selected invoices"))
    def resolve_selected_invoices(self, request: HttpRequest, queryset: QuerySet[Any]) -> HttpResponse:
        return self._create_draft(request, queryset, Operation.RESOLVE)

    def _create_draft(self, request: HttpRequest, queryset: QuerySet[Any], operation: Operation) -> HttpResponse:
        scope = InvoiceScope.of(self.admin_site, request)
        self._require_registered_admins(scope)
        if scope.is_empty:
            raise PermissionDenied
        rows = queryset.using(BulkOperation.objects.db)
        invoices = self._invoices(rows)
        draft = BulkOperation.objects.draft(
            scope.visible(invoices),
            operation=operation,
            actor=request.user,
            unmatched=self._without_invoice(rows),
            hidden=self._with_hidden_invoice(rows, scope.hidden(invoices)),
            not_permitted=self._not_permitted(scope, rows, operation),
            **describe_origin(self, request),
        )
        if needs_confirmation(draft) or not start_draft(self.admin_site, request, draft):
            return redirect_to(self.admin_site, draft)
        operation_admin: Any = self.admin_site.get_model_admin(BulkOperation)
        response: HttpResponse = operation_admin.started_response(request, draft)
        return response

    def _require_registered_admins(self, scope: InvoiceScope) -> None:
        name = self.admin_site.name
        if not self.admin_site.is_registered(BulkOperation):
            raise ImproperlyConfigured(
                f"The admin site {name!r} has no pages for bulk operations. "
                "Register BulkOperation with BulkOperationAdmin."
            )
        if not scope.is_registered:
            raise ImproperlyConfigured(
                f"The admin site {name!r} has no admin of invoices, so it permits no actions on them. "
                "Register Invoice with InvoiceAdmin."
            )

    # -- the invoices of a selection --------------------------------------------------------------------------

    def _invoices(self, rows: QuerySet[Any]) -> QuerySet[Any]:
        path = self.cancel_invoice_path
        keys = rows.order_by().values(f"{path}__id" if path else "id")
        invoices: QuerySet[Any] = Invoice.objects.using(rows.db).filter(pk__in=keys)
        return invoices

    def _without_invoice(self, rows: QuerySet[Any]) -> Iterator[str]:
        if self.cancel_invoice_path:
            yield from map(str, iterate_in_batches(rows.filter(**{f"{self.cancel_invoice_path}__isnull": True})))

    def _with_hidden_invoice(self, rows: QuerySet[Any], hidden: QuerySet[Any]) -> Iterator[str]:
        """Yield the names of selected rows whose invoice is hidden from the user. The invoice itself is not named."""
        path = f"{self.cancel_invoice_path}__id" if self.cancel_invoice_path else "id"
        leading = rows.order_by().filter(**{f"{path}__in": hidden.values("pk")})
        yield from map(str, iterate_in_batches(rows.filter(pk__in=leading.values("pk"))))

    def _not_permitted(self, scope: InvoiceScope, rows: QuerySet[Any], operation: Operation) -> Iterator[Any]:
        """Yield the keys of invoices that the user may see but not act on."""
        denied = scope.hidden(self._invoices(rows), operation=operation)
        yield from denied.order_by().values_list("pk", flat=True)
        if self.cancel_invoice_path:
            yield from self._denied_by_own_hook(scope.request, rows, operation)

    def _denied_by_own_hook(self, request: HttpRequest, rows: QuerySet[Any], operation: Operation) -> Iterator[Any]:
        """Yield the keys of invoices whose selected row is denied by this admin's own permission method."""
        name = "has_resolve_permission" if operation == Operation.RESOLVE else "has_cancel_permission"
        permits: Callable[..., bool] = getattr(self, name)
        if getattr(type(self), name) is getattr(InvoicePermissions, name):
            return
        keys = [row.pk for row in iterate_in_batches(rows) if not permits(request, row)]
        for start in range(0, len(keys), ROW_BATCH_SIZE):
            denied = rows.model._default_manager.using(rows.db).filter(pk__in=keys[start : start + ROW_BATCH_SIZE])
            invoices = denied.values_list(f"{self.cancel_invoice_path}__id", flat=True)
            yield from (key for key in invoices if key is not None)
