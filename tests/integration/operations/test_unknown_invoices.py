"""P9: an operation ends for an account after ten unknown invoices without a known one, over all slices and workers."""

import pytest

from django_invoice_cancel import operations
from django_invoice_cancel.bulk import cancel
from django_invoice_cancel.models import BulkOperation, Invoice
from django_invoice_cancel.operations import advance, slices
from django_invoice_cancel.testing import ScriptedProvider
from tests.integration.bulk.conftest import make, scripted
from tests.support.invoices import count_statuses
from tests.support.logs import count_answers

__all__ = ["make", "scripted"]

pytestmark = pytest.mark.django_db


def finish(operation, limit):
    for _ in range(100):
        if advance(operation.pk, limit=limit).is_finished:
            return
    raise AssertionError("The operation does not end.")


def outcomes(operation):
    """Return the number of items with each outcome and code."""
    found = {}
    for pair in operation.items.values_list("outcome", "code"):
        found[pair] = found.get(pair, 0) + 1
    return found


@pytest.mark.parametrize("limit", [pytest.param(1, marks=pytest.mark.slow), 3, 9, 10, 25])
def test_account_without_known_invoices_gets_ten_requests_over_all_slices(scripted, make, limit):
    shop = scripted(concurrency=1)
    make(30)
    shop.all_cancels("not_found")
    operation = operations.start(Invoice.objects.all())
    finish(operation, limit)
    assert shop.cancel_count == 10
    assert outcomes(operation) == {("refused", "not_found"): 10, ("skipped", "unknown_invoices"): 20}
    assert count_statuses() == {"created": 30}
    assert count_answers() == {"not_found": 10}


@pytest.mark.parametrize("answer", ["canceled", "already_canceled", "refused", "paid"])
def test_known_invoice_in_an_earlier_slice_continues_the_operation(scripted, make, answer):
    shop = scripted(concurrency=1)
    make(20)
    shop.next_cancels(answer)
    shop.all_cancels("not_found")
    operation = operations.start(Invoice.objects.all())
    finish(operation, 5)
    assert shop.cancel_count == 20
    assert outcomes(operation)[("refused", "not_found")] == 19


@pytest.mark.parametrize("answer", ["in_doubt", "not_processed"])
def test_answer_without_knowledge_of_the_invoice_does_not_count_as_known(scripted, make, answer):
    shop = scripted(concurrency=1)
    make(20)
    shop.next_cancels(answer)
    shop.all_cancels("not_found")
    operation = operations.start(Invoice.objects.all())
    finish(operation, 5)
    assert shop.cancel_count == 11
    assert outcomes(operation)[("skipped", "unknown_invoices")] == 9


def test_invoice_canceled_before_the_operation_does_not_count_as_known(scripted, make):
    """No request was sent for it, so the account did not confirm that it knows it."""
    shop = scripted(concurrency=1)
    [known] = make(1)
    known.cancel()
    make(19)
    shop.cancel_count = 0
    shop.all_cancels("not_found")
    operation = operations.start(Invoice.objects.all())
    finish(operation, 5)
    assert shop.cancel_count == 10
    assert outcomes(operation) == {
        ("already_canceled", "already_canceled"): 1,
        ("refused", "not_found"): 10,
        ("skipped", "unknown_invoices"): 9,
    }


@pytest.fixture
def before_batch(monkeypatch):
    """Return a function that calls ``action`` before a slice leases the batch with this number, of three items each."""
    monkeypatch.setattr(slices, "ITEM_BATCH_SIZE", 3)
    monkeypatch.setattr(cancel, "INVOICE_BATCH_SIZE", 3)
    lease = slices.Slice.lease
    batches = []

    def set_up(number, action):
        def count_and_lease(self, alias):
            batches.append(alias)
            if len(batches) == number:
                action()
            return lease(self, alias)

        monkeypatch.setattr(slices.Slice, "lease", count_and_lease)

    return set_up


def test_answers_of_other_workers_are_counted_during_a_slice(scripted, make, before_batch):
    shop = scripted(concurrency=1)
    make(30)
    shop.all_cancels("not_found")
    operation = operations.start(Invoice.objects.all())
    before_batch(2, lambda: advance(operation.pk, limit=6))
    finish(operation, 50)
    assert 10 <= shop.cancel_count <= 10 + 3
    assert outcomes(operation) == {
        ("refused", "not_found"): shop.cancel_count,
        ("skipped", "unknown_invoices"): 30 - shop.cancel_count,
    }
    assert count_statuses() == {"created": 30}


def test_known_invoice_of_another_worker_continues_the_slice(scripted, make, before_batch):
    shop = scripted(concurrency=1)
    make(20)
    shop.all_cancels("not_found")
    operation = operations.start(Invoice.objects.all())
    last = Invoice.objects.order_by("pk").last()

    def cancel_elsewhere():
        shop.next_cancels("canceled", external_id=last.external_id)
        other = BulkOperation.objects.get(pk=operation.pk)
        other.items.filter(invoice=last).update(outcome="canceled", code="confirmed")

    before_batch(4, cancel_elsewhere)
    finish(operation, 1000)
    assert shop.cancel_count == 19
    assert outcomes(operation) == {("refused", "not_found"): 19, ("canceled", "confirmed"): 1}


def test_account_without_known_invoices_does_not_end_the_others(scripted, make):
    scripted("shop", "kiosk", concurrency=1)
    make(15)
    make(15, "kiosk")
    ScriptedProvider.of("kiosk").all_cancels("not_found")
    operation = operations.start(Invoice.objects.all())
    finish(operation, 7)
    assert ScriptedProvider.of("shop").cancel_count == 15
    assert ScriptedProvider.of("kiosk").cancel_count == 10
    assert count_statuses() == {"canceled": 15, "created": 15}


def test_next_operation_counts_from_zero(scripted, make):
    shop = scripted(concurrency=1)
    make(15)
    shop.all_cancels("not_found")
    finish(operations.start(Invoice.objects.all()), 5)
    shop.all_cancels(None)
    finish(operations.start(Invoice.objects.all()), 5)
    assert shop.cancel_count == 10 + 15
    assert count_statuses() == {"canceled": 15}
