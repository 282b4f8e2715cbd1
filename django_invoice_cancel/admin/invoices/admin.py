"""The admin of invoices: the list, and the page of one invoice. The fields that the app's writer sets are read-only.

The list makes a constant number of queries. None of them counts the whole table, or sorts it unless the user requests
it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from django import forms
from django.contrib import admin
from django.db import models
from django.db.models import Case, When
from django.http import HttpRequest, HttpResponse
from django.utils.html import format_html
from django.utils.translation import gettext_lazy as _

from ... import conf
from ...domain.audit import Trigger
from ...domain.statuses import Status
from ...labels.formatting import format_time, format_time_ago
from ...labels.invoices import status_label
from ...labels.results import last_outcome_label
from ...models import BulkOperationItem, Invoice
from ...models.operation import Progress
from ...models.registrations import columns_to_register
from ...models.writes.transactions import WRITER_FIELDS
from ..dashboard_links import DashboardLinks
from ..local_times import localize_columns, make_times_displayable
from ..operations.actions import CancelInvoicesAction, Options
from ..pages import BoundedPaginator, CheckedParameters, breadcrumb_context, keep_filter, parent_template
from ..resume import ResumeView
from .available_actions import AvailableActions, list_request_links
from .dashboard import collect_attention
from .filters import (
    AttentionFilter,
    IssuedFilter,
    ProviderFilter,
    list_shortcuts,
    lists_doubts,
    lists_requests,
    search_invoices,
)
from .forms import InvoiceForm, registration_choices
from .summary import describe_invoice, format_amount, mark_code
from .timeline import MAX_EVENTS, build_events, read_log
from .views import InvoiceViews

if TYPE_CHECKING:
    _ModelAdmin = admin.ModelAdmin[Invoice]
else:  # generic for type checkers only
    _ModelAdmin = admin.ModelAdmin

MAX_HISTORY_EVENTS = 500
"""Maximum number of events on the history page."""
_REQUEST_COLUMNS = ("requested", "request_actions")
_NOT_ABOUT_REQUESTS = ("state", "doubt_since", "confirmed")
"""Columns that are the same for all requested cancellations, or empty."""
_SHOP_FIELDS = ("reference", "amount", "currency", "issued_at", "expires_at")
_METHOD_COLUMNS = {"last_outcome": "outcome", "status": "state"}
"""Columns that a method shows, because Django shows "-" for a choice that it does not know."""
_BOOKKEEPING = (*(_METHOD_COLUMNS.get(name, name.removesuffix("_id")) for name in WRITER_FIELDS), "created_at")


class InvoiceAdmin(CancelInvoicesAction, InvoiceViews, ResumeView, CheckedParameters, _ModelAdmin):
    """The admin of ``Invoice`` and of its child classes.

    To replace the template of a confirmation page, set ``cancel_template``, ``check_template``, ``resolve_template``,
    ``handled_template`` or ``withdraw_template`` to the name of your template. Override ``has_cancel_permission`` or
    ``has_resolve_permission`` to decide about single invoices.

    Name it before the admin class of another package: ``class MyAdmin(InvoiceAdmin, GuardedModelAdmin)``. Its
    templates then extend those of the other class.
    """

    form: type[forms.ModelForm[Invoice]] = InvoiceForm
    list_display: Options = (
        "external_id",
        "reference",
        "provider",
        "money",
        "state",
        "doubt_since",
        "confirmed",
        "issued_at",
        "requested",
        "request_actions",
    )
    list_filter: ClassVar[Options] = (AttentionFilter, "status", ProviderFilter, IssuedFilter)
    search_fields: ClassVar[Options] = ("external_id", "reference")
    search_help_text: ClassVar[Any] = _("The provider's id or your reference, in full or the beginning.")
    ordering: ClassVar[Options] = ("-pk",)
    paginator: ClassVar[type[Any]] = BoundedPaginator
    show_full_result_count = False
    show_facets = admin.ShowFacets.NEVER
    # Named here, because Django finds templates by name only for this app's own model, not for its child classes.
    change_list_template: ClassVar[Any] = "admin/invoice_cancel/invoice/change_list.html"
    change_form_template: ClassVar[Any] = "admin/invoice_cancel/invoice/change_form.html"
    object_history_template: ClassVar[Any] = "admin/invoice_cancel/invoice/object_history.html"

    class Media:
        css = {"all": ("invoice_cancel/invoice.css",)}

    # -- the list ---------------------------------------------------------------------------------------------

    def get_list_display(self, request: HttpRequest) -> Any:
        """Return the columns that fit the filter: about requests, or "in doubt since" in place of "confirmed"."""
        columns = localize_columns(Invoice, super().get_list_display(request))
        names = {name for name in columns if isinstance(name, str)}
        left_out = set(_REQUEST_COLUMNS)
        if lists_requests(request.GET) and names & left_out:
            shown = (*columns[:1], *(name for name in _REQUEST_COLUMNS if name in names), *columns[1:])
            return tuple(dict.fromkeys(name for name in shown if name not in _NOT_ABOUT_REQUESTS))
        if {"confirmed", "doubt_since"} <= names:
            has_doubts = AttentionFilter.parameter_name in request.GET or lists_doubts(request.GET)
            left_out.add("confirmed" if has_doubts else "doubt_since")
        return tuple(name for name in columns if name not in left_out)

    def get_ordering(self, request: HttpRequest) -> Any:
        """Return newest first, in the order of the index that the filter uses, so that large tables are not sorted.

        Invoices in doubt are listed with the oldest doubt first, and requested cancellations with the oldest request.
        """
        if self.ordering == InvoiceAdmin.ordering and lists_doubts(request.GET):
            return ("status_changed_at", "pk")
        if self.ordering == InvoiceAdmin.ordering and lists_requests(request.GET):
            return ("cancel_requested_at", "pk")
        if self.ordering == InvoiceAdmin.ordering and "status__exact" in request.GET:
            return ("-issued_at", "-pk")
        return super().get_ordering(request)

    @admin.display(description=_("amount"), ordering="amount")
    def money(self, invoice: Invoice) -> str:
        return format_amount(invoice)

    @admin.display(description=_("status"), ordering="status")
    def state(self, invoice: Invoice) -> str:
        return format_html('<span class="ic-status ic-{}">{}</span>', invoice.status, status_label(invoice.status))

    @admin.display(
        description=_("in doubt since"),
        ordering=Case(When(status=Status.IN_DOUBT, then="status_changed_at")).asc(nulls_last=True),
    )
    def doubt_since(self, invoice: Invoice) -> str:
        return format_time(invoice.status_changed_at) if invoice.status == Status.IN_DOUBT else ""

    @admin.display(description=_("requested"), ordering="cancel_requested_at")
    def requested(self, invoice: Invoice) -> str:
        return format_time_ago(invoice.cancel_requested_at) if invoice.cancel_requested_at else ""

    @admin.display(description=_("next step"))
    def request_actions(self, invoice: Invoice) -> str:
        """The links to carry the request out now, and to withdraw it."""
        return getattr(invoice, "request_links", "")

    @admin.display(description=_("confirmed"), ordering="status_confirmed_at")
    def confirmed(self, invoice: Invoice) -> str:
        return format_time_ago(invoice.status_confirmed_at) if invoice.status_confirmed_at else ""

    @admin.display(description=_("last outcome"))
    def outcome(self, invoice: Invoice) -> str:
        return last_outcome_label(invoice.last_outcome)

    def get_search_results(
        self, request: HttpRequest, queryset: models.QuerySet[Invoice], search_term: str
    ) -> tuple[models.QuerySet[Invoice], bool]:
        return search_invoices(queryset, search_term), False

    def changelist_view(self, request: HttpRequest, extra_context: Any = None) -> HttpResponse:
        shown: dict[str, Any] = {"shortcuts": list_shortcuts(self.get_list_filter(request))}
        if self.has_view_or_change_permission(request):
            shown["attention"] = collect_attention(self, request)
        parent = self._parent_template("change_list")
        return super().changelist_view(request, {**shown, **parent, **(extra_context or {})})

    def get_changelist_instance(self, request: HttpRequest) -> Any:
        changelist: Any = super().get_changelist_instance(request)
        for row in changelist.result_list:
            make_times_displayable(row)
        if lists_requests(request.GET):
            links = list_request_links(self, request, changelist.result_list)
            for row in changelist.result_list:
                row.request_links = links.get(row.pk, "")
        return changelist

    # -- one invoice ------------------------------------------------------------------------------------------

    def get_object(self, request: HttpRequest, object_id: str, from_field: str | None = None) -> Any:
        invoice = super().get_object(request, object_id, from_field)
        if invoice is not None:
            make_times_displayable(invoice)
        return invoice

    def get_fieldsets(self, request: HttpRequest, obj: Invoice | None = None) -> Any:
        if self.fieldsets or self.fields:
            return super().get_fieldsets(request, obj)
        if obj is None:
            return [(None, {"fields": ("provider", "external_id", *_SHOP_FIELDS, "status")})]
        return [
            (None, {"fields": ("provider", "external_id", *_SHOP_FIELDS)}),
            (_("Internal fields"), {"fields": localize_columns(Invoice, _BOOKKEEPING), "classes": ("collapse",)}),
        ]

    def get_readonly_fields(self, request: HttpRequest, obj: Invoice | None = None) -> tuple[str, ...]:
        """Return the fields that the writer sets and, for a registered invoice, the fields that identify it."""
        own = tuple(super().get_readonly_fields(request, obj))
        if obj is None:
            return (*own, *_BOOKKEEPING)
        return (
            *own,
            "provider",
            "external_id",
            "status",
            *dict.fromkeys((*_BOOKKEEPING, *localize_columns(Invoice, _BOOKKEEPING))),
        )

    def formfield_for_dbfield(self, db_field: Any, request: HttpRequest, **kwargs: Any) -> Any:
        settings, _problems = conf.read()
        if db_field.name == "provider" and not settings.provider_resolver:
            kwargs["widget"] = forms.Select(choices=[(alias, alias) for alias in settings.providers])
        if db_field.name == "status":
            kwargs["choices"] = registration_choices()
        return super().formfield_for_dbfield(db_field, request, **kwargs)

    def save_model(self, request: HttpRequest, obj: Invoice, form: Any, change: bool) -> None:
        """Save a new invoice with ``register``, so that its log begins with a row."""
        if change:
            super().save_model(request, obj, form, change)
            return
        values = {name: getattr(obj, name) for name in columns_to_register(self.model)}
        made, _is_new = self.model._default_manager.register(**values, actor=request.user, trigger=Trigger.ADMIN)
        vars(obj).update(vars(made))  # includes the keys of the parent tables of a child class

    def render_change_form(
        self, request: HttpRequest, context: dict[str, Any], *args: Any, **kwargs: Any
    ) -> HttpResponse:
        invoice = context.get("original")
        if invoice is not None:
            context["summary"] = self._summarize(request, invoice)
            context |= breadcrumb_context(self, request)
        context.update(self._parent_template("change_form"))
        return super().render_change_form(request, context, *args, **kwargs)

    def _summarize(self, request: HttpRequest, invoice: Invoice) -> dict[str, Any]:
        """Return the top of an invoice's page: its summary, the available actions, and the timeline."""
        log = read_log(invoice, MAX_EVENTS + 1)
        available = AvailableActions(self, request, invoice)
        return {
            "state": mark_code(describe_invoice(invoice, log)),
            "has_late_money": available.has_late_money,
            "is_contradicted": available.is_contradicted,
            "dashboard_url": DashboardLinks().find(invoice),
            "buttons": list(available.buttons()),
            "remarks": list(available.remarks()),
            "resume": self.resume_button(request, available.blocking_pause()),
            "events": build_events(invoice, log[:MAX_EVENTS]),
            "has_more": len(log) > MAX_EVENTS,
        }

    def history_view(self, request: HttpRequest, object_id: str, extra_context: Any = None) -> HttpResponse:
        """Show the log of the invoice above the admin's own log."""
        context = self._parent_template("object_history")
        invoice = self.get_object(request, object_id)
        if invoice is not None and self.has_view_or_change_permission(request, invoice):
            context["events"] = build_events(invoice, read_log(invoice, MAX_HISTORY_EVENTS))
            context["back"] = keep_filter(self, request, self.invoice_url(invoice))
            context |= breadcrumb_context(self, request)
        return super().history_view(request, object_id, {**context, **(extra_context or {})})

    def _parent_template(self, page: str) -> dict[str, Any]:
        template = parent_template(self, InvoiceAdmin, f"{page}_template", f"admin/{page}.html")
        return {"parent_template": template}

    # -- deleting ---------------------------------------------------------------------------------------------

    def has_delete_permission(self, request: HttpRequest, obj: Invoice | None = None) -> bool:
        """Permit deletion of one invoice that has no log and is in no report. A selection can never be deleted."""
        if obj is None or obj.transitions.exists() or _is_reported(obj):
            return False
        allowed: Any = super().has_delete_permission(request, obj)
        return bool(allowed)


def _is_reported(invoice: Invoice) -> bool:
    """Return whether a report of an operation contains the invoice. Deleting the invoice would delete that row too."""
    return BulkOperationItem.objects.filter(invoice=invoice).exclude(operation__progress=Progress.DRAFT).exists()
