"""The views and the webhook of the shop. They run in transactions (ATOMIC_REQUESTS) and send no requests."""

import json
import logging
from typing import Any

from django.conf import settings
from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.contrib.auth.views import redirect_to_login
from django.core.exceptions import ValidationError
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.utils.translation import gettext as _
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_POST

from django_invoice_cancel.models import Invoice

from .models import Order
from .postback import BadToken, check_token
from .texts import NOTICES, key_of_notice

logger = logging.getLogger("shop")


@login_required
def order_list(request: HttpRequest) -> HttpResponse:
    orders = Order.objects.filter(customer=request.user)
    invoices: dict[str, list[Invoice]] = {order.number: [] for order in orders}
    for invoice in Invoice.objects.filter(reference__in=invoices):
        invoices[invoice.reference].append(invoice)
    keys = [(order, key_of_notice(order, invoices[order.number])) for order in orders]
    return render(request, "shop/order_list.html", {"rows": [(order, key, NOTICES[key]) for order, key in keys]})


@login_required
def order_page(request: HttpRequest, number: str) -> HttpResponse:
    order = get_object_or_404(Order, number=number, customer=request.user)
    invoices = Invoice.objects.filter(reference=order.number)
    key = key_of_notice(order, invoices)
    context = {"order": order, "invoices": invoices, "key": key, "notice": NOTICES[key]}
    return render(request, "shop/order.html", context)


@require_POST
def cancel_order(request: HttpRequest, number: str) -> HttpResponse:
    """Request the cancellation, and show the page of the order, which reads the outcome from its invoices."""
    if not request.user.is_authenticated:
        # The login leads to the order's page, not to this view, because it would be opened with GET.
        return redirect_to_login(reverse("order", args=[number]))
    order = get_object_or_404(Order, number=number, customer=request.user)
    reason = request.POST.get("reason", "").strip() or "canceled by the customer"
    try:
        if not order.request_cancel(actor=request.user, reason=reason):
            messages.warning(request, _("Nothing was changed. The current state of the order is shown below."))
    except ValidationError:
        logger.exception("Order %s contains an id that its payment provider does not accept.", number)
        messages.error(request, _("The order cannot be canceled online. Nothing was changed. Please contact us."))
    return redirect(order)


@csrf_exempt
@require_POST
def cryptocloud_webhook(request: HttpRequest) -> HttpResponse:
    """Record CryptoCloud's postback, which is sent after a payment and never after a cancellation."""
    postback = _fields(request)
    try:
        check_token(str(postback.get("token", "")), settings.CRYPTOCLOUD_SECRET_KEY)
    except BadToken as error:
        return JsonResponse({"message": str(error)}, status=403)
    uuid = "INV-" + str(postback.get("invoice_id", "")).removeprefix("INV-")  # postbacks omit the prefix INV-
    order = Order.objects.filter(cryptocloud_uuid=uuid).first()
    if order is not None:
        invoice = order.register_invoice("cryptocloud")  # it may not be registered yet
        invoice.observe_status(provider_status=str(postback.get("status")), trigger="webhook")
    return JsonResponse({"message": "Postback received"})


def _fields(request: HttpRequest) -> dict[str, Any]:
    """Return the fields of the postback: JSON or a form, as configured in the project's settings at CryptoCloud."""
    if request.content_type != "application/json":
        return request.POST.dict()
    try:
        fields = json.loads(request.body)
    except ValueError:
        return {}
    return fields if isinstance(fields, dict) else {}
