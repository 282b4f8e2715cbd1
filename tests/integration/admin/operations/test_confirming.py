"""From a selection to a confirmed operation: the texts of the page before anything is done."""

import re
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from django.conf import settings
from django.contrib import admin
from django.contrib.admin.models import CHANGE, LogEntry
from django.db.models import QuerySet
from django.urls import reverse
from django.utils import timezone

from django_invoice_cancel.admin.operations.confirm import start_draft
from django_invoice_cancel.domain.clock import utc_now
from django_invoice_cancel.models import BulkOperation, Invoice, ProviderState
from django_invoice_cancel.testing import make_invoice
from tests.support.html import element_texts, page_text
from tests.support.invoices import count_statuses, set_columns
from tests.support.logs import count_invoices_by_log_rows
from tests.support.operation_pages import operation_url

pytestmark = pytest.mark.django_db(transaction=True)


def test_page_shows_the_invoices_to_be_canceled(scripted_provider, operator_client, invoices, choose):
    chosen = [
        *invoices(1_001, amount="1.50", currency="USD"),
        *invoices(2, amount="0.00000001", currency="BTC"),
        *invoices(11, provider="cryptocloud", amount=None, currency=""),
    ]
    shown = page_text(operator_client.get(operation_url(choose(operator_client, chosen))))
    assert "<h1>Cancel 1,014 invoices?</h1>" in shown
    assert "1,003</td><td>0.00000002 BTC + 1,501.50 USD</td>" in shown
    assert "11</td><td>11 without an amount</td>" in shown
    assert "1,014</td><td>0.00000002 BTC + 1,501.50 USD; 11 without an amount</td>" in shown
    assert 'value="Yes, cancel 1,014 invoices"' in shown
    assert "No, take me back" in shown
    assert scripted_provider.cancel_count == 0


def test_page_lists_excluded_invoices_with_reasons(scripted_provider, operator_client, invoices, choose):
    doubtful = invoices(12)
    for invoice in doubtful:
        set_columns(invoice, status="in_doubt")
    kinds = [make_invoice(kind) for kind in ("paid", "overpaid", "canceling", "expired", "canceled", "abandoned")]
    chosen = [*invoices(1), *doubtful, *kinds, *invoices(1, provider="gone")]
    shown = page_text(operator_client.get(operation_url(choose(operator_client, chosen))))
    assert "<h1>Cancel 1 invoice?</h1>" in shown
    assert (
        "19 invoices will not be canceled. Reasons: 13 in doubt · 2 with payments · 1 being canceled now · "
        "1 expired or with a failed payment · 1 already canceled · "
        "1 with a provider that is not configured, or with an invalid id"
    ) in shown
    assert shown.count('<details class="bo-refused">') == 1
    assert '<details class="bo-refused" open' not in shown
    assert [each for each in doubtful if f">firekassa {each.external_id}</a>" in shown] == doubtful[:10]
    assert "and 3 more" in shown
    assert scripted_provider.cancel_count == 0


def test_nothing_to_cancel_has_no_button(scripted_provider, operator_client, choose):
    draft = choose(operator_client, [make_invoice("paid")])
    shown = page_text(operator_client.get(operation_url(draft)))
    assert "<h1>Cannot cancel invoices</h1>" in shown
    assert operation_url(draft, "confirm") not in shown
    operator_client.post(operation_url(draft, "confirm"), {"reason": "x"})
    draft.refresh_from_db()
    assert draft.progress == "draft"
    assert scripted_provider.cancel_count == 0


@pytest.mark.parametrize(
    ("state", "said"),
    [
        ({"paused_until": 600, "pause_code": "bad_credentials"}, "Scripted provider rejected our credentials."),
        ({"failures": 3}, "firekassa (Scripted provider) gave no usable answer to the last 3 requests."),
    ],
    ids=["paused", "silent"],
)
def test_paused_provider_is_shown_as_a_warning(scripted_provider, operator_client, invoices, choose, state, said):
    if "paused_until" in state:
        state = state | {"paused_until": utc_now() + timedelta(seconds=state["paused_until"])}
    ProviderState.objects.create(alias="firekassa", **state)
    ProviderState.objects.create(alias="cryptocloud", failures=9)
    shown = page_text(operator_client.get(operation_url(choose(operator_client, invoices(1)))))
    assert shown.count("bo-amber") == 1
    assert said in shown
    assert scripted_provider.cancel_count == 0
    assert count_statuses() == {"created": 1}
    assert count_invoices_by_log_rows() == {}


def test_confirming_starts_it_and_is_logged_once(scripted_provider, operator_client, operator, invoices, choose):
    draft = choose(operator_client, invoices(3))
    answer = operator_client.post(operation_url(draft, "confirm"), {"reason": "too old"})
    assert answer.context["snapshot"].mode == "drive"
    again = operator_client.post(operation_url(draft, "confirm"), {"reason": "too old"})
    assert again.headers["Location"] == operation_url(draft)
    draft.refresh_from_db()
    assert draft.progress == "running"
    assert draft.reason == "too old"
    assert draft.trigger == "admin"
    assert draft.actor == operator
    entry = LogEntry.objects.get()
    assert entry.user == operator
    assert entry.action_flag == CHANGE
    assert entry.object_id == str(draft.pk)
    assert entry.get_change_message() == "Started."
    assert scripted_provider.cancel_count == 0


@pytest.mark.parametrize(
    ("required", "label", "progress"), [(True, "Reason", "draft"), (False, "Reason (optional)", "running")]
)
def test_setting_requires_a_reason(
    scripted_provider, settings, operator_client, invoices, choose, required, label, progress
):
    settings.INVOICE_CANCEL = settings.INVOICE_CANCEL | {"REQUIRE_REASON": required}
    draft = choose(operator_client, invoices(1))
    assert f'<label for="id_reason">{label}</label>' in page_text(operator_client.get(operation_url(draft)))
    answer = operator_client.post(operation_url(draft, "confirm"), {"reason": "  "})
    draft.refresh_from_db()
    assert draft.progress == progress
    assert ("This field is required." in page_text(answer)) is required


def test_selection_does_not_change_after_the_action(scripted_provider, operator_client, invoices, choose):
    """All of a filtered list was selected; what matches the filter later is not canceled."""
    draft = choose(operator_client, invoices(150))
    invoices(5)
    assert draft.total == 150
    assert "Cancel 150 invoices?" in page_text(operator_client.get(operation_url(draft)))
    assert scripted_provider.cancel_count == 0


def test_invoices_in_doubt_can_be_checked_first(scripted_provider, operator_client, invoices, choose):
    first, second = invoices(2)
    set_columns(first, status="in_doubt")
    draft = choose(operator_client, [first, second])
    assert "Check the invoices in doubt first" in page_text(operator_client.get(operation_url(draft)))
    answer = operator_client.post(operation_url(draft, "again"), {"code": "in_doubt"})
    made = BulkOperation.objects.exclude(pk=draft.pk).get()
    assert answer.context["operation"] == made
    assert made.operation == "check"
    assert made.progress == "running"
    assert made.total == 1
    assert made.continues == draft
    assert [item.invoice for item in made.items.all()] == [first]
    assert scripted_provider.lookup_count == 0


# -- check ----------------------------------------------------------------------------------------------------


def test_check_needs_no_confirmation(scripted_provider, operator_client, operator, invoices, choose):
    made = choose(operator_client, invoices(2), "check_selected_invoices")
    assert made.progress == "running"
    assert made.trigger == "admin"
    assert LogEntry.objects.get().get_change_message() == "Started."
    assert scripted_provider.cancel_count == 0
    assert scripted_provider.lookup_count == 0


@pytest.mark.scripted_providers("firekassa", supports_lookup=False, is_repeat_harmless=True)
def test_check_that_repeats_the_cancel_is_confirmed(scripted_provider, operator_client, invoices, choose):
    doubtful, still_open = invoices(2)
    set_columns(doubtful, status="in_doubt", claim_expires_at=utc_now() - timedelta(hours=1))
    made = choose(operator_client, [doubtful, still_open], "check_selected_invoices")
    shown = page_text(operator_client.get(operation_url(made)))
    assert made.progress == "draft"
    assert "<h1>Check 1 invoice?</h1>" in shown
    assert "A check repeats the cancel request for its invoices in doubt." in shown
    assert "1 at a provider without a status lookup" in shown
    operator_client.post(operation_url(made, "confirm"))
    made.refresh_from_db()
    assert made.progress == "running"
    assert scripted_provider.cancel_count == 0


# -- resolve --------------------------------------------------------------------------------------------------


def doubtful(number, invoices):
    made = invoices(number)
    for invoice in made:
        set_columns(invoice, status="in_doubt", status_changed_at=utc_now() - timedelta(hours=1))
    return made


def test_resolve_needs_a_decision_and_a_reason(scripted_provider, supervisor_client, supervisor, invoices, choose):
    draft = choose(supervisor_client, doubtful(2, invoices), "resolve_selected_invoices")
    shown = page_text(supervisor_client.get(operation_url(draft)))
    assert "<h1>Resolve 2 invoices?</h1>" in shown
    assert '<label for="id_reason">Reason</label>' in shown  # required, whatever the setting says
    assert re.findall(r'name="decision" value="(\w+)"', shown) == [
        *("canceled", "created", "expired", "failed", "partially_paid", "paid", "overpaid")
    ]
    for incomplete in ({"decision": "canceled"}, {"reason": "seen"}, {"decision": "in_doubt", "reason": "seen"}):
        supervisor_client.post(operation_url(draft, "confirm"), incomplete)
        draft.refresh_from_db()
        assert draft.progress == "draft"
    supervisor_client.post(operation_url(draft, "confirm"), {"decision": "canceled", "reason": "seen"})
    draft.refresh_from_db()
    assert draft.progress == "running"
    assert draft.decision == "canceled"
    assert draft.trigger == "operator"
    assert LogEntry.objects.count() == 1
    assert scripted_provider.cancel_count == 0


@pytest.mark.parametrize("is_requested", [True, False])
def test_resolve_warns_that_requested_cancellations_are_sent_again(
    scripted_provider, supervisor_client, invoices, choose, is_requested
):
    chosen = doubtful(3, invoices)
    if is_requested:
        set_columns(chosen[1], cancel_requested_at=utc_now())
    shown = page_text(
        supervisor_client.get(operation_url(choose(supervisor_client, chosen, "resolve_selected_invoices")))
    )
    assert ("the cancel requests are sent again." in shown) is is_requested
    assert scripted_provider.cancel_count == 0


def test_error_of_the_decision_is_linked_to_its_field(scripted_provider, supervisor_client, invoices, choose):
    draft = choose(supervisor_client, doubtful(2, invoices), "resolve_selected_invoices")
    shown = page_text(supervisor_client.post(operation_url(draft, "confirm"), {"reason": "seen"}))
    assert 'id="id_decision_error"' in shown
    assert (
        '<fieldset aria-describedby="id_decision_error"><legend>Status in the provider&#x27;s dashboard</legend>'
        in shown
    )
    assert scripted_provider.cancel_count == 0


@pytest.mark.parametrize(
    ("typed", "progress"), [("", "draft"), ("20", "draft"), ("21", "running"), (" 21 ", "running")]
)
def test_count_must_be_entered_for_many_invoices(
    scripted_provider, supervisor_client, invoices, choose, typed, progress
):
    draft = choose(supervisor_client, doubtful(21, invoices), "resolve_selected_invoices")
    data = {"decision": "canceled", "reason": "seen", "typed_count": typed}
    supervisor_client.post(operation_url(draft, "confirm"), data)
    draft.refresh_from_db()
    assert draft.progress == progress
    assert Invoice.objects.filter(status="in_doubt").count() == 21


def test_two_concurrent_confirmations_start_and_log_one_operation(scripted_provider, rf, supervisor, invoices):
    """Both have read the draft; one of them starts it."""
    draft = BulkOperation.objects.draft(Invoice.objects.filter(pk=invoices(1)[0].pk), actor=supervisor)
    same = BulkOperation.objects.get(pk=draft.pk)
    request = rf.post("/")
    request.user = supervisor
    assert [start_draft(admin.site, request, each, reason="x") for each in (draft, same)] == [True, False]
    assert LogEntry.objects.count() == 1
    assert scripted_provider.cancel_count == 0
    assert count_statuses() == {"created": 1}
    assert count_invoices_by_log_rows() == {}


@pytest.mark.parametrize(("count", "is_open", "last"), [(1, True, "order-0"), (12, False, "and 2 more")])
def test_confirmation_names_some_of_the_invoices(
    scripted_provider, operator_client, invoices, choose, count, is_open, last
):
    made = [invoices(1, reference=f"order-{number}")[0] for number in range(count)]
    shown = page_text(
        operator_client.get(
            operation_url(choose(operator_client, [*made, *invoices(1, status="paid", reference="not this one")]))
        )
    )
    sample = shown[shown.index('<details class="bo-sample"') : shown.index('<details class="bo-refused">')]
    assert ('class="bo-sample" open>' in sample) == is_open
    assert "order-0" in sample
    assert last in sample
    assert "not this one" not in sample
    assert scripted_provider.cancel_count == 0


def test_examples_lead_to_their_invoices(scripted_provider, operator_client, invoices, choose):
    (paid,) = invoices(1, status="paid", reference="order-17")
    shown = page_text(operator_client.get(operation_url(choose(operator_client, [paid]))))
    address = reverse("admin:invoice_cancel_invoice_change", args=[paid.pk])
    assert f'<li><a href="{address}">firekassa {paid.external_id}</a> (order-17)' in shown
    assert scripted_provider.cancel_count == 0


def test_resolve_works_during_a_pause(scripted_provider, supervisor_client, invoices, choose):
    until = utc_now() + timedelta(seconds=600)
    ProviderState.objects.create(alias="firekassa", paused_until=until, pause_code="bad_credentials")
    draft = choose(supervisor_client, doubtful(1, invoices), "resolve_selected_invoices")
    assert "bo-amber" not in page_text(supervisor_client.get(operation_url(draft)))
    assert scripted_provider.cancel_count == 0
    assert count_statuses() == {"in_doubt": 1}
    assert count_invoices_by_log_rows() == {}


@pytest.mark.parametrize("when", ["0001-01-01", "9999-12-31"])
def test_dates_at_the_ends_of_the_calendar_are_shown_as_stored(
    scripted_provider, operator_client, invoices, choose, when
):
    chosen = invoices(2)
    edge = datetime.fromisoformat(when).replace(tzinfo=UTC)
    QuerySet(Invoice).filter(pk=chosen[0].pk).update(issued_at=edge if settings.USE_TZ else edge.replace(tzinfo=None))
    with timezone.override(ZoneInfo("Pacific/Kiritimati")):
        response = operator_client.get(operation_url(choose(operator_client, chosen)))
    assert response.status_code == 200
    assert f"{when[3] if when[0] == '0' else when[:4]}" in element_texts(response, "bo-who")[-1]
    assert scripted_provider.cancel_count == 0


def test_only_the_irreversible_button_looks_so(scripted_provider, operator_client, invoices, choose):
    doubt = invoices(1)
    set_columns(doubt[0], status="in_doubt")
    shown = page_text(operator_client.get(operation_url(choose(operator_client, [*invoices(1), *doubt]))))
    assert '<input type="submit" value="Yes, cancel 1 invoice" class="bo-irreversible">' in shown
    assert '<button type="submit" class="button bo-side">Check the invoices in doubt first</button>' in shown
    assert scripted_provider.cancel_count == 0
