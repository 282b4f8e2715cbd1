"""What our own pages in the admin share beside Django's: who lets a request in, and what every template is given."""

from __future__ import annotations

from collections.abc import Callable
from functools import update_wrapper
from typing import TYPE_CHECKING, Any

import django
from django.contrib.admin import ModelAdmin
from django.core.paginator import Paginator
from django.db import connections, transaction
from django.http import HttpRequest, HttpResponse
from django.utils.functional import cached_property

if TYPE_CHECKING:
    _Paginator = Paginator[Any]
else:  # generic for the type checker alone
    _Paginator = Paginator

BOUND = 10_000
"""Nobody pages further than that; whoever selects more than that by one click reads the true count to confirm."""


class MoreThan(int):
    """A count that stopped at its bound; it says so wherever a template shows it."""

    def __str__(self) -> str:
        return f">{int(self)}"  # in front: USE_THOUSAND_SEPARATOR counts digits from the end


class BoundedPaginator(_Paginator):
    """Counts no more than ``BOUND`` rows, and says "more than" beyond."""

    @cached_property
    def count(self) -> int:
        rows: Any = self.object_list
        counted: int = rows.order_by()[: BOUND + 1].count()
        return MoreThan(BOUND) if counted > BOUND else counted


def guarded(model_admin: ModelAdmin[Any], view: Callable[..., HttpResponse]) -> Callable[..., HttpResponse]:
    """Let the admin guard a view, and ATOMIC_REQUESTS pass it by, on every database."""

    def wrapper(*args: Any, **kwargs: Any) -> HttpResponse:
        return model_admin.admin_site.admin_view(view)(*args, **kwargs)

    update_wrapper(wrapper, view)
    wrapper.model_admin = model_admin  # type: ignore[attr-defined]
    exempt: Callable[..., HttpResponse] = wrapper
    for alias in connections:
        exempt = transaction.non_atomic_requests(using=alias)(exempt)
    return exempt


def context_of(model_admin: ModelAdmin[Any], request: HttpRequest) -> dict[str, Any]:
    """Return what every page of ours is given; addresses in it are those of the site that shows it."""
    request.current_app = model_admin.admin_site.name
    return {
        **model_admin.admin_site.each_context(request),
        "opts": model_admin.opts,
        "breadcrumb_list": django.VERSION >= (6, 1),
    }
