"""A lost lock, a deadlock, a connection that breaks at COMMIT: the write is retried and is executed once."""

import pytest
from django.db import DatabaseError, IntegrityError, OperationalError, connection, transaction

from django_invoice_cancel.domain.claims import Seen
from django_invoice_cancel.models.writes import transactions
from django_invoice_cancel.models.writes.rows import RowWriter
from tests.support.invoices import invoice_in_status, stored
from tests.support.logs import log_changes
from tests.support.writes import CLERK, RECONCILE, answer_of, lookup_reply, observe_elsewhere, open_claim, record_answer

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch):
    monkeypatch.setattr(transactions.time, "sleep", lambda seconds: None)


@pytest.fixture
def break_append(monkeypatch):
    """Return a function that lets the next writes of the log fail, after the row was updated."""

    def fail(*errors):
        left, honest = list(errors), RowWriter.append

        def append(rows, entries):
            if left:
                raise left.pop(0)
            return honest(rows, entries)

        monkeypatch.setattr(RowWriter, "append", append)

    return fail


@pytest.fixture
def break_commit(monkeypatch):
    """Return a function that lets the next COMMITs happen and then report an error, as a connection lost then does."""

    def fail(times=1):
        left, honest = [None] * times, connection.commit

        def commit():
            honest()
            if left:
                left.pop()
                raise OperationalError("server closed the connection unexpectedly")

        monkeypatch.setattr(connection, "commit", commit)

    return fail


def lock_lost():
    return OperationalError("deadlock detected")


@pytest.mark.parametrize("failures", [1, 2])
def test_claim_survives_lost_locks(break_append, failures):
    invoice = invoice_in_status()
    break_append(*[lock_lost() for _ in range(failures)])
    opened = open_claim(invoice)
    assert opened.invoices == [invoice]
    assert stored(invoice).status == "canceling"
    assert stored(invoice).attempt == opened.attempt
    assert len(log_changes(invoice)) == 1


@pytest.mark.parametrize("outcome", ["canceled", "in_doubt"])
def test_record_survives_lost_locks(break_append, outcome):
    invoice = invoice_in_status()
    opened = open_claim(invoice)
    break_append(lock_lost(), lock_lost())
    record_answer(opened, invoice, outcome)
    assert stored(invoice).status == outcome
    assert len(log_changes(invoice)) == 2


@pytest.mark.parametrize(
    ("errors", "expected"),
    [
        ([lock_lost(), lock_lost(), lock_lost()], OperationalError),
        ([IntegrityError("no such user")], IntegrityError),
        ([DatabaseError("disk full")], DatabaseError),
        ([KeyError("a bug")], KeyError),
    ],
    ids=["three lost locks", "constraint", "disk", "bug"],
)
def test_persistent_error_is_raised_and_writes_nothing(break_append, errors, expected):
    invoice = invoice_in_status()
    break_append(*errors)
    with pytest.raises(expected):
        open_claim(invoice)
    assert stored(invoice).status == "created"
    assert invoice.status == "created"
    assert log_changes(invoice) == []


@pytest.mark.parametrize("times", [1, 2])
def test_claim_whose_commit_reported_an_error_is_not_lost(break_commit, times):
    """The second try finds the row claimed: by itself."""
    invoice = invoice_in_status()
    break_commit(times)
    opened = open_claim(invoice)
    assert opened.invoices == [invoice]
    row = stored(invoice)
    assert row.status == "canceling"
    assert row.attempt == opened.attempt
    assert invoice.attempt == opened.attempt
    assert log_changes(invoice) == [("created", "canceling", "")]


def test_claim_of_a_group_whose_commit_reported_an_error_is_not_lost(break_commit):
    group = [invoice_in_status(), invoice_in_status(), invoice_in_status()]
    observe_elsewhere(group[1], "paid")
    break_commit()
    opened = group[0]._writer.claim(group, CLERK)
    assert opened.invoices == [group[0], group[2]]
    assert [stored(invoice).status for invoice in group] == ["canceling", "paid", "canceling"]
    assert [len(log_changes(invoice)) for invoice in group] == [1, 1, 1]


def test_claim_that_lost_is_not_won_by_a_commit_that_reported_an_error(break_commit):
    invoice = invoice_in_status()
    loser = stored(invoice)
    winner = open_claim(invoice)
    break_commit()
    assert open_claim(loser).invoices == []
    assert stored(invoice).status == "canceling"
    assert stored(invoice).attempt == winner.attempt
    assert len(log_changes(invoice)) == 1


@pytest.mark.parametrize(
    ("outcome", "named", "expected"),
    [
        ("canceled", None, "canceled"),
        ("in_doubt", None, "in_doubt"),
        ("refused", None, "created"),
        ("not_processed", None, "created"),
        ("refused", "expired", "expired"),
        ("refused", "paid", "paid"),
    ],
)
@pytest.mark.parametrize("times", [1, 2])
def test_record_whose_commit_reported_an_error_is_written_once(break_commit, times, outcome, named, expected):
    invoice = invoice_in_status()
    opened = open_claim(invoice)
    break_commit(times)
    record_answer(opened, invoice, outcome, named)
    assert stored(invoice).status == expected
    assert invoice.status == expected
    assert log_changes(invoice) == [("created", "canceling", ""), ("canceling", expected, outcome)]


def test_late_record_whose_commit_reported_an_error_is_written_once(break_commit):
    invoice = invoice_in_status()
    opened = open_claim(invoice)
    observe_elsewhere(invoice, "paid")
    break_commit(times=2)
    record_answer(opened, invoice, "canceled")
    assert log_changes(invoice)[1:] == [("canceling", "paid", "observed"), ("paid", "paid", "canceled")]
    assert stored(invoice).status == "paid"
    assert stored(invoice).paid_after_cancel_at is not None


def test_group_whose_commit_reported_an_error_is_written_once(break_commit):
    group = [invoice_in_status(), invoice_in_status(), invoice_in_status()]
    opened = group[0]._writer.claim(group, CLERK)
    break_commit()
    outcomes = ["canceled", "in_doubt", "refused"]
    group[0]._writer.record([answer_of(opened, one, outcome) for one, outcome in zip(group, outcomes, strict=True)])
    assert [stored(invoice).status for invoice in group] == ["canceled", "in_doubt", "created"]
    assert [invoice.status for invoice in group] == ["canceled", "in_doubt", "created"]
    assert [len(log_changes(invoice)) for invoice in group] == [2, 2, 2]


def test_payment_of_a_webhook_survives_lost_locks(break_append):
    invoice = invoice_in_status()
    break_append(lock_lost(), lock_lost())
    assert invoice.observe_status("paid")
    assert stored(invoice).status == "paid"
    assert invoice.status == "paid"
    assert log_changes(invoice) == [("created", "paid", "observed")]


def test_payment_whose_commit_reported_an_error_is_written_once(break_commit):
    invoice = invoice_in_status()
    break_commit(times=2)
    assert invoice.observe_status("paid")
    assert stored(invoice).status == "paid"
    assert invoice.status == "paid"
    assert log_changes(invoice) == [("created", "paid", "observed")]


def test_lost_lock_inside_a_transaction_is_raised_to_the_caller(break_append):
    """It has rolled the caller's rows back too: nothing here can write them again."""
    invoice = invoice_in_status()
    break_append(lock_lost())
    with pytest.raises(OperationalError), transaction.atomic():
        observe_elsewhere(invoice, "paid")
    assert stored(invoice).status == "created"
    assert log_changes(invoice) == []


def test_lookup_survives_lost_locks(break_append):
    invoice = invoice_in_status("in_doubt")
    break_append(lock_lost())
    invoice._writer.record_lookup(Seen.now(invoice), lookup_reply("canceled"), RECONCILE)
    assert stored(invoice).status == "canceled"
    assert len(log_changes(invoice)) == 1
