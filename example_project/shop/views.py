"""The views and the webhook of the shop. They run in transactions (ATOMIC_REQUESTS) and send no requests."""

import json
from typing import Any

from django.conf import settings
from django.contrib import messages
from django.contrib.auth.decorators import login_required, permission_required
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_POST

from django_invoice_cancel.models import Invoice

from .models import Order
from .postback import BadToken, check_token


@login_required
def order_list(request: HttpRequest) -> HttpResponse:
    orders = list(Order.objects.all())
    invoices = Invoice.objects.filter(reference__in=[order.number for order in orders])
    by_number = {invoice.reference: invoice for invoice in invoices}
    rows = [(order, by_number.get(order.number)) for order in orders]
    return render(request, "shop/order_list.html", {"rows": rows})


@login_required
def order_page(request: HttpRequest, number: str) -> HttpResponse:
    order = get_object_or_404(Order, number=number)
    invoice = Invoice.objects.filter(reference=order.number).first()
    context = {
        "order": order,
        "invoice": invoice,
        "transitions": invoice.transitions.all() if invoice else [],
        "can_cancel": order.state == Order.State.OPEN and (invoice is None or invoice.status == "created"),
    }
    return render(request, "shop/order.html", context)


@login_required
@permission_required("invoice_cancel.cancel_invoice", raise_exception=True)
@require_POST
def cancel_order(request: HttpRequest, number: str) -> HttpResponse:
    order = get_object_or_404(Order, number=number)
    if order.state != Order.State.OPEN:
        messages.warning(request, f"The order cannot be canceled, because it is {order.get_state_display().lower()}.")
        return redirect(order)
    invoice = order.register_invoice()
    if invoice is None:
        Order.objects.filter(pk=order.pk).update(state=Order.State.CANCELED)
    # The cancel request is sent after the commit of this view's transaction. ``receivers`` updates the order.
    elif not invoice.cancel_on_commit(actor=request.user, reason=request.POST.get("reason", "")):
        messages.warning(request, f"The invoice cannot be canceled now: {invoice.get_status_display()}.")
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
    invoice = order.register_invoice() if order is not None else None  # the invoice may not be registered yet
    if invoice is not None:
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
