"""Confirmation and start of a bulk operation, shared by the actions and the pages.

The page that answers the confirmation gets a key, and only a page with this key processes the operation. Each start
adds one entry to the admin's log, for the user who starts the operation. Single invoices have no entries there.
"""

from __future__ import annotations

import re
import time
from typing import Any
from uuid import UUID, uuid4

from django import forms
from django.contrib.admin import AdminSite
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse
from django.utils.translation import gettext as _

from ... import conf, registry
from ...domain.audit import Trigger
from ...domain.clock import utc_now
from ...domain.statuses import Status
from ...labels.formatting import format_number
from ...labels.operations import confirm_label, confirmation_title, left_out_title, started_message
from ...models import BulkOperation
from ...models.operation import Operation
from ..forms import DecisionField, ReasonField
from .preview import Preview
from .resolving import Resolving

PAGE_CHECK_SECONDS = 1.0
"""Interval at which a slice checks whether its page was closed."""
TYPED_COUNT_ABOVE = 20
"""A user who resolves more invoices than this must enter their number."""


class ConfirmForm(forms.Form):
    """The confirmation of a draft, with a reason. The settings can make the reason required."""

    def __init__(self, preview: Preview, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.preview = preview
        self.fields["reason"] = ReasonField(required=conf.get().require_reason, rows=2)

    def confirmation(self) -> dict[str, Any]:
        """Return the values that are stored with the operation."""
        return {name: self.cleaned_data[name] for name in ("reason", "decision") if name in self.cleaned_data}


class ResolveForm(ConfirmForm):
    """One decision about all invoices of a draft, with its reason and, for many invoices, their number."""

    field_order = ("decision", "reason", "typed_count")

    def __init__(self, preview: Preview, *args: Any, **kwargs: Any) -> None:
        super().__init__(preview, *args, **kwargs)
        self.resolving = Resolving(preview)
        can_reopen = self.resolving.can_reopen
        decision = DecisionField(without=() if can_reopen else {Status.CREATED})
        self.fields |= {"decision": decision, "reason": ReasonField(rows=2)}
        if preview.count > TYPED_COUNT_ABOVE:
            text = _("Type %(count)s to confirm the decision for all of them.") % {
                "count": format_number(preview.count)
            }
            self.fields["typed_count"] = forms.CharField(label=_("Number of invoices"), max_length=20, help_text=text)
        self.order_fields(self.field_order)
        if can_reopen and preview.eligible_items().filter(invoice__cancel_requested_at__isnull=False).exists():
            self.fields["decision"].help_text = _(
                "For some of them a cancellation is requested. "
                "If you choose “Still open”, the cancel requests are sent again."
            )

    def clean(self) -> Any:
        if self.resolving.parts:
            raise forms.ValidationError(_("Decide about the invoices of one provider at a time."))
        return super().clean()

    def clean_typed_count(self) -> str:
        typed = re.sub(r"[\s.,']", "", self.cleaned_data["typed_count"])
        if typed != str(self.preview.count):
            raise forms.ValidationError(
                _("There are %(count)s invoices."), params={"count": format_number(self.preview.count)}
            )
        return typed


def build_form(preview: Preview, data: Any = None) -> ConfirmForm:
    """Return the form that confirms this draft."""
    form = ResolveForm if preview.draft.operation == Operation.RESOLVE else ConfirmForm
    return form(preview, data, initial={"reason": preview.draft.reason}, label_suffix="")


def confirmation_context(preview: Preview, form: ConfirmForm) -> dict[str, Any]:
    """Return the context of the confirmation page."""
    kind, count = preview.draft.operation, preview.count
    resolving = form.resolving if isinstance(form, ResolveForm) and count else None
    is_record = resolving is not None and resolving.is_all_refused
    return {
        "title": confirmation_title(kind, count, is_record=is_record),
        "resolving": resolving,
        "preview": preview,
        "shares": [share for _alias, share in sorted(preview.shares.items())],
        "left_out": left_out_title(kind, preview.left_out_count) if preview.left_out_count else "",
        "left_out_groups": list(preview.left_out_groups()),
        "form": form,
        "confirm_label": confirm_label(kind, count, is_record=is_record) if count else "",
        "is_irreversible": kind == Operation.CANCEL or bool(preview.repeats),
    }


def operation_url(site: AdminSite, operation: BulkOperation, page: str = "operation") -> str:
    """Return the URL of a page of the operation."""
    return reverse(f"admin:invoice_cancel_bulkoperation_{page}", args=[operation.pk], current_app=site.name)


def redirect_to(site: AdminSite, operation: BulkOperation) -> HttpResponse:
    return HttpResponseRedirect(operation_url(site, operation))


def needs_confirmation(draft: BulkOperation) -> bool:
    """Return whether a user must confirm a draft. Pure lookups need no confirmation, because they change nothing."""
    if draft.operation != Operation.CHECK:
        return True
    return not all(registry.can_look_up(alias) for alias in draft.items.providers_left())


def start_draft(site: AdminSite, request: HttpRequest, draft: BulkOperation, **fields: Any) -> bool:
    """Start a draft as the user of the request, and log the start. Return False if it was started concurrently."""
    trigger = Trigger.OPERATOR if draft.operation == Operation.RESOLVE else Trigger.ADMIN
    fields["page_key"] = new_page_key()
    if fields["page_key"] is not None:  # the page works from now on
        fields["worked_at"] = utc_now()
    if not draft.confirm(trigger=trigger, **fields):
        return False
    log_operation(site, request, draft, started_message())
    return True


def new_page_key() -> UUID | None:
    """Return a key for the page that will process an operation; None if a dispatcher is configured."""
    return uuid4() if conf.get().dispatch is None else None


def log_operation(site: AdminSite, request: HttpRequest, operation: BulkOperation, message: str) -> None:
    """Add an entry to the admin's log of an operation."""
    site.get_model_admin(BulkOperation).log_change(request, operation, message)


class PageClosed:
    """Ends the slice of a page that was closed, or whose operation another page has continued."""

    def __init__(self, operation: BulkOperation) -> None:
        self._own = BulkOperation.objects.filter(pk=operation.pk, page_key=operation.page_key)
        self._check_at = time.monotonic() + PAGE_CHECK_SECONDS
        self._is_closed = False

    def is_set(self) -> bool:
        now = time.monotonic()
        if now >= self._check_at:
            self._check_at = now + PAGE_CHECK_SECONDS
            self._is_closed = not self._own.exists()
        return self._is_closed
