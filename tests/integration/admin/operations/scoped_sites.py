"""Sites whose invoice admin hides rows, each in another way that Django supports. For ``urls`` marks.

A row is hidden if its reference is ``hidden``.
"""

from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.urls import path

from django_invoice_cancel.admin import BulkOperationAdmin, CancelInvoicesAction, InvoiceAdmin
from django_invoice_cancel.models import BulkOperation, BulkOperationItem, Invoice
from tests.apps.child_models.models import NumberedInvoice, ProxyInvoice, ShopInvoice


class HidesRows:
    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        return super().get_queryset(request).exclude(reference="hidden")


class NarrowAdmin(HidesRows, InvoiceAdmin):
    """Hides rows as Django's documentation does it."""


class HookedAdmin(NarrowAdmin):
    """Overrides the hooks of rows, too, and permits each row that it is asked about."""

    def has_cancel_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return True

    def has_resolve_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return True


class RowAdmin(InvoiceAdmin):
    """Hides rows by the view hook, and permits changes of none of them."""

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return super().has_view_permission(request, obj) and (obj is None or obj.reference != "hidden")

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


class PlainAdmin(HidesRows, admin.ModelAdmin):
    """Knows nothing of this package."""


class OrderAdmin(CancelInvoicesAction, admin.ModelAdmin):
    """Shows every row; an item of an operation plays the order."""

    cancel_invoice_path = "invoice"
    actions = [*CancelInvoicesAction.actions]

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return True


def site_of(name: str, model: Any = None, admin_class: Any = None) -> admin.AdminSite:
    site = admin.AdminSite(name=name)
    site.register(BulkOperation, BulkOperationAdmin)
    site.register(BulkOperationItem, OrderAdmin)
    if model is not None:
        site.register(model, admin_class)
    return site


SITES = {
    "narrow": site_of("narrow", Invoice, NarrowAdmin),
    "hooked": site_of("hooked", Invoice, HookedAdmin),
    "rows": site_of("rows", Invoice, RowAdmin),
    "plain": site_of("plain", Invoice, PlainAdmin),
    "proxy": site_of("proxy", ProxyInvoice, NarrowAdmin),
    "child": site_of("child", ShopInvoice, NarrowAdmin),
    "numbered": site_of("numbered", NumberedInvoice, RowAdmin),
    "none": site_of("none"),
}

urlpatterns = [
    path("admin/", admin.site.urls),
    *(path(f"{name}/", site.urls) for name, site in SITES.items()),
]
