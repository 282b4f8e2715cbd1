"""The list in which the invoices of an operation were selected: its filter as text, and the way back to it.

It may be the list of another model, such as an order. Only the model and the query string are stored, and the URL is
made from them, so that the way back never leaves the admin site.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from django.apps import apps
from django.contrib.admin import AdminSite, ModelAdmin
from django.contrib.admin.views.main import PAGE_VAR
from django.http import HttpRequest, QueryDict
from django.utils.http import urlencode
from django.utils.text import capfirst

from ...models import BulkOperation
from ...models.operation import Progress
from ..pages import changelist_url
from ..scope import InvoiceScope


def describe_origin(model_admin: Any, request: HttpRequest) -> dict[str, Any]:
    """Return the columns of a draft about the list of the request; empty if the request is not one of a list."""
    opts, match = model_admin.opts, request.resolver_match
    if match is None or match.url_name != f"{opts.app_label}_{opts.model_name}_changelist":
        return {}
    return {
        "selected_in": opts.label_lower,
        "selected_query": request.GET.urlencode(),
        "selected_filter": "; ".join(_describe_filters(model_admin.get_changelist_instance(request))),
    }


def _describe_filters(changelist: Any) -> Iterator[str]:
    """Yield the search term, and each filter with its choice. The first choice of a filter is "All"."""
    if changelist.query:
        yield f"“{changelist.query}”"
    filters = set(changelist.get_filters_params())
    for spec in changelist.filter_specs:
        filters -= set(spec.expected_parameters())
        for choice in list(spec.choices(changelist))[1:]:
            if choice.get("selected"):
                yield f"{spec.title}: {choice['display']}"
    yield from (f"{name} = {changelist.params[name]}" for name in sorted(filters))


def origin_admin(site: AdminSite, request: HttpRequest, operation: BulkOperation) -> ModelAdmin[Any] | None:
    """Return the admin of the list of the selection; the admin of invoices if the user may not open that list."""
    app_label, _dot, name = operation.selected_in.partition(".")
    try:
        model = apps.get_model(app_label, name)
    except (LookupError, ValueError):
        model = None
    if model is not None and site.is_registered(model):
        origin: Any = site.get_model_admin(model)
        if origin.has_view_or_change_permission(request):
            return origin  # type: ignore[no-any-return]
    return InvoiceScope.of(site, request).linked_admin


def origin_context(site: AdminSite, request: HttpRequest, operation: BulkOperation) -> dict[str, str]:
    """Return the addresses of the list of the selection, and of the list and the pages of invoices.

    From the pages of invoices the way back is the same list, with its filter, if the selection was made there.
    """
    origin, invoices = origin_admin(site, request, operation), InvoiceScope.of(site, request).linked_admin
    back_url = origin_url(origin, operation) if origin is not None else ""
    query = back_url.partition("?")[2] if origin is invoices else ""
    return {
        "back_url": back_url,
        "back_name": capfirst(str(origin.opts.verbose_name_plural)) if origin is not None else "",
        "invoices_url": changelist_url(invoices) if invoices is not None else "",
        "invoice_query": "?" + urlencode({"_changelist_filters": query}) if query else "",
    }


def origin_url(origin: ModelAdmin[Any], operation: BulkOperation) -> str:
    """Return the URL of the list with its filter. The page is left out if it may have fewer rows now."""
    if operation.selected_in != origin.opts.label_lower:
        return changelist_url(origin)
    query = QueryDict(operation.selected_query, mutable=True)
    if operation.progress != Progress.DRAFT:
        query.pop(PAGE_VAR, None)
    return f"{changelist_url(origin)}?{query.urlencode()}".rstrip("?")
