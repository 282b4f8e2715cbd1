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

from ..bulk_operations import advance
from ..models import BulkOperation, Invoice
from ..models.bulk_operation import Progress
from . import confirming, following, reporting, texts
from .listing import OperationList
from .own_pages import context_of, guarded
from .planning import Plan
from .progress import Snapshot
from .starting import address, redirect_to, started, starts_at_once

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
        operation = self._operation(request, pk)
        if operation.progress == Progress.DRAFT:
            plan = Plan(operation)
            return self._draft_page(request, plan, confirming.form_for(plan))
        snapshot = Snapshot.of(operation, may_act=self.may(request, operation.operation, operation))
        if request.GET.get("format") == "json":
            return JsonResponse(snapshot.as_dict())
        return self._operation_page(request, snapshot)

    def csv_view(self, request: HttpRequest, pk: UUID) -> Any:
        """Send the report as a file."""
        operation = self._operation(request, pk)
        return reporting.csv_response(operation, reporting.wanted_outcome(request))

    # -- what is done -----------------------------------------------------------------------------------------

    def confirm_view(self, request: HttpRequest, pk: UUID) -> HttpResponse:
        """Start the draft, if whoever selected it says so."""
        operation = self._acted_on(request, pk)
        if request.method != "POST" or operation.progress != Progress.DRAFT:
            return redirect_to(self.admin_site, operation)
        if not _is_own(request, operation):
            raise PermissionDenied
        plan = Plan(operation)
        form = confirming.form_for(plan, request.POST)
        if not plan.count or not form.is_valid():
            return self._draft_page(request, plan, form)
        started(self.admin_site, request, operation, **form.confirmation())
        return redirect_to(self.admin_site, operation)

    def run_view(self, request: HttpRequest, pk: UUID) -> HttpResponse:
        """Do one slice of the work, where no dispatcher does it."""
        operation = self._acted_on(request, pk)
        snapshot = Snapshot.of(operation, may_act=True)
        if request.method == "POST" and snapshot.mode == "drive":
            self._advance(request, operation)
        if request.method == "POST" and request.accepts("application/json") and not request.accepts("text/html"):
            operation.refresh_from_db()
            return JsonResponse(Snapshot.of(operation, may_act=True).as_dict())
        return redirect_to(self.admin_site, operation)

    def stop_view(self, request: HttpRequest, pk: UUID) -> HttpResponse:
        """Let nobody take more of it."""
        operation = self._acted_on(request, pk)
        if request.method == "POST":
            operation.stop()
        return redirect_to(self.admin_site, operation)

    def continue_view(self, request: HttpRequest, pk: UUID) -> HttpResponse:
        """Go on with a stopped operation, or ask for a worker once more."""
        operation = self._acted_on(request, pk)
        if request.method == "POST" and not operation.resume() and operation.is_interrupted:
            operation.dispatch()
        return redirect_to(self.admin_site, operation)

    def again_view(self, request: HttpRequest, pk: UUID) -> HttpResponse:
        """Write the draft of what follows for one group of the report, or for the doubtful of a draft."""
        operation = self._operation(request, pk)
        outcome, code, provider = (request.POST.get(name, "") for name in ("outcome", "code", "provider"))
        step = following.next_step(operation, outcome, code)
        if not self.may(request, step or operation.operation, operation):
            raise PermissionDenied
        items = following.members(operation, outcome, code, provider)
        if request.method != "POST" or step is None or not items.exists():
            return redirect_to(self.admin_site, operation)
        draft = following.drafted(self.admin_site, request, operation, step, items)
        if starts_at_once(draft):
            started(self.admin_site, request, draft)
        return redirect_to(self.admin_site, draft)

    # -- steps ------------------------------------------------------------------------------------------------

    def _operation(self, request: HttpRequest, pk: UUID) -> BulkOperation:
        """Return an operation to somebody who may look at it."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        # Those that the list shows, without what it counts for each.
        operation = BulkOperation.objects.filter(pk__in=self.get_queryset(request).filter(pk=pk).values("pk")).first()
        if operation is None:
            raise Http404
        if not self.has_view_permission(request, operation):
            raise PermissionDenied
        return operation

    def _acted_on(self, request: HttpRequest, pk: UUID) -> BulkOperation:
        """Return an operation to somebody who may do what it does."""
        operation = self._operation(request, pk)
        if not self.may(request, operation.operation, operation):
            raise PermissionDenied
        return operation

    def _advance(self, request: HttpRequest, operation: BulkOperation) -> None:
        if advance(operation.pk, limit=SLICE_ITEMS).is_finished:
            operation.refresh_from_db()
            snapshot = Snapshot.of(operation, may_act=True)
            level = messages.SUCCESS if texts.is_all_done(operation, snapshot.counts) else messages.WARNING
            messages.add_message(request, level, texts.headline(operation, snapshot.counts))

    def _draft_page(self, request: HttpRequest, plan: Plan, form: confirming.ConfirmForm) -> HttpResponse:
        operation = plan.draft
        may_act = self.may(request, operation.operation, operation) and _is_own(request, operation)
        doubtful = following.next_step(operation, "", "in_doubt")
        context = {
            **self._context(request, operation),
            **confirming.context(plan, form),
            "may_confirm": may_act and plan.count > 0,
            "check_first": doubtful is not None and self.may(request, doubtful, operation),
        }
        return TemplateResponse(request, self._templates(self.confirm_template, "confirm.html"), context)

    def _operation_page(self, request: HttpRequest, snapshot: Snapshot) -> HttpResponse:
        operation = snapshot.operation
        context = {
            **self._context(request, operation),
            "title": texts.title(operation),
            "snapshot": snapshot,
            "headline": texts.headline(operation, snapshot.counts),
            "groups": reporting.groups(operation, lambda step: self.may(request, step, operation)),
            **reporting.table(operation, snapshot, request),
        }
        return TemplateResponse(request, self._templates(self.operation_template, "operation.html"), context)

    def _context(self, request: HttpRequest, operation: BulkOperation) -> dict[str, Any]:
        return {
            **context_of(self, request),
            "operation": operation,
            "urls": {
                page: address(self.admin_site, operation, page)
                for page in ("operation", "confirm", "run", "stop", "continue", "again", "csv")
            },
            "invoices_url": self._invoices_url(request),
            "has_view_permission": True,
        }

    def _invoices_url(self, request: HttpRequest) -> str:
        if not self.admin_site.is_registered(Invoice):
            return ""
        if not self.admin_site.get_model_admin(Invoice).has_view_permission(request):
            return ""
        return reverse("admin:invoice_cancel_invoice_changelist", current_app=self.admin_site.name)

    def _templates(self, own: str, name: str) -> list[str]:
        chain = (f"{self.opts.app_label}/{self.opts.model_name}/", f"{self.opts.app_label}/", "")
        return [own] if own else [f"admin/{folder}{name}" for folder in chain]


def _is_own(request: HttpRequest, draft: BulkOperation) -> bool:
    """Say whether this user selected what the draft holds: by their permissions it was frozen."""
    return draft.actor_id is not None and draft.actor_id == request.user.pk
