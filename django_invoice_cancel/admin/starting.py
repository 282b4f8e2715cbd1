"""How an operation begins and where it is found: shared by the actions and the pages.

One entry in the admin's log for each operation, written by whoever starts it; none for its invoices.
"""

from __future__ import annotations

from typing import Any

from django.contrib.admin import AdminSite
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse

from .. import registry
from ..intents import Trigger
from ..models import BulkOperation
from ..models.bulk_operation import Operation
from .texts import log_line


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
