"""Shared code of the admin pages: access, template context, and a paginator for large tables."""

from __future__ import annotations

from collections.abc import Callable
from functools import update_wrapper
from typing import TYPE_CHECKING, Any

import django
from django.contrib.admin import ModelAdmin
from django.contrib.admin.options import IncorrectLookupParameters
from django.contrib.admin.templatetags.admin_urls import add_preserved_filters
from django.core.paginator import Paginator
from django.db import connections, transaction
from django.db.models.constants import LOOKUP_SEP
from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from django.utils.functional import cached_property

from ..models.values import is_unstorable

if TYPE_CHECKING:
    _Paginator = Paginator[Any]
    _AnyModelAdmin = ModelAdmin[Any]
else:  # generic for type checkers only
    _Paginator = Paginator
    _AnyModelAdmin = object

MAX_COUNT = 10_000
"""Maximum number of rows that a list counts. The confirmation page of an action counts all selected rows."""


class MoreThan(int):
    """A count that stopped at its limit. It is shown with a ``>`` in front of it."""

    def __str__(self) -> str:
        return f">{int(self)}"  # in front, because USE_THOUSAND_SEPARATOR counts digits from the end


class BoundedPaginator(_Paginator):
    """Counts at most ``MAX_COUNT`` rows. A page behind the end is the last one, so that the filter is not lost."""

    def validate_number(self, number: Any) -> int:
        return super().validate_number(min(number, self.num_pages))

    @cached_property
    def count(self) -> int:
        rows: Any = self.object_list
        counted: int = rows.order_by()[: MAX_COUNT + 1].count()
        return MoreThan(MAX_COUNT) if counted > MAX_COUNT else counted


class CheckedParameters(_AnyModelAdmin):
    """A change list that accepts any parameters in its URL."""

    def get_changelist_instance(self, request: HttpRequest) -> Any:
        """Reject values that some databases cannot compare. Django then shows the list without parameters."""
        texts = (text for name, values in request.GET.lists() for text in (name, *values))
        if any(is_unstorable(text) for text in texts):
            raise IncorrectLookupParameters
        return super().get_changelist_instance(request)

    def lookup_allowed(self, lookup: str, value: Any, request: HttpRequest | None = None) -> bool:
        """Reject ``range`` lookups: Django's admin passes their value as one string, which every database rejects."""
        is_range = lookup.rpartition(LOOKUP_SEP)[2] == "range"
        return not is_range and super().lookup_allowed(lookup, value, request)  # type: ignore[arg-type]


def admin_view(model_admin: ModelAdmin[Any], view: Callable[..., HttpResponse]) -> Callable[..., HttpResponse]:
    """Return a view that the admin site protects and to which ATOMIC_REQUESTS does not apply."""

    def wrapper(*args: Any, **kwargs: Any) -> HttpResponse:
        return model_admin.admin_site.admin_view(view)(*args, **kwargs)

    update_wrapper(wrapper, view)
    wrapper.model_admin = model_admin  # type: ignore[attr-defined]
    exempt: Callable[..., HttpResponse] = wrapper
    for alias in connections:
        exempt = transaction.non_atomic_requests(using=alias)(exempt)
    return exempt


def page_context(model_admin: ModelAdmin[Any], request: HttpRequest) -> dict[str, Any]:
    """Return the context of every page, and resolve the URLs of the request within this admin site."""
    request.current_app = model_admin.admin_site.name
    return {
        **model_admin.admin_site.each_context(request),
        "opts": model_admin.opts,
        **breadcrumb_context(model_admin, request),
    }


def breadcrumb_context(model_admin: ModelAdmin[Any], request: HttpRequest) -> dict[str, Any]:
    """Return the context of the breadcrumbs, whose link to the list keeps the filter that the user came with."""
    return {
        "breadcrumb_list": django.VERSION >= (6, 1),
        "list_url": keep_filter(model_admin, request, changelist_url(model_admin)),
        "list_opts": model_admin.opts,
    }


def changelist_url(model_admin: ModelAdmin[Any]) -> str:
    """Return the URL of the list, without a filter."""
    opts = model_admin.opts
    return reverse(f"admin:{opts.app_label}_{opts.model_name}_changelist", current_app=model_admin.admin_site.name)


def keep_filter(model_admin: ModelAdmin[Any], request: HttpRequest, url: str) -> str:
    """Return the URL of a page of this admin with the filter of the list that the user came from.

    As in Django's own pages, it is a parameter of the URL, or, for the list itself, its query string. It is never an
    address, so that a forged one leads nowhere else.
    """
    preserved = model_admin.get_preserved_filters(request)
    return str(add_preserved_filters({"opts": model_admin.opts, "preserved_filters": preserved}, url))


def parent_template(model_admin: ModelAdmin[Any], owner: type[Any], attribute: str, default: str) -> str:
    """Return the template that ``owner``'s own template extends: that of a class beside it, or Django's.

    The class beside it is, for example, django-guardian's in ``class MyAdmin(InvoiceAdmin, GuardedModelAdmin)``.
    """
    mro = type(model_admin).__mro__
    beside = mro[mro.index(owner) + 1 :]
    return next((vars(each)[attribute] for each in beside if vars(each).get(attribute)), default)
