"""A project's own admin: its own site, and a subclass with its own template, action and columns."""

from django.contrib import admin
from django.urls import path

from django_invoice_cancel.admin import BulkOperationAdmin, InvoiceAdmin
from django_invoice_cancel.models import BulkOperation, Invoice

site = admin.AdminSite(name="backoffice")


class HostInvoiceAdmin(InvoiceAdmin):
    """What a host would write."""

    list_display = (*InvoiceAdmin.list_display, "expires_at")
    list_filter = ("currency", *InvoiceAdmin.list_filter)
    actions = (*InvoiceAdmin.actions, "greet")
    readonly_fields = ("reference",)
    resolve_template = "host/resolve.html"

    @admin.action(description="Greet")
    def greet(self, request, queryset):
        self.message_user(request, f"hello {queryset.count()}")


class PlainSiteAdmin(InvoiceAdmin):
    """On a site that has no pages for bulk operations."""


site.register(Invoice, HostInvoiceAdmin)
site.register(BulkOperation, BulkOperationAdmin)
plain = admin.AdminSite(name="plain")
plain.register(Invoice, PlainSiteAdmin)

urlpatterns = [
    path("admin/", admin.site.urls),
    path("backoffice/", site.urls),
    path("plain/", plain.urls),
]
