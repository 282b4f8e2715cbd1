"""Answers are recorded in groups. A payment or a failure of one row does not affect the other rows."""

import pytest
from django.db import OperationalError
from django.db.models import Count

from django_invoice_cancel.bulk import cancel_invoices
from django_invoice_cancel.models import Invoice
from django_invoice_cancel.models.writes.answers import AnswerWriter
from django_invoice_cancel.models.writes.provider_state import ProviderStateWriter
from django_invoice_cancel.models.writes.rows import RowWriter
from tests.support.invoices import count_statuses
from tests.support.logs import count_invoices_by_log_rows
from tests.support.results import count_codes

pytestmark = pytest.mark.django_db


@pytest.mark.django_db(transaction=True)
def test_one_row_that_cannot_be_recorded_affects_only_that_row(shop, make, monkeypatch):
    invoices = make(60)
    append = RowWriter.append

    def refuse(self, entries):
        if any(entry.outcome and entry.invoice.external_id == "000017" for entry in entries):
            raise ZeroDivisionError
        append(self, entries)

    monkeypatch.setattr(RowWriter, "append", refuse)
    results = list(cancel_invoices(invoices))
    assert [(r.external_id, r.outcome) for r in results if not r.is_recorded] == [("000017", "canceled")]
    assert len(results) == shop.cancel_count == 60
    assert count_statuses() == {"canceled": 59, "canceling": 1}
    assert count_invoices_by_log_rows() == {1: 1, 2: 59}


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("when", ["before it is written", "within the transaction", "after it is written"])
def test_interrupt_during_recording_loses_no_answer(shop, make, monkeypatch, when):
    """Outside of the commands it is a KeyboardInterrupt. It must not turn a known answer into a doubt."""
    record, append, interrupted = AnswerWriter.record, RowWriter.append, []

    def interrupt(point):
        if point == when and not interrupted:
            interrupted.append(point)
            raise KeyboardInterrupt

    def interrupted_record(self, answers, **options):
        interrupt("before it is written")
        written = record(self, answers, **options)
        interrupt("after it is written")
        return written

    def interrupted_append(self, entries):
        append(self, entries)
        if all(entry.outcome for entry in entries):
            interrupt("within the transaction")

    monkeypatch.setattr(AnswerWriter, "record", interrupted_record)
    monkeypatch.setattr(RowWriter, "append", interrupted_append)
    with pytest.raises(KeyboardInterrupt):
        make(500).cancel()
    sent = shop.cancel_count
    assert 1 <= sent < 500
    assert count_statuses() == {"canceled": sent, "created": 500 - sent}
    assert sorted(Invoice.objects.filter(status="canceled").values_list("external_id", flat=True)) == sorted(
        shop.cancels
    )
    assert Invoice.objects.filter(status="canceled").annotate(rows=Count("transitions")).exclude(rows=2).count() == 0


@pytest.fixture
def change_before_record(monkeypatch):
    """Return a function that lets a webhook report a status of one invoice before its group's answers are recorded."""

    def change(external_id, status):
        record = AnswerWriter.record

        def recorded_after(self, answers, **options):
            if any(answer.invoice.external_id == external_id for answer in answers):
                Invoice.objects.observe_status("shop", external_id, status, trigger="webhook")
            return record(self, answers, **options)

        monkeypatch.setattr(AnswerWriter, "record", recorded_after)

    return change


@pytest.mark.django_db(transaction=True)
def test_partly_written_group_is_not_written_twice(shop, make, monkeypatch, change_before_record):
    """A payment makes the run record each row separately. One row fails after others were logged."""
    change_before_record("000003", "paid")
    append, logged, failed = RowWriter.append, [], []

    def fail_once(self, entries):
        if len(entries) == 1 and entries[0].outcome:
            if len(logged) == 10 and not failed:
                failed.extend(entries)
                raise ZeroDivisionError
            logged.extend(entries)
        append(self, entries)

    monkeypatch.setattr(RowWriter, "append", fail_once)
    results = list(cancel_invoices(make(20)))
    assert len(failed) == 1
    assert count_codes(results) == {"canceled": 19, "has_payment": 1}
    assert shop.cancel_count == 20
    assert count_invoices_by_log_rows() == {2: 19, 3: 1}
    assert count_statuses() == {"canceled": 19, "paid": 1}


def test_payment_between_claim_and_record_wins(shop, make, change_before_record):
    """A webhook changes one row of the group. Its payment is not overwritten, and the other rows are recorded."""
    change_before_record("000003", "paid")
    results = {result.external_id: result for result in cancel_invoices(make(20))}
    assert results["000003"].outcome == "refused"
    assert results["000003"].code == "has_payment"
    assert shop.cancel_count == 20
    assert count_statuses() == {"canceled": 19, "paid": 1}
    assert Invoice.objects.get(external_id="000003").paid_after_cancel_at is not None
    assert count_invoices_by_log_rows() == {2: 19, 3: 1}


def test_webhook_that_reports_the_cancellation_first_is_not_a_failure(shop, make, change_before_record):
    change_before_record("000003", "canceled")
    report = make(20).cancel()
    assert report.ok is True
    assert shop.cancel_count == 20
    assert count_statuses() == {"canceled": 20}
    assert count_invoices_by_log_rows() == {2: 19, 3: 1}


def test_failure_to_write_the_provider_state_is_tolerated(shop, make, monkeypatch, caplog):
    def fail(*args, **kwargs):
        raise OperationalError("locked")

    monkeypatch.setattr(ProviderStateWriter, "update_provider_state", fail)
    report = make(60).cancel()
    assert report.ok is True
    assert shop.cancel_count == 60
    assert count_statuses() == {"canceled": 60}
    assert count_invoices_by_log_rows() == {2: 60}
    assert "The state of provider shop was not written." in caplog.messages
