"""The views of one invoice: cancel, check, resolve, mark late money as handled, withdraw a requested cancellation.

Each view checks its permission on GET and POST. ATOMIC_REQUESTS does not apply to these views, so services send
requests outside a transaction. Each POST ends with one message to the user and, if it changed something, one entry in
the admin's log.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from copy import copy
from typing import TYPE_CHECKING, Any

from django.contrib import admin, messages
from django.contrib.admin.options import IncorrectLookupParameters
from django.core.exceptions import PermissionDenied, SuspiciousOperation
from django.db.models import Q
from django.forms import Form
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect, QueryDict
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils.html import format_html
from django.utils.translation import gettext as _

from ... import services
from ...domain.audit import Trigger
from ...domain.bidi import isolate
from ...domain.outcomes import CancelResult, Code, Outcome
from ...exceptions import ResolveNotPossible
from ...labels.invoices import BUTTONS, CANNOT, QUESTIONS, status_label
from ...labels.results import describe_result
from ...models import Invoice
from ...services.eligibility import doubtful, is_in_doubt, is_refused
from ...services.results import provider_name
from ..dashboard_links import DashboardLinks
from ..pages import admin_view, keep_filter, page_context
from ..resume import ResumeButton
from .available_actions import AvailableActions
from .forms import CancelForm, DecideForm, HandledForm, WithdrawForm
from .summary import describe_invoice, format_amount, mark_code
from .timeline import read_log

if TYPE_CHECKING:
    _ModelAdmin = admin.ModelAdmin[Invoice]
else:  # a mixin of InvoiceAdmin
    _ModelAdmin = object

_LEVELS: Mapping[Outcome, int] = {Outcome.CANCELED: messages.SUCCESS, Outcome.ALREADY_CANCELED: messages.SUCCESS}
_EXPECTED = frozenset({Code.STILL_OPEN, Code.HAS_PAYMENT, Code.CLOSED})
"""Codes of a check that are expected and cause no warning."""

MAX_DOUBTS = 200
"""Maximum number of invoices in doubt among which the next one for the user is searched."""

Permits = Callable[..., bool]


class InvoiceViews(_ModelAdmin):
    """The views of one invoice, as a mixin of ``InvoiceAdmin``."""

    cancel_template = ""
    """Name of your template, instead of ``admin/invoice_cancel/invoice/cancel.html``."""
    check_template = ""
    """Name of your template, instead of ``admin/invoice_cancel/invoice/check.html``."""
    resolve_template = ""
    """Name of your template, instead of ``admin/invoice_cancel/invoice/resolve.html``."""
    handled_template = ""
    """Name of your template, instead of ``admin/invoice_cancel/invoice/handled.html``."""
    withdraw_template = ""
    """Name of your template, instead of ``admin/invoice_cancel/invoice/withdraw.html``."""

    if TYPE_CHECKING:
        has_cancel_permission: Permits
        has_resolve_permission: Permits
        resume_urls: Callable[[], list[URLPattern]]
        resume_button: Callable[..., ResumeButton | None]

    # -- URLs --------------------------------------------------------------------------------------------

    def get_urls(self) -> list[URLPattern]:
        views = {
            "cancel": self.cancel_view,
            "check": self.check_view,
            "resolve": self.resolve_view,
            "handled": self.handled_view,
            "withdraw": self.withdraw_view,
        }
        own = [
            path(f"<int:pk>/{page}/", admin_view(self, view), name=f"{self._url_prefix}_{page}")
            for page, view in views.items()
        ]
        return [*own, *self.resume_urls(), *super().get_urls()]

    @property
    def _url_prefix(self) -> str:
        return f"{self.opts.app_label}_{self.opts.model_name}"

    def invoice_url(self, invoice: Invoice, page: str = "change") -> str:
        """Return the URL of a page of the invoice."""
        return reverse(f"admin:{self._url_prefix}_{page}", args=[invoice.pk], current_app=self.admin_site.name)

    # -- actions --------------------------------------------------------------------------------------------

    def cancel_view(self, request: HttpRequest, pk: int) -> HttpResponse:
        """Cancel the invoice at its provider, after a confirmation."""
        invoice = self._get_permitted(request, pk, self.has_cancel_permission)
        form = CancelForm(request.POST or None)
        if request.method != "POST" or not form.is_valid():
            return self._show_confirmation(request, invoice, "cancel", form)
        reason = form.cleaned_data["reason"]
        result = services.cancel_invoice(invoice, actor=request.user, trigger=Trigger.ADMIN, reason=reason)
        return self._show_result(request, invoice, result, "cancel")

    def check_view(self, request: HttpRequest, pk: int) -> HttpResponse:
        """Look up the status at the provider. If this repeats the cancel request, a confirmation is required."""
        invoice = self._get_permitted(request, pk, self.has_cancel_permission)
        is_repeat = AvailableActions(self, request, invoice).is_repeat
        if request.method != "POST" or (is_repeat and "repeat" not in request.POST):
            return self._show_confirmation(request, invoice, "check", Form())
        before = copy(invoice)
        result = services.reconcile_invoice(invoice, resubmit=is_repeat, actor=request.user, trigger=Trigger.ADMIN)
        return self._show_result(request, invoice, result, "check", before=before)

    def resolve_view(self, request: HttpRequest, pk: int) -> HttpResponse:
        """Record the user's decision about the invoice, unless the invoice changed after the page was shown."""
        invoice = self._get_permitted(request, pk, self.has_resolve_permission)
        form = DecideForm(invoice, request.POST or None)
        if request.method != "POST" or not form.is_valid():
            return self._show_confirmation(request, invoice, "resolve", form)
        decision, reason = form.cleaned_data["decision"], form.cleaned_data["reason"]
        before, was_refused = copy(invoice), is_refused(invoice)
        invoice.attempt = form.cleaned_data["attempt"]
        try:
            invoice.resolve(decision, actor=request.user, reason=reason)
        except ResolveNotPossible as error:
            return self._redirect(request, invoice, messages.WARNING, str(error))
        text = _("Recorded as “%(status)s”.") if was_refused else _("Resolved as “%(status)s”.")
        message = text % {"status": status_label(decision)}
        self.log_change(request, invoice, f"{message} {isolate(reason)}")
        return self._redirect(request, invoice, messages.SUCCESS, message, before=before)

    def handled_view(self, request: HttpRequest, pk: int) -> HttpResponse:
        """Record the action that the user took about late money."""
        invoice = self._get_permitted(request, pk, self.has_resolve_permission)
        form = HandledForm(invoice, request.POST or None)
        if request.method != "POST" or not form.is_valid():
            return self._show_confirmation(request, invoice, "handled", form)
        note, seen = form.cleaned_data["note"], form.cleaned_data["seen"]
        try:
            is_first = invoice.mark_handled(actor=request.user, note=note, seen=seen)
        except ResolveNotPossible as error:
            return self._redirect(request, invoice, messages.WARNING, str(error))
        if not is_first:
            return self._redirect(request, invoice, messages.INFO, _("Its late payment was already handled."))
        message = str(describe_result(Outcome.SKIPPED, Code.HANDLED, provider=invoice.provider))
        self.log_change(request, invoice, f"{message} {isolate(note)}")
        return self._redirect(request, invoice, messages.SUCCESS, message)

    def withdraw_view(self, request: HttpRequest, pk: int) -> HttpResponse:
        """Withdraw a requested cancellation. A cancel request that was sent earlier may still succeed."""
        invoice = self._get_permitted(request, pk, self.has_cancel_permission)
        form = WithdrawForm(request.POST or None)
        if request.method != "POST" or not form.is_valid():
            return self._show_confirmation(request, invoice, "withdraw", form)
        if not AvailableActions(self, request, invoice).has_request:
            return self._redirect(request, invoice, messages.INFO, _("Its cancellation is not requested."))
        reason = form.cleaned_data["reason"]
        is_settled = invoice.withdraw(actor=request.user, reason=reason, trigger=Trigger.ADMIN)
        message = str(describe_result(Outcome.SKIPPED, Code.WITHDRAWN, provider=invoice.provider))
        if not is_settled:
            message = f"{message} {_('A cancel request was sent before and may still succeed; it is not repeated.')}"
        self.log_change(request, invoice, f"{message} {isolate(reason)}".strip())
        return self._redirect(request, invoice, messages.SUCCESS if is_settled else messages.WARNING, message)

    # -- steps -----------------------------------------------------------------------------------------------

    def _get_permitted(self, request: HttpRequest, pk: int, permits: Permits) -> Invoice:
        """Return the invoice, or raise an exception unless the user may see it and has the permission."""
        if not self.has_view_or_change_permission(request):
            raise PermissionDenied
        invoice = self.get_object(request, str(pk))
        if invoice is None:
            raise Http404
        if not self.has_view_or_change_permission(request, invoice) or not permits(request, invoice):
            raise PermissionDenied
        return invoice

    def _show_confirmation(self, request: HttpRequest, invoice: Invoice, page: str, form: Form) -> HttpResponse:
        """Return the confirmation page of an action, or a page with the reason why it is not possible."""
        available = AvailableActions(self, request, invoice)
        form.label_suffix = ""
        obstacle = available.explain_obstacle(page)
        context = {
            **page_context(self, request),
            "title": CANNOT[page] if obstacle else QUESTIONS[available.variant_of(page)],
            "invoice": invoice,
            "amount": format_amount(invoice),
            "provider": provider_name(invoice.provider),
            "state": mark_code(describe_invoice(invoice, read_log(invoice))),
            "dashboard_url": DashboardLinks().find(invoice),
            "available": available,
            "obstacle": obstacle,
            "resume": self._resume_button_of(request, available, page),
            "reopen_from": available.reopen_from,
            "form": form,
            "back": keep_filter(self, request, self.invoice_url(invoice)),
        }
        own = getattr(self, f"{page}_template")
        return TemplateResponse(request, own or f"admin/invoice_cancel/invoice/{page}.html", context)

    def _resume_button_of(self, request: HttpRequest, available: AvailableActions, page: str) -> ResumeButton | None:
        if page not in ("cancel", "check"):
            return None
        return self.resume_button(request, available.blocking_pause(page))

    def _show_result(
        self, request: HttpRequest, invoice: Invoice, result: CancelResult, page: str, *, before: Invoice | None = None
    ) -> HttpResponse:
        """Log the result of an action, and show it to the user."""
        message = str(result.message)
        if not result.is_recorded:
            lost = _("The answer could not be recorded. Reconcile will check the invoice again.")
            message = f"{message} {lost}"
        self.log_change(request, invoice, f"{BUTTONS[page]}: {message}")
        return self._redirect(request, invoice, _level(result), message, before=before)

    def _redirect(
        self, request: HttpRequest, invoice: Invoice, level: int, message: str, *, before: Invoice | None = None
    ) -> HttpResponse:
        """Return to the page of the invoice. If it was in doubt ``before``, the message links to the next in doubt."""
        text = f"{invoice}: {message}"
        following = self._find_next_in_doubt(request, invoice, before) if before and is_in_doubt(before) else None
        if following is not None:
            url = keep_filter(self, request, self.invoice_url(following))
            text = format_html('{} <a href="{}">{}</a>', text, url, _("Next in doubt"))
        self.message_user(request, text, level)
        return HttpResponseRedirect(keep_filter(self, request, self.invoice_url(invoice)))

    def _find_next_in_doubt(self, request: HttpRequest, invoice: Invoice, before: Invoice) -> Invoice | None:
        """Return the oldest other invoice in doubt, of those in the user's filter that the user may resolve.

        If the invoice is still in doubt, it is the next younger one, so that a user sees each of them once.
        """
        doubts = self._filtered_list(request).filter(doubtful()).exclude(pk=invoice.pk)
        if is_in_doubt(invoice):
            doubts = doubts.filter(
                Q(status_changed_at__gt=before.status_changed_at)
                | Q(status_changed_at=before.status_changed_at, pk__gt=invoice.pk)
            )
        for each in doubts.order_by("status_changed_at", "pk")[:MAX_DOUBTS]:
            if self.has_view_or_change_permission(request, each) and self.has_resolve_permission(request, each):
                found: Invoice = each
                return found
        return None

    def _filtered_list(self, request: HttpRequest) -> Any:
        """Return the invoices in the list that the user came from; all that the user may see if it has no filter."""
        listing: Any = copy(request)
        listing.GET = QueryDict(request.GET.get("_changelist_filters", ""))
        try:
            return self.get_changelist_instance(listing).get_queryset(listing)
        except (IncorrectLookupParameters, SuspiciousOperation):
            return self.get_queryset(request)


def _level(result: CancelResult) -> int:
    if not result.is_recorded:
        return messages.ERROR
    if result.code in _EXPECTED and result.outcome in (Outcome.REFUSED, Outcome.NOT_PROCESSED):
        return messages.INFO
    return _LEVELS.get(result.outcome, messages.WARNING)
