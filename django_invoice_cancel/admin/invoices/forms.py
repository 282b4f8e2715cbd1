"""The forms of one invoice: registering it, and what is asked before something is done to it."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from django import forms
from django.core.exceptions import NON_FIELD_ERRORS, ValidationError
from django.utils.translation import gettext_lazy as _

from ... import conf
from ...domain.audit import Wanted
from ...domain.statuses import Status
from ...models import Invoice
from ...models.invoice import STATUS_LABELS
from ...services.eligibility import why_not
from ..formatting import short

if TYPE_CHECKING:
    _InvoiceForm = forms.ModelForm[Invoice]
else:  # generic for the type checker alone
    _InvoiceForm = forms.ModelForm

SHOWS = {
    Status.CANCELED: _("The provider's cabinet shows it canceled"),
    Status.CREATED: _("The provider's cabinet shows it still open"),
    Status.EXPIRED: _("The provider's cabinet shows it expired"),
    Status.FAILED: _("The provider's cabinet shows its payment failed"),
    Status.PARTIALLY_PAID: _("The provider's cabinet shows it partially paid"),
    Status.PAID: _("The provider's cabinet shows it paid"),
    Status.OVERPAID: _("The provider's cabinet shows it overpaid"),
}
"""What a person may have seen, as the decision that follows from it."""


def _words(label: Any) -> forms.CharField:
    return forms.CharField(label=label, max_length=1000, widget=forms.Textarea(attrs={"rows": 3, "cols": 60}))


class InvoiceForm(_InvoiceForm):
    """An invoice to register, or to change in what is not the provider's."""

    class Meta:
        model = Invoice
        exclude = ()

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if isinstance(amount := self.initial.get("amount"), Decimal):
            self.initial["amount"] = short(amount)

    def add_error(self, field: str | None, error: Any) -> None:
        """Leave out what is wrong with fields that are not in this form: an alias that is gone is not mended here."""
        if field is None and hasattr(error, "error_dict"):
            shown = {*self.fields, NON_FIELD_ERRORS}
            kept = {name: errors for name, errors in error.error_dict.items() if name in shown}
            error = ValidationError(kept)
        super().add_error(field, error)


class CancelForm(forms.Form):
    """The reason, where the settings ask for one."""

    reason = _words(_("Reason"))

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if not conf.get().require_reason:
            self.fields["reason"].required = False
            self.fields["reason"].label = _("Reason (optional)")


class WithdrawForm(forms.Form):
    """The reason for which a requested cancellation is withdrawn, if there is one."""

    reason = _words(_("Reason (optional)"))

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["reason"].required = False


class DecideForm(forms.Form):
    """One decision about an invoice, with its reason, as the person saw the invoice."""

    attempt = forms.UUIDField(widget=forms.HiddenInput, required=False)
    decision = forms.ChoiceField(label=_("Decision"), widget=forms.RadioSelect)
    reason = _words(_("Reason"))

    def __init__(self, invoice: Invoice, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.initial["attempt"] = invoice.attempt
        self.fields["decision"].choices = list(_decisions(invoice))  # type: ignore[attr-defined]
        if invoice.cancel_requested_at is not None:
            self.fields["decision"].help_text = _(
                "Its cancellation is requested: if you decide that it is still open, the cancel request is sent again."
            )


class HandledForm(forms.Form):
    """What was done about late money, as the person saw it."""

    seen = forms.CharField(widget=forms.HiddenInput, required=False)
    note = _words(_("What was done"))

    def __init__(self, invoice: Invoice, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.initial["seen"] = invoice.status


def _decisions(invoice: Invoice) -> Iterator[tuple[str, Any]]:
    """Yield the decisions that are possible now."""
    may_reopen = _may_reopen(invoice)
    for status, label in SHOWS.items():
        if status != Status.CREATED or may_reopen:
            yield str(status), label


def _may_reopen(invoice: Invoice) -> bool:
    """Return whether "still open" is possible: not while a lost request may still be carried out."""
    return not why_not(Wanted.REOPEN, invoice)


def registrable() -> list[tuple[str, Any]]:
    """Return the statuses in which an invoice may be registered, with their words."""
    return [(str(status), label) for status, label in STATUS_LABELS.items() if status in SHOWS]
