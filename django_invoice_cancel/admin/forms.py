"""Form fields that are shared by the pages of one invoice and of many invoices: the reason and the decision."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from django import forms
from django.utils.translation import gettext_lazy as _

from ..domain.audit import REASON_LENGTH
from ..domain.statuses import Status
from ..labels.invoices import DECISIONS


class ReasonField(forms.CharField):
    """The reason of an action, stripped and limited in length. Its label shows whether it is optional."""

    def __init__(self, *, required: bool = True, label: Any = None, rows: int = 3) -> None:
        super().__init__(
            label=label or (_("Reason") if required else _("Reason (optional)")),
            required=required,
            max_length=REASON_LENGTH,
            widget=forms.Textarea(attrs={"rows": rows, "cols": 60}),
        )


class DecisionField(forms.ChoiceField):
    """A user's decision: the status that the provider's dashboard shows for an invoice."""

    def __init__(self, *, without: Collection[Status] = ()) -> None:
        choices = [(str(status), label) for status, label in DECISIONS.items() if status not in without]
        super().__init__(label=_("Status in the provider's dashboard"), widget=forms.RadioSelect, choices=choices)
