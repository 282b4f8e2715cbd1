"""The shop's orders in the admin."""

from django.contrib import admin

from .models import Order


@admin.register(Order)
class OrderAdmin(admin.ModelAdmin):
    list_display = ("number", "title", "total", "currency", "state", "cryptocloud_uuid", "firekassa_invoice_id")
    list_filter = ("state", "currency")
    search_fields = ("number", "title", "cryptocloud_uuid", "firekassa_invoice_id")
    date_hierarchy = "placed_at"
