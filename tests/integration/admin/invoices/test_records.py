"""Registration, changes, deletion and the history: fields that only the writer may change are never changed here."""

from datetime import timedelta

import pytest
from django.contrib.admin.models import LogEntry
from django.db.models import QuerySet
from django.urls import reverse

from django_invoice_cancel import operations
from django_invoice_cancel.domain.outcomes import Outcome, ProviderReply
from django_invoice_cancel.models import BulkOperation, Invoice, InvoiceTransition
from django_invoice_cancel.operations import advance
from django_invoice_cancel.testing import make_invoice
from tests.support.html import element_texts, link_addresses
from tests.support.invoice_pages import changelist_url, invoice_url
from tests.support.invoices import stored

pytestmark = pytest.mark.django_db

ADD = "/admin/invoice_cancel/invoice/add/"


def codes(invoice):
    """The codes of the invoice's log; a claim has none."""
    return list(invoice.transitions.order_by("id").values_list("code", flat=True))


def values(**changes):
    return {
        "provider": "shop",
        "external_id": " A-17 ",
        "reference": "order-17",
        "amount": "10.50",
        "currency": "USD",
        "issued_at_0": "2026-11-20",
        "issued_at_1": "12:00:00",
        "status": "created",
    } | changes


@pytest.fixture
def editor(client_with):
    return client_with("view", "add", "change", "delete")


# -- registering ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("status", "births"), [("created", []), ("canceled", [("", "canceled", "admin")])])
def test_add_form_registers_an_invoice(shop, editor, status, births):
    response = editor.post(ADD, values(status=status))
    assert response.status_code == 302, element_texts(response, "errorlist")
    invoice = Invoice.objects.get()
    assert invoice.external_id == "A-17"
    assert invoice.status == status
    assert invoice.reference == "order-17"
    assert list(invoice.transitions.values_list("from_status", "to_status", "trigger")) == births
    assert LogEntry.objects.get().object_id == str(invoice.pk)
    assert shop.cancel_count == 0


@pytest.mark.parametrize(
    "wrong",
    [{"status": "canceling"}, {"status": "in_doubt"}, {"provider": "nobody"}, {"external_id": "ü"}, {"amount": "x"}],
    ids=lambda wrong: next(iter(wrong.items())),
)
def test_add_form_rejects_invalid_values(shop, editor, wrong):
    response = editor.post(ADD, values(**wrong))
    assert response.status_code == 200
    assert len(element_texts(response, "errorlist")) == 1
    assert not Invoice.objects.exists()


def test_add_form_offers_only_statuses_of_providers(shop, editor):
    offered = element_texts(editor.get(ADD), "option")
    assert {"Open", "Canceled", "Paid"} <= set(offered)
    assert not {"In doubt", "Being canceled"} & set(offered)


def test_invoice_is_registered_once(shop, editor):
    make_invoice(external_id="A-17")
    assert element_texts(editor.post(ADD, values()), "errorlist") != []
    assert Invoice.objects.count() == 1


def test_alias_is_a_text_field_with_a_resolver(shop, editor, settings):
    assert element_texts(editor.get(ADD), "option")[:1] == ["shop"]
    settings.INVOICE_CANCEL = settings.INVOICE_CANCEL | {"PROVIDER_RESOLVER": "tests.support.invoice_pages.invoice_url"}
    assert "shop" not in element_texts(editor.get(ADD), "option")


# -- changing -------------------------------------------------------------------------------------------------


def test_fields_of_the_writer_cannot_be_changed(shop, editor):
    invoice = make_invoice("in_doubt", external_id="A-17")
    before = stored(invoice)
    data = values(external_id="B-18", status="canceled", attempt="", status_0="x", check_count="7", reference="new")
    assert editor.post(invoice_url(invoice), data).status_code == 302
    after = stored(invoice)
    assert after.reference == "new"
    assert after.status == "in_doubt"
    assert after.external_id == "A-17"
    assert after.attempt == before.attempt
    assert after.check_count == before.check_count


def test_invoice_of_an_unconfigured_provider_can_be_changed(shop, editor, settings):
    invoice = make_invoice("paid")
    settings.INVOICE_CANCEL = {"PROVIDERS": {}}
    assert editor.post(invoice_url(invoice), values(reference="new")).status_code == 302
    assert stored(invoice).reference == "new"


def test_change_form_has_no_actions(shop, client_with):
    """With actions, Django 6.1 makes "Run" the first button of the form, and Enter in a field loses the edit."""
    client = client_with("view", "change", "cancel", "resolve")
    invoice = make_invoice()
    assert not [text for text in element_texts(client.get(invoice_url(invoice)), "option") if "invoice" in text]
    data = {"CHANGE_FORM-action": "cancel_selected_invoices", "_selected_action": invoice.pk}
    client.post(invoice_url(invoice), data)
    assert BulkOperation.objects.count() == 0
    assert shop.cancel_count == 0
    assert stored(invoice).status == "created"


# -- deleting -------------------------------------------------------------------------------------------------


def test_invoice_with_a_history_cannot_be_deleted(shop, editor):
    invoice = make_invoice("canceled")
    assert editor.post(invoice_url(invoice, "delete"), {"post": "yes"}).status_code == 403
    assert invoice_url(invoice, "delete") not in link_addresses(editor.get(invoice_url(invoice)))
    assert stored(invoice).status == "canceled"


def test_invoice_without_a_history_can_be_deleted(shop, editor):
    invoice = make_invoice()
    assert invoice_url(invoice, "delete") in link_addresses(editor.get(invoice_url(invoice)))
    assert editor.post(invoice_url(invoice, "delete"), {"post": "yes"}).status_code == 302
    assert not Invoice.objects.exists()


def test_invoice_that_a_report_lists_cannot_be_deleted(shop, editor):
    """It was selected and stopped before its turn: its log is empty, and its line in the report would go with it."""
    invoice = make_invoice()
    operation = BulkOperation.objects.draft(Invoice.objects.all(), actor="Ada")
    assert invoice_url(invoice, "delete") in link_addresses(editor.get(invoice_url(invoice)))
    operation.confirm()
    operation.stop()
    assert invoice_url(invoice, "delete") not in link_addresses(editor.get(invoice_url(invoice)))
    assert editor.post(invoice_url(invoice, "delete"), {"post": "yes"}).status_code == 403
    assert operation.items.count() == 1
    assert shop.cancel_count == 0


def test_no_selection_is_ever_deleted(shop, client_with):
    superuser = client_with(is_superuser=True)
    invoice = make_invoice()
    assert not [text for text in element_texts(superuser.get(changelist_url()), "option") if "elete" in text]
    superuser.post(
        changelist_url(), {"action": "delete_selected", "_selected_action": [invoice.pk], "post": "yes", "index": "0"}
    )
    assert stored(invoice)


# -- what happened --------------------------------------------------------------------------------------------


def test_timeline_shows_each_event_in_a_line(shop, operator):
    shop.next_cancels(ProviderReply(Outcome.IN_DOUBT, "no_answer", http_status=502, provider_message="bad gateway"))
    invoice = make_invoice(external_id="A-17")
    operator.post(invoice_url(invoice, "cancel"), {"reason": "too old"})
    shop.set_status("A-17", "paid")
    operator.post(invoice_url(invoice, "check"))
    QuerySet(InvoiceTransition).filter(code="no_answer").update(duration_ms=0)  # no answer comes in no time
    name = operator.user.username
    lines = [line.split(" ", 1)[1] for line in element_texts(operator.get(invoice_url(invoice)), "ic-event")]
    assert lines == [
        f"{name} (admin): Scripted provider reported: Paid Paid",
        f"{name} (admin): cancel request sent, no answer after 1 ms too old In doubt",
        f"{name} (admin): cancellation started at Scripted provider too old Being canceled",
    ]
    details = element_texts(operator.get(invoice_url(invoice)), "details")
    assert any("no_answer" in text and "502" in text and "bad gateway" in text for text in details)
    assert stored(invoice).status == "paid"
    assert codes(invoice) == ["", "no_answer", "observed"]
    assert shop.cancel_count == 1
    assert shop.lookup_count == 1


@pytest.mark.parametrize(
    ("reply", "label"),
    [
        (ProviderReply(Outcome.IN_DOUBT, "no_answer", provider_message="ConnectionResetError"), "Error message"),
        (ProviderReply(Outcome.NOT_PROCESSED, "unreachable", provider_message="ConnectTimeout"), "Error message"),
        (ProviderReply(Outcome.IN_DOUBT, "adapter_error", provider_message="TypeError"), "Error message"),
        (ProviderReply(Outcome.IN_DOUBT, "no_answer", http_status=502, provider_message="?"), "Provider's message"),
        (ProviderReply(Outcome.REFUSED, "provider_refused", provider_message="no"), "Provider's message"),
    ],
    ids=["no answer", "unreachable", "a bug of ours", "bad gateway", "refused"],
)
def test_texts_of_the_package_are_not_shown_as_the_providers_message(shop, operator, reply, label):
    shop.next_cancels(reply)
    invoice = make_invoice()
    operator.post(invoice_url(invoice, "cancel"), {"reason": "too old"})
    assert label in element_texts(operator.get(invoice_url(invoice)), "dt")
    assert stored(invoice).status == reply.next_status("created")
    assert codes(invoice) == ["", reply.code]
    assert shop.cancel_count == 1


@pytest.mark.parametrize(
    ("stored_amount", "shown"), [("23.9", "23.90"), ("0.00000001", "0.00000001"), ("1500", "1500.00"), (None, None)]
)
def test_amount_is_shown_without_trailing_zeros(shop, editor, stored_amount, shown):
    invoice = make_invoice(amount=stored_amount)
    form = editor.get(invoice_url(invoice)).context["adminform"].form
    said = form["amount"].value()
    assert (said if said is None else f"{said:f}") == shown
    assert shop.cancel_count == 0


def test_timeline_links_to_the_bulk_operation(shop, operator):
    invoice = make_invoice()
    operation = operations.start(Invoice.objects.all(), actor="ada")
    while advance(operation.pk).has_more:
        pass
    address = reverse("admin:invoice_cancel_bulkoperation_operation", args=[operation.pk])
    for name in ("change", "history"):
        assert address in link_addresses(operator.get(invoice_url(invoice, name)))
    assert shop.cancel_count == 1


STORIES = {
    "created": [],
    "requested": ["(on commit): Its cancellation was requested."],
    "refused": ["(API): cancel request sent, refused after 0.1 s Open"],
    "canceled": ["(API): cancel request sent, confirmed after 0.1 s Canceled"],
    "expired": ["(webhook): Scripted provider reported: Expired Expired"],
}


@pytest.mark.parametrize("story", STORIES)
def test_event_has_the_text_of_its_kind(shop, operator, story):
    lines = element_texts(operator.get(invoice_url(make_invoice(story))), "ic-event")
    assert [line.split("make_invoice ", 1)[1] for line in lines if "cancellation started" not in line] == STORIES[story]


def test_history_shows_transitions_and_admin_log_entries(shop, operator):
    invoice = make_invoice("paid_after_cancel")
    operator.post(invoice_url(invoice, "handled"), {"note": "paid back"})
    response = operator.get(invoice_url(invoice, "history"))
    assert [line.split(": ", 1)[1] for line in element_texts(response, "ic-event")] == [
        "Its late payment was marked as handled. paid back",
        "Scripted provider reported: Paid Paid",
        "cancel request sent, confirmed after 0.1 s Canceled",
        "cancellation started at Scripted provider Being canceled",
    ]
    assert "Its late payment was marked as handled. paid back" in element_texts(response, "td")


def test_timeline_is_limited_and_the_history_is_complete(shop, operator):
    invoice = make_invoice()
    for _time in range(51):
        invoice.observe_status(provider_status="what is this")
    response = operator.get(invoice_url(invoice))
    assert len(element_texts(response, "ic-event")) == 50
    assert element_texts(response, "ic-remark") == ["Earlier events are in the history."]
    assert len(element_texts(operator.get(invoice_url(invoice, "history")), "ic-event")) == 51


EVIL = "<script>alert(1)</script><img src=x onerror=alert(2)>"


def test_texts_of_others_are_escaped(shop, operator):
    """Provider's message, the reason, the reference, a status nobody knows: text, wherever they are shown."""
    shop.next_cancels(ProviderReply(Outcome.IN_DOUBT, "no_answer", provider_message=EVIL))
    invoice = make_invoice(reference=EVIL, currency="<b>", amount="1")
    operator.post(invoice_url(invoice, "cancel"), {"reason": EVIL})
    invoice.observe_status(provider_status=EVIL)
    shown = [
        invoice_url(invoice),
        invoice_url(invoice, "history"),
        invoice_url(invoice, "cancel"),
        invoice_url(invoice, "resolve"),
        changelist_url(),
    ]
    for address in shown:
        body = operator.get(address).content.decode()
        assert "<script>alert" not in body
        assert "<img src=x" not in body
        names = (operator.user.username, str(invoice), "make_invoice")
        for name in names:
            body = body.replace(f"<b><bdi>{name}</bdi></b>", "")
        assert "<b>" not in body
    assert "&lt;script&gt;alert(1)" in operator.get(invoice_url(invoice)).content.decode()
    assert stored(invoice).status == "in_doubt"
    assert codes(invoice) == ["", "no_answer", "unknown_status"]
    assert shop.cancel_count == 1


def test_no_page_has_anything_inline(shop, operator):
    """A strict Content-Security-Policy lets no style attribute and no handler pass."""
    doubt = make_invoice("in_doubt", age=timedelta(hours=1))
    late = make_invoice("paid_after_cancel")
    for address in (
        invoice_url(doubt),
        invoice_url(doubt, "resolve"),
        invoice_url(doubt, "check"),
        invoice_url(late, "handled"),
        changelist_url(),
    ):
        body = operator.get(address).content.decode()
        assert ' style="' not in body
        assert ' onclick="' not in body
