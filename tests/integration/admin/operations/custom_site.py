"""A project's own admin: its own site, subclasses, and a model that refers to invoices. For ``urls`` marks.

Items of an operation are used as orders, because their invoice may be missing, as that of an order.
"""

from typing import Any

from django.contrib import admin
from django.http import HttpRequest
from django.urls import path

from django_invoice_cancel.admin import BulkOperationAdmin, CancelInvoicesAction, InvoiceAdmin
from django_invoice_cancel.models import BulkOperation, BulkOperationItem, Invoice


class OwnInvoicesAdmin(InvoiceAdmin):
    """Permits cancellation of invoices except those that are not the user's own."""

    def has_cancel_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        allowed = super().has_cancel_permission(request, obj)
        return allowed and (obj is None or obj.reference != "not mine")


class BrandedOperations(BulkOperationAdmin):
    confirm_template = "branded_confirm.html"


class OrderAdmin(CancelInvoicesAction, admin.ModelAdmin):
    cancel_invoice_path = "invoice"
    actions = [*CancelInvoicesAction.actions, "print_labels"]

    @admin.action(description="Print labels")
    def print_labels(self, request: HttpRequest, queryset: Any) -> None:
        """Here to show that a host's own actions stay."""

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return True

    def has_cancel_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return super().has_cancel_permission(request, obj) and (obj is None or obj.label != "secret")


site = admin.AdminSite(name="shop_admin")
site.register(Invoice, OwnInvoicesAdmin)
site.register(BulkOperation, BrandedOperations)
site.register(BulkOperationItem, OrderAdmin)

bare_site = admin.AdminSite(name="bare_admin")
bare_site.register(Invoice, InvoiceAdmin)

urlpatterns = [path("admin/", admin.site.urls), path("shop/", site.urls), path("bare/", bare_site.urls)]
