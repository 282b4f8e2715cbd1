"""Invoices in the admin: the list and one invoice. Fields that only the writer may change are read-only here.

The list makes a constant number of queries. None counts the whole table, and none sorts it before a person asks to.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from django import forms
from django.contrib import admin
from django.db import models
from django.http import HttpRequest, HttpResponse
from django.utils.html import format_html
from django.utils.translation import gettext_lazy as _

from ... import conf
from ...domain.audit import Trigger
from ...models import BulkOperationItem, Invoice
from ...models.operation import Progress
from ...models.registrations import columns_to_register
from ...models.writes.rows import WRITER_FIELDS
from ..formatting import ago, in_local_time, make_showable, outcome_word
from ..operations.actions import CancelInvoicesAction, Options
from ..pages import BoundedPaginator
from .available_actions import Offers
from .dashboard import attention
from .filters import AttentionFilter, IssuedFilter, ProviderFilter, found
from .forms import InvoiceForm, registrable
from .summary import marked, money_of, state_of
from .timeline import LATEST, events_of, label_of, latest
from .views import SingleInvoice

if TYPE_CHECKING:
    _ModelAdmin = admin.ModelAdmin[Invoice]
else:  # generic for the type checker alone
    _ModelAdmin = admin.ModelAdmin

HISTORY = 500
"""How many events the history shows."""
_SHOP = ("reference", "amount", "currency", "issued_at", "expires_at")
_IN_WORDS = {"last_outcome": "outcome", "status": "state"}
"""Columns that are shown by a method, since Django shows "-" for a choice that it does not know."""
_BOOKKEEPING = (*(_IN_WORDS.get(name, name.removesuffix("_id")) for name in WRITER_FIELDS), "created_at")


class InvoiceAdmin(CancelInvoicesAction, SingleInvoice, _ModelAdmin):
    """Invoices, and what can be done with them."""

    form: type[forms.ModelForm[Invoice]] = InvoiceForm
    list_display: Options = ("external_id", "reference", "provider", "money", "state", "confirmed", "issued_at")
    list_filter: ClassVar[Options] = (AttentionFilter, "status", ProviderFilter, IssuedFilter)
    search_fields: ClassVar[Options] = ("external_id", "reference")
    search_help_text: ClassVar[Any] = _("The provider's id or your reference: exactly, or how it begins.")
    ordering: ClassVar[Options] = ("-pk",)
    paginator: ClassVar[type[Any]] = BoundedPaginator
    show_full_result_count = False
    show_facets = admin.ShowFacets.NEVER

    class Media:
        css = {"all": ("invoice_cancel/invoice.css",)}

    # -- the list ---------------------------------------------------------------------------------------------

    def get_list_display(self, request: HttpRequest) -> Any:
        return in_local_time(Invoice, super().get_list_display(request))

    def get_ordering(self, request: HttpRequest) -> Any:
        """Newest first, along whichever index serves the filter: nothing sorts a million rows unasked."""
        if self.ordering == InvoiceAdmin.ordering and "status__exact" in request.GET:
            return ("-issued_at", "-pk")
        return super().get_ordering(request)

    @admin.display(description=_("amount"), ordering="amount")
    def money(self, invoice: Invoice) -> str:
        return money_of(invoice)

    @admin.display(description=_("status"), ordering="status")
    def state(self, invoice: Invoice) -> str:
        return format_html('<span class="ic-status ic-{}">{}</span>', invoice.status, label_of(invoice.status))

    @admin.display(description=_("confirmed"), ordering="status_confirmed_at")
    def confirmed(self, invoice: Invoice) -> str:
        return ago(invoice.status_confirmed_at) if invoice.status_confirmed_at else ""

    @admin.display(description=_("last outcome"))
    def outcome(self, invoice: Invoice) -> str:
        return outcome_word(invoice.last_outcome)

    def get_search_results(
        self, request: HttpRequest, queryset: models.QuerySet[Invoice], search_term: str
    ) -> tuple[models.QuerySet[Invoice], bool]:
        return found(queryset, search_term), False

    def changelist_view(self, request: HttpRequest, extra_context: Any = None) -> HttpResponse:
        shown = {"attention": attention(self, request)} if self.has_view_or_change_permission(request) else {}
        return super().changelist_view(request, {**shown, **(extra_context or {})})

    def get_changelist_instance(self, request: HttpRequest) -> Any:
        changelist: Any = super().get_changelist_instance(request)
        for row in changelist.result_list:
            make_showable(row)
        return changelist

    # -- one invoice ------------------------------------------------------------------------------------------

    def get_object(self, request: HttpRequest, object_id: str, from_field: str | None = None) -> Any:
        invoice = super().get_object(request, object_id, from_field)
        if invoice is not None:
            make_showable(invoice)
        return invoice

    def get_fieldsets(self, request: HttpRequest, obj: Invoice | None = None) -> Any:
        if self.fieldsets or self.fields:
            return super().get_fieldsets(request, obj)
        if obj is None:
            return [(None, {"fields": ("provider", "external_id", *_SHOP, "status")})]
        return [
            (None, {"fields": ("provider", "external_id", *_SHOP)}),
            (_("Bookkeeping"), {"fields": in_local_time(Invoice, _BOOKKEEPING), "classes": ("collapse",)}),
        ]

    def get_readonly_fields(self, request: HttpRequest, obj: Invoice | None = None) -> tuple[str, ...]:
        """The writer's fields, always; what names the invoice at its provider, once it is registered."""
        own = tuple(super().get_readonly_fields(request, obj))
        if obj is None:
            return (*own, *_BOOKKEEPING)
        return (
            *own,
            "provider",
            "external_id",
            "status",
            *dict.fromkeys((*_BOOKKEEPING, *in_local_time(Invoice, _BOOKKEEPING))),
        )

    def formfield_for_dbfield(self, db_field: Any, request: HttpRequest, **kwargs: Any) -> Any:
        settings, _problems = conf.read()
        if db_field.name == "provider" and not settings.provider_resolver:
            kwargs["widget"] = forms.Select(choices=[(alias, alias) for alias in settings.providers])
        if db_field.name == "status":
            kwargs["choices"] = registrable()
        return super().formfield_for_dbfield(db_field, request, **kwargs)

    def save_model(self, request: HttpRequest, obj: Invoice, form: Any, change: bool) -> None:
        """Register a new invoice, and its child class's fields, as every door does: its log begins as it should."""
        if change:
            super().save_model(request, obj, form, change)
            return
        values = {name: getattr(obj, name) for name in columns_to_register(self.model)}
        made, _is_new = self.model._default_manager.register(**values, actor=request.user, trigger=Trigger.ADMIN)
        vars(obj).update(vars(made))  # the keys of all tables of a child class

    def render_change_form(
        self, request: HttpRequest, context: dict[str, Any], *args: Any, **kwargs: Any
    ) -> HttpResponse:
        invoice = context.get("original")
        if invoice is not None:
            context["story"] = self._story(request, invoice)
        return super().render_change_form(request, context, *args, **kwargs)

    def _story(self, request: HttpRequest, invoice: Invoice) -> dict[str, Any]:
        """Return what the page of an invoice begins with: its state, what can be done, what happened."""
        log = latest(invoice, LATEST + 1)
        offers = Offers(self, request, invoice)
        return {
            "state": marked(state_of(invoice, log)),
            "has_late_money": offers.has_late_money,
            "is_contradicted": offers.is_contradicted,
            "buttons": list(offers.buttons()),
            "remarks": list(offers.remarks()),
            "events": events_of(invoice, log[:LATEST]),
            "has_more": len(log) > LATEST,
        }

    def history_view(self, request: HttpRequest, object_id: str, extra_context: Any = None) -> HttpResponse:
        """Show what happened to the invoice beside what was clicked here."""
        invoice = self.get_object(request, object_id)
        if invoice is None or not self.has_view_or_change_permission(request, invoice):
            return super().history_view(request, object_id, extra_context)
        log = latest(invoice, HISTORY)
        return super().history_view(request, object_id, {"events": events_of(invoice, log), **(extra_context or {})})

    # -- deleting ---------------------------------------------------------------------------------------------

    def has_delete_permission(self, request: HttpRequest, obj: Invoice | None = None) -> bool:
        """Only an invoice that nothing has happened to, and no report lists, may go; never a selection of them."""
        if obj is None or obj.transitions.exists() or _is_reported(obj):
            return False
        allowed: Any = super().has_delete_permission(request, obj)
        return bool(allowed)


def _is_reported(invoice: Invoice) -> bool:
    """Say whether the report of an operation lists the invoice, skipped or not tried: the line would go with it."""
    return BulkOperationItem.objects.filter(invoice=invoice).exclude(operation__progress=Progress.DRAFT).exists()
