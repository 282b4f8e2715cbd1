"""What can be done with one invoice: cancel, check, resolve, mark as handled, withdraw a requested cancellation.

Each view asks its permission on GET and POST.
Providers are asked outside any transaction (ATOMIC_REQUESTS passes these views by), by the story alone. Each click
ends with one message and, where something was done or asked, one entry in the admin's log.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.forms import Form
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from ... import services
from ...domain.audit import Trigger
from ...domain.outcomes import CancelResult, Code, Outcome
from ...exceptions import ResolveNotPossible
from ...models import Invoice
from ...services.results import provider_name
from ..pages import context_of, guarded
from .available_actions import Offers
from .forms import CancelForm, DecideForm, HandledForm, WithdrawForm
from .summary import marked, money_of, state_of
from .timeline import label_of, latest

if TYPE_CHECKING:
    _ModelAdmin = admin.ModelAdmin[Invoice]
else:  # a mixin of InvoiceAdmin
    _ModelAdmin = object

_LEVELS: Mapping[Outcome, int] = {Outcome.CANCELED: messages.SUCCESS, Outcome.ALREADY_CANCELED: messages.SUCCESS}
_KNOWN = frozenset({Code.STILL_OPEN, Code.HAS_PAYMENT, Code.CLOSED})
"""What a check finds out without anything being wrong."""

_QUESTIONS: Mapping[str, Any] = {
    "cancel": gettext_lazy("Cancel this invoice?"),
    "check": gettext_lazy("Check with provider?"),
    "resolve": gettext_lazy("Resolve this invoice"),
    "handled": gettext_lazy("Mark late money as handled"),
    "withdraw": gettext_lazy("Withdraw the request to cancel this invoice?"),
}
_CANNOT: Mapping[str, Any] = {
    "cancel": gettext_lazy("Cannot cancel this invoice"),
    "check": gettext_lazy("Cannot check this invoice"),
    "resolve": gettext_lazy("Cannot resolve this invoice"),
    "handled": gettext_lazy("Nothing to handle"),
    "withdraw": gettext_lazy("Nothing to withdraw"),
}

Permits = Callable[..., bool]


class SingleInvoice(_ModelAdmin):
    """The pages and clicks of one invoice. A template of your own replaces one of ours by name or by attribute."""

    cancel_template = ""
    """A template of your own instead of ``cancel.html`` in ``admin/invoice_cancel/invoice/``."""
    check_template = ""
    """A template of your own instead of ``check.html`` there."""
    resolve_template = ""
    """A template of your own instead of ``resolve.html`` there."""
    handled_template = ""
    """A template of your own instead of ``handled.html`` there."""
    withdraw_template = ""
    """A template of your own instead of ``withdraw.html`` there."""

    if TYPE_CHECKING:
        has_cancel_permission: Permits
        has_resolve_permission: Permits

    # -- addresses --------------------------------------------------------------------------------------------

    def get_urls(self) -> list[URLPattern]:
        views = {
            "cancel": self.cancel_view,
            "check": self.check_view,
            "resolve": self.resolve_view,
            "handled": self.handled_view,
            "withdraw": self.withdraw_view,
        }
        own = [
            path(f"<int:pk>/{page}/", guarded(self, view), name=f"{self._names}_{page}") for page, view in views.items()
        ]
        return [*own, *super().get_urls()]

    @property
    def _names(self) -> str:
        return f"{self.opts.app_label}_{self.opts.model_name}"

    def address_of(self, invoice: Invoice, page: str = "change") -> str:
        """Return the address of an invoice's page."""
        return reverse(f"admin:{self._names}_{page}", args=[invoice.pk], current_app=self.admin_site.name)

    # -- what is done -----------------------------------------------------------------------------------------

    def cancel_view(self, request: HttpRequest, pk: int) -> HttpResponse:
        """Ask whether to cancel, then ask the provider to."""
        invoice = self._permitted(request, pk, self.has_cancel_permission)
        form = CancelForm(request.POST or None)
        if request.method != "POST" or not form.is_valid():
            return self._ask(request, invoice, "cancel", form)
        reason = form.cleaned_data["reason"]
        result = services.cancel_invoice(invoice, actor=request.user, trigger=Trigger.ADMIN, reason=reason)
        return self._told(request, invoice, result, _("Cancel"))

    def check_view(self, request: HttpRequest, pk: int) -> HttpResponse:
        """Find out at the provider; where that repeats the cancel, ask first."""
        invoice = self._permitted(request, pk, self.has_cancel_permission)
        is_repeat = Offers(self, request, invoice).is_repeat
        if request.method != "POST" or (is_repeat and "repeat" not in request.POST):
            return self._ask(request, invoice, "check", Form())
        result = services.reconcile_invoice(invoice, resubmit=is_repeat, actor=request.user, trigger=Trigger.ADMIN)
        return self._told(request, invoice, result, _("Check with provider"))

    def resolve_view(self, request: HttpRequest, pk: int) -> HttpResponse:
        """Take a person's decision about an invoice, as that person saw it."""
        invoice = self._permitted(request, pk, self.has_resolve_permission)
        form = DecideForm(invoice, request.POST or None)
        if request.method != "POST" or not form.is_valid():
            return self._ask(request, invoice, "resolve", form)
        decision, reason = form.cleaned_data["decision"], form.cleaned_data["reason"]
        invoice.attempt = form.cleaned_data["attempt"]
        try:
            invoice.resolve(decision, actor=request.user, reason=reason)
        except ResolveNotPossible as error:
            return self._back(request, invoice, messages.WARNING, str(error))
        said = _("Resolved as “%(status)s”.") % {"status": label_of(decision)}
        self.log_change(request, invoice, f"{said} {reason}")
        return self._back(request, invoice, messages.SUCCESS, said)

    def handled_view(self, request: HttpRequest, pk: int) -> HttpResponse:
        """Note that somebody took care of late money."""
        invoice = self._permitted(request, pk, self.has_resolve_permission)
        form = HandledForm(invoice, request.POST or None)
        if request.method != "POST" or not form.is_valid():
            return self._ask(request, invoice, "handled", form)
        note, seen = form.cleaned_data["note"], form.cleaned_data["seen"]
        try:
            is_first = invoice.mark_handled(actor=request.user, note=note, seen=seen)
        except ResolveNotPossible as error:
            return self._back(request, invoice, messages.WARNING, str(error))
        if not is_first:
            return self._back(request, invoice, messages.INFO, _("Its late money had been handled before."))
        said = _("Late money marked as handled.")
        self.log_change(request, invoice, f"{said} {note}")
        return self._back(request, invoice, messages.SUCCESS, said)

    def withdraw_view(self, request: HttpRequest, pk: int) -> HttpResponse:
        """Withdraw a requested cancellation; a cancel request that was sent may still succeed."""
        invoice = self._permitted(request, pk, self.has_cancel_permission)
        form = WithdrawForm(request.POST or None)
        if request.method != "POST" or not form.is_valid():
            return self._ask(request, invoice, "withdraw", form)
        if not Offers(self, request, invoice).has_request:
            return self._back(request, invoice, messages.INFO, _("Its cancellation is not requested."))
        reason = form.cleaned_data["reason"]
        is_settled = invoice.withdraw(actor=request.user, reason=reason, trigger=Trigger.ADMIN)
        said = _("The request to cancel it was withdrawn.")
        if not is_settled:
            said = f"{said} {_('A cancel request was sent before and may still succeed; it is not repeated.')}"
        self.log_change(request, invoice, f"{said} {reason}".strip())
        return self._back(request, invoice, messages.SUCCESS if is_settled else messages.WARNING, said)

    # -- before and after -------------------------------------------------------------------------------------

    def _permitted(self, request: HttpRequest, pk: int, permits: Permits) -> Invoice:
        """Return the invoice if this user may see it and do this with it."""
        if not self.has_view_or_change_permission(request):
            raise PermissionDenied
        invoice = self.get_object(request, str(pk))
        if invoice is None:
            raise Http404
        if not self.has_view_or_change_permission(request, invoice) or not permits(request, invoice):
            raise PermissionDenied
        return invoice

    def _ask(self, request: HttpRequest, invoice: Invoice, page: str, form: Form) -> HttpResponse:
        """Show the page that asks before something is done."""
        offers = Offers(self, request, invoice)
        form.label_suffix = ""
        why_not = offers.why_not(page)
        context = {
            **context_of(self, request),
            "title": _CANNOT[page] if why_not else _QUESTIONS[page],
            "invoice": invoice,
            "amount": money_of(invoice),
            "provider": provider_name(invoice.provider),
            "state": marked(state_of(invoice, latest(invoice))),
            "offers": offers,
            "why_not": why_not,
            "open_from": offers.open_from,
            "form": form,
            "back": self.address_of(invoice),
        }
        own = getattr(self, f"{page}_template")
        return TemplateResponse(request, own or f"admin/invoice_cancel/invoice/{page}.html", context)

    def _told(self, request: HttpRequest, invoice: Invoice, result: CancelResult, asked: str) -> HttpResponse:
        """Log what was asked and what came of it, and say it."""
        said = str(result.message)
        if not result.is_recorded:
            lost = _("The answer could not be written down: reconcile will find it out anew.")
            said = f"{said} {lost}"
        self.log_change(request, invoice, f"{asked}: {said}")
        return self._back(request, invoice, _level(result), said)

    def _back(self, request: HttpRequest, invoice: Invoice, level: int, said: str) -> HttpResponse:
        self.message_user(request, f"{invoice}: {said}", level)
        return HttpResponseRedirect(self.address_of(invoice))


def _level(result: CancelResult) -> int:
    if not result.is_recorded:
        return messages.ERROR
    if result.code in _KNOWN and result.outcome in (Outcome.REFUSED, Outcome.NOT_PROCESSED):
        return messages.INFO
    return _LEVELS.get(result.outcome, messages.WARNING)
