"""observe_status of the manager and of an instance, as a webhook view calls it: in its transaction, no requests."""

import pytest
from django.db import connections, transaction

from django_invoice_cancel.models import Invoice
from tests.support.database import rolled_back
from tests.support.invoices import stored
from tests.support.logs import log_entries

pytestmark = pytest.mark.urls("tests.integration.services.urls")


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(
    ("word", "status"),
    [
        ("partial", "partially_paid"),
        ("Paid", "paid"),
        ("success", "paid"),
        ("overpaid", "overpaid"),
        ("canceled", "canceled"),
    ],
)
def test_webhook_view_takes_in_the_providers_word(sandbox, register, client, monkeypatch, word, status):
    """CryptoCloud's postback names the invoice without its INV-."""
    monkeypatch.setitem(connections["default"].settings_dict, "ATOMIC_REQUESTS", True)
    invoice = register()
    bare = invoice.external_id.removeprefix("INV-")
    assert client.post(f"/webhook/cryptocloud/{bare}/{word}/").status_code == 200
    last = invoice.transitions.get()
    assert stored(invoice).status == status
    assert last.to_status == status
    assert last.trigger == "webhook"
    assert last.provider_message == word
    assert sandbox.requests == []


@pytest.mark.django_db
@pytest.mark.parametrize("external_id", ["INV-NEVERSEEN", "no such form!"])
def test_unknown_id_is_none(sandbox, register, external_id):
    register()
    assert Invoice.objects.observe_status("cryptocloud", external_id, "paid") is None
    assert set(Invoice.objects.values_list("status", flat=True)) == {"created"}


@pytest.mark.django_db
def test_managers_form_returns_the_invoice(sandbox, register):
    invoice = register(provider="firekassa")
    seen = Invoice.objects.observe_status("firekassa", invoice.external_id, provider_status="partially-paid")
    assert seen == invoice
    assert seen.status == "partially_paid"


@pytest.mark.django_db
def test_instances_form_says_whether_the_row_changed(sandbox, register):
    invoice = register()
    assert invoice.observe_status("paid") is True
    assert invoice.observe_status("paid") is False
    assert invoice.observe_status(provider_status="overpaid") is True
    assert invoice.status == "overpaid"
    assert stored(invoice).status == "overpaid"
    assert [step[1] for step in log_entries(invoice)] == ["paid", "overpaid"]


@pytest.mark.django_db
def test_created_is_never_taken_in(sandbox, register):
    invoice = register()
    invoice.observe_status("expired")
    assert invoice.observe_status("created") is False
    assert invoice.observe_status(provider_status="created") is False
    assert stored(invoice).status == "expired"
    assert len(log_entries(invoice)) == 1


@pytest.mark.django_db
def test_unknown_word_of_the_provider_is_a_row_without_a_move(sandbox, register):
    invoice = register()
    assert invoice.observe_status(provider_status="on_hold") is False
    assert log_entries(invoice) == [("created", "created", "", "unknown_status")]
    assert invoice.transitions.get().provider_message == "on_hold"


@pytest.mark.django_db
@pytest.mark.parametrize("word", ["cancelled", "canceling", "in_doubt", "PAID", ""])
def test_word_that_is_none_of_ours_is_a_value_error(sandbox, register, word):
    invoice = register()
    with pytest.raises(ValueError, match=r"is not a valid Status|cannot be observed"):
        invoice.observe_status(word)
    assert log_entries(invoice) == []


@pytest.mark.django_db
@pytest.mark.parametrize("both", [{}, {"status": "paid", "provider_status": "paid"}])
def test_one_form_and_not_both(sandbox, register, both):
    with pytest.raises(ValueError, match=r"Pass either"):
        register().observe_status(**both)


@pytest.mark.django_db(transaction=True)
def test_joins_the_callers_transaction(sandbox, register):
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
