"""The results of reconcile and cancel for an invoice that is closed here and open at the provider (rule 9)."""

import pytest

from django_invoice_cancel.bulk import reconcile_invoices
from django_invoice_cancel.models import Invoice
from tests.support.clock import travel_forward
from tests.support.invoices import stored
from tests.support.logs import status_and_log
from tests.support.results import cancel_error

pytestmark = pytest.mark.django_db(transaction=True)


def contradict(invoice, status="canceled"):
    """Observe a status that the provider does not have, then look the invoice up after the doubt period."""
    stored(invoice).observe_status(status)
    with travel_forward(minutes=16):
        return stored(invoice).reconcile()


@pytest.mark.parametrize("status", ["canceled", "expired", "failed"])
def test_reconcile_returns_in_doubt_and_keeps_the_status(sandbox, register, status, caplog):
    invoice = register()
    result = contradict(invoice, status)
    assert result.outcome == "in_doubt"
    assert result.code == "contradictory_answer"
    assert result.ok is False
    assert result.status == status
    outcome = "already_canceled" if status == "canceled" else ""
    log = [("created", status, outcome, "observed"), (status, status, "", "contradictory_answer")]
    assert status_and_log(invoice) == (status, log)
    assert stored(invoice).contradicted_at is not None
    assert [line.levelname for line in caplog.records] == ["WARNING"]
    assert sandbox.count("lookup") == 1
    assert sandbox.count("cancel") == 0


def test_bulk_reconcile_returns_in_doubt(sandbox, register):
    invoice = register()
    stored(invoice).observe_status("canceled")
    with travel_forward(minutes=16):
        (result,) = reconcile_invoices(Invoice.objects.all())
    assert result.outcome == "in_doubt"
    assert result.code == "contradictory_answer"
    assert result.status == "canceled"


def test_lookup_without_an_answer_keeps_the_contradiction(sandbox, register):
    invoice = register()
    contradict(invoice)
    sandbox.script(invoice.external_id, ["error_500_before"])
    with travel_forward(minutes=17):
        result = stored(invoice).reconcile()
    assert result.outcome == "in_doubt"
    assert result.code == "contradictory_answer"
    assert result.status == "canceled"


def test_lookup_within_the_doubt_period_returns_the_stored_status(sandbox, register):
    invoice = register()
    stored(invoice).observe_status("canceled")
    result = stored(invoice).reconcile()
    assert result.outcome == "already_canceled"
    assert stored(invoice).contradicted_at is None


def test_reconcile_returns_already_canceled_after_the_provider_agrees(sandbox, register):
    invoice = register()
    contradict(invoice)
    sandbox.carry_out(invoice.external_id)
    with travel_forward(minutes=17):
        result = stored(invoice).reconcile()
    assert result.outcome == "already_canceled"
    assert stored(invoice).contradicted_at is None


def test_cancel_returns_already_canceled_and_sends_nothing(sandbox, register):
    invoice = register()
    contradict(invoice)
    result = stored(invoice).cancel()
    assert result.outcome == "already_canceled"
    assert result.ok is True
    assert sandbox.count("cancel") == 0


@pytest.mark.parametrize("status", ["expired", "failed"])
def test_cancel_of_an_expired_or_failed_invoice_sends_nothing(sandbox, register, status):
    invoice = register()
    contradict(invoice, status)
    assert cancel_error(stored(invoice).cancel).result.code == "closed"
    assert sandbox.count("cancel") == 0


def test_invoice_that_an_operator_reopened_is_canceled_at_the_provider(sandbox, register):
    invoice = register()
    contradict(invoice)
    stored(invoice).resolve("created", actor="Ada", reason="open in the dashboard")
    assert stored(invoice).cancel().outcome == "canceled"
    assert stored(invoice).status == "canceled"
    assert sandbox.count("cancel") == 1
