"""The promises that hold after each step of the random walk, checked with the rows, the log and the provider's data."""

from collections.abc import Iterable, Sequence
from typing import Any

from django.db.models import Max

from django_invoice_cancel.domain.outcomes import CONFIRMS_CANCEL
from django_invoice_cancel.domain.statuses import MOVES
from django_invoice_cancel.models import Invoice, InvoiceTransition

from .model import MONEY, Account, Broken

LEGAL = {(str(old), str(new)) for table in MOVES.values() for old, news in table.items() for new in news}
LEVELS = ["", *MONEY]
ENDS = (*MONEY, "canceled", "expired", "failed")


def promise(is_kept: object, words: str) -> None:
    if not is_kept:
        raise Broken(words)


class Ledger:
    """The rows and their log, read anew after each step; the log is append-only, so only its end."""

    def __init__(self) -> None:
        self.first = self.last = 0
        self.rows: dict[int, Invoice] = {}
        self.logs: dict[int, list[InvoiceTransition]] = {}
        self.ids: dict[int, str] = {}

    def read(self) -> None:
        rows = _all(Invoice, self.first)
        self.rows = {row.pk: row for row in rows if row.pk in self.logs}
        for entry in _all(InvoiceTransition, self.last + 1):
            self.logs[entry.invoice_id].append(entry)
            self.last = entry.pk

    def add(self, pk: int, external_id: str) -> None:
        if not self.logs:
            self.first = pk
            self.last = InvoiceTransition.objects.aggregate(last=Max("id"))["last"] or 0
        self.logs[pk] = []
        self.ids[pk] = external_id

    def written(self) -> set[Any]:
        """Return the keys of the log as it stands."""
        return set(InvoiceTransition.objects.filter(invoice_id__in=self.rows).values_list("pk", flat=True))


def _all(model: Any, first: int) -> Iterable[Any]:
    # By hand: the walk reads all of it after each step, and building a query costs more than running it.
    return model.objects.raw(f"SELECT * FROM {model._meta.db_table} WHERE id >= %s ORDER BY id", [first])  # noqa: S608


def check_log(row: Invoice, log: list[InvoiceTransition]) -> None:
    """The log is a chain of moves that exist, and it ends in the row's status."""
    at, attempt = "created", None
    for each in log:
        promise(each.from_status == at, f"the log goes on from {each.from_status}, and it was {at}")
        is_move = each.to_status == at or (at, each.to_status) in LEGAL
        promise(is_move, f"{at} > {each.to_status} is not in the table")
        is_answer = each.duration_ms is not None
        if is_answer and each.to_status not in (at, *MONEY):  # money counts, whoever brings the word of it
            promise(each.attempt == attempt, "an answer moved what another attempt had claimed")
        at, attempt = each.to_status, each.attempt if each.to_status == "canceling" else attempt
    promise(row.status == at, f"the log ends in {at}, and the row is {row.status}")
    promise(row.status != "in_doubt" or row.next_check_at is not None, "in doubt, and never looked up")
    promise(row.status != "canceling" or row.claim_expires_at is not None, "claimed without an end")


def check_request(row: Invoice, log: list[InvoiceTransition]) -> None:
    """A requested cancellation stands until an event of rule 13 clears it."""
    is_requested = False
    for each in log:
        is_refused = (each.outcome, each.from_status, each.to_status) == ("refused", "canceling", "created")
        if each.code == "requested":
            is_requested = True
        elif each.to_status in ENDS or each.code == "withdrawn" or (is_refused and each.code != "not_found"):
            is_requested = False
    promise((row.cancel_requested_at is not None) is is_requested, "a request was forgotten, or came back")
    promise((row.cancel_try_at is not None) is is_requested, "a request without a time, or a time without one")


def check_truth(row: Invoice, log: list[InvoiceTransition], account: Account) -> None:
    is_decided = any(each.trigger == "operator" and each.to_status == row.status for each in log)
    if row.status == "canceled":
        promise(account.was_canceled or is_decided, "canceled without the provider's word")
    if row.status in ("expired", "failed"):
        promise(account.state == row.status or account.state in MONEY or is_decided, "closed without a word of it")
    if row.status == "created" and not is_decided:
        promise(not account.late, "called open while a lost request may still be carried out")
        promise(not (account.is_ours and account.state == "canceled"), "called open, and we had canceled it")


def check_money(row: Invoice, log: list[InvoiceTransition], told: str) -> None:
    held = row.status if row.status in MONEY else ""
    promise(LEVELS.index(held) >= LEVELS.index(told), f"money overwritten: {told} became {row.status}")
    if held:
        met = any(each.to_status == "canceled" or each.outcome in CONFIRMS_CANCEL for each in log)
        promise(
            (row.paid_after_cancel_at is not None) is met, "money and a cancel met" if met else "flagged for nothing"
        )


def check_instance(instance: Invoice, row: Invoice, names: Sequence[str]) -> None:
    """The instance that a method was called on tells what its row says."""
    wrong = [name for name in names if getattr(instance, name) != getattr(row, name)]
    promise(not wrong, f"the instance does not carry its row's {', '.join(wrong)}")
