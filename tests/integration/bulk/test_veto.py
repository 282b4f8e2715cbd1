"""Bulk runs leave out the invoices that the shop forbids to cancel, and send the others."""

from datetime import timedelta

import pytest

from django_invoice_cancel.bulk import cancel_invoices, reconcile_invoices
from django_invoice_cancel.bulk.start import make_readers, preview_selection
from django_invoice_cancel.models import Invoice, InvoiceTransition, ProviderState
from django_invoice_cancel.testing import ScriptedProvider, make_invoice
from tests.support.invoices import count_statuses, set_columns, statuses_by_id
from tests.support.logs import log_entries
from tests.support.results import count_codes
from tests.support.vetoes import SHIPPED, count_requests

pytestmark = pytest.mark.django_db(transaction=True)

LONG_AGO = timedelta(days=2)


def codes_by_id(results):
    return {result.external_id: result.code for result in results}


def test_run_sends_only_what_the_shop_allows(shop_rule):
    invoices = [make_invoice(provider=alias) for alias in ("firekassa", "cryptocloud") for _ in range(3)]
    shop_rule.forbid(invoices[0], invoices[3])
    shop_rule.forbid(invoices[4], answer=ValueError("no order"))
    report = Invoice.objects.all().cancel()
    assert count_codes(report.results) == {"vetoed": 3, "canceled": 3}
    reasons = {result.external_id: result.veto_reason for result in report.results if result.code == "vetoed"}
    assert reasons == {
        invoices[0].external_id: SHIPPED,
        invoices[3].external_id: SHIPPED,
        invoices[4].external_id: "The check of the shop failed (ValueError). See the log.",
    }
    assert [result.external_id for result in report.results if result.has_veto_failed] == [invoices[4].external_id]
    assert sorted(shop_rule.asked) == sorted(invoice.external_id for invoice in invoices)
    assert [log_entries(invoices[number]) for number in (0, 3, 4)] == [[], [], []]
    assert count_statuses() == {"canceled": 3, "created": 3}
    assert count_requests() == 3


def test_dry_run_and_run_agree(shop_rule):
    invoices = [make_invoice() for _ in range(4)]
    shop_rule.forbid(invoices[1], invoices[2])
    previewed = codes_by_id(preview_selection(make_readers(Invoice.objects.all())))
    assert count_requests() == 0
    done = codes_by_id(cancel_invoices(Invoice.objects.all()))
    assert previewed == {key: "dry_run" if code == "canceled" else code for key, code in done.items()}
    assert count_statuses() == {"canceled": 2, "created": 2}
    assert count_requests() == 2


def test_vetoes_do_not_count_as_answers_of_the_provider(shop_rule):
    shop_rule.forbid(answer=ValueError("broken"))
    for _ in range(12):
        make_invoice()
    assert count_codes(cancel_invoices(Invoice.objects.all())) == {"vetoed": 12}
    state = ProviderState.objects.filter(alias="firekassa").first()
    assert state is None or (state.failures, state.paused_until) == (0, None)
    assert count_statuses() == {"created": 12}
    assert count_requests() == 0


def test_shop_is_asked_again_before_a_second_attempt(shop_rule):
    invoice = make_invoice()

    def forbid(external_id):
        shop_rule.forbid()
        return "not_processed"

    ScriptedProvider.of("firekassa").next_cancels(forbid)
    [result] = cancel_invoices(Invoice.objects.all())
    assert result.code == "vetoed"
    assert shop_rule.asked == [invoice.external_id] * 2
    assert count_statuses() == {"created": 1}
    assert count_requests() == 1


def test_run_reports_vetoed_invoices_of_a_paused_provider_as_vetoed(shop_rule):
    forbidden, other = make_invoice(), make_invoice()
    shop_rule.forbid(forbidden)
    forbidden._writer.pause("firekassa", "rate_limited", 600)
    assert codes_by_id(cancel_invoices(Invoice.objects.all())) == {
        forbidden.external_id: "vetoed",
        other.external_id: "provider_paused",
    }
    assert count_statuses() == {"created": 2}
    assert count_requests() == 0


def test_interruption_in_the_shop_ends_the_run_without_a_claim(shop_rule):
    shop_rule.forbid(answer=KeyboardInterrupt())
    make_invoice()
    with pytest.raises(KeyboardInterrupt):
        list(cancel_invoices(Invoice.objects.all()))
    assert count_statuses() == {"created": 1}
    assert not InvoiceTransition.objects.filter(to_status="canceling").exists()
    assert count_requests() == 0


def test_run_of_repeats_leaves_vetoed_invoices_in_doubt(shop_rule):
    forbidden, other = (make_invoice("in_doubt", age=LONG_AGO) for _ in range(2))
    shop_rule.forbid(forbidden)
    results = list(reconcile_invoices(Invoice.objects.all(), resubmit=True))
    assert codes_by_id(results) == {forbidden.external_id: "vetoed", other.external_id: "canceled"}
    assert [result.outcome for result in results if result.code == "vetoed"] == ["in_doubt"]
    assert sorted(shop_rule.asked) == sorted([forbidden.external_id, other.external_id])
    assert statuses_by_id() == {forbidden.external_id: "in_doubt", other.external_id: "canceled"}
    assert count_requests() == 1


def test_shop_is_asked_before_the_claim(shop_rule):
    invoice = make_invoice()
    shop_rule.forbid(answer=lambda asked: Invoice.objects.get().status)
    [result] = cancel_invoices(Invoice.objects.all())
    assert result.veto_reason == "created"
    set_columns(invoice, status="paid")
    shop_rule.forbid()
    [result] = cancel_invoices(Invoice.objects.all())
    assert result.code == "has_payment"
    assert count_requests() == 0
