"""How an operation begins and where it is found: shared by the actions and the pages.

One entry in the admin's log for each operation, written by whoever starts it; none for its invoices.
"""

from __future__ import annotations

import re
from typing import Any

from django import forms
from django.contrib.admin import AdminSite
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from ... import conf, registry
from ...domain.audit import Trigger
from ...domain.statuses import Status
from ...models import BulkOperation
from ...models.operation import Operation
from .. import formatting
from ..formatting import log_line
from .preview import Plan

MANY = 20
"""Above this many, whoever resolves types how many."""


class ConfirmForm(forms.Form):
    """The reason, where the settings ask for one."""

    reason = forms.CharField(
        label=gettext_lazy("Reason"), max_length=1000, widget=forms.Textarea(attrs={"rows": 2, "cols": 60})
    )

    def __init__(self, plan: Plan, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.plan = plan
        if not conf.get().require_reason:
            self.fields["reason"].required = False
            self.fields["reason"].label = _("Reason (optional)")

    def confirmation(self) -> dict[str, Any]:
        """Return what is written to the operation."""
        return {name: self.cleaned_data[name] for name in ("reason", "decision") if name in self.cleaned_data}


class ResolveForm(ConfirmForm):
    """One decision for all, with its reason; for many, how many they are."""

    decision = forms.ChoiceField(
        label=gettext_lazy("Decision"),
        widget=forms.RadioSelect,
        choices=(
            (str(Status.CANCELED), gettext_lazy("The provider's cabinet shows it canceled")),
            (str(Status.CREATED), gettext_lazy("The provider's cabinet shows it still open")),
            (str(Status.PAID), gettext_lazy("The provider's cabinet shows it paid")),
        ),
    )
    typed_count = forms.CharField(label=gettext_lazy("How many invoices"), max_length=20, required=False)
    field_order = ("decision", "reason", "typed_count")

    def __init__(self, plan: Plan, *args: Any, **kwargs: Any) -> None:
        super().__init__(plan, *args, **kwargs)
        if plan.draft.items.left().filter(invoice__cancel_requested_at__isnull=False).exists():
            self.fields["decision"].help_text = _(
                "The cancellation of some of them is requested: if you decide that they are still open, their cancel "
                "requests are sent again."
            )
        self.fields["reason"].required = True
        self.fields["reason"].label = _("Reason")
        if plan.count > MANY:
            self.fields["typed_count"].required = True
            self.fields["typed_count"].help_text = _("Type %(count)s to confirm that you mean all of them.") % {
                "count": formatting.number(plan.count)
            }
        else:
            del self.fields["typed_count"]

    def clean_typed_count(self) -> str:
        typed = re.sub(r"[\s.,']", "", self.cleaned_data["typed_count"])
        if typed != str(self.plan.count):
            raise forms.ValidationError(
                _("There are %(count)s invoices."), params={"count": formatting.number(self.plan.count)}
            )
        return typed


def form_for(plan: Plan, data: Any = None) -> ConfirmForm:
    """Return the form by which this draft is confirmed."""
    form = ResolveForm if plan.draft.operation == Operation.RESOLVE else ConfirmForm
    return form(plan, data, initial={"reason": plan.draft.reason}, label_suffix="")


def context(plan: Plan, form: ConfirmForm) -> dict[str, Any]:
    """Return what the page of a draft shows."""
    draft, count = plan.draft, plan.count
    refused = _will_not(draft, plan.refused_count) if plan.refused_count else ""
    return {
        "title": formatting.question(draft, count),
        "plan": plan,
        "shares": [share for _alias, share in sorted(plan.shares.items())],
        "refused": refused,
        "refusals": list(plan.refusals()),
        "form": form,
        "yes": formatting.consent(draft, count) if count else "",
    }


def _will_not(draft: BulkOperation, count: int) -> str:
    text = {
        Operation.CANCEL: ngettext(
            "%(count)s invoice will not be canceled, because:",
            "%(count)s invoices will not be canceled, because:",
            count,
        ),
        Operation.CHECK: ngettext(
            "%(count)s invoice will not be checked, because:", "%(count)s invoices will not be checked, because:", count
        ),
        Operation.RESOLVE: ngettext(
            "%(count)s invoice will not be resolved, because:",
            "%(count)s invoices will not be resolved, because:",
            count,
        ),
    }[Operation(draft.operation)]
    return text % {"count": formatting.number(count)}


def address(site: AdminSite, operation: BulkOperation, page: str = "operation") -> str:
    """Return the address of an operation, or of what can be done with it."""
    return reverse(f"admin:invoice_cancel_bulkoperation_{page}", args=[operation.pk], current_app=site.name)


def redirect_to(site: AdminSite, operation: BulkOperation) -> HttpResponse:
    return HttpResponseRedirect(address(site, operation))


def starts_at_once(draft: BulkOperation) -> bool:
    """Say whether nobody need confirm it: a look-up changes nothing at a provider, a repeated cancel may."""
    if draft.operation != Operation.CHECK:
        return False
    return all(registry.can_look_up(alias) for alias in draft.items.providers_left())


def started(site: AdminSite, request: HttpRequest, draft: BulkOperation, **fields: Any) -> bool:
    """Start a draft in the name of the user, and log that; False where somebody else has started it."""
    trigger = Trigger.OPERATOR if draft.operation == Operation.RESOLVE else Trigger.ADMIN
    if not draft.confirm(trigger=trigger, **fields):
        return False
    site.get_model_admin(BulkOperation).log_change(request, draft, log_line(draft))
    return True
