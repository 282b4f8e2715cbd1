"""A refused invoice at a provider that cannot be asked is given the status that the provider's dashboard shows."""

from datetime import timedelta

import pytest
from django.contrib.admin.models import LogEntry
from django.core.management import call_command

from django_invoice_cancel.domain.audit import Trigger
from django_invoice_cancel.domain.outcomes import Outcome, ProviderReply
from django_invoice_cancel.models import BulkOperation, Invoice
from django_invoice_cancel.testing import make_invoice
from tests.support.html import element_texts, page_text, shown_messages
from tests.support.invoice_pages import changelist_url, count_both_logs, invoice_url
from tests.support.invoices import stored
from tests.support.operation_pages import click_run, operation_url

pytestmark = pytest.mark.django_db(transaction=True)

RECORD = "Record what the provider shows"
DECISIONS = ["canceled", "expired", "failed", "partially_paid", "paid", "overpaid"]


@pytest.fixture
def shop(configure):
    """The account ``shop``, which has no status lookup and refuses to cancel."""
    shop = configure(supports_lookup=False, is_repeat_harmless=True)
    shop.all_cancels(ProviderReply(Outcome.REFUSED, "provider_refused"))
    return shop


def buttons(response):
    return [button.label for button in response.context["summary"]["buttons"]]


def data(invoice, decision="paid"):
    return {"decision": decision, "reason": "seen there", "attempt": str(invoice.attempt or "")}


def test_page_of_a_refused_invoice_offers_to_record_what_the_provider_shows(shop, operator):
    response = operator.get(invoice_url(make_invoice("refused")))
    assert buttons(response) == ["Cancel", f"{RECORD}…"]


def test_confirmation_page_has_the_guidance_of_a_refusal(shop, operator):
    invoice = make_invoice("refused")
    response = operator.get(invoice_url(invoice, "resolve"))
    assert element_texts(response, "h1") == [RECORD]
    shown = page_text(response)
    assert "Scripted provider refused to cancel this invoice, and it offers no status lookup." in shown
    assert 'value="Record"' in shown
    assert "Check with provider" not in shown
    assert list(dict(response.context["form"].fields["decision"].choices)) == DECISIONS


@pytest.mark.parametrize("decision", DECISIONS)
def test_recorded_status_is_stored_and_logged_for_the_user(shop, operator, decision):
    invoice = make_invoice("refused")
    response = operator.post(invoice_url(invoice, "resolve"), data(invoice, decision))
    row = stored(invoice)
    assert row.status == decision
    last = row.transitions.order_by("-id").first()
    assert last.code == "resolved"
    assert last.trigger == Trigger.OPERATOR
    assert last.actor_label == operator.user.username
    assert last.reason == "seen there"
    assert shown_messages(response) == [("success", f"{invoice}: Recorded as “{row.get_status_display()}”.")]
    assert LogEntry.objects.count() == 1
    assert shop.cancel_count == 0
    assert shop.lookup_count == 0


@pytest.mark.parametrize(
    "changed", [{"reason": ""}, {"decision": "created"}, {"decision": ""}], ids=["reason", "open", "no decision"]
)
def test_incomplete_form_records_nothing(shop, operator, changed):
    invoice = make_invoice("refused")
    before = count_both_logs()
    assert operator.post(invoice_url(invoice, "resolve"), data(invoice) | changed).status_code == 200
    assert stored(invoice).status == "created"
    assert count_both_logs() == before
    assert shop.cancel_count == 0


def test_user_without_permission_to_resolve_records_nothing(shop, client_with):
    invoice, client = make_invoice("refused"), client_with("view", "cancel")
    before = count_both_logs()
    assert buttons(client.get(invoice_url(invoice))) == ["Cancel"]
    assert client.post(invoice_url(invoice, "resolve"), data(invoice)).status_code == 403
    assert stored(invoice).status == "created"
    assert count_both_logs() == before
    assert shop.cancel_count == 0


def test_refused_invoice_at_a_provider_with_lookup_is_checked_instead(configure, operator):
    shop = configure(supports_lookup=True)
    invoice = make_invoice("refused")
    assert buttons(operator.get(invoice_url(invoice))) == ["Cancel", "Check with provider"]
    operator.post(invoice_url(invoice, "resolve"), data(invoice))
    assert stored(invoice).status == "created"
    assert shop.cancel_count == 0
    assert shop.lookup_count == 0


@pytest.mark.parametrize("code", ["provider_refused", "not_found"])
def test_weekly_run_ignores_the_invoice_after_its_status_was_recorded(shop, operator, code):
    shop.all_cancels(ProviderReply(Outcome.REFUSED, code))
    invoice = make_invoice("created", age=timedelta(days=8))
    call_command("cancel_invoices", "--older-than", "1w", "--noinput", "--include-refused", verbosity=0)
    assert shop.cancel_count == 1
    operator.post(invoice_url(invoice, "resolve"), data(stored(invoice)))
    call_command("cancel_invoices", "--older-than", "1w", "--noinput", "--include-refused", verbosity=0)
    assert stored(invoice).status == "paid"
    assert shop.cancel_count == 1
    assert shop.lookup_count == 0


# -- from the report ------------------------------------------------------------------------------------------


def report_of(operator, invoices, action="cancel_selected_invoices"):
    """Run an action on these invoices, and return the address of its report."""
    selection = {"action": action, "_selected_action": [invoice.pk for invoice in invoices]}
    operator.post(changelist_url(), selection)
    return confirm_and_run(operator, BulkOperation.objects.get(), reason="old")


def confirm_and_run(operator, operation, **answers):
    operator.post(operation_url(operation, "confirm"), answers)
    click_run(operator, operation)
    return operation_url(operation)


def following_draft(operator, address, group):
    """Choose the next step of a group of the report at this address, and return the draft that it creates."""
    before = list(BulkOperation.objects.values_list("pk", flat=True))
    operator.post(f"{address}again/", group | {"provider": "shop"})
    return BulkOperation.objects.exclude(pk__in=before).get()


@pytest.mark.parametrize("code", ["provider_refused", "not_found"])
def test_report_offers_to_record_what_the_provider_shows(shop, operator, code):
    shop.all_cancels(ProviderReply(Outcome.REFUSED, code))
    invoices = [make_invoice(), make_invoice()]
    address = report_of(operator, invoices)
    (group,) = element_texts(operator.get(address), "bo-groups")
    assert group.endswith(RECORD)
    draft = following_draft(operator, address, {"outcome": "refused", "code": code})
    assert draft.operation == "resolve"
    confirm_and_run(operator, draft, decision="expired", reason="seen there")
    assert set(Invoice.objects.values_list("status", flat=True)) == {"expired"}
    rows = invoices[0].transitions.filter(code="resolved")
    assert list(rows.values_list("trigger", "actor_label", "reason")) == [
        ("operator", operator.user.username, "seen there")
    ]
    assert "button" not in "".join(element_texts(operator.get(address), "bo-groups"))
    assert shop.cancel_count == 2
    assert shop.lookup_count == 0


def test_report_of_a_check_offers_to_record_what_the_provider_shows(shop, operator):
    doubt = make_invoice("in_doubt", age=timedelta(days=2))
    address = report_of(operator, [make_invoice("refused"), make_invoice(), doubt], "check_selected_invoices")
    assert page_text(operator.get(address)).count(f">{RECORD}</button>") == 1
    draft = following_draft(operator, address, {"outcome": "not_processed", "code": "no_lookup"})
    assert operator.get(operation_url(draft)).context["preview"].count == 1
    assert shop.cancel_count == 1
    assert shop.lookup_count == 0


def test_report_offers_nothing_to_users_without_permission_to_resolve(shop, client_with):
    client = client_with("view", "cancel")
    address = report_of(client, [make_invoice()])
    assert RECORD not in page_text(client.get(address))
    group = {"outcome": "refused", "code": "provider_refused", "provider": "shop"}
    assert client.post(f"{address}again/", group).status_code == 403
    assert BulkOperation.objects.count() == 1
    assert shop.cancel_count == 1


def test_report_offers_nothing_for_open_invoices_at_a_provider_that_cannot_be_asked(shop, operator):
    doubt = make_invoice("in_doubt", age=timedelta(days=2))
    address = report_of(operator, [make_invoice(), doubt], "check_selected_invoices")
    assert RECORD not in page_text(operator.get(address))
    assert shop.cancel_count == 1
    assert shop.lookup_count == 0


@pytest.mark.parametrize(("is_harmless", "count"), [(True, 0), (False, 1)])
def test_doubt_that_no_request_can_settle_is_resolved_from_the_report(configure, operator, is_harmless, count):
    shop = configure(supports_lookup=False, is_repeat_harmless=is_harmless)
    shop.all_cancels(ProviderReply(Outcome.IN_DOUBT, "no_answer"))
    report = operator.get(report_of(operator, [make_invoice()]))
    assert page_text(report).count(">Resolve these</button>") == count
    assert shop.cancel_count == 1
