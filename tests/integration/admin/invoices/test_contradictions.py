"""Invoices that are closed here and open at the provider are counted, listed, explained and resolved (rule 9)."""

from datetime import timedelta

import pytest

from django_invoice_cancel.models import BulkOperation, Invoice
from django_invoice_cancel.testing import make_invoice
from tests.support.html import element_texts, link_addresses
from tests.support.invoice_pages import changelist_url, invoice_url
from tests.support.invoices import stored
from tests.support.operation_pages import click_run

pytestmark = pytest.mark.django_db(transaction=True)

CLOSED = ("canceled", "expired", "failed")


@pytest.fixture
def contradicted(shop):
    """Return a function that makes an invoice with a closed status that a lookup contradicts."""

    def make(status="canceled"):
        invoice = make_invoice(status, age=timedelta(hours=2))
        shop.all_lookups("created", external_id=invoice.external_id)
        invoice.reconcile()
        return stored(invoice)

    return make


def offered(response):
    return [
        address.rsplit("/", 2)[-2]
        for address in link_addresses(response)
        if address.endswith(("/resolve/", "/cancel/"))
    ]


def test_dashboard_counts_contradictions_and_links_to_them(shop, operator, contradicted):
    first = contradicted()
    make_invoice("canceled")
    response = operator.get(changelist_url())
    assert element_texts(response, "ic-items") == ["1 contradicted by the provider"]
    assert changelist_url("?attention=contradicted") in link_addresses(response)
    for need in ("contradicted", "any"):
        shown = operator.get(changelist_url(f"?attention={need}")).context["cl"].result_list
        assert [invoice.pk for invoice in shown] == [first.pk]


@pytest.mark.parametrize("status", CLOSED)
def test_page_explains_the_contradiction_and_offers_resolve(shop, operator, contradicted, status):
    invoice = contradicted(status)
    response = operator.get(invoice_url(invoice))
    (sentence,) = element_texts(response, "ic-state")
    assert "Scripted provider reported it as open" in sentence
    assert "then resolve it" in sentence
    assert offered(response) == ["resolve"]


@pytest.mark.parametrize("decision", ["canceled", "created", "expired", "failed", "partially_paid", "paid", "overpaid"])
@pytest.mark.parametrize("status", CLOSED)
def test_contradiction_can_be_resolved_to_any_status(shop, operator, contradicted, status, decision):
    invoice = contradicted(status)
    form = operator.get(invoice_url(invoice, "resolve")).context["form"]
    assert decision in dict(form.fields["decision"].choices)
    data = {"decision": decision, "reason": "seen there", "attempt": invoice.attempt or ""}
    assert operator.post(invoice_url(invoice, "resolve"), data).status_code == 302
    row = stored(invoice)
    assert row.status == decision
    assert row.contradicted_at is None
    assert element_texts(operator.get(changelist_url("?attention=contradicted")), "ic-attention") == (
        ["1 paid after cancellation"] if row.paid_after_cancel_at else []
    )
    assert shop.cancel_count == 0
    assert shop.lookup_count == 1


def test_user_without_permission_is_not_offered_resolve(shop, client_with, contradicted):
    assert offered(client_with("view", "cancel").get(invoice_url(contradicted()))) == []


def test_invoice_without_a_contradiction_cannot_be_resolved(shop, operator):
    invoice = make_invoice("canceled")
    assert offered(operator.get(invoice_url(invoice))) == []
    response = operator.get(invoice_url(invoice, "resolve"))
    assert element_texts(response, "ic-remark") == [
        "It needs no decision: it is neither in doubt nor contradicted by its provider."
    ]


def test_report_of_a_check_offers_resolve_for_contradictions(shop, operator):
    invoices = [make_invoice("canceled", age=timedelta(hours=2)) for _ in range(2)]
    shop.all_lookups("created")
    data = {"action": "check_selected_invoices", "_selected_action": [invoice.pk for invoice in invoices]}
    operator.post(changelist_url(), data)
    check = BulkOperation.objects.get()
    address = f"/admin/invoice_cancel/bulkoperation/{check.pk}"
    click_run(operator, check)
    assert "Resolve these" in element_texts(operator.get(f"{address}/"), "bo-groups")[0]
    group = {"outcome": "in_doubt", "code": "contradictory_answer", "provider": "shop"}
    draft = operator.post(f"{address}/again/", group)["Location"]
    assert element_texts(operator.get(draft), "h1") == ["Resolve 2 invoices?"]
    operator.post(f"{draft}confirm/", {"decision": "created", "reason": "seen there"})
    click_run(operator, BulkOperation.objects.latest("created_at"))
    assert set(Invoice.objects.values_list("status", "contradicted_at")) == {("created", None)}
    assert shop.cancel_count == 0


# -- refused where nothing can be looked up (rule 10) ---------------------------------------------------------


def test_refused_invoice_at_a_provider_without_lookup_can_be_resolved(configure, operator):
    shop = configure(supports_lookup=False)
    invoice = make_invoice("refused")
    assert offered(operator.get(invoice_url(invoice))) == ["cancel", "resolve"]
    form = operator.get(invoice_url(invoice, "resolve")).context["form"]
    assert "created" not in dict(form.fields["decision"].choices)
    data = {"decision": "canceled", "reason": "seen there", "attempt": invoice.attempt or ""}
    assert operator.post(invoice_url(invoice, "resolve"), data).status_code == 302
    assert stored(invoice).status == "canceled"
    assert shop.cancel_count == 0
    assert shop.lookup_count == 0


@pytest.mark.parametrize(("supports_lookup", "count"), [(True, 0), (False, 1)])
def test_confirmation_of_resolve_counts_resolvable_invoices(configure, operator, supports_lookup, count):
    configure(supports_lookup=supports_lookup)
    rows = [make_invoice("refused"), make_invoice("created"), make_invoice("canceled")]
    data = {"action": "resolve_selected_invoices", "_selected_action": [invoice.pk for invoice in rows]}
    draft = operator.post(changelist_url(), data)["Location"]
    assert operator.get(draft).context["preview"].count == count
    operator.post(f"{draft}confirm/", {"decision": "canceled", "reason": "seen there"})
    click_run(operator, BulkOperation.objects.latest("created_at"))
    resolved = [stored(invoice).status for invoice in rows]
    assert resolved == ["canceled" if count else "created", "created", "canceled"]


def test_invoice_that_an_operator_reopened_names_the_decision(shop, operator, contradicted):
    invoice = contradicted()
    data = {"decision": "created", "reason": "open in the dashboard", "attempt": invoice.attempt or ""}
    assert operator.post(invoice_url(invoice, "resolve"), data).status_code == 302
    (sentence,) = element_texts(operator.get(invoice_url(invoice)), "ic-state")
    row = invoice.transitions.latest("id")
    assert sentence.startswith("Open since ")
    assert sentence.endswith(f" by decision of {row.actor_label}, not by a report of Scripted provider.")
    assert shop.cancel_count == 0
    assert shop.lookup_count == 1
    assert stored(invoice).status == "created"
