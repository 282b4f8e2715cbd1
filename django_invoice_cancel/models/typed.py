"""Types that type checkers cannot derive: fields, the query sets of managers, and the async twins of methods.

``Manager.from_queryset(...)`` as a base class is ``Any`` for them, with and without the plugin of django-stubs.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar

from asgiref.sync import sync_to_async

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime
    from decimal import Decimal
    from typing import Generic
    from uuid import UUID

    from django.db import models
    from django.db.models import Prefetch
    from django.db.models.expressions import Combinable
    from django.db.models.fetch_modes import FetchMode

    # Fields of models, which type checkers other than mypy with the plugin cannot infer.
    Text = models.CharField[str, str]
    LongText = models.TextField[str, str]
    Number = models.IntegerField[int, int]
    NumberOrNone = models.IntegerField[Any, int | None]
    Time = models.DateTimeField[Any, datetime]
    TimeOrNone = models.DateTimeField[Any, datetime | None]
    AmountOrNone = models.DecimalField[Any, Decimal | None]
    UUIDOrNone = models.UUIDField[Any, UUID | None]

    Row = TypeVar("Row", bound=models.Model, covariant=True)
    Rows = TypeVar("Rows", bound=models.QuerySet[Any], covariant=True)

    class TypedManager(models.Manager[Row], Generic[Row, Rows]):
        """A manager made from a query set class. Django's methods that return a query set return that class."""

        def get_queryset(self) -> Rows: ...
        def none(self) -> Rows: ...
        def all(self) -> Rows: ...
        def filter(self, *args: Any, **kwargs: Any) -> Rows: ...
        def exclude(self, *args: Any, **kwargs: Any) -> Rows: ...
        def complex_filter(self, filter_obj: Any) -> Rows: ...
        def union(self, *other_qs: models.QuerySet[Any, Any], all: bool = False) -> Rows: ...
        def intersection(self, *other_qs: models.QuerySet[Any, Any]) -> Rows: ...
        def difference(self, *other_qs: models.QuerySet[Any, Any]) -> Rows: ...
        def select_for_update(
            self, nowait: bool = ..., skip_locked: bool = ..., of: Sequence[str] = ..., no_key: bool = ...
        ) -> Rows: ...
        def select_related(self, *fields: str | None) -> Rows: ...
        def prefetch_related(self, *lookups: str | Prefetch[Any, Any, Any] | None) -> Rows: ...
        def annotate(self, *args: Any, **kwargs: Any) -> Rows: ...
        def alias(self, *args: Any, **kwargs: Any) -> Rows: ...
        def order_by(self, *field_names: str | Combinable) -> Rows: ...
        def distinct(self, *field_names: str) -> Rows: ...
        def reverse(self) -> Rows: ...
        def defer(self, *fields: str | None) -> Rows: ...
        def only(self, *fields: str) -> Rows: ...
        def fetch_mode(self, fetch_mode: FetchMode) -> Rows: ...  # Django 6.1
        def using(self, alias: str | None) -> Rows: ...


Owner = TypeVar("Owner")
P = ParamSpec("P")
R = TypeVar("R")


def async_twin(method: Callable[Concatenate[Owner, P], R]) -> Callable[Concatenate[Owner, P], Coroutine[Any, Any, R]]:
    """Return the async twin of a method, to be named ``a...``. It calls the method as a child class overrides it."""
    name = method.__name__

    async def twin(self: Owner, /, *args: P.args, **kwargs: P.kwargs) -> R:
        own: Callable[P, R] = getattr(self, name)
        return await sync_to_async(own)(*args, **kwargs)

    twin.__name__, twin.__qualname__ = f"a{name}", method.__qualname__.replace(name, f"a{name}")
    twin.__module__, twin.__doc__ = method.__module__, f"Do as ``{name}``, in a thread."
    return twin
