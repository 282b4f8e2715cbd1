"""Try now: end the pause of a provider, so that the next request is sent as a probe.

It needs the permission to cancel, for at least one invoice of the account that the user may see. The view sends nothing
itself. Only a POST ends a pause. A GET shows a page that asks, and so does a POST before the time that the provider
named in a Retry-After header.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from django.contrib import messages
from django.contrib.admin import ModelAdmin
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils.http import url_has_allowed_host_and_scheme
from django.utils.translation import gettext as _

from ..domain.clock import utc_now
from ..labels.formatting import format_clock
from ..models import Invoice, ProviderState
from ..models.operation import Operation
from ..models.writes.provider_state import Resumed, Resumption
from .pages import admin_view, page_context
from .provider_state import account_name, describe_pause
from .scope import InvoiceScope

CONFIRMED = "retry_after"
"""The POST parameter with the end of the Retry-After that the user has seen."""
_LEVELS = {Resumption.RESUMED: messages.SUCCESS, Resumption.NOT_PAUSED: messages.INFO}


@dataclass(frozen=True)
class ResumeButton:
    """The button "Try now" of one paused account."""

    url: str
    next: str
    """The page to which the view returns."""
    name: str
    """The name of the account, for a page with several buttons."""


class ResumeView:
    """The view and the button, as a mixin of the admins of invoices and of operations."""

    resume_template = "admin/invoice_cancel/resume.html"

    def resume_urls(self: Any) -> list[URLPattern]:
        name = f"{self.opts.app_label}_{self.opts.model_name}_resume"
        return [path("resume/<path:alias>/", admin_view(self, self.resume_view), name=name)]

    def resume_button(self: Any, request: HttpRequest, state: ProviderState | None) -> ResumeButton | None:
        """Return the button for an account; None if it is not paused or the user may not end its pause."""
        if state is None or not state.is_paused or not _may_resume(self, request, state.alias):
            return None
        name = f"admin:{self.opts.app_label}_{self.opts.model_name}_resume"
        url = reverse(name, args=[state.alias], current_app=self.admin_site.name)
        return ResumeButton(url, request.get_full_path(), account_name(state.alias))

    def resume_view(self: Any, request: HttpRequest, alias: str) -> HttpResponse:
        """End the pause of an account, or ask before."""
        if not self.has_view_or_change_permission(request):
            raise PermissionDenied
        check_may_resume(self, request, alias)
        state: ProviderState | None = Invoice.objects.all()._writer.provider_state(alias)
        if state is None:
            raise Http404
        back = self._resume_back(request)
        if request.method == "POST":
            resumed = resume(self, request, state)
            if resumed is not None:
                return HttpResponseRedirect(back)
        return TemplateResponse(request, self.resume_template, self._resume_context(request, state, back))

    def _resume_context(self: Any, request: HttpRequest, state: ProviderState, back: str) -> dict[str, Any]:
        retry_after = state.retry_after_at if _is_asked_to_wait(state) else None
        return {
            **page_context(self, request),
            "title": _("Send to %(provider)s again?") % {"provider": account_name(state.alias)},
            "pause": describe_pause(state),
            "provider": account_name(state.alias),
            "retry_after": "" if retry_after is None else format_clock(retry_after),
            "confirmed": "" if retry_after is None else retry_after.isoformat(),
            "confirmed_name": CONFIRMED,
            "back": back,
        }

    def _resume_back(self: Any, request: HttpRequest) -> str:
        """Return the page from which the user came, on this host, or the list."""
        wanted = request.POST.get("next") or request.GET.get("next") or ""
        if url_has_allowed_host_and_scheme(wanted, {request.get_host()}, require_https=request.is_secure()):
            return wanted
        name = f"admin:{self.opts.app_label}_{self.opts.model_name}_changelist"
        return reverse(name, current_app=self.admin_site.name)


def resume(model_admin: ModelAdmin[Any], request: HttpRequest, state: ProviderState) -> Resumed | None:
    """End a pause as the user of the request, log it and tell the user; return None if the user must be asked."""
    is_confirmed = _is_asked_to_wait(state) and request.POST.get(CONFIRMED) == state.retry_after_at.isoformat()
    resumed: Resumed = Invoice.objects.all()._writer.resume(state.alias, actor=request.user, force=is_confirmed)
    if resumed.result == Resumption.RETRY_AFTER:
        return None
    message = _MESSAGES[resumed.result]() % {
        "provider": account_name(state.alias),
        "when": "" if resumed.at is None else format_clock(resumed.at),
    }
    if resumed.result == Resumption.RESUMED:
        model_admin.log_change(request, state, message)
    model_admin.message_user(request, message, _LEVELS.get(resumed.result, messages.WARNING))
    return resumed


_MESSAGES: dict[Resumption, Callable[[], str]] = {
    Resumption.RESUMED: lambda: _(
        "The pause of %(provider)s has ended. The next request is sent as a test, and its answer decides."
    ),
    Resumption.NOT_PAUSED: lambda: _("%(provider)s is not paused."),
    Resumption.TOO_SOON: lambda: _("The pause of %(provider)s was just ended. You can try again after %(when)s."),
}


def check_may_resume(model_admin: ModelAdmin[Any], request: HttpRequest, alias: str) -> None:
    """Raise an exception unless the user may end the pause of an account.

    Raises:
        Http404: The user may see no invoice of the account.
        PermissionDenied: The user may cancel no invoice of the account.
    """
    scope = InvoiceScope.of(model_admin.admin_site, request)
    if not scope.permits(Operation.CANCEL):
        raise PermissionDenied
    if not scope.covers_account(alias):
        raise Http404
    if not scope.covers_account(alias, operation=Operation.CANCEL):
        raise PermissionDenied


def _may_resume(model_admin: ModelAdmin[Any], request: HttpRequest, alias: str) -> bool:
    try:
        check_may_resume(model_admin, request, alias)
    except (Http404, PermissionDenied):
        return False
    return True


def _is_asked_to_wait(state: ProviderState) -> bool:
    """Return whether the time has not passed that the provider named in a Retry-After header."""
    return state.is_paused and state.retry_after_at is not None and bool(state.retry_after_at > utc_now())
