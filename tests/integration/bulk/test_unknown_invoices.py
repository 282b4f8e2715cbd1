"""P9: ten unknown invoices and no known one end a run. Invoices that stay unknown do not block others."""

import pytest

from django_invoice_cancel import operations
from django_invoice_cancel.bulk import selection as selections
from django_invoice_cancel.bulk.selection import KeyListReader
from django_invoice_cancel.bulk.start import (
    cancel_requested_selection,
    cancel_selection,
    make_readers,
    preview_selection,
)
from django_invoice_cancel.domain.audit import AuditContext
from django_invoice_cancel.models import BulkOperation, Invoice
from django_invoice_cancel.operations import advance
from tests.support.invoices import count_statuses
from tests.support.logs import count_answers
from tests.support.results import count_codes

pytestmark = pytest.mark.django_db
DELETED = 12


@pytest.fixture
def deleted_first(scripted, make):
    """Return a function that makes 12 invoices unknown to the provider, 10 of them already requested, and 30 others.

    It returns the provider, with its request count at zero.
    """

    def prepare(**fields):
        shop = scripted(concurrency=1)
        for invoice in make(DELETED, **fields):
            shop.all_cancels("not_found", invoice.external_id)
        assert count_codes(Invoice.objects.all().cancel().results) == {"not_found": 10, "unknown_invoices": 2}
        make(30, **fields)
        shop.cancel_count = 0
        return shop

    return prepare


def keys():
    return list(Invoice.objects.order_by("pk").values_list("pk", flat=True))


@pytest.mark.parametrize("page", [3, pytest.param(7, marks=pytest.mark.slow), 200])
def test_invoices_deleted_at_the_provider_do_not_end_every_run(deleted_first, make, monkeypatch, page):
    monkeypatch.setattr(selections, "PAGE_SIZE", page)
    shop = deleted_first()
    for run in (1, 2, 3):
        found = Invoice.objects.cancelable().cancel().results
        assert count_codes(found) == {"canceled": 30 if run == 1 else 5, "not_found": DELETED}
        assert len({each.invoice_id for each in found}) == len(found)
        make(5)
    assert shop.cancel_count == 30 + 5 + 5 + 3 * DELETED
    assert count_statuses() == {"canceled": 40, "created": DELETED + 5}
    assert count_answers() == {"canceled": 40, "not_found": 10 + 3 * DELETED}


def test_wrong_key_causes_ten_requests_per_run(scripted, make):
    shop = scripted(concurrency=1)
    make(40)
    shop.all_cancels("not_found")
    for _ in range(3):
        Invoice.objects.cancelable().cancel()
    assert shop.cancel_count == 30
    assert count_statuses() == {"created": 40}
    assert count_answers() == {"not_found": 30}


def test_invoices_that_were_unknown_come_last_in_a_list_of_ids(deleted_first):
    shop = deleted_first()
    reader = KeyListReader(Invoice.objects.all(), keys())
    writer = Invoice.objects.all()._writer
    found = count_codes(cancel_selection(writer, {"shop": reader}, AuditContext()))
    assert found == {"canceled": 30, "not_found": DELETED}
    assert shop.cancel_count == 30 + DELETED
    assert count_statuses() == {"canceled": 30, "created": DELETED}


@pytest.mark.parametrize("limit", [1, 10, 31, 32, 40, 42, None])
@pytest.mark.parametrize("kind", ["query", "list"])
def test_preview_run_and_stored_operation_agree_on_a_limited_selection(deleted_first, kind, limit):
    deleted_first()
    rows = Invoice.objects.cancelable()

    def readers():
        return make_readers(rows) if kind == "query" else {"shop": KeyListReader(Invoice.objects.all(), keys())}

    draft = BulkOperation.objects.draft(Invoice.objects.none())
    for part in readers()["shop"].querysets(limit):
        draft.snapshot(part)
    stored = list(draft.items.order_by("pk").values_list("invoice_id", flat=True))
    previewed = [each.invoice_id for each in preview_selection(readers(), limit=limit)]
    assert len(previewed) == (limit or 42)
    assert sorted(stored) == sorted(previewed)
    run = [each.invoice_id for each in cancel_selection(rows._writer, readers(), AuditContext(), limit=limit)]
    assert sorted(run) == sorted(previewed)
    assert previewed[32:] == keys()[:10][: len(previewed[32:])]


@pytest.mark.parametrize("limit", [15, pytest.param(4, marks=pytest.mark.slow)])
def test_invoices_that_were_unknown_come_last_in_a_stored_operation(deleted_first, limit):
    shop = deleted_first()
    operation = operations.start(Invoice.objects.all())
    while not advance(operation.pk, limit=limit).is_finished:
        pass
    assert shop.cancel_count == 30 + DELETED
    assert count_statuses() == {"canceled": 30, "created": DELETED}


def test_requests_for_unknown_invoices_do_not_delay_other_requests(scripted, make, clock):
    shop = scripted(concurrency=1)
    for invoice in make(DELETED):
        shop.all_cancels("not_found", invoice.external_id)
    make(30)
    for invoice in Invoice.objects.all():
        invoice.cancel_on_commit()
    shop.cancel_count = 0
    for _ in range(2):
        clock.advance(24 * 3600)
        due = Invoice.objects.due_for_canceling()
        list(cancel_requested_selection(due._writer, make_readers(due)))
    assert count_statuses() == {"canceled": 30, "created": DELETED}
    assert shop.cancel_count == 10 + 30 + DELETED


def test_unknown_invoices_that_are_no_longer_selected_are_not_requested(deleted_first):
    shop = deleted_first()
    gone = list(Invoice.objects.filter(last_outcome="not_found")[:4])
    found = []
    for each in cancel_selection(
        Invoice.objects.all()._writer, make_readers(Invoice.objects.cancelable()), AuditContext()
    ):
        found.append(each)
        if len(found) == 1:
            for invoice in gone:
                invoice.observe_status("expired")
    assert count_codes(found) == {"canceled": 30, "not_found": DELETED - 4}
    assert shop.cancel_count == 30 + DELETED - 4
    assert count_statuses() == {"canceled": 30, "created": 8, "expired": 4}
