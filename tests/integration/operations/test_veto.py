"""Stored operations: an item that the shop forbids to cancel is concluded with its reason, and not sent."""

from datetime import timedelta

import pytest

from django_invoice_cancel import operations
from django_invoice_cancel.models import BulkOperation, Invoice
from django_invoice_cancel.testing import make_invoice
from tests.support.invoices import count_statuses
from tests.support.operations import advance_slice, item_outcomes, stored_progress
from tests.support.vetoes import SHIPPED, count_requests

pytestmark = pytest.mark.django_db(transaction=True)

LONG_AGO = timedelta(days=2)


def reasons(operation):
    rows = operation.items.exclude(veto_reason="").values_list("invoice__external_id", "veto_reason")
    return dict(rows)


def test_items_that_were_vetoed_after_the_draft_are_not_sent(shop_rule):
    invoices = [make_invoice() for _ in range(3)]
    draft = BulkOperation.objects.draft(Invoice.objects.all())
    assert item_outcomes(draft) == dict.fromkeys((invoice.external_id for invoice in invoices), "")
    shop_rule.forbid(invoices[1])
    draft.confirm()
    assert advance_slice(draft.pk).is_finished
    assert item_outcomes(draft)[invoices[1].external_id] == "skipped vetoed"
    assert reasons(draft) == {invoices[1].external_id: SHIPPED}
    assert count_statuses() == {"canceled": 2, "created": 1}
    assert count_requests() == 2


def test_draft_skips_vetoed_invoices_in_batches(shop_rule, monkeypatch):
    monkeypatch.setattr("django_invoice_cancel.models.operation.ITEM_BATCH_SIZE", 2)
    invoices = [make_invoice() for _ in range(5)]
    make_invoice("paid")
    shop_rule.forbid(*invoices[:3])
    shop_rule.forbid(invoices[3], answer="\ud800 not \0 allowed " + "x" * 600)
    draft = BulkOperation.objects.draft(Invoice.objects.all())
    assert sorted(item_outcomes(draft).values()) == ["", "", *["skipped vetoed"] * 4]
    assert set(reasons(draft).values()) == {SHIPPED, "\ufffd not \ufffd allowed " + "x" * 484}
    assert shop_rule.asked == [invoice.external_id for invoice in invoices]
    draft.confirm()
    assert advance_slice(draft.pk).is_finished
    assert count_statuses() == {"canceled": 1, "created": 4, "paid": 1}
    assert count_requests() == 1


def test_draft_asks_the_shop_outside_of_its_transaction(shop_rule):
    make_invoice()
    shop_rule.forbid(answer=lambda invoice: str(BulkOperation.objects.count()))
    draft = BulkOperation.objects.draft(Invoice.objects.all())
    assert list(reasons(draft).values()) == ["1"]
    assert count_requests() == 0


def test_start_leaves_the_question_to_the_workers(shop_rule):
    invoice = make_invoice()
    shop_rule.forbid()
    operation = operations.start(Invoice.objects.all())
    assert shop_rule.asked == []
    assert advance_slice(operation.pk).is_finished
    assert item_outcomes(operation) == {invoice.external_id: "skipped vetoed"}
    assert reasons(operation) == {invoice.external_id: SHIPPED}
    assert stored_progress(operation) == "finished"
    assert count_statuses() == {"created": 1}
    assert count_requests() == 0


@pytest.mark.parametrize("is_drafted", [True, False], ids=["draft", "worker"])
def test_vetoed_repeat_of_a_check_leaves_the_invoice_in_doubt(shop_rule, is_drafted):
    invoice = make_invoice("in_doubt", age=LONG_AGO)
    attempt = invoice.attempt
    shop_rule.forbid()
    if is_drafted:
        operation = BulkOperation.objects.draft(Invoice.objects.all(), operation="check")
        assert item_outcomes(operation) == {invoice.external_id: "in_doubt vetoed"}
        operation.confirm()
    else:
        operation = operations.start(Invoice.objects.all(), operation="check")
    assert advance_slice(operation.pk).is_finished
    assert item_outcomes(operation) == {invoice.external_id: "in_doubt vetoed"}
    assert reasons(operation) == {invoice.external_id: SHIPPED}
    assert shop_rule.asked == [invoice.external_id]
    assert Invoice.objects.get().attempt == attempt
    assert count_statuses() == {"in_doubt": 1}
    assert count_requests() == 0


def test_resolution_and_lookups_do_not_ask_the_shop(shop_rule):
    shop_rule.forbid()
    make_invoice("in_doubt", age=LONG_AGO)
    make_invoice("in_doubt", age=LONG_AGO, provider="cryptocloud")
    check = BulkOperation.objects.draft(Invoice.objects.filter(provider="cryptocloud"), operation="check")
    check.confirm()
    assert advance_slice(check.pk).is_finished
    resolution = operations.start(
        Invoice.objects.filter(provider="firekassa"), operation="resolve", actor="Ada", reason="seen", decision="paid"
    )
    assert advance_slice(resolution.pk).is_finished
    assert shop_rule.asked == []
    assert count_statuses() == {"created": 1, "paid": 1}
    assert count_requests() == 0
