"""The pages of a bulk operation: confirmation, progress and report at one URL.

Each view checks its permission on GET and POST. Only ``run_view`` sends requests to providers, outside any transaction,
and only for the page that answered the POST that confirmed or continued the operation. That page has a key; any other
visit of the operation, a reload included, has none.
"""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse
from django.template.response import TemplateResponse
from django.urls import URLPattern, path
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from ...labels.formatting import format_number
from ...labels.operations import continued_message, describe_operation, ended_message, stopped_message
from ...models import BulkOperation, ProviderState
from ...models.operation import Operation, Progress
from ...models.writes.provider_state import Resumption
from ...operations import advance
from ..pages import admin_view, page_context
from ..resume import ResumeButton, resume_or_ask
from ..scope import InvoiceScope, OperationScope
from . import confirm, follow_up, report
from .confirm import (
    PageClosed,
    log_operation,
    needs_confirmation,
    new_page_key,
    operation_url,
    redirect_to,
    start_draft,
)
from .list import OperationList
from .origin import origin_admin, origin_context, origin_url
from .preview import Preview
from .progress import Snapshot

ITEM_BATCH_SIZE = 1000
"""Maximum number of items that one request processes. Other pages and workers can process the rest."""

MAX_FOLLOW_UPS = 20
"""Maximum number of later operations that a page lists."""


class BulkOperationAdmin(OperationList):
    """The admin of bulk operations, with the pages for their confirmation, progress and report.

    To replace a template, set ``confirm_template`` or ``operation_template`` to the name of your template.
    """

    actions: Any = ("end_selected_operations",)
    confirm_template = ""
    """Name of your template, instead of ``admin/invoice_cancel/bulkoperation/confirm.html``."""
    operation_template = ""
    """Name of your template, instead of ``admin/invoice_cancel/bulkoperation/operation.html``."""

    # -- URLs -------------------------------------------------------------------------------------------------

    def get_urls(self) -> list[URLPattern]:
        views = {
            "": (self.operation_view, "operation"),
            "confirm/": (self.confirm_view, "confirm"),
            "run/": (self.run_view, "run"),
            "stop/": (self.stop_view, "stop"),
            "continue/": (self.continue_view, "continue"),
            "resume/": (self.resume_view, "resume"),
            "end/": (self.end_view, "end"),
            "release/": (self.release_view, "release"),
            "again/": (self.again_view, "again"),
            "report.csv": (self.csv_view, "csv"),
        }
        own = [
            path(f"<uuid:pk>/{tail}", admin_view(self, view), name=f"invoice_cancel_bulkoperation_{name}")
            for tail, (view, name) in views.items()
        ]
        return [*own, *super().get_urls()]

    # -- pages ------------------------------------------------------------------------------------------------

    def operation_view(self, request: HttpRequest, pk: UUID) -> HttpResponse:
        """Show the confirmation page of a draft, or the progress or the report of an operation."""
        scope = self._get_scope(request, pk)
        if scope.operation.progress == Progress.DRAFT and scope.operation.is_known:
            preview = Preview(scope)
            return self._draft_page(request, preview, confirm.build_form(preview))
        snapshot = self._snapshot(request, scope, can_act=self._can_work(request, scope))
        if request.GET.get("format") == "json":
            return JsonResponse(snapshot.as_dict())
        return self._operation_page(request, snapshot)

    def csv_view(self, request: HttpRequest, pk: UUID) -> Any:
        """Return the report as a CSV file. The user must be permitted to see all its invoices."""
        scope = self._get_scope(request, pk)
        if not scope.is_complete:
            raise PermissionDenied
        return report.csv_response(scope, report.requested_outcome(request))

    def history_view(self, request: HttpRequest, object_id: str, extra_context: Any = None) -> HttpResponse:
        """Show the admin's log of an operation. It contains the number of invoices, so the user must see them all."""
        operation = self.get_object(request, object_id)
        if operation is not None and not self._scope_of(request, operation).is_complete:
            raise PermissionDenied
        return super().history_view(request, object_id, extra_context)

    # -- actions --------------------------------------------------------------------------------------------

    @admin.action(permissions=["act"], description=gettext_lazy("Stop the selected operations for good"))
    def end_selected_operations(self, request: HttpRequest, queryset: QuerySet[BulkOperation]) -> None:
        """Finish the selected operations that are stopped or interrupted, without their remaining invoices."""
        ended = denied = others = 0
        for operation in queryset.order_by("created_at"):
            if operation.progress != Progress.STOPPED and not operation.is_interrupted:
                others += 1
            elif not self._can_work(request, self._scope_of(request, operation)):
                denied += 1
            elif self._end(request, operation):
                ended += 1
        texts = (
            (messages.SUCCESS, ended, _("Stopped for good: %(count)s.")),
            (messages.WARNING, denied, _("Not permitted: %(count)s.")),
            (messages.WARNING, others, _("Not changed, because they are not interrupted: %(count)s.")),
        )
        for level, count, text in texts:
            if count:
                messages.add_message(request, level, text % {"count": format_number(count)})

    def confirm_view(self, request: HttpRequest, pk: UUID) -> HttpResponse:
        """Start the draft if the user who selected the invoices confirms it."""
        scope = self._get_actionable(request, pk)
        operation = scope.operation
        if request.method != "POST" or operation.progress != Progress.DRAFT:
            return redirect_to(self.admin_site, operation)
        if not _is_own(request, operation):
            raise PermissionDenied
        preview = Preview(scope)
        form = confirm.build_form(preview, request.POST)
        if not preview.count or not form.is_valid():
            return self._draft_page(request, preview, form)
        if not start_draft(self.admin_site, request, operation, **form.confirmation()):
            return redirect_to(self.admin_site, operation)
        return self.started_response(request, operation)

    def run_view(self, request: HttpRequest, pk: UUID) -> HttpResponse:
        """Process one batch of items for the page that has the operation's key, unless a dispatcher is configured."""
        scope = self._get_actionable(request, pk)
        operation = scope.operation
        if request.method == "POST" and self._snapshot(request, scope, can_act=True).mode == "drive":
            self._advance(request, operation)
            operation.refresh_from_db()
        if request.method == "POST" and request.accepts("application/json") and not request.accepts("text/html"):
            return JsonResponse(self._snapshot(request, self._scope_of(request, operation), can_act=True).as_dict())
        if not self._has_page_key(request, operation):
            return redirect_to(self.admin_site, operation)
        return self.started_response(request, operation)

    def stop_view(self, request: HttpRequest, pk: UUID) -> HttpResponse:
        """Stop the operation, so that no more items are started. It can be continued."""
        operation = self._get_actionable(request, pk).operation
        if request.method == "POST" and operation.stop(request.user):
            log_operation(self.admin_site, request, operation, stopped_message(operation.items.left().count()))
        return redirect_to(self.admin_site, operation)

    def continue_view(self, request: HttpRequest, pk: UUID) -> HttpResponse:
        """Continue a stopped or interrupted operation as the user of the request, on the page that this returns."""
        operation = self._get_actionable(request, pk).operation
        if request.method != "POST" or not self._continue(request, operation):
            return redirect_to(self.admin_site, operation)
        log_operation(self.admin_site, request, operation, continued_message(operation.items.left().count()))
        return self.started_response(request, operation)

    def end_view(self, request: HttpRequest, pk: UUID) -> HttpResponse:
        """Finish the operation without its remaining items."""
        operation = self._get_actionable(request, pk).operation
        if request.method == "POST":
            self._end(request, operation)
        return redirect_to(self.admin_site, operation)

    def resume_view(self, request: HttpRequest, pk: UUID) -> HttpResponse:
        """End the pause of one of the remaining providers, or ask before. The operation then sends the next request.

        Workers have left an operation that waits, so it is dispatched again.
        """
        scope = self._get_actionable(request, pk)
        operation, alias = scope.operation, request.GET.get("provider", "")
        if operation.operation == Operation.RESOLVE or alias not in scope.providers_left():
            raise Http404
        answer = resume_or_ask(self, request, alias, operation_url(self.admin_site, operation))
        if not isinstance(answer, Resumption):
            return answer
        if answer == Resumption.RESUMED and operation.progress == Progress.RUNNING:
            operation.dispatch()
        if not self._has_page_key(request, operation):
            return redirect_to(self.admin_site, operation)
        return self.started_response(request, operation)

    def release_view(self, request: HttpRequest, pk: UUID) -> HttpResponse:
        """Forget the key of a page that is being closed, so that the operation is shown as interrupted at once."""
        operation = self._get_actionable(request, pk).operation
        if request.method != "POST":
            return redirect_to(self.admin_site, operation)
        if operation.page_key is not None and self._has_page_key(request, operation):
            operation.release_page(operation.page_key)
        return HttpResponse(status=204)

    def again_view(self, request: HttpRequest, pk: UUID) -> HttpResponse:
        """Create a draft that continues with a group of the report, or that checks the invoices in doubt of a draft.

        The new draft contains only invoices that the user may see.
        """
        scope = self._get_scope(request, pk)
        operation = scope.operation
        outcome, code, provider = (request.POST.get(name, "") for name in ("outcome", "code", "provider"))
        items = follow_up.select_items(scope, outcome, code, provider)
        step = follow_up.next_step(operation, outcome, code, provider) if items.exists() else None
        if not self._has_permission(request, step or operation.operation, scope):
            raise PermissionDenied
        if request.method != "POST" or step is None or not follow_up.is_feasible(items, step):
            return redirect_to(self.admin_site, operation)
        draft = follow_up.create_draft(scope, step, items)
        if needs_confirmation(draft) or not start_draft(self.admin_site, request, draft):
            return redirect_to(self.admin_site, draft)
        return self.started_response(request, draft)

    def started_response(self, request: HttpRequest, operation: BulkOperation) -> HttpResponse:
        """Return the page that processes an operation that the user has just started or continued.

        It is the response of the POST itself, without a redirect, so that a GET never receives the key. If workers do
        the work, or another page has taken over, it is a redirect to the page that shows the progress.
        """
        snapshot = Snapshot.of(self._scope_of(request, operation), can_act=True, is_driver=True)
        is_granted = operation.page_key is not None and operation.runner_id == request.user.pk
        if snapshot.mode != "drive" or not is_granted:
            return redirect_to(self.admin_site, operation)
        return self._operation_page(request, snapshot)

    def _end(self, request: HttpRequest, operation: BulkOperation) -> bool:
        """Finish an operation without its remaining items, and log it. Return False if it was not unfinished."""
        if not operation.end(request.user):
            return False
        log_operation(self.admin_site, request, operation, ended_message(operation.items.left().count()))
        return True

    # -- steps ------------------------------------------------------------------------------------------------

    def _get_scope(self, request: HttpRequest, pk: UUID) -> OperationScope:
        """Return the visible part of an operation, or raise ``Http404`` if it is empty."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        operation = self.get_queryset(request).filter(pk=pk).first()
        if operation is None:
            raise Http404
        if not self.has_view_permission(request, operation):
            raise PermissionDenied
        return self._scope_of(request, operation)

    def _scope_of(self, request: HttpRequest, operation: BulkOperation) -> OperationScope:
        return OperationScope(InvoiceScope.of(self.admin_site, request), operation)

    def _follow_ups(self, request: HttpRequest, operation: BulkOperation) -> list[dict[str, str]]:
        """Return the visible operations that were started to continue this one."""
        following = self.get_queryset(request).filter(continues=operation).exclude(progress=Progress.DRAFT)
        return [
            {
                "url": operation_url(self.admin_site, each),
                "title": describe_operation(each.operation, self._scope_of(request, each).total),
                "by": each.runner_label,
            }
            for each in following.order_by("started_at")[:MAX_FOLLOW_UPS]
        ]

    def _get_actionable(self, request: HttpRequest, pk: UUID) -> OperationScope:
        """Return the scope, or raise an exception unless the user may act on every remaining invoice."""
        scope = self._get_scope(request, pk)
        if not self._can_work(request, scope):
            raise PermissionDenied
        return scope

    def _has_permission(self, request: HttpRequest, step: str, scope: OperationScope) -> bool:
        """Return whether both this admin and the site's invoice admin permit the step."""
        return self.has_step_permission(request, step, scope.operation) and scope.invoice_scope.permits(step)

    def _can_work(self, request: HttpRequest, scope: OperationScope) -> bool:
        kind = scope.operation.operation
        return scope.operation.is_known and self._has_permission(request, kind, scope) and scope.permits(kind)

    def _continue(self, request: HttpRequest, operation: BulkOperation) -> bool:
        """Resume a stopped operation or take over a running one. Workers are replaced only if they are inactive."""
        key = new_page_key()
        if operation.resume(request.user, page_key=key):
            return True
        return (key is not None or operation.is_interrupted) and operation.take_over(request.user, page_key=key)

    def _has_page_key(self, request: HttpRequest, operation: BulkOperation) -> bool:
        """Return whether the request comes from the page that the user's confirmation or Continue returned."""
        key = request.headers.get("X-Operation-Key") or request.POST.get("page_key")
        is_runner = operation.runner_id is not None and operation.runner_id == request.user.pk
        return is_runner and operation.page_key is not None and key == str(operation.page_key)

    def _snapshot(self, request: HttpRequest, scope: OperationScope, *, can_act: bool) -> Snapshot:
        return Snapshot.of(scope, can_act=can_act, is_driver=self._has_page_key(request, scope.operation))

    def _advance(self, request: HttpRequest, operation: BulkOperation) -> None:
        closed = PageClosed(operation)
        if advance(operation.pk, limit=ITEM_BATCH_SIZE, stop=closed, is_message=False).is_finished:
            operation.refresh_from_db()
            snapshot = Snapshot.of(self._scope_of(request, operation), can_act=True)
            level = messages.WARNING if snapshot.has_failures else messages.SUCCESS
            messages.add_message(request, level, f"{snapshot.title}: {snapshot.headline}")

    def _draft_page(self, request: HttpRequest, preview: Preview, form: confirm.ConfirmForm) -> HttpResponse:
        operation, scope = preview.draft, preview.scope
        can_act = self._can_work(request, scope)
        check = follow_up.find_check_step(preview)
        context = {
            **self._context(request, scope),
            **self._draft_links(request, operation),
            **confirm.confirmation_context(preview, form),
            "resume_buttons": self._resume_buttons(operation, preview.paused) if can_act else [],
            "can_confirm": can_act and _is_own(request, operation) and preview.count > 0,
            "must_select_again": _is_own(request, operation) and not can_act,
            "can_check_first": check is not None and self._has_permission(request, check, scope),
        }
        return TemplateResponse(request, self._templates(self.confirm_template, "confirm.html"), context)

    def _operation_page(self, request: HttpRequest, snapshot: Snapshot) -> HttpResponse:
        operation, scope = snapshot.operation, snapshot.scope
        context = {
            **self._context(request, scope),
            "title": snapshot.title,
            "snapshot": snapshot,
            "resume_buttons": self._resume_buttons(operation, snapshot.paused) if snapshot.can_act else [],
            "page_key": str(operation.page_key) if snapshot.mode == "drive" else "",
            "follow_ups": self._follow_ups(request, operation),
            "groups": report.build_groups(scope, lambda step: self._has_permission(request, step, scope)),
            "earlier": self._find_earlier(request, operation),
            **report.build_totals(scope),
            **report.build_table(snapshot, request),
        }
        return TemplateResponse(request, self._templates(self.operation_template, "operation.html"), context)

    def _resume_buttons(self, operation: BulkOperation, states: list[ProviderState]) -> list[ResumeButton]:
        back, url = (operation_url(self.admin_site, operation, page) for page in ("operation", "resume"))
        return [ResumeButton.of(state, url, back, provider=state.alias) for state in states if state.is_paused]

    def _context(self, request: HttpRequest, scope: OperationScope) -> dict[str, Any]:
        operation = scope.operation
        return {
            **page_context(self, request),
            "operation": operation,
            "is_complete": scope.is_complete,
            "urls": {
                page: operation_url(self.admin_site, operation, page)
                for page in ("operation", "confirm", "run", "stop", "continue", "end", "release", "again", "csv")
            },
            **origin_context(self.admin_site, request, operation),
            "has_view_permission": True,
        }

    def _draft_links(self, request: HttpRequest, draft: BulkOperation) -> dict[str, Any]:
        """Return the breadcrumb of a confirmation page, and its way back: to the report or the list before it."""
        origin = origin_admin(self.admin_site, request, draft)
        if origin is None:
            return {}
        links = {"list_opts": origin.opts, "list_url": origin_url(origin, draft)}
        earlier = self._find_earlier(request, draft)
        return {**links, "back_url": earlier["url"]} if earlier else links

    def _find_earlier(self, request: HttpRequest, operation: BulkOperation) -> dict[str, str] | None:
        """Return a link to the operation that this one continues, if the user may see it."""
        if operation.continues_id is None:
            return None
        earlier = self.get_queryset(request).filter(pk=operation.continues_id).first()
        if earlier is None or not self.has_view_permission(request, earlier):
            return None
        title = describe_operation(earlier.operation, self._scope_of(request, earlier).total)
        return {"url": operation_url(self.admin_site, earlier), "title": title}

    def _templates(self, own: str, name: str) -> list[str]:
        folders = (f"{self.opts.app_label}/{self.opts.model_name}", self.opts.app_label, "invoice_cancel/bulkoperation")
        return [own] if own else [f"admin/{folder}/{name}" for folder in folders]


def _is_own(request: HttpRequest, draft: BulkOperation) -> bool:
    """Return whether this user created the draft. The selection was checked with the permissions of its creator."""
    return draft.actor_id is not None and draft.actor_id == request.user.pk
