"""The invariants after each step of the state machine, checked with the rows, the log and the provider's data."""

from collections.abc import Iterable, Sequence
from typing import Any

from django.db.models import Max

from django_invoice_cancel.domain.outcomes import CONFIRMS_CANCEL
from django_invoice_cancel.domain.statuses import MOVES
from django_invoice_cancel.models import Invoice, InvoiceTransition

from .provider_model import PAID, Account, InvariantBroken

LEGAL = {(str(old), str(new)) for table in MOVES.values() for old, news in table.items() for new in news}
LEVELS = ["", *PAID]
FINAL = (*PAID, "canceled", "expired", "failed")


def require(is_true: object, message: str) -> None:
    if not is_true:
        raise InvariantBroken(message)


class StoredRows:
    """The rows and the log, read after each step. Only new entries of the append-only log are read."""

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
        """Return the keys of all entries of the log."""
        return set(InvoiceTransition.objects.filter(invoice_id__in=self.rows).values_list("pk", flat=True))


def _all(model: Any, first: int) -> Iterable[Any]:
    # Raw SQL, because all rows are read after each step, and building a query takes longer than running it.
    return model.objects.raw(f"SELECT * FROM {model._meta.db_table} WHERE id >= %s ORDER BY id", [first])  # noqa: S608


def check_log(row: Invoice, log: list[InvoiceTransition]) -> None:
    """The log is a chain of permitted transitions, and it ends in the row's status."""
    at, attempt = "created", None
    for each in log:
        require(each.from_status == at, f"the log continues from {each.from_status} after {at}")
        is_move = each.to_status == at or (at, each.to_status) in LEGAL
        require(is_move, f"{at} > {each.to_status} is not in the table")
        is_answer = each.duration_ms is not None
        if is_answer and each.to_status not in (at, *PAID):  # a payment is recorded for any attempt
            require(each.attempt == attempt, "an answer changed the claim of another attempt")
        at, attempt = each.to_status, each.attempt if each.to_status == "canceling" else attempt
    require(row.status == at, f"the log ends in {at}, and the row is {row.status}")
    require(row.status != "in_doubt" or row.next_check_at is not None, "in doubt without a time of the next lookup")
    require(row.status != "canceling" or row.claim_expires_at is not None, "claimed without an expiry")


def check_request(row: Invoice, log: list[InvoiceTransition]) -> None:
    """A requested cancellation remains until an event of rule 13 clears it."""
    is_requested = False
    for each in log:
        is_refused = (each.outcome, each.from_status, each.to_status) == ("refused", "canceling", "created")
        if each.code == "requested":
            is_requested = True
        elif each.to_status in FINAL or each.code == "withdrawn" or (is_refused and each.code != "not_found"):
            is_requested = False
    require((row.cancel_requested_at is not None) is is_requested, "a requested cancellation was lost, or restored")
    require(
        (row.cancel_try_at is not None) is is_requested,
        "a requested cancellation without a time, or a time without one",
    )


def check_against_provider(row: Invoice, log: list[InvoiceTransition], account: Account) -> None:
    is_decided = any(each.trigger == "operator" and each.to_status == row.status for each in log)
    if row.status == "canceled":
        require(account.was_canceled or is_decided, "canceled without an answer of the provider")
    if row.status in ("expired", "failed"):
        require(
            account.state == row.status or account.state in PAID or is_decided,
            "closed without an answer of the provider",
        )
    if row.status == "created" and not is_decided:
        require(not account.late, "set to created while a lost request may still be executed")
        require(
            not (account.is_canceled_by_us and account.state == "canceled"),
            "set to created after the package had canceled it",
        )


def check_payment(row: Invoice, log: list[InvoiceTransition], reported: str) -> None:
    held = row.status if row.status in PAID else ""
    require(LEVELS.index(held) >= LEVELS.index(reported), f"payment overwritten: {reported} became {row.status}")
    if held:
        is_canceled = any(each.to_status == "canceled" or each.outcome in CONFIRMS_CANCEL for each in log)
        require(
            (row.paid_after_cancel_at is not None) is is_canceled,
            "payment after a cancellation is not flagged" if is_canceled else "flagged without a cancellation",
        )


def check_instance(instance: Invoice, row: Invoice, names: Sequence[str]) -> None:
    """The instance that a method was called on has the values of its row."""
    wrong = [name for name in names if getattr(instance, name) != getattr(row, name)]
    require(not wrong, f"the instance differs from its row in {', '.join(wrong)}")
