"""The invoices, and the items of operations, that one user may see and act on in one admin site.

The invoice admins of the site decide about each row. A row is visible if ``get_queryset(request)`` of an admin of
``Invoice``, or of a proxy or child class of it, contains the row and the view permission of that admin includes it.
On a site without such an admin, no user sees an operation.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property, reduce
from operator import or_
from typing import Any

from django.apps import apps
from django.contrib.admin import AdminSite, ModelAdmin
from django.db.models import BooleanField, Exists, F, Func, OuterRef, Q, QuerySet
from django.http import HttpRequest

from ..models import BulkOperation, BulkOperationItem, Invoice
from ..models.operation import Operation
from ..models.operation_item import distinct_providers, free_items, left_items

ROW_BATCH_SIZE = 500
"""Number of rows that one query reads."""
_NOTHING = Q(pk__in=())
_VIEW = ("has_view_or_change_permission", "has_view_permission", "has_change_permission")

RowHook = Callable[..., bool]


class KeyIn(Func):
    """The condition that a key is in a list. The list is one parameter, because SQLite limits their number."""

    output_field = BooleanField()

    def __init__(self, field: str, keys: Sequence[int]) -> None:
        super().__init__(F(field))
        self.keys = list(keys)

    def as_sql(  # type: ignore[override]
        self, compiler: Any, connection: Any, **kwargs: Any
    ) -> tuple[str, tuple[Any, ...]]:
        """Return the SQL of the condition for the database of the connection."""
        column, params = compiler.compile(self.source_expressions[0])
        if connection.vendor == "postgresql":
            return f"{column} = ANY(%s)", (*params, self.keys)
        unpacked = _UNPACKED[connection.vendor]
        return f"{column} IN (SELECT {unpacked})", (*params, json.dumps(self.keys))


_UNPACKED = {
    "sqlite": "value FROM json_each(%s)",
    "mysql": "denied.id FROM JSON_TABLE(%s, '$[*]' COLUMNS (id BIGINT PATH '$')) AS denied",
}


class InvoicePermissions:
    """The permission methods of an admin of invoices, or of a model that refers to invoices.

    Overridden methods decide about each row: ``obj`` is a row of this admin's model, or None for the whole model.
    """

    def has_cancel_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Return whether this user may cancel invoices and check them at the provider."""
        return request.user.has_perm("invoice_cancel.cancel_invoice")

    def has_resolve_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Return whether this user may resolve invoices manually."""
        return request.user.has_perm("invoice_cancel.resolve_invoice")


class InvoiceScope:
    """The invoices that the user of a request may see on one site, and the actions that the user may take on them.

    A child class may have its own primary key, so rows are compared by ``id``, which they inherit.
    """

    def __init__(self, site: AdminSite, request: HttpRequest) -> None:
        self.request = request
        self._decisions: defaultdict[tuple[ModelAdmin[Any], str], dict[Any, bool]] = defaultdict(dict)
        admins = list(_invoice_admins(site))
        self.is_registered = bool(admins)
        self._admins = [admin for admin in admins if admin.has_view_or_change_permission(request)]

    @classmethod
    def of(cls, site: AdminSite, request: HttpRequest) -> InvoiceScope:
        """Return the scope of a request for a site. It is cached, so permission methods decide once about a row."""
        scopes: dict[AdminSite, InvoiceScope] = vars(request).setdefault("_invoice_cancel_scopes", {})
        if site not in scopes:
            scopes[site] = cls(site, request)
        return scopes[site]

    @property
    def is_empty(self) -> bool:
        """True if the user may not open any list of invoices on this site."""
        return not self._admins

    @property
    def linked_admin(self) -> ModelAdmin[Any] | None:
        """The admin whose URLs contain the key of an invoice, preferably that of ``Invoice``, or None."""
        admins = [admin for admin in self._admins if _has_key_of_invoice(admin.model)]
        return min(admins, key=lambda admin: admin.model is not Invoice, default=None)

    def permits(self, operation: str) -> bool:
        """Return whether the user may perform this operation on invoices in general. Single rows are not checked."""
        return any(_hook(admin, operation)(self.request) for admin in self._admins)

    def condition(self, field: str, keys: QuerySet[Any], *, using: str, operation: str = "") -> Q:
        """Return the condition that the invoice with the key in ``field`` is visible; empty if every invoice is.

        Args:
            field: The field with the key of the invoice.
            keys: The keys of the invoices in question. Permission methods that decide about rows are called for each
                of them.
            using: The alias of the database.
            operation: If given, the user must also be permitted to perform this operation on the invoice.
        """
        conditions = [self._condition_of(admin, field, keys, using, operation) for admin in self._admins]
        return reduce(or_, conditions, _NOTHING) if all(conditions) else Q()

    def visible(self, invoices: QuerySet[Any], *, operation: str = "") -> QuerySet[Any]:
        """Return the invoices that the user may see and, if ``operation`` is given, perform this operation on."""
        return invoices.filter(self._condition_on(invoices, operation))

    def hidden(self, invoices: QuerySet[Any], *, operation: str = "") -> QuerySet[Any]:
        """Return the invoices that ``visible`` leaves out."""
        condition = self._condition_on(invoices, operation)
        return invoices.exclude(condition) if condition else invoices.none()

    def covers_account(self, alias: str, *, operation: str = "") -> bool:
        """Return whether at least one invoice of an account is visible and permits the operation, or none exists."""
        invoices = Invoice.objects.filter(provider=alias).order_by("-pk")
        if not any(True for admin in self._admins for _hook in _row_hooks(admin, operation)):
            return self.visible(invoices, operation=operation).exists() or not invoices.exists()
        keys = list(invoices.values_list("pk", flat=True)[:ROW_BATCH_SIZE])
        if not keys:
            return True
        while keys:  # permission methods decide about each row, the newest first
            if self.visible(invoices.filter(pk__in=keys), operation=operation).exists():
                return True
            keys = list(invoices.filter(pk__lt=keys[-1]).values_list("pk", flat=True)[:ROW_BATCH_SIZE])
        return False

    def _condition_on(self, invoices: QuerySet[Any], operation: str) -> Q:
        return self.condition(
            "pk", invoices.order_by().values_list("pk", flat=True), using=invoices.db, operation=operation
        )

    def _condition_of(self, admin: ModelAdmin[Any], field: str, keys: QuerySet[Any], using: str, operation: str) -> Q:
        if operation and not _hook(admin, operation)(self.request):
            return _NOTHING
        rows = admin.get_queryset(self.request).using(using)
        condition = Q() if _is_everything(rows) else Q(**{f"{field}__in": rows.order_by().values("id")})
        hooks = list(_row_hooks(admin, operation))
        denied = self._denied(admin, rows, keys, operation, hooks) if hooks else []
        return condition & ~Q(KeyIn(field, denied)) if denied else condition

    def _denied(
        self, admin: ModelAdmin[Any], rows: QuerySet[Any], keys: QuerySet[Any], operation: str, hooks: list[RowHook]
    ) -> list[Any]:
        """Return the keys of the rows that a permission method denies."""
        decisions = self._decisions[admin, operation]
        wanted = set(keys)
        undecided = sorted(wanted - set(decisions))
        for start in range(0, len(undecided), ROW_BATCH_SIZE):
            for row in rows.filter(id__in=undecided[start : start + ROW_BATCH_SIZE]):
                decisions[row.id] = all(permits(self.request, row) for permits in hooks)
        return [key for key in wanted if decisions.get(key) is False]


class OperationScope:
    """The items of one operation that a user may see. The user may act on them if these are all remaining items.

    An item without an invoice is visible to the user who selected it, and to users who see every invoice of the
    operation.
    """

    def __init__(self, invoice_scope: InvoiceScope, operation: BulkOperation) -> None:
        self.invoice_scope = invoice_scope
        self.operation = operation
        self._every_item = BulkOperationItem.objects.using(operation.database).filter(operation=operation)
        self._visible_condition = invoice_scope.condition(
            "invoice_id", _keys(self._every_item), using=operation.database
        )

    @cached_property
    def items(self) -> QuerySet[BulkOperationItem]:
        """The visible items."""
        return visible_items(self._every_item, self._visible_condition, self.invoice_scope.request)

    def left(self) -> QuerySet[BulkOperationItem]:
        """Return the visible items that have no outcome yet."""
        return left_items(self.items)

    def free(self) -> QuerySet[BulkOperationItem]:
        """Return the visible items that have no outcome yet and are not leased by a process."""
        return free_items(self.items)

    def providers_left(self) -> list[str]:
        """Return the aliases of the visible items that have no outcome yet."""
        return distinct_providers(self.left())

    @cached_property
    def is_complete(self) -> bool:
        """Whether every item is visible."""
        return not self._has_hidden(self._every_item, self._visible_condition)

    @cached_property
    def total(self) -> int:
        """The number of visible items."""
        return self.operation.total if self.is_complete else self.items.count()

    def permits(self, operation: str) -> bool:
        """Return whether the user sees every remaining item and may perform this operation on each of them."""
        left = left_items(self._every_item)
        using = self.operation.database
        allowed = self.invoice_scope.condition("invoice_id", _keys(left), using=using, operation=operation)
        return self.invoice_scope.permits(operation) and not self._has_hidden(left, allowed)

    def _has_hidden(self, items: QuerySet[BulkOperationItem], condition: Q) -> bool:
        return bool(condition) and items.filter(invoice__isnull=False).exclude(condition).exists()


def visible_items(items: QuerySet[BulkOperationItem], visible: Q, request: HttpRequest) -> QuerySet[BulkOperationItem]:
    """Return the items whose invoice fulfils the condition, and the visible items without an invoice."""
    if not visible:
        return items
    same = BulkOperationItem.objects.filter(operation=OuterRef("operation"), invoice__isnull=False)
    is_open = Q(operation__actor=request.user.pk) | ~Exists(same.exclude(visible))
    return items.filter(visible | (Q(invoice__isnull=True) & is_open))


def condition_of_items(scope: InvoiceScope, items: QuerySet[BulkOperationItem]) -> Q:
    """Return the condition that the invoice of an item is visible; empty if every invoice is."""
    return scope.condition("invoice_id", _keys(items), using=items.db)


def _keys(items: QuerySet[BulkOperationItem]) -> QuerySet[Any]:
    return items.filter(invoice__isnull=False).order_by().values_list("invoice_id", flat=True)


def _invoice_admins(site: AdminSite) -> Iterator[ModelAdmin[Any]]:
    for model in apps.get_models():
        if issubclass(model, Invoice) and site.is_registered(model):
            yield site.get_model_admin(model)


def _has_key_of_invoice(model: type[Any]) -> bool:
    """Return whether a class uses the primary key of ``Invoice``. A child class may have its own."""
    key = model._meta.pk
    while key.remote_field is not None:
        key = key.remote_field.model._meta.pk
    return key is Invoice._meta.pk


def _hook(admin: ModelAdmin[Any], operation: str) -> RowHook:
    """Return the permission method for this operation; for a plain ``ModelAdmin``, a check of the permission itself."""
    name = "has_resolve_permission" if operation == Operation.RESOLVE else "has_cancel_permission"
    hook: RowHook | None = getattr(admin, name, None)
    return hook or getattr(InvoicePermissions, name).__get__(admin)


def _row_hooks(admin: ModelAdmin[Any], operation: str) -> Iterator[RowHook]:
    """Yield the permission methods of an admin that may decide about rows. These are the overridden ones."""
    if any(_function(getattr(admin, name)) is not getattr(ModelAdmin, name) for name in _VIEW):
        yield admin.has_view_or_change_permission
    if operation:
        hook = _hook(admin, operation)
        if _function(hook) is not getattr(InvoicePermissions, _function(hook).__name__, None):
            yield hook


def _function(hook: Any) -> Any:
    return getattr(hook, "__func__", hook)


def _is_everything(rows: QuerySet[Any]) -> bool:
    """Return whether a query set contains all rows, so that queries do not need it as a condition."""
    query = rows.query
    joined = set(query.alias_map) - {rows.model._meta.db_table}
    narrowing = (query.where, query.is_sliced, query.combinator, query.distinct_fields, query.extra_tables, joined)
    return not any(narrowing) and rows.model._meta.concrete_model is Invoice


def iterate_in_batches(rows: QuerySet[Any]) -> Iterator[Any]:
    """Yield the rows in batches, one query for each: a server-side cursor does not work behind pgbouncer."""
    ordered = rows.order_by("pk")
    batch = list(ordered[:ROW_BATCH_SIZE])
    while batch:
        yield from batch
        batch = list(ordered.filter(pk__gt=batch[-1].pk)[:ROW_BATCH_SIZE])
