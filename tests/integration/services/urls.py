"""Views of a project, for tests with ATOMIC_REQUESTS."""

from django.db import transaction
from django.http import HttpResponse, JsonResponse
from django.urls import path

from django_invoice_cancel.models import Invoice


def cancel(request, pk):
    return JsonResponse(Invoice.objects.get(pk=pk).cancel(actor=request.user).as_dict())


@transaction.non_atomic_requests
def exempt_cancel(request, pk):
    return cancel(request, pk)


def cancel_on_commit(request, pk):
    is_requested = Invoice.objects.get(pk=pk).cancel_on_commit(actor="shop", reason="changed their mind")
    if "fail" in request.GET:
        raise ZeroDivisionError
    return JsonResponse({"is_requested": is_requested})


def webhook(request, provider, external_id, status_string):
    invoice = Invoice.objects.observe_status(provider, external_id, provider_status=status_string)
    return HttpResponse(status=404 if invoice is None else 200)


@transaction.non_atomic_requests
async def acancel(request, pk):
    invoice = await Invoice.objects.aget(pk=pk)
    result = await invoice.acancel(actor="shop")
    return JsonResponse(result.as_dict())


urlpatterns = [
    path("cancel/<int:pk>/", cancel),
    path("exempt/<int:pk>/", exempt_cancel),
    path("on-commit/<int:pk>/", cancel_on_commit),
    path("webhook/<str:provider>/<str:external_id>/<str:status_string>/", webhook),
    path("async/<int:pk>/", acancel),
]
