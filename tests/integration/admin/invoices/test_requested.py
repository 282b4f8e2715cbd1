"""Requested cancellations that wait: their list, "Cancel now" and "Withdraw"."""

from datetime import timedelta

import pytest
from django.contrib.admin.models import LogEntry

from django_invoice_cancel.domain.outcomes import Outcome, ProviderReply
from django_invoice_cancel.testing import make_invoice
from tests.support.html import element_texts, link_addresses, page_text, shown_messages
from tests.support.invoice_pages import changelist_url, count_both_logs, invoice_url
from tests.support.invoices import stored

pytestmark = pytest.mark.django_db

HOUR = timedelta(hours=1)
LISTS = ["?attention=requested", "?attention=waiting"]


def buttons(response):
    return [button.label for button in response.context["summary"]["buttons"]]


def row_links(response):
    """Return the addresses of the links to the pages of an action, with the page they come from."""
    return [address for address in link_addresses(response) if "/cancel/" in address or "/withdraw/" in address]


@pytest.mark.parametrize("query", LISTS)
def test_list_shows_the_age_of_each_request_oldest_first(shop, operator, query):
    make_invoice("created")
    younger, older = make_invoice("requested", age=2 * HOUR), make_invoice("requested", age=30 * HOUR)
    response = operator.get(changelist_url(query))
    assert list(response.context["cl"].result_list) == [older, younger]
    assert element_texts(response, "field-requested") == ["1 d ago", "2 h ago"]
    assert element_texts(response, "field-doubt_since") == []
    assert shop.cancel_count == 0


@pytest.mark.parametrize("query", LISTS)
def test_each_row_links_to_cancel_now_and_withdraw(shop, operator, query):
    invoice = make_invoice("requested", age=2 * HOUR)
    response = operator.get(changelist_url(query))
    back = query.replace("?", "?_changelist_filters=").replace("attention=", "attention%3D")
    assert row_links(response) == [
        invoice_url(invoice, "cancel") + back,
        invoice_url(invoice, "withdraw") + back,
    ]
    assert element_texts(response, "field-request_actions") == ["Cancel now · Withdraw request…"]
    assert f'aria-label="Cancel now {invoice}"' in page_text(response)
    assert shop.cancel_count == 0


def test_other_lists_have_no_columns_for_requests(shop, operator):
    make_invoice("requested")
    for query in ("", "?attention=any", "?status__exact=created"):
        response = operator.get(changelist_url(query))
        assert element_texts(response, "field-requested") == []
        assert row_links(response) == []
    assert shop.cancel_count == 0


def test_user_without_permission_to_cancel_has_no_links(shop, client_with):
    make_invoice("requested")
    response = client_with("view", "resolve").get(changelist_url("?attention=requested"))
    assert element_texts(response, "field-requested") == ["just now"]
    assert row_links(response) == []
    assert shop.cancel_count == 0


def test_invoice_that_cannot_be_canceled_has_only_the_link_to_withdraw(shop, operator, settings):
    invoice = make_invoice("requested")
    settings.INVOICE_CANCEL = {"PROVIDERS": {}}
    response = operator.get(changelist_url("?attention=requested"))
    assert [address.split("?")[0] for address in row_links(response)] == [invoice_url(invoice, "withdraw")]
    assert shop.cancel_count == 0


def test_page_of_a_requested_invoice_offers_cancel_now_and_withdraw(shop, operator):
    response = operator.get(invoice_url(make_invoice("requested")))
    assert buttons(response) == ["Cancel now", "Check with provider", "Withdraw request…"]
    assert shop.cancel_count == 0


def test_cancel_now_asks_before_it_sends(shop, operator):
    invoice = make_invoice("requested")
    before = count_both_logs()
    response = operator.get(invoice_url(invoice, "cancel"))
    assert element_texts(response, "h1") == ["Cancel this invoice now?"]
    assert "It is now sent in your name." in page_text(response)
    assert stored(invoice).cancel_requested_at is not None
    assert count_both_logs() == before
    assert shop.cancel_count == 0


def test_cancel_now_sends_the_request_under_the_name_of_the_user(shop, operator):
    invoice = make_invoice("requested")
    response = operator.post(invoice_url(invoice, "cancel"), {"reason": "the customer called"})
    assert [level for level, _text in shown_messages(response)] == ["success"]
    row = stored(invoice)
    assert row.status == "canceled"
    assert row.cancel_requested_at is None
    sent = row.transitions.filter(to_status="canceling").values_list("trigger", "actor_label", "reason")
    assert list(sent) == [("admin", operator.user.username, "the customer called")]
    assert LogEntry.objects.filter(object_id=str(invoice.pk)).count() == 1
    assert shop.cancel_count == 1


@pytest.mark.parametrize(
    ("reply", "is_kept"),
    [
        (ProviderReply(Outcome.NOT_PROCESSED, "unreachable"), True),
        (ProviderReply(Outcome.IN_DOUBT, "no_answer"), True),
        (ProviderReply(Outcome.REFUSED, "provider_refused"), False),
    ],
    ids=["unreachable", "in doubt", "refused"],
)
def test_request_waits_after_cancel_now_unless_it_was_answered(shop, operator, reply, is_kept):
    shop.all_cancels(reply)
    invoice = make_invoice("requested")
    operator.post(invoice_url(invoice, "cancel"), {"reason": ""})
    assert (stored(invoice).cancel_requested_at is not None) is is_kept
    assert shop.cancel_count == 1


def test_cancel_now_of_a_withdrawn_request_is_a_normal_cancellation(shop, operator):
    invoice = make_invoice("requested")
    stored(invoice).withdraw(actor="ada")
    assert element_texts(operator.get(invoice_url(invoice, "cancel")), "h1") == ["Cancel this invoice?"]
    assert buttons(operator.get(invoice_url(invoice)))[0] == "Cancel"
    assert shop.cancel_count == 0
