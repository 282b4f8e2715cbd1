"""observe_status of the manager and of an instance, as a webhook view calls it: in its transaction, no requests."""

import pytest
from django.db import connections, transaction

from django_invoice_cancel.models import Invoice
from django_invoice_cancel.services import cancel_invoice
from tests.support.database import rolled_back
from tests.support.invoices import stored
from tests.support.logs import log_entries

pytestmark = pytest.mark.urls("tests.integration.services.urls")


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(
    ("status_string", "status"),
    [
        ("partial", "partially_paid"),
        ("Paid", "paid"),
        ("success", "paid"),
        ("overpaid", "overpaid"),
        ("canceled", "canceled"),
    ],
)
def test_webhook_view_stores_the_providers_status(sandbox, register, client, monkeypatch, status_string, status):
    """CryptoCloud's postback names the invoice without its INV-."""
    monkeypatch.setitem(connections["default"].settings_dict, "ATOMIC_REQUESTS", True)
    invoice = register()
    short_id = invoice.external_id.removeprefix("INV-")
    assert client.post(f"/webhook/cryptocloud/{short_id}/{status_string}/").status_code == 200
    last = invoice.transitions.get()
    assert stored(invoice).status == status
    assert last.to_status == status
    assert last.trigger == "webhook"
    assert last.provider_message == status_string
    assert sandbox.requests == []


@pytest.mark.django_db
@pytest.mark.parametrize("external_id", ["INV-NEVERSEEN", "no such form!"])
def test_unknown_id_returns_none(sandbox, register, external_id):
    register()
    assert Invoice.objects.observe_status("cryptocloud", external_id, "paid") is None
    assert set(Invoice.objects.values_list("status", flat=True)) == {"created"}


@pytest.mark.django_db
def test_manager_method_returns_the_invoice(sandbox, register):
    invoice = register(provider="firekassa")
    seen = Invoice.objects.observe_status("firekassa", invoice.external_id, provider_status="partially-paid")
    assert seen == invoice
    assert seen.status == "partially_paid"


@pytest.mark.django_db
def test_instance_method_returns_whether_the_row_changed(sandbox, register):
    invoice = register()
    assert invoice.observe_status("paid") is True
    assert invoice.observe_status("paid") is False
    assert invoice.observe_status(provider_status="overpaid") is True
    assert invoice.status == "overpaid"
    assert stored(invoice).status == "overpaid"
    assert [step[1] for step in log_entries(invoice)] == ["paid", "overpaid"]


@pytest.mark.django_db
def test_observed_status_created_is_ignored(sandbox, register):
    invoice = register()
    invoice.observe_status("expired")
    assert invoice.observe_status("created") is False
    assert invoice.observe_status(provider_status="created") is False
    assert stored(invoice).status == "expired"
    assert len(log_entries(invoice)) == 1


@pytest.mark.django_db
def test_unknown_status_string_is_logged_only(sandbox, register):
    invoice = register()
    assert invoice.observe_status(provider_status="on_hold") is False
    assert log_entries(invoice) == [("created", "created", "", "unknown_status")]
    assert invoice.transitions.get().provider_message == "on_hold"


@pytest.mark.django_db
@pytest.mark.parametrize("status_string", ["cancelled", "canceling", "in_doubt", "PAID", ""])
def test_unknown_status_is_a_value_error(sandbox, register, status_string):
    invoice = register()
    with pytest.raises(ValueError, match=r"is not a valid Status|cannot be observed"):
        invoice.observe_status(status_string)
    assert log_entries(invoice) == []


@pytest.mark.django_db
@pytest.mark.parametrize("arguments", [{}, {"status": "paid", "provider_status": "paid"}])
def test_status_and_status_string_exclude_each_other(sandbox, register, arguments):
    with pytest.raises(ValueError, match=r"Pass either"):
        register().observe_status(**arguments)


@pytest.mark.django_db(transaction=True)
def test_observation_is_part_of_the_callers_transaction(sandbox, register):
    invoice = register()
    with rolled_back():
        assert stored(invoice).observe_status("paid")
    assert stored(invoice).status == "created"
    assert log_entries(invoice) == []
    with transaction.atomic():
        stored(invoice).observe_status("paid")
    assert stored(invoice).status == "paid"
    assert log_entries(invoice) == [("created", "paid", "", "observed")]
    assert sandbox.requests == []


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("answer", ["in_doubt", "refused", "not_processed"])
def test_cancellation_that_a_webhook_reports_during_the_request_is_the_result(shop, answer):
    """The answer to the request does not confirm the cancellation, but the row is canceled."""
    invoice = Invoice.objects.create(provider="shop", external_id="1")
    shop.before_send = lambda external_id: stored(invoice).observe_status("canceled")
    shop.next_cancels(answer)
    result = cancel_invoice(invoice)
    assert result.outcome == "already_canceled"
    assert result.code == "already_canceled"
    assert result.ok
    assert stored(invoice).status == "canceled"
    assert shop.cancels == ["1"]
