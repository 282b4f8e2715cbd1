"""The pages of a bulk operation: one address from confirmation through progress to the report.

Each page asks for its permission on GET and POST. Providers are asked only by ``run``, outside any transaction. What
a POST does is decided by its own address and by tables here, never by a name in the address.
"""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse

from ...models import BulkOperation
from ...models.operation import Progress
from ...operations import advance
from .. import formatting
from ..pages import context_of, guarded
from ..scope import InvoiceScope, OperationSight
from . import confirm, follow_up, report
from .confirm import address, redirect_to, started, starts_at_once
from .list import OperationList
from .preview import Plan
from .progress import Snapshot

SLICE_ITEMS = 1000
"""A slice takes at most so many items: the rest is free for other pages and workers."""


class BulkOperationAdmin(OperationList):
    """Operations on many invoices: drafts are confirmed, runs watched, reports read."""

    confirm_template = ""
    """A template of your own instead of ``confirm.html`` in ``admin/invoice_cancel/bulkoperation/``."""
    operation_template = ""
    """A template of your own instead of ``operation.html`` there."""

    # -- addresses --------------------------------------------------------------------------------------------

    def get_urls(self) -> list[URLPattern]:
        views = {
            "": (self.operation_view, "operation"),
            "confirm/": (self.confirm_view, "confirm"),
            "run/": (self.run_view, "run"),
            "stop/": (self.stop_view, "stop"),
            "continue/": (self.continue_view, "continue"),
            "again/": (self.again_view, "again"),
            "report.csv": (self.csv_view, "csv"),
        }
        own = [
            path(f"<uuid:pk>/{tail}", guarded(self, view), name=f"invoice_cancel_bulkoperation_{name}")
            for tail, (view, name) in views.items()
        ]
        return [*own, *super().get_urls()]

    # -- pages ------------------------------------------------------------------------------------------------

    def operation_view(self, request: HttpRequest, pk: UUID) -> HttpResponse:
        """Show an operation: its draft to be confirmed, its progress, or its report."""
        sight = self._sight(request, pk)
        if sight.operation.progress == Progress.DRAFT and formatting.is_known(sight.operation):
            plan = Plan(sight)
            return self._draft_page(request, plan, confirm.form_for(plan))
        snapshot = Snapshot.of(sight, may_act=self._may_work(request, sight))
        if request.GET.get("format") == "json":
            return JsonResponse(snapshot.as_dict())
        return self._operation_page(request, snapshot)

    def csv_view(self, request: HttpRequest, pk: UUID) -> Any:
        """Send the report as a file, to a user who sees every invoice of it."""
        sight = self._sight(request, pk)
        if not sight.is_complete:
            raise PermissionDenied
        return report.csv_response(sight, report.wanted_outcome(request))

    def history_view(self, request: HttpRequest, object_id: str, extra_context: Any = None) -> HttpResponse:
        """Show the log of an operation, which counts all of its invoices, to a user who sees every one of them."""
        operation = self.get_object(request, object_id)
        if operation is not None and not self._sight_of(request, operation).is_complete:
            raise PermissionDenied
        return super().history_view(request, object_id, extra_context)

    # -- what is done -----------------------------------------------------------------------------------------

    def confirm_view(self, request: HttpRequest, pk: UUID) -> HttpResponse:
        """Start the draft, if the user who selected it confirms it."""
        sight = self._acted_on(request, pk)
        operation = sight.operation
        if request.method != "POST" or operation.progress != Progress.DRAFT:
            return redirect_to(self.admin_site, operation)
        if not _is_own(request, operation):
            raise PermissionDenied
        plan = Plan(sight)
        form = confirm.form_for(plan, request.POST)
        if not plan.count or not form.is_valid():
            return self._draft_page(request, plan, form)
        started(self.admin_site, request, operation, **form.confirmation())
        return redirect_to(self.admin_site, operation)

    def run_view(self, request: HttpRequest, pk: UUID) -> HttpResponse:
        """Do one slice of the work, where no dispatcher does it."""
        sight = self._acted_on(request, pk)
        operation = sight.operation
        if request.method == "POST" and Snapshot.of(sight, may_act=True).mode == "drive":
            self._advance(request, operation)
        if request.method == "POST" and request.accepts("application/json") and not request.accepts("text/html"):
            operation.refresh_from_db()
            return JsonResponse(Snapshot.of(self._sight_of(request, operation), may_act=True).as_dict())
        return redirect_to(self.admin_site, operation)

    def stop_view(self, request: HttpRequest, pk: UUID) -> HttpResponse:
        """Let nobody take more of it."""
        operation = self._acted_on(request, pk).operation
        if request.method == "POST":
            operation.stop()
        return redirect_to(self.admin_site, operation)

    def continue_view(self, request: HttpRequest, pk: UUID) -> HttpResponse:
        """Go on with a stopped operation, or ask for a worker once more."""
        operation = self._acted_on(request, pk).operation
        if request.method == "POST" and not operation.resume() and operation.is_interrupted:
            operation.dispatch()
        return redirect_to(self.admin_site, operation)

    def again_view(self, request: HttpRequest, pk: UUID) -> HttpResponse:
        """Write the draft of what follows for one group of the report, or for the doubtful of a draft.

        It takes only invoices that the user sees.
        """
        sight = self._sight(request, pk)
        operation = sight.operation
        outcome, code, provider = (request.POST.get(name, "") for name in ("outcome", "code", "provider"))
        step = follow_up.next_step(operation, outcome, code)
        if not self._may(request, step or operation.operation, sight):
            raise PermissionDenied
        items = follow_up.members(sight, outcome, code, provider)
        if request.method != "POST" or step is None or not items.exists():
            return redirect_to(self.admin_site, operation)
        draft = follow_up.drafted(sight, step, items)
        if starts_at_once(draft):
            started(self.admin_site, request, draft)
        return redirect_to(self.admin_site, draft)

    # -- steps ------------------------------------------------------------------------------------------------

    def _sight(self, request: HttpRequest, pk: UUID) -> OperationSight:
        """Return an operation as the user may see it; 404 if the user sees nothing of it."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        # Those that the list shows, without what it counts for each.
        operation = BulkOperation.objects.filter(pk__in=self.get_queryset(request).filter(pk=pk).values("pk")).first()
        if operation is None:
            raise Http404
        if not self.has_view_permission(request, operation):
            raise PermissionDenied
        return self._sight_of(request, operation)

    def _sight_of(self, request: HttpRequest, operation: BulkOperation) -> OperationSight:
        return OperationSight(InvoiceScope.of(self.admin_site, request), operation)

    def _acted_on(self, request: HttpRequest, pk: UUID) -> OperationSight:
        """Return an operation to a user who may do what it does to every invoice that is left."""
        sight = self._sight(request, pk)
        if not self._may_work(request, sight):
            raise PermissionDenied
        return sight

    def _may(self, request: HttpRequest, step: str, sight: OperationSight) -> bool:
        """Return whether the user may do this step at all, by this admin and by the site's admin of invoices."""
        return self.may(request, step, sight.operation) and sight.scope.permits(step)

    def _may_work(self, request: HttpRequest, sight: OperationSight) -> bool:
        kind = sight.operation.operation
        return formatting.is_known(sight.operation) and self._may(request, kind, sight) and sight.permits(kind)

    def _advance(self, request: HttpRequest, operation: BulkOperation) -> None:
        if advance(operation.pk, limit=SLICE_ITEMS, is_message=False).is_finished:
            operation.refresh_from_db()
            snapshot = Snapshot.of(self._sight_of(request, operation), may_act=True)
            is_success = formatting.is_all_done(operation, snapshot.counts, snapshot.total)
            level = messages.SUCCESS if is_success else messages.WARNING
            messages.add_message(request, level, formatting.headline(operation, snapshot.counts, snapshot.total))

    def _draft_page(self, request: HttpRequest, plan: Plan, form: confirm.ConfirmForm) -> HttpResponse:
        operation, sight = plan.draft, plan.sight
        may_act = self._may_work(request, sight)
        doubtful = follow_up.check_first(plan)
        context = {
            **self._context(request, sight),
            **confirm.context(plan, form),
            "may_confirm": may_act and _is_own(request, operation) and plan.count > 0,
            "must_select_again": _is_own(request, operation) and not may_act,
            "check_first": doubtful is not None and self._may(request, doubtful, sight),
        }
        return TemplateResponse(request, self._templates(self.confirm_template, "confirm.html"), context)

    def _operation_page(self, request: HttpRequest, snapshot: Snapshot) -> HttpResponse:
        operation, sight = snapshot.operation, snapshot.sight
        context = {
            **self._context(request, sight),
            "title": formatting.title(operation, snapshot.total),
            "snapshot": snapshot,
            "headline": formatting.headline(operation, snapshot.counts, snapshot.total),
            "groups": report.groups(sight, lambda step: self._may(request, step, sight)),
            **report.table(snapshot, request),
        }
        return TemplateResponse(request, self._templates(self.operation_template, "operation.html"), context)

    def _context(self, request: HttpRequest, sight: OperationSight) -> dict[str, Any]:
        operation = sight.operation
        return {
            **context_of(self, request),
            "operation": operation,
            "is_complete": sight.is_complete,
            "urls": {
                page: address(self.admin_site, operation, page)
                for page in ("operation", "confirm", "run", "stop", "continue", "again", "csv")
            },
            "invoices_url": self._invoices_url(sight.scope),
            "has_view_permission": True,
        }

    def _invoices_url(self, scope: InvoiceScope) -> str:
        admin = scope.linked_admin
        if admin is None:
            return ""
        opts = admin.opts
        return reverse(f"admin:{opts.app_label}_{opts.model_name}_changelist", current_app=self.admin_site.name)

    def _templates(self, own: str, name: str) -> list[str]:
        chain = (f"{self.opts.app_label}/{self.opts.model_name}/", f"{self.opts.app_label}/", "")
        return [own] if own else [f"admin/{folder}{name}" for folder in chain]


def _is_own(request: HttpRequest, draft: BulkOperation) -> bool:
    """Say whether this user selected what the draft holds: by their permissions it was frozen."""
    return draft.actor_id is not None and draft.actor_id == request.user.pk
