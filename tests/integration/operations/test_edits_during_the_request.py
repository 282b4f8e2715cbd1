"""P5: an answer is not recorded for an invoice whose account or id changed during the request."""

import pytest
from django.db import connections

from django_invoice_cancel.bulk import cancel_invoices, reconcile_invoices
from django_invoice_cancel.models import Invoice
from django_invoice_cancel.services.cancel import cancel_invoice
from django_invoice_cancel.services.reconcile import reconcile_invoice
from django_invoice_cancel.testing import ScriptedProvider
from tests.support.invoices import set_columns, statuses_by_id, stored
from tests.support.logs import log_codes_by_id
from tests.support.operations import advance_slice, item_outcomes, requests_by_account

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.scripted_providers("a", "b")]

EDITS = {"account": {"provider": "b"}, "id": {"external_id": "999"}}


def edit(invoice, **columns):
    set_columns(invoice, **columns)
    connections.close_all()  # of the worker thread


def last_message(invoice):
    return invoice.transitions.order_by("-id").first().provider_message


@pytest.mark.parametrize("columns", EDITS.values(), ids=EDITS)
@pytest.mark.parametrize("answer", ["canceled", "already_canceled", "paid", "expired", "refused", "in_doubt"])
def test_answer_for_an_edited_invoice_is_a_doubt(scripted_provider, invoices, answer, columns):
    [invoice] = invoices(1, provider="a")
    scripted_provider.all_cancels(answer)
    scripted_provider.before_send = lambda external_id: edit(invoice, **columns)
    result = cancel_invoice(invoice)
    assert result.outcome == "in_doubt"
    assert result.code == "changed"
    assert result.provider == "a"
    assert result.external_id == "101"
    saved = stored(invoice)
    assert saved.status == "in_doubt"
    assert saved.status_confirmed_at is None
    assert saved.paid_after_cancel_at is None
    assert list(log_codes_by_id().values()) == ["claim changed"]
    assert last_message(invoice).startswith(f"a 101: {'refused' if answer in ('paid', 'expired') else answer}")
    assert answer in last_message(invoice)
    assert requests_by_account() == {"a": (1, 0), "b": (0, 0)}


def test_lookup_at_the_new_account_ends_the_doubt(scripted_provider, invoices):
    [invoice] = invoices(1, provider="a")
    scripted_provider.before_send = lambda external_id: edit(invoice, provider="b")
    cancel_invoice(invoice)
    ScriptedProvider.of("b").set_status("101", "paid")
    assert reconcile_invoice(stored(invoice)).code == "has_payment"
    assert stored(invoice).status == "paid"
    assert stored(invoice).paid_after_cancel_at is None
    assert requests_by_account() == {"a": (1, 0), "b": (0, 1)}


@pytest.mark.parametrize("columns", EDITS.values(), ids=EDITS)
def test_unprocessed_request_leaves_an_edited_invoice_open(scripted_provider, invoices, columns):
    [invoice] = invoices(1, provider="a")
    scripted_provider.all_cancels("rate_limited")
    scripted_provider.before_send = lambda external_id: edit(invoice, **columns)
    assert cancel_invoice(invoice).code == "rate_limited"
    assert stored(invoice).status == "created"
    assert list(log_codes_by_id().values()) == ["claim rate_limited"]
    assert last_message(invoice).startswith("a 101: not_processed")
    assert requests_by_account() == {"a": (1, 0), "b": (0, 0)}


@pytest.mark.parametrize("status", ["created", "in_doubt", "canceled"])
@pytest.mark.parametrize("answer", ["canceled", "paid"])
def test_late_answer_for_an_edited_invoice_is_logged_only(scripted_provider, invoices, answer, status):
    [invoice] = invoices(1, provider="a")
    scripted_provider.all_cancels(answer)
    scripted_provider.before_send = lambda external_id: edit(invoice, provider="b", status=status)
    cancel_invoice(invoice)
    assert stored(invoice).status == status
    assert stored(invoice).paid_after_cancel_at is None
    assert list(log_codes_by_id().values()) == ["claim changed"]
    assert answer in last_message(invoice)
    assert requests_by_account() == {"a": (1, 0), "b": (0, 0)}


def test_bulk_run_records_the_other_invoices_of_the_batch(scripted_provider, invoices):
    rows = invoices(5, provider="a")
    moved = {"102": {"provider": "b"}, "104": {"external_id": "999"}}
    scripted_provider.before_send = lambda name: name in moved and edit(rows[int(name) - 101], **moved[name])
    results = {result.external_id: result.code for result in cancel_invoices(Invoice.objects.all())}
    assert results == {"101": "canceled", "102": "changed", "103": "canceled", "104": "changed", "105": "canceled"}
    assert statuses_by_id() == {
        **dict.fromkeys(("101", "103", "105"), "canceled"),
        "102": "in_doubt",
        "999": "in_doubt",
    }
    assert log_codes_by_id()["102"] == "claim changed"
    assert log_codes_by_id()["999"] == "claim changed"
    assert log_codes_by_id()["101"] == "claim canceled"
    assert requests_by_account() == {"a": (5, 0), "b": (0, 0)}


def test_operation_reports_the_doubt(scripted_provider, invoices, started):
    rows = invoices(3, provider="a")
    operation = started()
    scripted_provider.before_send = lambda name: name == "102" and edit(rows[1], provider="b")
    assert advance_slice(operation.pk).is_finished
    assert item_outcomes(operation) == {
        "101": "canceled canceled",
        "102": "in_doubt changed",
        "103": "canceled canceled",
    }
    assert statuses_by_id() == {"101": "canceled", "102": "in_doubt", "103": "canceled"}
    assert requests_by_account() == {"a": (3, 0), "b": (0, 0)}


@pytest.mark.parametrize("columns", EDITS.values(), ids=EDITS)
@pytest.mark.parametrize("in_bulk", [False, True], ids=["single", "bulk"])
@pytest.mark.parametrize("answer", ["canceled", "paid"])
def test_lookup_of_an_edited_invoice_is_logged_only(scripted_provider, invoices, answer, in_bulk, columns):
    [invoice] = invoices(1, provider="a")
    set_columns(invoice, status="in_doubt", next_check_at=invoice.created_at)

    def answer_late(external_id):
        edit(invoice, **columns)
        return answer

    scripted_provider.all_lookups(answer_late)
    [result] = reconcile_invoices(Invoice.objects.all()) if in_bulk else [reconcile_invoice(stored(invoice))]
    assert result.outcome == "skipped"
    assert result.code == "changed"
    assert stored(invoice).status == "in_doubt"
    assert list(log_codes_by_id().values()) == ["changed"]
    assert last_message(invoice) == f"a 101: {answer}"
    assert requests_by_account() == {"a": (0, 1), "b": (0, 0)}


def test_lookup_without_an_answer_does_not_delay_the_new_account(scripted_provider, invoices):
    [invoice] = invoices(1, provider="a")
    set_columns(invoice, status="in_doubt", next_check_at=invoice.created_at)
    due = stored(invoice).next_check_at

    def no_answer(external_id):
        edit(invoice, provider="b", next_check_at=due)
        return "no_answer"

    scripted_provider.all_lookups(no_answer)
    reconcile_invoice(stored(invoice))
    assert stored(invoice).next_check_at == due
    assert stored(invoice).status == "in_doubt"
    assert requests_by_account() == {"a": (0, 1), "b": (0, 0)}


def swap_ids(first, second):
    """Exchange the ids of two rows, as a correction of mixed-up ids does."""
    a, b = stored(first).external_id, stored(second).external_id
    for invoice, external_id in ((first, "none"), (second, a), (first, b)):
        set_columns(invoice, external_id=external_id)
    connections.close_all()


@pytest.mark.parametrize("answer", ["canceled", "paid"])
def test_ids_swapped_during_the_requests_are_a_doubt(scripted_provider, invoices, answer):
    rows = invoices(5, provider="a")
    scripted_provider.all_cancels(answer)
    scripted_provider.before_send = lambda name: name == "101" and swap_ids(rows[1], rows[3])
    results = {result.external_id: result.code for result in cancel_invoices(Invoice.objects.all(), concurrency=1)}
    code = "has_payment" if answer == "paid" else answer
    assert results == {"101": code, "102": "changed", "103": code, "104": "changed", "105": code}
    assert statuses_by_id() == {**dict.fromkeys(("101", "103", "105"), answer), "102": "in_doubt", "104": "in_doubt"}
    assert log_codes_by_id()["102"] == "claim changed"
    assert log_codes_by_id()["104"] == "claim changed"
    assert requests_by_account() == {"a": (5, 0), "b": (0, 0)}


def test_ids_swapped_before_the_claim_are_not_requested(scripted_provider, invoices):
    rows = invoices(120, provider="a")
    scripted_provider.before_send = lambda name: name == "101" and swap_ids(rows[110], rows[113])
    results = {result.external_id: result.code for result in cancel_invoices(Invoice.objects.all(), concurrency=1)}
    assert results.pop("211") == "changed"
    assert results.pop("214") == "changed"
    assert set(results.values()) == {"canceled"}
    assert stored(rows[110]).status == "created"
    assert stored(rows[113]).status == "created"
    assert log_codes_by_id()["211"] == ""
    assert log_codes_by_id()["214"] == ""
    assert requests_by_account() == {"a": (118, 0), "b": (0, 0)}
