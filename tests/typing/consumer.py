# pyright: strict
"""Code of a project that uses this app. It is never run: type checkers know the type of each expression."""

import re
from collections import Counter
from collections.abc import Generator, Mapping, Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, assert_type

from django.contrib import admin
from django.db import models
from django.db.models import QuerySet
from django.http import HttpRequest

from django_invoice_cancel import operations
from django_invoice_cancel.admin import BulkOperationAdmin, CancelInvoicesAction, InvoiceAdmin
from django_invoice_cancel.bulk import BulkReport, cancel_invoices, reconcile_invoices
from django_invoice_cancel.exceptions import CancelError
from django_invoice_cancel.models import BulkOperation, Invoice, InvoiceQuerySet, InvoiceTransition
from django_invoice_cancel.models.transition import InvoiceTransitionQuerySet
from django_invoice_cancel.providers import (
    Code,
    Deadline,
    HTTPProvider,
    Lease,
    LookupReply,
    Outcome,
    ProviderReply,
    Secret,
    Status,
)
from django_invoice_cancel.services import CancelResult, cancel_invoice, reconcile_invoice


def select() -> None:
    assert_type(Invoice.objects.all(), InvoiceQuerySet[Invoice])
    assert_type(Invoice.objects.filter(provider="cryptocloud"), InvoiceQuerySet[Invoice])
    assert_type(Invoice.objects.filter(provider="cryptocloud").cancelable(), InvoiceQuerySet[Invoice])
    assert_type(Invoice.objects.cancelable(include_refused=True).exclude(reference=""), InvoiceQuerySet[Invoice])
    assert_type(Invoice.objects.unpaid_since(timedelta(days=7)), InvoiceQuerySet[Invoice])
    assert_type(Invoice.objects.requested(), InvoiceQuerySet[Invoice])
    assert_type(Invoice.objects.contradicted(), InvoiceQuerySet[Invoice])
    assert_type(Invoice.objects.needing_attention(), InvoiceQuerySet[Invoice])
    assert_type(Invoice.objects.using("archive").order_by("pk").needing_attention(), InvoiceQuerySet[Invoice])


def read() -> None:
    assert_type(Invoice.objects.get(reference="order-17"), Invoice)
    assert_type(Invoice.objects.cancelable().get(), Invoice)
    assert_type(Invoice.objects.first(), Invoice | None)
    assert_type(Invoice.objects.requested().first(), Invoice | None)
    assert_type(Invoice.objects.requested()[0], Invoice)
    assert_type(Invoice.objects.requested()[:5], InvoiceQuerySet[Invoice])
    assert_type(Invoice.objects.create(provider="cryptocloud", external_id="INV-89UX09KA"), Invoice)
    assert_type(Invoice.objects.count(), int)
    for invoice in Invoice.objects.needing_attention():
        assert_type(invoice, Invoice)


def register(orders: list[dict[str, Any]]) -> None:
    invoice, is_new = Invoice.objects.register(
        provider="cryptocloud",
        external_id="INV-89UX09KA",
        reference="order-17",
        amount=Decimal("10.50"),
        currency="EUR",
    )
    assert_type(invoice, Invoice)
    assert_type(is_new, bool)
    assert_type(
        Invoice.objects.register(provider="firekassa", external_id=511727028, status=None), tuple[Invoice, bool]
    )
    assert_type(Invoice.objects.register_many(orders, actor="import"), tuple[int, int])
    assert_type(Invoice.objects.observe_status("cryptocloud", 17, provider_status="success"), Invoice | None)


def cancel(invoice: Invoice, actor: object) -> None:
    assert_type(invoice.cancel(actor=actor, reason="unpaid"), CancelResult)
    assert_type(invoice.cancel_on_commit(actor=actor), bool)
    assert_type(invoice.withdraw(actor=actor), bool)
    assert_type(invoice.observe_status(Invoice.Status.PAID, trigger="webhook"), bool)
    assert_type(invoice.reconcile(resubmit=True), CancelResult)
    assert_type(invoice.mark_handled(actor=actor, note="delivered"), bool)
    invoice.resolve("canceled", actor=actor, reason="seen in the dashboard")
    assert_type(cancel_invoice(invoice, actor=actor), CancelResult)
    assert_type(reconcile_invoice(invoice), CancelResult)
    try:
        invoice.cancel()
    except CancelError as error:
        assert_type(error.result, CancelResult)
        assert_type(error.result.outcome, Outcome)


async def cancel_later(invoice: Invoice) -> None:
    assert_type(await invoice.acancel(actor="shop", reason="unpaid"), CancelResult)
    assert_type(await invoice.areconcile(resubmit=True), CancelResult)
    assert_type(await invoice.aobserve_status("paid", trigger="webhook"), bool)
    assert_type(await invoice.awithdraw(reason="paid after all"), bool)
    assert_type(await invoice.amark_handled(actor="till", note="delivered"), bool)
    await invoice.aresolve("canceled", actor="till", reason="seen in the dashboard")
    new = await Invoice.objects.aregister(provider="cryptocloud", external_id="INV-89UX09KA", reference="order-17")
    assert_type(new, tuple[Invoice, bool])
    assert_type(await Invoice.objects.aobserve_status("cryptocloud", "INV-89UX09KA", "paid"), Invoice | None)
    assert_type(await Invoice.objects.aget(pk=1), Invoice)
    async for each in Invoice.objects.cancelable():
        assert_type(each, Invoice)


def cancel_many() -> None:
    report = Invoice.objects.unpaid_since(timedelta(days=7)).cancel(reason="unpaid for a week", limit=100)
    assert_type(report, BulkReport)
    assert_type(report.results, list[CancelResult])
    assert_type(report.counts, Counter[Outcome])
    assert_type(report.ok, bool)
    assert_type(cancel_invoices(Invoice.objects.cancelable(), rate=20), Generator[CancelResult, None, None])
    assert_type(reconcile_invoices(Invoice.objects.due_for_reconciling()), Generator[CancelResult, None, None])


def look_at(invoice: Invoice) -> None:
    status: Invoice.Status = Invoice.Status.PAID
    assert_type(invoice.status == status, bool)
    assert_type(invoice.get_status_display(), str)
    assert_type(invoice.is_resolvable, bool)
    assert_type(invoice.id, int)
    assert_type(invoice.reference, str)
    assert_type(invoice.amount, Decimal | None)
    assert_type(invoice.issued_at, datetime)
    assert_type(invoice.expires_at, datetime | None)
    assert_type(invoice.status_changed_at, datetime)
    assert_type(invoice.paid_after_cancel_at, datetime | None)
    invoice.reference = "order-18"
    invoice.expires_at = None
    assert_type(invoice.transitions.history(), InvoiceTransitionQuerySet)
    assert_type(invoice.transitions.filter(code="canceled"), InvoiceTransitionQuerySet)
    assert_type(invoice.transitions.filter(code="canceled").history(), InvoiceTransitionQuerySet)
    assert_type(invoice.transitions.last(), InvoiceTransition | None)
    for row in invoice.transitions.all():
        assert_type(row, InvoiceTransition)
        assert_type(row.invoice, Invoice)
        assert_type(row.invoice_id, int)
        assert_type(row.created_at, datetime)
        assert_type(row.http_status, int | None)
        assert_type(row.actor_label, str)
    assert_type(InvoiceTransition.objects.filter(invoice=invoice), InvoiceTransitionQuerySet)


def operate() -> None:
    operation = operations.start(Invoice.objects.cancelable(), actor="shop", reason="unpaid", workers=2)
    assert_type(operation, BulkOperation)
    assert_type(operation.get_progress_display(), str)
    assert_type(operation.progress, str)
    assert_type(operation.total, int)
    assert_type(operation.continues, BulkOperation | None)
    assert_type(operation.finished_at, datetime | None)
    assert_type(operation.is_interrupted, bool)
    assert_type(BulkOperation.objects.filter(pk=operation.pk), QuerySet[BulkOperation])
    assert_type(BulkOperation.objects.unfinished().first(), BulkOperation | None)


class ShopInvoice(Invoice):
    shop = models.CharField[str, str](max_length=20)


def use_a_child(columns: dict[str, Any]) -> None:
    assert_type(ShopInvoice.objects.get(), ShopInvoice)
    assert_type(ShopInvoice.objects.cancelable().first(), ShopInvoice | None)
    new = ShopInvoice.objects.register(provider="cryptocloud", external_id="INV-89UX09KA", **columns)
    assert_type(new, tuple[ShopInvoice, bool])
    assert_type(ShopInvoice.objects.cancelable().cancel(), BulkReport)
    assert_type(cancel_invoices(ShopInvoice.objects.all()), Generator[CancelResult, None, None])


class Order(models.Model):
    invoice = models.ForeignKey[Invoice, Invoice](Invoice, models.PROTECT)

    class Meta:
        app_label = "shop"

    def __str__(self) -> str:
        return "order"


@admin.register(ShopInvoice)
class ShopInvoiceAdmin(InvoiceAdmin):
    list_display = [*InvoiceAdmin.list_display, "expires_at"]
    list_filter = ["status"]
    search_fields = ["reference"]
    search_help_text = "Your number"
    ordering = ["-issued_at"]
    readonly_fields = ["reference"]
    actions = [*InvoiceAdmin.actions, "export"]
    cancel_template = "shop/cancel.html"

    def get_queryset(self, request: HttpRequest) -> QuerySet[Invoice]:
        invoices = super().get_queryset(request)
        assert_type(invoices, QuerySet[Invoice])
        return invoices.filter(provider="cryptocloud")

    def has_cancel_permission(self, request: HttpRequest, obj: Invoice | None = None) -> bool:
        return super().has_cancel_permission(request, obj)

    @admin.action
    def export(self, request: HttpRequest, queryset: QuerySet[Invoice]) -> None: ...


class InvoiceAdminWithTuples(InvoiceAdmin):
    list_display = ("reference",)
    list_filter = ("status",)
    search_fields = ("reference",)
    ordering = ("-issued_at",)
    actions = ("cancel_selected_invoices",)


@admin.register(Order)
class OrderAdmin(CancelInvoicesAction, admin.ModelAdmin[Order]):
    cancel_invoice_path = "invoice"
    actions = [*CancelInvoicesAction.actions]

    def has_resolve_permission(self, request: HttpRequest, obj: Order | None = None) -> bool:
        return super().has_resolve_permission(request, obj) and obj is not None


class OperationAdmin(BulkOperationAdmin):
    list_display = ["name", "by"]
    list_filter = ["progress"]
    confirm_template = "shop/confirm.html"


admin.site.register(Invoice, InvoiceAdmin)
admin.site.register(BulkOperation, OperationAdmin)


# -- an adapter -----------------------------------------------------------------------------------------------


class Examplepay(HTTPProvider):
    token_option = "api_token"
    secret_options = frozenset({"api_token"})
    id_pattern = re.compile("[0-9]+")
    status_words = {"open": Status.CREATED}

    def __init__(self, alias: str, *, api_token: Secret, base_url: str, **common: Any) -> None:
        super().__init__(alias, api_token, base_url=base_url, **common)

    def cancel(self, external_id: str, *, lease: Lease) -> ProviderReply:
        exchange = self.send("POST", f"/{external_id}", deadline=Deadline(self.deadline), lease=lease)
        assert_type(exchange.http_status, int | None)
        return self.read_common(exchange) or self.reply(exchange, Outcome.CANCELED, Code.CANCELED)

    def lookup(self, external_ids: Sequence[str]) -> Mapping[str, LookupReply]:
        return {each: self.found("open") for each in external_ids}
