"""The verbs: everything that writes an invoice's status and bookkeeping, and nothing else does.

``InvoiceVerbs`` is what an invoice or a query set hands to the story. Rooms: ``rows`` how it is written,
``claims`` the sole right to submit, ``requests`` requested cancellations, ``records`` a reply, ``observations`` what
is learned from outside, ``decisions`` what people decide, ``registering`` new invoices, ``pauses`` a provider in
trouble, ``outbox`` the signals.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .answers import Records
from .claims import Claims
from .decisions import Decisions
from .notices import Outbox
from .observations import Observations, Seen
from .provider_state import Pauses
from .registering import Registrations
from .requests import Requests
from .rows import Rows

if TYPE_CHECKING:
    from ..invoice import Invoice


class InvoiceVerbs:
    """The verbs of the invoices in one database; ``model`` is the class that ``register`` inserts."""

    def __init__(self, model: type[Invoice], using: str) -> None:
        self._rows = rows = Rows(using)
        self.using = using
        self.refresh = rows.refresh
        self.guard_raw_save = rows.guard_raw_save
        claims, observations, decisions, pauses = Claims(rows), Observations(rows), Decisions(rows), Pauses(rows)
        requests = Requests(rows, claims)
        self.read = rows.repeat
        self.claim = claims.claim
        self.give_back = claims.give_back
        self.is_claimed = claims.is_claimed
        self.is_overtaken = claims.is_overtaken
        self.abandon = claims.abandon
        self.record = Records(rows).record
        self.observe = observations.observe
        self.book_check = observations.book_check
        self.record_lookup = observations.record_lookup
        self.beat = observations.beat
        self.correct_times = observations.correct_times
        self.request_cancel = requests.request_cancel
        self.withdraw = requests.withdraw
        self.is_withdrawn = requests.is_withdrawn
        self.claim_requested = requests.claim_requested
        self.postpone_request = requests.postpone_request
        self.resolve = decisions.resolve
        self.mark_handled = decisions.mark_handled
        registrations = Registrations(rows, model)
        self.find = registrations.find
        self.register = registrations.register
        self.register_many = registrations.register_many
        self.pause = pauses.pause
        self.provider_state = pauses.provider_state
        self.tell_state = pauses.tell_state
        self.reserve = pauses.reserve
        self.paused = pauses.paused
        self.correct_pauses = pauses.correct_pauses
        self.count_failure = pauses.count_failure

    def refuse_inside_transaction(self) -> None:
        """Raise ``CancelInTransaction`` where a provider may not be asked; nothing is sent to the database."""
        with self._rows.durable():
            return

    def in_bulk(self) -> Outbox:
        """Prepare for a bulk run: signals are kept in the outbox returned, and no write waits for a lock again."""
        self._rows.outbox, self._rows.waits_again = Outbox(), False
        return self._rows.outbox

    seen = staticmethod(Seen.now)

    def repeats(self, invoice: Invoice) -> int:
        """Return how often the cancel was repeated for the doubt that the invoice is in."""
        steps: Any = (
            self._rows.log.filter(invoice_id=invoice.id).order_by("-id").values_list("from_status", "to_status")
        )
        count = 0
        for old, new in list(steps):
            if old == "created" and new == "canceling":
                break
            count += old == "in_doubt" and new == "canceling"
        return count
