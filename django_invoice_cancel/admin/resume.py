"""Try now: end the pause of a provider, so that the next request is sent as a probe.

It needs the permission to cancel, for at least one invoice of the account that the user may see. The view sends nothing
itself. Only a POST ends a pause. A GET shows a page that asks, and so does a POST before the time that the provider
named in a Retry-After header.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from django.contrib import messages
from django.contrib.admin import ModelAdmin
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils.http import url_has_allowed_host_and_scheme
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from ..domain.clock import utc_now
from ..labels.formatting import format_clock
from ..models import Invoice, ProviderState
from ..models.operation import Operation
from ..models.values import is_unstorable
from ..models.writes.provider_state import Resumed, Resumption
from .pages import admin_view, page_context
from .provider_state import account_name, describe_pause
from .scope import InvoiceScope

CONFIRMED = "retry_after"
"""The POST parameter with the end of the Retry-After that the user has seen."""
_MESSAGES = {
    Resumption.RESUMED: gettext_lazy(
        "The pause of %(provider)s has ended. The next request is sent as a test, and its answer decides."
    ),
    Resumption.NOT_PAUSED: gettext_lazy("%(provider)s is not paused."),
    Resumption.TOO_SOON: gettext_lazy("The pause of %(provider)s was just ended. You can try again after %(when)s."),
}
_LEVELS = {Resumption.RESUMED: messages.SUCCESS, Resumption.NOT_PAUSED: messages.INFO}


@dataclass(frozen=True)
class ResumeButton:
    """The button "Try now" of one paused account."""

    url: str
    """The URL of the view; for a link, with the page to which it returns."""
    next: str
    """The page to which the view returns."""
    name: str
    """The name of the account, for a page with several buttons."""
    is_post: bool
    """Whether the button acts at once. Before the end of a Retry-After, it leads to a page that asks."""

    @classmethod
    def of(cls, state: ProviderState, url: str, back: str, **parameters: str) -> ResumeButton:
        """Return the button of a paused account. ``parameters`` are added to the URL."""
        is_post = not is_asked_to_wait(state)
        parameters |= {} if is_post else {"next": back}
        return cls(f"{url}?{urlencode(parameters)}" if parameters else url, back, account_name(state.alias), is_post)


class ResumeView:
    """The view and the button, as a mixin of an admin of invoices."""

    def resume_urls(self: Any) -> list[URLPattern]:
        """Return the URL of the view. An alias may contain any characters."""
        name = f"{self.opts.app_label}_{self.opts.model_name}_resume"
        return [path("resume/<path:alias>/", admin_view(self, self.resume_view), name=name)]

    def resume_button(self: Any, request: HttpRequest, state: ProviderState | None) -> ResumeButton | None:
        """Return the button for an account; None if it is not paused or the user may not end its pause."""
        if state is None or not state.is_paused or not _may_resume(self, request, state.alias):
            return None
        name = f"admin:{self.opts.app_label}_{self.opts.model_name}_resume"
        url = reverse(name, args=[state.alias], current_app=self.admin_site.name)
        return ResumeButton.of(state, url, request.get_full_path())

    def resume_view(self: Any, request: HttpRequest, alias: str) -> HttpResponse:
        """End the pause of an account, or ask before."""
        if not self.has_view_or_change_permission(request):
            raise PermissionDenied
        _check_may_resume(self, request, alias)
        name = f"admin:{self.opts.app_label}_{self.opts.model_name}_changelist"
        back = _page_before(request) or reverse(name, current_app=self.admin_site.name)
        answer = resume_or_ask(self, request, alias, back)
        return HttpResponseRedirect(back) if isinstance(answer, Resumption) else answer


def resume_or_ask(
    model_admin: ModelAdmin[Any], request: HttpRequest, alias: str, back: str
) -> Resumption | HttpResponse:
    """End the pause of an account as the user of the request, log it, and tell the user.

    The caller has checked the permission.

    Returns:
        The result, or the page that asks: for a GET, and before the end of a Retry-After.

    Raises:
        Http404: The account has never been paused.
    """
    writer = Invoice.objects.all()._writer
    state: ProviderState | None = writer.provider_state(alias)
    if state is None:
        raise Http404
    seen = state.retry_after_at.isoformat() if is_asked_to_wait(state) else None
    if request.method != "POST":
        return _page_that_asks(model_admin, request, state, back)
    is_confirmed = seen is not None and request.POST.get(CONFIRMED) == seen
    resumed: Resumed = writer.resume(alias, actor=request.user, force=is_confirmed)
    if resumed.result == Resumption.RETRY_AFTER:
        return _page_that_asks(model_admin, request, state, back)
    message = str(_MESSAGES[resumed.result]) % {
        "provider": account_name(alias),
        "when": "" if resumed.at is None else format_clock(resumed.at),
    }
    if resumed.result == Resumption.RESUMED:
        model_admin.log_change(request, state, message)
    model_admin.message_user(request, message, _LEVELS.get(resumed.result, messages.WARNING))
    return resumed.result


def is_asked_to_wait(state: ProviderState) -> bool:
    """Return whether the time has not passed that the provider named in a Retry-After header."""
    return state.is_paused and state.retry_after_at is not None and bool(state.retry_after_at > utc_now())


def _page_that_asks(
    model_admin: ModelAdmin[Any], request: HttpRequest, state: ProviderState, back: str
) -> HttpResponse:
    retry_after = state.retry_after_at if is_asked_to_wait(state) else None
    context = {
        **page_context(model_admin, request),
        "title": _("Send requests to %(provider)s again?") % {"provider": account_name(state.alias)},
        "pause": describe_pause(state) if state.is_paused else "",
        "provider": account_name(state.alias),
        "retry_after": "" if retry_after is None else format_clock(retry_after),
        "confirmed": "" if retry_after is None else retry_after.isoformat(),
        "confirmed_name": CONFIRMED,
        "back": back,
    }
    return TemplateResponse(request, "admin/invoice_cancel/resume.html", context)


def _page_before(request: HttpRequest) -> str:
    """Return the page from which the user came, if it is on this host."""
    page = request.POST.get("next") or request.GET.get("next") or ""
    is_own = url_has_allowed_host_and_scheme(page, {request.get_host()}, require_https=request.is_secure())
    return page if is_own else ""


def _check_may_resume(model_admin: ModelAdmin[Any], request: HttpRequest, alias: str) -> None:
    """Raise an exception unless the user may end the pause of an account.

    Raises:
        Http404: The user may see no invoice of the account.
        PermissionDenied: The user may cancel no invoice of the account.
    """
    scope = InvoiceScope.of(model_admin.admin_site, request)
    if not scope.permits(Operation.CANCEL):
        raise PermissionDenied
    if is_unstorable(alias) or not scope.covers_account(alias):
        raise Http404
    if not scope.covers_account(alias, operation=Operation.CANCEL):
        raise PermissionDenied


def _may_resume(model_admin: ModelAdmin[Any], request: HttpRequest, alias: str) -> bool:
    try:
        _check_may_resume(model_admin, request, alias)
    except (Http404, PermissionDenied):
        return False
    return True
