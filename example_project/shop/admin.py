"""The shop's orders in the admin."""

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from django_invoice_cancel.exceptions import ResolveNotPossible

from .models import Order


@admin.register(Order)
class OrderAdmin(admin.ModelAdmin):
    list_display = ("number", "customer", "title", "total", "currency", "state", "refund_due")
    list_filter = ("state", "refund_due", "currency")
    list_select_related = ("customer",)
    search_fields = ("number", "title", "cryptocloud_uuid", "firekassa_invoice_id")
    date_hierarchy = "placed_at"
    actions = ("record_refund",)

    @admin.action(description=_("Record that the payment was returned"), permissions=["refund"])
    def record_refund(self, request: HttpRequest, orders: QuerySet[Order]) -> None:
        for order in orders.filter(refund_due=True):
            try:
                order.record_refund(actor=request.user)
            except ResolveNotPossible:
                text = gettext("%(order)s: more money has arrived. Look at its invoice.") % {"order": order}
                self.message_user(request, text, messages.ERROR)

    def has_refund_permission(self, request: HttpRequest) -> bool:
        return self.has_change_permission(request) and request.user.has_perm("invoice_cancel.resolve_invoice")
