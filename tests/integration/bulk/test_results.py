"""P8: a bulk cancellation yields one typed, correct result for each invoice, the same as a single cancellation."""

import logging

import pytest

from django_invoice_cancel.bulk import BulkReport, cancel_invoices
from django_invoice_cancel.domain.outcomes import CancelResult, Outcome
from django_invoice_cancel.exceptions import CancelInTransaction
from django_invoice_cancel.models import Invoice
from django_invoice_cancel.signals import invoice_status_changed
from django_invoice_cancel.testing import ScriptedProvider, make_invoice
from tests.support.invoices import count_statuses
from tests.support.logs import CANCELED_LOG, count_answers, count_invoices_by_log_rows, log_entries
from tests.support.results import count_codes

pytestmark = pytest.mark.django_db

ANSWERS = {
    # the provider's answer: (outcome, code, status afterwards)
    "canceled": ("canceled", "canceled", "canceled"),
    "already_canceled": ("already_canceled", "already_canceled", "canceled"),
    "paid": ("refused", "has_payment", "paid"),
    "expired": ("refused", "closed", "expired"),
    "refused": ("refused", "provider_refused", "created"),
    "not_found": ("refused", "not_found", "created"),
    "in_doubt": ("in_doubt", "no_answer", "in_doubt"),
}
FOUND = {
    # status before: (outcome, code)
    "canceled": ("already_canceled", "already_canceled"),
    "paid": ("skipped", "has_payment"),
    "expired": ("skipped", "closed"),
    "in_doubt": ("skipped", "in_doubt"),
    "canceling": ("skipped", "in_progress"),
}


def test_every_answer_has_a_result_and_a_log_row(shop, make):
    invoices = make(len(ANSWERS))
    for invoice, answer in zip(invoices.order_by("pk"), ANSWERS, strict=True):
        shop.all_cancels(answer, invoice.external_id)
    report = invoices.cancel(actor="till", reason="the market closed")
    by_id = {result.invoice_id: result for result in report.results}
    for invoice, (answer, (outcome, code, status)) in zip(invoices.order_by("pk"), ANSWERS.items(), strict=True):
        result = by_id[invoice.pk]
        assert result.outcome == outcome, answer
        assert result.code == code, answer
        assert result.status == status, answer
        assert invoice.status == result.status
        last = invoice.transitions.latest("id")
        assert last.actor_label == "till"
        assert last.reason == "the market closed"
        assert last.trigger == "api"
        assert str(last.attempt) == result.attempt
    assert shop.cancel_count == 7
    assert count_invoices_by_log_rows() == {2: 7}


@pytest.mark.parametrize("status", FOUND)
def test_ineligible_invoices_are_skipped_without_a_request(shop, status):
    invoice = make_invoice(status)
    before, sent = log_entries(invoice), shop.cancel_count
    [result] = cancel_invoices(Invoice.objects.all())
    outcome, code = FOUND[status]
    assert result.outcome == outcome
    assert result.code == code
    assert shop.cancel_count == sent
    assert log_entries(invoice) == before


def test_report_counts_outcomes_and_is_ok_only_if_all_are_canceled(shop, make):
    invoices = make(3)
    shop.next_cancels("canceled", "refused", "already_canceled")
    seen: list[CancelResult] = []
    report = invoices.cancel(on_result=seen.append)
    assert type(report) is BulkReport
    assert report.ok is False
    assert seen == report.results
    assert report.counts == {Outcome.CANCELED: 1, Outcome.REFUSED: 1, Outcome.ALREADY_CANCELED: 1}
    assert invoices.filter(status="canceled").cancel().ok
    assert shop.cancel_count == 3


def test_empty_selection_returns_an_empty_report(shop):
    report = Invoice.objects.filter(provider="shop").cancel()
    assert report.ok is True
    assert report.results == []
    assert shop.cancel_count == 0


def test_each_attempt_is_logged_in_one_line_as_for_single_cancellations(shop, make, caplog):
    invoices = make(3)
    shop.next_cancels("canceled", "in_doubt", "refused")
    with caplog.at_level(logging.INFO, "django_invoice_cancel"):
        results = list(cancel_invoices(invoices))
    assert sorted((r.levelname, r.external_id, r.outcome, r.code, r.attempt) for r in caplog.records) == sorted(
        ("WARNING" if r.outcome == "in_doubt" else "INFO", r.external_id, r.outcome, r.code, r.attempt) for r in results
    )
    assert shop.cancel_count == 3
    assert count_statuses() == {"canceled": 1, "created": 1, "in_doubt": 1}
    assert count_answers() == {"canceled": 1, "no_answer": 1, "provider_refused": 1}


def test_result_is_logged_if_the_generator_was_closed(shop, make, caplog):
    """The generator is closed after one result; the other invoices were canceled all the same."""
    results = cancel_invoices(make(20))
    with caplog.at_level(logging.INFO, "django_invoice_cancel"):
        next(results)
        results.close()
    assert len(caplog.records) == shop.cancel_count == count_statuses()["canceled"]
    assert count_answers() == {"canceled": shop.cancel_count}


@pytest.mark.django_db(transaction=True)
def test_bulk_run_sends_the_signals_of_single_cancellations(shop, make):
    invoices = make(3)
    shop.next_cancels("canceled", "paid", "refused")
    received = []

    def receive(invoice, old_status, new_status, transition, **kwargs):
        received.append((invoice.pk, old_status, new_status, transition.trigger))

    invoice_status_changed.connect(receive)
    try:
        results = list(cancel_invoices(invoices))
    finally:
        invoice_status_changed.disconnect(receive)
    claimed = [(result.invoice_id, "created", "canceling", "api") for result in results]
    assert sorted(received) == sorted(claimed + [(r.invoice_id, "canceling", r.status, "api") for r in results])
    assert shop.cancel_count == 3


def test_limit_applies_to_all_providers_together(scripted, make):
    first, second = scripted("shop", "kiosk"), ScriptedProvider.of("kiosk")
    make(30)
    make(30, "kiosk")
    results = list(cancel_invoices(Invoice.objects.all(), limit=35))
    assert len(results) == first.cancel_count + second.cancel_count == 35
    assert count_statuses() == {"canceled": 35, "created": 25}


def test_misconfigured_alias_affects_only_its_own_invoices(scripted, make):
    shop = scripted("shop")
    make(3)
    make(3, "nobody")
    results = list(cancel_invoices(Invoice.objects.all()))
    assert count_codes(results) == {"canceled": 3, "misconfigured": 3}
    assert {result.code for result in results if result.provider == "nobody"} == {"misconfigured"}
    assert shop.cancel_count == 3
    assert count_invoices_by_log_rows() == {2: 3}
    assert count_statuses() == {"canceled": 3, "created": 3}


def test_id_that_is_not_normalized_is_not_sent(settings, running_process, make):
    """``bulk_create`` stores what it is given; another form of the id would be another invoice's row."""
    settings.INVOICE_CANCEL = {"PROVIDERS": running_process.settings()}
    running_process.reset()
    Invoice.objects.bulk_create([Invoice(provider="cryptocloud", external_id=each) for each in ("ABCDEF00", "../x")])
    results = list(cancel_invoices(Invoice.objects.all()))
    assert count_codes(results) == {"misconfigured": 2}
    assert running_process.count("cancel") == 0
    assert count_statuses() == {"created": 2}
    assert count_invoices_by_log_rows() == {}


@pytest.mark.django_db(databases=["default", "other"])
def test_other_database_is_read_and_written(shop, make):
    invoices = make(60, using="other")
    assert invoices.cancel().ok
    assert shop.cancel_count == 60
    assert count_statuses("other") == {"canceled": 60}
    assert count_invoices_by_log_rows("other") == {2: 60}
    assert count_statuses() == {}
    assert count_invoices_by_log_rows() == {}


@pytest.mark.django_db(transaction=True)
def test_bulk_run_inside_a_transaction_is_refused(shop, make):
    from django.db import transaction

    invoices = make(3)
    with transaction.atomic():
        with pytest.raises(CancelInTransaction, match="cancel_on_commit"):
            invoices.cancel()
        with pytest.raises(CancelInTransaction):
            cancel_invoices(invoices)  # at the call, not at the first result
    assert shop.cancel_count == 0
    assert count_invoices_by_log_rows() == {}
    assert count_statuses() == {"created": 3}


def test_missing_required_reason_is_rejected_before_any_claim(scripted, make):
    shop = scripted(REQUIRE_REASON=True)
    with pytest.raises(ValueError, match="REQUIRE_REASON"):
        make(1).cancel(reason=" ")
    assert shop.cancel_count == 0
    assert count_invoices_by_log_rows() == {}
    assert Invoice.objects.all().cancel(reason="closing down").ok


def test_each_invoice_has_the_two_log_rows_of_a_single_cancellation(shop, make):
    invoices = make(120)
    assert invoices.cancel().ok
    assert shop.cancel_count == 120
    assert count_invoices_by_log_rows() == {2: 120}
    assert {tuple(log_entries(invoice)) for invoice in invoices} == {tuple(CANCELED_LOG)}


BOUNDS = {
    "limit": [-1, 2.5, "3"],
    "concurrency": [0, -1, 2.5, "3"],
    "rate": [0, -1, float("nan"), float("inf"), "3"],
}


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in BOUNDS.items() for value in values])
def test_invalid_option_is_rejected_before_any_request(shop, make, name, value):
    with pytest.raises(ValueError, match=f"{name} must be .* not {value!r}"):
        cancel_invoices(make(10), **{name: value})
    assert shop.cancel_count == 0
    assert count_invoices_by_log_rows() == {}


def test_limit_of_zero_sends_nothing(shop, make):
    report = make(10).cancel(limit=0)
    assert report.results == []
    assert shop.cancel_count == 0
    assert count_invoices_by_log_rows() == {}
