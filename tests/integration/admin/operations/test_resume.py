"""Try now on the pages of an operation: who may use it, and the page goes on with one request."""

from urllib.parse import urlencode

import pytest
from django.contrib.admin.models import LogEntry

from django_invoice_cancel.models import BulkOperation, Invoice, ProviderState
from tests.support.html import page_text
from tests.support.invoices import count_statuses, set_columns
from tests.support.logs import count_answers, count_invoices_by_log_rows
from tests.support.operation_pages import operation_url, run_slice
from tests.support.pauses import pause_provider
from tests.support.users import client_of, user_with

pytestmark = pytest.mark.django_db


@pytest.fixture
def started(operator_client, invoices, choose):
    """Return a function that confirms the cancellation of some invoices, and returns the operation."""

    def start(number):
        operation = choose(operator_client, invoices(number))
        operator_client.post(operation_url(operation, "confirm"), {"reason": "old"})
        return operation

    return start


def resume_url(operation, provider="firekassa"):
    return f"{operation_url(operation, 'resume')}?{urlencode({'provider': provider})}"


def is_paused(alias="firekassa"):
    return ProviderState.objects.get(alias=alias).is_paused


def test_confirmation_page_offers_to_end_the_pause(scripted_provider, operator_client, invoices, choose):
    draft = choose(operator_client, invoices(3))
    pause_provider("firekassa")
    shown = operator_client.get(operation_url(draft))
    assert "is paused until" in page_text(shown)
    assert f'action="{resume_url(draft)}"' in shown.content.decode()
    response = operator_client.post(resume_url(draft))
    assert response.status_code == 302
    assert response["Location"] == operation_url(draft)
    assert not is_paused()
    shown = operator_client.get(operation_url(draft))
    assert "is paused until" not in page_text(shown)
    assert resume_url(draft) not in shown.content.decode()
    assert BulkOperation.objects.get().progress == "draft"
    assert scripted_provider.cancel_count == 0
    assert count_statuses() == {"created": 3}


@pytest.mark.parametrize("answer", ["canceled", "bad_credentials"])
def test_page_that_waits_goes_on_with_one_request(scripted_provider, operator_client, operator, started, answer):
    operation = started(30)
    pause_provider("firekassa")
    scripted_provider.all_cancels(answer)
    assert run_slice(operator_client, operation)["state"].endswith(" paused")
    shown = operator_client.get(operation_url(operation))
    assert f'action="{resume_url(operation)}"' in shown.content.decode()
    assert scripted_provider.cancel_count == 0
    page = operator_client.post(resume_url(operation), follow=True)
    assert page.redirect_chain == [(operation_url(operation), 302)]
    assert "The pause of firekassa (Scripted provider) has ended." in page_text(page)
    assert scripted_provider.cancel_count == 0
    now = run_slice(operator_client, operation)
    if answer == "canceled":
        assert now["state"].startswith("finished")
        assert scripted_provider.cancel_count == 30
        assert count_statuses() == {"canceled": 30}
        assert ProviderState.objects.get().pause_code == ""
    else:
        assert now["state"].endswith(" paused")
        assert scripted_provider.cancel_count == 1
        assert count_statuses() == {"created": 30}
        assert count_answers() == {"bad_credentials": 1}
    entry = LogEntry.objects.get(content_type__model="providerstate")
    assert entry.user == operator
    assert entry.object_id == "firekassa"


def test_retry_after_is_confirmed_on_a_page_of_its_own(scripted_provider, operator_client, started):
    operation = started(3)
    pause_provider("firekassa", code="rate_limited", seconds=90, retry_after=90)
    link = (
        f"{operation_url(operation, 'resume')}?{urlencode({'provider': 'firekassa', 'next': operation_url(operation)})}"
    )
    shown = operator_client.get(operation_url(operation)).content.decode()
    assert f'href="{link.replace("&", "&amp;")}"' in shown
    asked = operator_client.get(link)
    assert "asked for no requests before" in page_text(asked)
    assert is_paused()
    assert "asked for no requests before" in page_text(operator_client.post(link))
    assert is_paused()
    seen = ProviderState.objects.get().retry_after_at.isoformat()
    assert operator_client.post(link, {"retry_after": seen})["Location"] == operation_url(operation)
    assert not is_paused()
    assert scripted_provider.cancel_count == 0
    assert count_statuses() == {"created": 3}


def test_each_paused_provider_has_a_button(scripted_provider, operator_client, invoices, choose):
    draft = choose(operator_client, [*invoices(2), *invoices(2, provider="cryptocloud")])
    pause_provider("firekassa")
    pause_provider("cryptocloud")
    shown = operator_client.get(operation_url(draft))
    text = page_text(shown)
    assert "Try now: firekassa (Scripted provider)" in text
    assert "Try now: cryptocloud (Scripted provider)" in text
    operator_client.post(resume_url(draft, "cryptocloud"))
    assert is_paused()
    assert not is_paused("cryptocloud")
    assert scripted_provider.cancel_count == 0
    assert count_statuses() == {"created": 4}


WHO = {
    "none": ((), 403),
    "view": (("view_invoice", "view_bulkoperation"), 403),
    "cancel": (("view_invoice", "cancel_invoice"), 302),
    "resolve": (("view_invoice", "resolve_invoice"), 403),
    "cancel, blind": (("cancel_invoice",), 403),
}


@pytest.mark.parametrize("who", WHO)
def test_only_users_who_may_cancel_may_end_a_pause(scripted_provider, started, who):
    permissions, expected = WHO[who]
    operation = started(2)
    pause_provider("firekassa")
    client = client_of(user_with(*permissions))
    assert client.get(resume_url(operation)).status_code == (200 if expected == 302 else 403)
    assert is_paused()
    assert client.post(resume_url(operation)).status_code == expected
    assert is_paused() == (expected == 403)
    assert LogEntry.objects.filter(content_type__model="providerstate").count() == (expected == 302)
    assert scripted_provider.cancel_count == 0
    assert count_statuses() == {"created": 2}


@pytest.mark.parametrize("alias", ["cryptocloud", "kiosk", "", "a\0b"])
def test_other_account_than_those_of_the_operation_is_not_found(scripted_provider, operator_client, started, alias):
    operation = started(2)
    pause_provider("cryptocloud")
    assert operator_client.post(resume_url(operation, alias)).status_code == 404
    assert is_paused("cryptocloud")
    assert scripted_provider.cancel_count == 0
    assert count_invoices_by_log_rows() == {}


def test_resolving_has_no_pause(scripted_provider, supervisor_client, invoices, choose):
    rows = invoices(2)
    for invoice in rows:
        set_columns(invoice, status="in_doubt")
    draft = choose(supervisor_client, rows, "resolve_selected_invoices")
    pause_provider("firekassa")
    assert resume_url(draft) not in supervisor_client.get(operation_url(draft)).content.decode()
    assert supervisor_client.post(resume_url(draft)).status_code == 404
    assert is_paused()
    assert scripted_provider.cancel_count == 0
    assert count_statuses() == {"in_doubt": 2}


@pytest.mark.urls("tests.integration.admin.operations.scoped_sites")
@pytest.mark.parametrize("site", ["narrow", "rows"])
def test_user_who_does_not_see_all_remaining_invoices_may_not(scripted_provider, started, site):
    operation = started(2)
    set_columns(Invoice.objects.first(), reference="hidden")
    pause_provider("firekassa")
    client = client_of(user_with("view_invoice", "cancel_invoice"))
    url = f"{operation_url(operation, 'resume', site)}?provider=firekassa"
    assert client.post(url).status_code == 403
    assert is_paused()
    assert scripted_provider.cancel_count == 0
    assert count_statuses() == {"created": 2}
