"""Record: in time, late, in groups (rules 5, 6, 12). Concurrent changes are never overwritten."""

from uuid import uuid4

import pytest
from django.db import DatabaseError

from django_invoice_cancel.domain.claims import Seen
from django_invoice_cancel.domain.statuses import Status
from django_invoice_cancel.models import Invoice
from django_invoice_cancel.models.writes.rows import RowWriter
from tests.support.invoices import invoice_in_status, set_columns_and_refresh, stored
from tests.support.logs import log_changes, status_history
from tests.support.writes import (
    CLERK,
    NOON,
    OPERATOR,
    RECONCILE,
    answer_of,
    lookup_reply,
    observe_elsewhere,
    open_claim,
    record_answer,
    record_lookup,
    seconds,
)

pytestmark = pytest.mark.django_db


@pytest.mark.parametrize(
    ("outcome", "named", "expected"),
    [
        ("canceled", None, "canceled"),
        ("already_canceled", None, "canceled"),
        ("refused", None, "created"),
        ("refused", "expired", "expired"),
        ("refused", "failed", "failed"),
        ("refused", "partially_paid", "partially_paid"),
        ("refused", "paid", "paid"),
        ("refused", "overpaid", "overpaid"),
        ("not_processed", None, "created"),
        ("in_doubt", None, "in_doubt"),
    ],
)
def test_answer_in_time_changes_the_status(clock, outcome, named, expected):
    invoice = invoice_in_status()
    opened = open_claim(invoice)
    clock.shift(3)
    record_answer(opened, invoice, outcome, named)
    row = stored(invoice)
    assert row.status == expected
    assert row.last_outcome == outcome
    assert row.attempt == opened.attempt
    assert row.status_changed_at == NOON + seconds(3)
    assert row.status_confirmed_at == (None if expected in ("created", "in_doubt") else NOON + seconds(3))
    assert log_changes(invoice) == [("created", "canceling", ""), ("canceling", expected, outcome)]
    assert invoice.status == expected
    assert invoice.last_outcome == outcome


def test_lost_answer_is_checked_in_a_minute_and_its_doubt_period_begins_now(clock):
    invoice = invoice_in_status()
    opened = open_claim(invoice)
    clock.shift(20)
    record_answer(opened, invoice, "in_doubt")
    row = stored(invoice)
    assert row.claim_expires_at == NOON + seconds(20)
    assert row.next_check_at == NOON + seconds(80)
    assert row.check_count == 0
    assert row.status == "in_doubt"
    assert log_changes(invoice)[-1] == ("canceling", "in_doubt", "in_doubt")


# -- late: another caller has changed the status from "canceling" -------------------------------------------------


def _back_to_created(invoice):
    """Its claim was abandoned, looked up after the doubt period, and found open."""
    _to_doubt(invoice)
    set_columns_and_refresh(invoice, status="created")


def _to_doubt(invoice):
    set_columns_and_refresh(invoice, status="in_doubt")


def _to(status):
    return lambda invoice: set_columns_and_refresh(invoice, status=status)


def _to_another(status):
    return lambda invoice: set_columns_and_refresh(invoice, status=status, attempt=uuid4())


LATE = [
    # the status of the row, the late answer, the status after it
    (_to_doubt, "in_doubt", "canceled", None, "canceled"),
    (_to_doubt, "in_doubt", "already_canceled", None, "canceled"),
    (_to_doubt, "in_doubt", "refused", "expired", "expired"),
    (_to_doubt, "in_doubt", "refused", "paid", "paid"),
    (_to_doubt, "in_doubt", "refused", None, "in_doubt"),
    (_to_doubt, "in_doubt", "not_processed", None, "in_doubt"),
    (_to_doubt, "in_doubt", "in_doubt", None, "in_doubt"),
    (_back_to_created, "created", "canceled", None, "canceled"),
    (_back_to_created, "created", "refused", "failed", "failed"),
    (_back_to_created, "created", "refused", "overpaid", "overpaid"),
    (_back_to_created, "created", "in_doubt", None, "in_doubt"),
    (_back_to_created, "created", "refused", None, "created"),
    (_back_to_created, "created", "not_processed", None, "created"),
    (_to("canceled"), "canceled", "canceled", None, "canceled"),
    (_to("canceled"), "canceled", "refused", "paid", "paid"),
    (_to("canceled"), "canceled", "refused", "expired", "canceled"),
    (_to("canceled"), "canceled", "in_doubt", None, "canceled"),
    (_to("expired"), "expired", "canceled", None, "expired"),
    (_to("expired"), "expired", "refused", "partially_paid", "partially_paid"),
    (_to("paid"), "paid", "canceled", None, "paid"),
    (_to("paid"), "paid", "in_doubt", None, "paid"),
    (_to("paid"), "paid", "refused", "overpaid", "overpaid"),
    (_to("paid"), "paid", "refused", "partially_paid", "paid"),
    (_to_another("canceling"), "canceling", "canceled", None, "canceling"),
    (_to_another("canceling"), "canceling", "in_doubt", None, "canceling"),
    (_to_another("canceling"), "canceling", "refused", "expired", "canceling"),
    (_to_another("created"), "created", "canceled", None, "created"),
    (_to_another("created"), "created", "in_doubt", None, "created"),
    (_to_another("in_doubt"), "in_doubt", "canceled", None, "in_doubt"),
    # a payment wins, whichever attempt reports it
    (_to_another("canceling"), "canceling", "refused", "paid", "paid"),
    (_to_another("in_doubt"), "in_doubt", "refused", "paid", "paid"),
    (_to_another("created"), "created", "refused", "paid", "paid"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("concurrent_change", "old", "outcome", "named", "expected"),
    LATE,
    ids=[f"{row[0].__name__.strip('_<>')}:{row[1]}+{row[2]}:{row[3] or ''}={row[4]}" for row in LATE],
)
def test_late_answer_is_never_lost_and_never_overwrites(concurrent_change, old, outcome, named, expected):
    invoice = invoice_in_status()
    opened = open_claim(invoice)
    concurrent_change(stored(invoice))
    record_answer(opened, invoice, outcome, named)
    row = stored(invoice)
    assert row.status == expected
    assert invoice.status == expected
    assert log_changes(invoice)[1:] == [(old, expected, outcome)]
    assert invoice.transitions.last().attempt == opened.attempt


@pytest.mark.parametrize("named", ["canceled", "expired", None])
def test_late_answer_without_effect_is_only_logged_unless_it_reports_a_payment(named):
    invoice = invoice_in_status()
    opened = open_claim(invoice)
    _to_doubt(stored(invoice))
    record_answer(opened, invoice, "not_processed", named)
    assert stored(invoice).status == "in_doubt"
    assert log_changes(invoice)[-1] == ("in_doubt", "in_doubt", "not_processed")


def test_late_doubt_about_an_open_invoice_begins_now(clock):
    invoice = invoice_in_status()
    opened = open_claim(invoice)
    _back_to_created(stored(invoice))
    clock.shift(2000)
    record_answer(opened, invoice, "in_doubt")
    row = stored(invoice)
    assert row.claim_expires_at == NOON + seconds(2000)
    assert row.next_check_at == NOON + seconds(2060)
    assert row.status == "in_doubt"
    assert log_changes(invoice)[-1] == ("created", "in_doubt", "in_doubt")


def test_late_answer_that_is_only_logged_does_not_change_the_bookkeeping(clock):
    invoice = invoice_in_status()
    opened = open_claim(invoice)
    set_columns_and_refresh(stored(invoice), status="paid", last_outcome="refused")
    clock.shift(9)
    record_answer(opened, invoice, "canceled")
    row = stored(invoice)
    assert row.status == "paid"
    assert row.last_outcome == "refused"
    assert row.status_changed_at == NOON
    assert log_changes(invoice)[-1] == ("paid", "paid", "canceled")


def test_answer_for_a_deleted_invoice_is_ignored():
    invoice = invoice_in_status()
    opened = open_claim(invoice)
    ghost = stored(invoice)
    ghost.pk = 10**9
    record_answer(opened, ghost, "refused", "paid")
    assert stored(invoice).status == "canceling"


# -- memory (rule 12) -------------------------------------------------------------------------------------------


def _late(opened, invoice):
    observe_elsewhere(invoice, "paid")
    record_answer(opened, invoice, "canceled")


WRITES = {
    "record": lambda opened, invoice: record_answer(opened, invoice, "canceled"),
    "late record": _late,
    "record of money": lambda opened, invoice: record_answer(opened, invoice, "refused", "paid"),
    "give back": lambda opened, invoice: invoice._writer.give_back(opened, [invoice]),
    "observe": lambda opened, invoice: invoice.observe_status("paid"),
    "lookup": lambda opened, invoice: invoice._writer.record_lookup(
        Seen.now(invoice), lookup_reply("paid"), RECONCILE
    ),
    "resolve": lambda opened, invoice: (
        _to_doubt(stored(invoice)), invoice._writer.resolve(invoice, Status.CANCELED, OPERATOR)
    ),
    "request, refused": lambda opened, invoice: (
        observe_elsewhere(invoice, "paid"), invoice._writer.request_cancel(invoice, CLERK)
    ),
    "refresh": lambda opened, invoice: (observe_elsewhere(invoice, "paid"), invoice._writer.refresh(invoice)),
}  # fmt: skip


@pytest.mark.parametrize("method", WRITES.values(), ids=WRITES)
def test_instance_has_the_written_status_and_keeps_unsaved_edits(method):
    invoice = invoice_in_status(reference="stored")
    opened = open_claim(invoice)
    invoice.reference, invoice.currency = "edited", "EUR"
    method(opened, invoice)
    row = stored(invoice)
    names = ["status", "attempt", "claim_expires_at", "next_check_at", "check_count", "last_outcome",
             "status_changed_at", "status_confirmed_at", "paid_after_cancel_at", "cancel_requested_at"]  # fmt: skip
    assert {name: getattr(invoice, name) for name in names} == {name: getattr(row, name) for name in names}
    assert row.status != "canceling"
    assert invoice.reference == "edited"
    assert invoice.currency == "EUR"
    assert row.reference == "stored"


@pytest.mark.parametrize("only", [None, ["id", "provider", "external_id"]], ids=["whole", "deferred"])
def test_instance_is_unchanged_after_a_failed_write(monkeypatch, only):
    invoice = invoice_in_status()
    opened = open_claim(invoice)
    fetched = Invoice.objects.only(*only).get(pk=invoice.pk) if only else stored(invoice)
    monkeypatch.setattr(RowWriter, "append", _fail)
    with pytest.raises(DatabaseError, match="disk full"):
        record_answer(opened, fetched, "canceled")
    assert stored(invoice).status == "canceling"
    assert stored(invoice).last_outcome == ""
    assert fetched.status == "canceling"
    assert fetched.last_outcome == ""
    assert fetched.attempt == opened.attempt
    assert log_changes(invoice) == [("created", "canceling", "")]


def _fail(rows, entries):
    raise DatabaseError("disk full")


# -- groups -----------------------------------------------------------------------------------------------------


def _group(number):
    invoices = [invoice_in_status() for _ in range(number)]
    return invoices, invoices[0]._writer.claim(invoices, CLERK)


def test_group_is_recorded_each_with_its_own_answer(django_assert_max_num_queries):
    invoices, opened = _group(6)
    outcomes = ["canceled", "canceled", "in_doubt", "refused", "not_processed", "canceled"]
    answers = [answer_of(opened, invoice, outcome) for invoice, outcome in zip(invoices, outcomes, strict=True)]
    with django_assert_max_num_queries(8):  # 4 outcomes, 1 log, the savepoint of the test's transaction
        invoices[0]._writer.record(answers)
    after = ["canceled", "canceled", "in_doubt", "created", "created", "canceled"]
    assert [stored(invoice).status for invoice in invoices] == after
    assert [invoice.status for invoice in invoices] == after
    assert [len(log_changes(invoice)) for invoice in invoices] == [2] * 6


def test_group_of_two_attempts_is_recorded_together():
    (one, two), first = _group(2)
    (three,), second = _group(1)
    answers = [
        answer_of(first, one, "canceled"),
        answer_of(second, three, "canceled"),
        answer_of(first, two, "canceled"),
    ]
    one._writer.record(answers)
    assert [stored(invoice).status for invoice in (one, two, three)] == ["canceled"] * 3


def test_group_with_a_concurrently_changed_row_is_written_row_by_row(clock):
    """The group's UPDATE finds one row too few and is rolled back; each row is then written."""
    invoices, opened = _group(4)
    observe_elsewhere(invoices[1], "paid")
    set_columns_and_refresh(stored(invoices[2]), status="in_doubt")
    invoices[0]._writer.record([answer_of(opened, invoice, "canceled") for invoice in invoices])
    rows = [stored(invoice) for invoice in invoices]
    assert [row.status for row in rows] == ["canceled", "paid", "canceled", "canceled"]
    assert [invoice.status for invoice in invoices] == [row.status for row in rows]
    assert [row.paid_after_cancel_at for row in rows] == [None, NOON, None, None]
    assert [log_changes(invoice)[1:] for invoice in invoices] == [
        [("canceling", "canceled", "canceled")],
        [("canceling", "paid", "observed"), ("paid", "paid", "canceled")],
        [("in_doubt", "canceled", "canceled")],
        [("canceling", "canceled", "canceled")],
    ]


def test_row_changed_between_two_updates_of_a_group_rolls_back_the_first(monkeypatch):
    """The race inside the method: the second outcome's UPDATE is the one that finds too few."""
    (one, two), opened = _group(2)
    honest = RowWriter.append
    observe_elsewhere(two, "paid")
    written = []
    monkeypatch.setattr(
        RowWriter, "append", lambda rows, entries: (written.append(len(entries)), honest(rows, entries))
    )
    one._writer.record([answer_of(opened, one, "canceled"), answer_of(opened, two, "in_doubt")])
    assert written == [1, 1]
    assert [stored(one).status, stored(two).status] == ["canceled", "paid"]
    assert status_history(one) == ["created > canceling", "canceling > canceled"]
    assert log_changes(two)[-1] == ("paid", "paid", "in_doubt")


def test_payment_in_a_group_is_recorded_once(clock):
    (one, two), opened = _group(2)
    observe_elsewhere(one, "paid")
    one._writer.record([answer_of(opened, one, "canceled"), answer_of(opened, two, "refused", "paid")])
    assert [stored(one).status, stored(two).status] == ["paid", "paid"]
    assert log_changes(one)[1:] == [("canceling", "paid", "observed"), ("paid", "paid", "canceled")]
    assert log_changes(two)[1:] == [("canceling", "paid", "refused")]


def test_one_answer_with_a_payment_is_one_transaction(monkeypatch):
    invoice = invoice_in_status()
    opened, runs = open_claim(invoice), []
    honest = RowWriter.run
    monkeypatch.setattr(
        RowWriter, "run", lambda rows, *args, **options: (runs.append(1), honest(rows, *args, **options))[1]
    )
    record_answer(opened, invoice, "refused", "paid")
    assert len(runs) == 1
    assert stored(invoice).status == "paid"


def test_recording_in_time_needs_no_lock(monkeypatch):
    invoice = invoice_in_status()
    opened = open_claim(invoice)
    monkeypatch.setattr(RowWriter, "lock", None)
    record_answer(opened, invoice, "canceled")
    assert stored(invoice).status == "canceled"


def test_lookup_between_claim_and_recording_does_not_make_the_answer_late():
    invoice = invoice_in_status()
    opened = open_claim(invoice)
    record_lookup(invoice, "created")
    record_answer(opened, invoice, "canceled")
    assert status_history(invoice) == ["created > canceling", "canceling > canceled"]
