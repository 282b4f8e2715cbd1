"""Signals of committed writes. They are sent after the commit, or kept in an outbox that a bulk run empties.

Receivers are code of the project. They may be slow, fail, or be interrupted by a time limit of the caller.
"""

from __future__ import annotations

import copy
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ...domain.interruptions import is_interruption
from ...domain.ports import InvoicePort, TransitionPort
from ...domain.statuses import Status
from ...signals import invoice_paid_after_cancel, invoice_status_changed

if TYPE_CHECKING:
    from django.db.models import Model


@dataclass(frozen=True)
class Notice:
    """The signals of one row of the log."""

    model: type[Model]
    invoice: InvoicePort
    transition: TransitionPort
    is_late_money: bool

    @property
    def is_claim(self) -> bool:
        return self.transition.to_status == Status.CANCELING

    @property
    def has_receivers(self) -> bool:
        return (self._is_change and invoice_status_changed.has_listeners(self.model)) or (
            self.is_late_money and invoice_paid_after_cancel.has_listeners(self.model)
        )

    def send(self) -> None:
        """Call the receivers with a copy of the invoice, so that their changes of it have no effect elsewhere.

        Django logs their exceptions; an interruption of the caller is raised again.
        """
        row = self.transition
        answers: list[tuple[Any, Any]] = []
        if self._is_change and invoice_status_changed.has_listeners(self.model):
            old_and_new = {"old_status": row.from_status, "new_status": row.to_status}
            answers += invoice_status_changed.send_robust(**self._arguments(), **old_and_new)
        if self.is_late_money and invoice_paid_after_cancel.has_listeners(self.model):
            answers += invoice_paid_after_cancel.send_robust(**self._arguments())
        for _receiver, answer in answers:
            if isinstance(answer, Exception) and is_interruption(answer):
                raise answer

    def _arguments(self) -> dict[str, Any]:
        return {"sender": self.model, "invoice": copy.copy(self.invoice), "transition": self.transition}

    @property
    def _is_change(self) -> bool:
        return self.transition.from_status != self.transition.to_status


class Outbox:
    """Notices that are not sent yet, oldest first, each with a copy of the invoice from when its row was written."""

    def __init__(self) -> None:
        self._notices: deque[Notice] = deque()

    def __len__(self) -> int:
        return len(self._notices)

    def put(self, notices: Sequence[Notice]) -> None:
        for notice in notices:
            if notice.has_receivers:
                as_written = copy.copy(notice.invoice)
                self._notices.append(Notice(notice.model, as_written, notice.transition, notice.is_late_money))

    def take(self) -> Notice:
        return self._notices.popleft()


def send_all(notices: Sequence[Notice]) -> None:
    """Send all notices, also after one of them was interrupted; raise the first interruption at the end."""
    interruption: BaseException | None = None
    for notice in notices:
        try:
            notice.send()
        except Exception as error:  # noqa: BLE001 - raised below; any other BaseException ends the work at once
            interruption = interruption or error
    if interruption is not None:
        raise interruption
