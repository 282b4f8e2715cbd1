"""The forms of one invoice: registration, changes, and the confirmation of each action."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any

from django import forms
from django.core.exceptions import NON_FIELD_ERRORS, ValidationError
from django.utils.translation import gettext_lazy as _

from ... import conf
from ...domain.audit import Wanted
from ...domain.statuses import REPORTABLE_STATUSES, Status
from ...labels.formatting import trim_amount
from ...labels.invoices import STATUS_LABELS
from ...models import Invoice
from ...services.eligibility import find_obstacle
from ..forms import DecisionField, ReasonField

if TYPE_CHECKING:
    _InvoiceForm = forms.ModelForm[Invoice]
else:  # generic for type checkers only
    _InvoiceForm = forms.ModelForm


class InvoiceForm(_InvoiceForm):
    """The fields of an invoice that the shop provides."""

    class Meta:
        model = Invoice
        exclude = ()

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if isinstance(amount := self.initial.get("amount"), Decimal):
            self.initial["amount"] = trim_amount(amount)

    def add_error(self, field: str | None, error: Any) -> None:
        """Ignore errors of fields that are not in this form: a user cannot correct a removed alias here."""
        if field is None and hasattr(error, "error_dict"):
            shown = {*self.fields, NON_FIELD_ERRORS}
            kept = {name: errors for name, errors in error.error_dict.items() if name in shown}
            error = ValidationError(kept)
        super().add_error(field, error)


class CancelForm(forms.Form):
    """The reason of a cancellation. The settings can make it required."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["reason"] = ReasonField(required=conf.get().require_reason)


class WithdrawForm(forms.Form):
    """The reason why a requested cancellation is withdrawn."""

    reason = ReasonField(required=False)


class DecideForm(forms.Form):
    """A decision about an invoice with its reason, and the attempt that was shown to the user."""

    attempt = forms.UUIDField(widget=forms.HiddenInput, required=False)
    reason = ReasonField()
    field_order = ("attempt", "decision", "reason")

    def __init__(self, invoice: Invoice, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.initial["attempt"] = invoice.attempt
        # "Still open" is not possible while a lost request may still be executed.
        can_reopen = not find_obstacle(Wanted.REOPEN, invoice)
        self.fields["decision"] = DecisionField(without=() if can_reopen else {Status.CREATED})
        self.order_fields(self.field_order)
        if can_reopen and invoice.cancel_requested_at is not None:
            self.fields["decision"].help_text = _(
                "A cancellation is requested. If you choose “Still open”, the cancel request is sent again."
            )


class HandledForm(forms.Form):
    """The action that the user took about late money, and the status that was shown to the user."""

    seen = forms.CharField(widget=forms.HiddenInput, required=False)
    note = ReasonField(label=_("What was done"))

    def __init__(self, invoice: Invoice, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.initial["seen"] = invoice.status


def registration_choices() -> list[tuple[str, Any]]:
    """Return the statuses in which an invoice may be registered, with their labels."""
    return [(str(status), STATUS_LABELS[status]) for status in REPORTABLE_STATUSES]
