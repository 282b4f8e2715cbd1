"""One decision about many invoices has the guidance, the decisions and the limits of the page of one invoice."""

import re
from datetime import timedelta

import pytest

from django_invoice_cancel.domain.clock import utc_now
from django_invoice_cancel.models import BulkOperation, Invoice
from django_invoice_cancel.testing import ScriptedProvider, make_invoice
from tests.support.html import element_texts, page_text
from tests.support.invoices import set_columns
from tests.support.operation_pages import click_run, operation_url
from tests.support.users import client_of, user_with

pytestmark = pytest.mark.django_db(transaction=True)

HOUR = timedelta(hours=1)
WITHOUT_LOOKUP = pytest.mark.scripted_providers("firekassa", "kiosk", supports_lookup=False)
WITH_LOOKUP = pytest.mark.scripted_providers("firekassa", "kiosk")


@pytest.fixture
def resolving(supervisor_client, choose):
    """Return a function that selects invoices to resolve, and returns the draft and its page."""

    def select(*chosen):
        draft = choose(supervisor_client, list(chosen), "resolve_selected_invoices")
        return draft, supervisor_client.get(operation_url(draft))

    return select


def decisions(response):
    return re.findall(r'name="decision" value="(\w+)"', response.content.decode())


def contradicted(**fields):
    invoice = make_invoice("canceled", age=2 * HOUR, **fields)
    set_columns(invoice, contradicted_at=utc_now() - HOUR)
    return invoice


# -- guidance -------------------------------------------------------------------------------------------------


@WITHOUT_LOOKUP
def test_page_counts_doubts_contradictions_and_refusals(scripted_provider, resolving):
    chosen = [make_invoice("in_doubt", age=HOUR), contradicted(), make_invoice("refused"), make_invoice("refused")]
    _draft, response = resolving(*chosen, make_invoice("paid"))
    assert element_texts(response, "h1") == ["Resolve 4 invoices?"]
    shown = page_text(response)
    assert "<p>1 in doubt · 1 contradicted by the provider · 2 refused</p>" in shown
    assert "First look the invoices up in the dashboard of firekassa (Scripted provider)." in shown
    assert "1 not in doubt" in shown
    assert scripted_provider.cancel_count == 0
    assert scripted_provider.lookup_count == 0


@WITHOUT_LOOKUP
def test_page_about_refused_invoices_records_what_the_provider_shows(scripted_provider, supervisor_client, resolving):
    chosen = [make_invoice("refused"), make_invoice("refused")]
    draft, response = resolving(*chosen)
    assert element_texts(response, "h1") == ["Record what the provider shows for 2 invoices?"]
    assert 'value="Yes, record it for 2 invoices"' in page_text(response)
    assert "created" not in decisions(response)
    supervisor_client.post(operation_url(draft, "confirm"), {"decision": "paid", "reason": "seen"})
    click_run(supervisor_client, draft)
    assert set(Invoice.objects.values_list("status", flat=True)) == {"paid"}
    assert scripted_provider.cancel_count == 0
    assert scripted_provider.lookup_count == 0


# -- still open -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("states", "remarks"),
    [
        ([("in_doubt", HOUR), ("in_doubt", 2 * HOUR)], []),
        ([("in_doubt", HOUR), ("in_doubt", timedelta())], ["“Still open” can be chosen after "]),
        ([("abandoned", timedelta())], ["“Still open” can be chosen after "]),
        ([("in_doubt", HOUR), ("refused", HOUR)], ["“Still open” cannot be chosen: 1 invoice was refused"]),
        (
            [("refused", HOUR), ("refused", HOUR), ("in_doubt", timedelta())],
            ["“Still open” cannot be chosen: 2 invoices were refused", "“Still open” can be chosen after "],
        ),
    ],
    ids=["all over", "one in the doubt period", "abandoned", "refused", "both"],
)
@WITHOUT_LOOKUP
def test_still_open_is_offered_if_it_is_possible_for_each_invoice(
    scripted_provider, supervisor_client, resolving, states, remarks
):
    chosen = [make_invoice(state, age=age) for state, age in states]
    draft, response = resolving(*chosen)
    assert ("created" in decisions(response)) is (not remarks)
    shown = element_texts(response, "bo-remark")
    assert len(shown) == len(remarks)
    assert all(text.startswith(start) for text, start in zip(shown, remarks, strict=True))
    supervisor_client.post(operation_url(draft, "confirm"), {"decision": "created", "reason": "seen"})
    draft.refresh_from_db()
    assert draft.progress == ("draft" if remarks else "running")
    assert scripted_provider.cancel_count == 0
    assert scripted_provider.lookup_count == 0


@WITHOUT_LOOKUP
def test_contradictions_can_be_resolved_as_open(scripted_provider, supervisor_client, resolving):
    draft, response = resolving(contradicted(), contradicted())
    assert "created" in decisions(response)
    supervisor_client.post(operation_url(draft, "confirm"), {"decision": "created", "reason": "seen"})
    click_run(supervisor_client, draft)
    assert set(Invoice.objects.values_list("status", "contradicted_at")) == {("created", None)}
    assert scripted_provider.cancel_count == 0


# -- several providers ----------------------------------------------------------------------------------------


@WITHOUT_LOOKUP
def test_invoices_of_several_providers_are_resolved_one_provider_at_a_time(
    scripted_provider, supervisor_client, resolving
):
    one, others = make_invoice("refused"), [make_invoice("in_doubt", age=HOUR, provider="kiosk") for _ in range(2)]
    paid = make_invoice("paid", provider="kiosk")
    draft, response = resolving(one, *others, paid)
    assert decisions(response) == []
    assert [text for text in element_texts(response, "button") if text.startswith("Resolve those")] == [
        "Resolve those of firekassa (Scripted provider) (1)",
        "Resolve those of kiosk (Scripted provider) (2)",
    ]
    supervisor_client.post(operation_url(draft, "again"), {"provider": "kiosk"})
    part = BulkOperation.objects.exclude(pk=draft.pk).get()
    assert part.total == 2
    supervisor_client.post(operation_url(part, "confirm"), {"decision": "canceled", "reason": "seen"})
    click_run(supervisor_client, part)
    assert dict(Invoice.objects.values_list("pk", "status")) == {
        one.pk: "created",
        **{invoice.pk: "canceled" for invoice in others},
        paid.pk: "paid",
    }
    rest = supervisor_client.get(operation_url(draft))
    assert element_texts(rest, "h1") == ["Record what the provider shows for 1 invoice?"]
    assert decisions(rest)
    assert scripted_provider.cancel_count == 0
    assert ScriptedProvider.of("kiosk").cancel_count == 0


@WITHOUT_LOOKUP
def test_decision_about_several_providers_is_refused(scripted_provider, supervisor_client, resolving):
    chosen = [make_invoice("refused"), make_invoice("refused", provider="kiosk")]
    draft, _response = resolving(*chosen)
    data = {"decision": "canceled", "reason": "seen"}
    assert supervisor_client.post(operation_url(draft, "confirm"), data).status_code == 200
    draft.refresh_from_db()
    assert draft.progress == "draft"
    assert set(Invoice.objects.values_list("status", flat=True)) == {"created"}
    assert scripted_provider.cancel_count == 0


@WITHOUT_LOOKUP
def test_user_without_permission_to_resolve_gets_no_part_of_a_draft(
    scripted_provider, supervisor_client, operator_client, resolving
):
    chosen = [make_invoice("refused"), make_invoice("refused", provider="kiosk")]
    draft, _response = resolving(*chosen)
    assert operator_client.post(operation_url(draft, "again"), {"provider": "kiosk"}).status_code == 403
    assert BulkOperation.objects.count() == 1
    assert scripted_provider.cancel_count == 0


@WITHOUT_LOOKUP
def test_part_of_a_cancellation_cannot_be_resolved(scripted_provider, supervisor_client, choose):
    draft = choose(supervisor_client, [make_invoice("refused"), make_invoice("in_doubt")])
    supervisor_client.post(operation_url(draft, "again"), {"provider": "firekassa"})
    assert BulkOperation.objects.get() == draft
    assert scripted_provider.cancel_count == 0


# -- look it up first -----------------------------------------------------------------------------------------


@WITH_LOOKUP
def test_page_offers_a_check_first_if_the_provider_can_be_asked(scripted_provider, supervisor_client, resolving):
    doubt = make_invoice("in_doubt", age=HOUR)
    draft, response = resolving(doubt, contradicted(), make_invoice("paid"))
    assert "can be asked. Check the invoices first" in page_text(response)
    supervisor_client.post(operation_url(draft, "again"), {"code": "in_doubt"})
    check = BulkOperation.objects.exclude(pk=draft.pk).get()
    assert check.operation == "check"
    assert check.total == 2
    scripted_provider.all_lookups("canceled")
    click_run(supervisor_client, check)
    assert sorted(Invoice.objects.values_list("status", flat=True)) == ["canceled", "canceled", "paid"]
    assert scripted_provider.cancel_count == 0
    assert scripted_provider.lookup_count == 1  # one request for both


@WITHOUT_LOOKUP
def test_page_does_not_offer_to_repeat_the_cancel_request(scripted_provider, supervisor_client, resolving):
    draft, response = resolving(make_invoice("in_doubt", age=2 * HOUR))
    assert "can be asked. Check the invoices first" not in page_text(response)
    supervisor_client.post(operation_url(draft, "again"), {"code": "in_doubt"})
    assert BulkOperation.objects.get() == draft
    assert scripted_provider.cancel_count == 0
    assert scripted_provider.lookup_count == 0


@WITH_LOOKUP
def test_user_without_permission_to_cancel_is_not_offered_a_check(scripted_provider, choose):
    client = client_of(user_with("view_invoice", "resolve_invoice"))
    draft = choose(client, [make_invoice("in_doubt", age=HOUR)], "resolve_selected_invoices")
    assert "can be asked. Check the invoices first" not in page_text(client.get(operation_url(draft)))
    assert client.post(operation_url(draft, "again"), {"code": "in_doubt"}).status_code == 403
    assert scripted_provider.lookup_count == 0


@WITHOUT_LOOKUP
def test_request_of_an_invoice_that_is_left_out_causes_no_warning(scripted_provider, resolving):
    _draft, response = resolving(make_invoice("in_doubt", age=HOUR), make_invoice("requested"))
    assert "created" in decisions(response)
    assert "the cancel requests are sent again" not in page_text(response)
    assert scripted_provider.cancel_count == 0
