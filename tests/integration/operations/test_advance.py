"""A slice of an operation: the items that it processes, the rows that it writes, and the items that it skips."""

import threading
from collections import Counter

import pytest
from django.db import transaction

from django_invoice_cancel.exceptions import CancelInTransaction
from django_invoice_cancel.models import BulkOperation, Invoice, InvoiceTransition, ProviderState
from django_invoice_cancel.operations import Advance
from django_invoice_cancel.testing import ScriptedProvider
from tests.support.invoices import set_columns, statuses_by_id
from tests.support.logs import log_codes_by_id
from tests.support.operations import advance_slice, item_outcomes, stored_progress

pytestmark = pytest.mark.django_db(transaction=True)


def test_slice_cancels_and_finishes_the_operation(scripted_provider, invoices, started):
    invoices(3)
    operation = started()
    assert advance_slice(operation.pk) == Advance(has_more=False, is_finished=True)
    assert item_outcomes(operation) == dict.fromkeys(("101", "102", "103"), "canceled canceled")
    assert statuses_by_id() == dict.fromkeys(("101", "102", "103"), "canceled")
    assert stored_progress(operation) == "finished"
    assert scripted_provider.cancel_count == 3


def test_log_contains_actor_reason_and_operation(scripted_provider, invoices, started):
    invoices(1)
    operation = started(trigger="admin")
    advance_slice(operation.pk)
    rows = InvoiceTransition.objects.values_list("actor_label", "reason", "trigger", "operation", "to_status")
    assert list(rows) == [
        ("Ada", "too old", "admin", operation.pk, "canceling"),
        ("Ada", "too old", "admin", operation.pk, "canceled"),
    ]
    assert scripted_provider.cancel_count == 1


def test_slice_processes_at_most_its_limit(scripted_provider, invoices, started):
    invoices(5)
    operation = started()
    remaining = []
    while advance_slice(operation.pk, limit=2).has_more:
        remaining.append(operation.items.left().count())
    assert remaining == [3, 1]
    assert sorted(scripted_provider.cancels) == ["101", "102", "103", "104", "105"]


@pytest.mark.parametrize("state", ["draft", "stopped", "finished"])
def test_operation_that_is_not_running_is_not_changed(scripted_provider, invoices, started, state):
    invoices(2)
    operation = started()
    BulkOperation.objects.update(progress=state)
    assert advance_slice(operation.pk) == Advance(has_more=False)
    assert operation.items.left().count() == 2
    assert stored_progress(operation) == state
    assert scripted_provider.cancel_count == 0


def test_slice_in_a_transaction_is_refused(scripted_provider, invoices, started):
    invoices(1)
    operation = started()
    with transaction.atomic(), pytest.raises(CancelInTransaction):
        advance_slice(operation.pk)
    operation.refresh_from_db()
    assert item_outcomes(operation) == {"101": ""}
    assert operation.worked_at is None
    assert statuses_by_id() == {"101": "created"}
    assert log_codes_by_id() == {"101": ""}
    assert scripted_provider.cancel_count == 0


def test_selection_is_not_extended_and_paid_invoices_are_skipped(scripted_provider, invoices, started):
    """One invoice is registered after the start, one is paid."""
    first, _ = invoices(2)
    operation = started()
    invoices(1, first=900)
    first.observe_status("paid")
    advance_slice(operation.pk)
    assert item_outcomes(operation) == {"101": "skipped has_payment", "102": "canceled canceled"}
    assert statuses_by_id() == {"101": "paid", "102": "canceled", "900": "created"}
    assert log_codes_by_id() == {"101": "observed", "102": "claim canceled", "900": ""}
    assert scripted_provider.cancels == ["102"]


def test_each_answer_is_stored_as_its_outcome(scripted_provider, invoices, started):
    invoices(5)
    operation = started()
    for external_id, answer in {"101": "refused", "102": "in_doubt", "103": "paid", "104": "not_processed"}.items():
        scripted_provider.next_cancels(answer, external_id=external_id)
    advance_slice(operation.pk)
    assert item_outcomes(operation) == {
        "101": "refused provider_refused",
        "102": "in_doubt no_answer",
        "103": "refused has_payment",
        "104": "not_processed unreachable",
        "105": "canceled canceled",
    }
    assert statuses_by_id() == {"101": "created", "102": "in_doubt", "103": "paid", "104": "created", "105": "canceled"}
    assert log_codes_by_id() == {
        "101": "claim provider_refused",
        "102": "claim no_answer",
        "103": "claim has_payment",
        "104": "claim unreachable",
        "105": "claim canceled",
    }
    assert scripted_provider.cancel_count == 5


def test_alias_that_is_not_configured_does_not_stop_the_others(scripted_provider, invoices, started):
    invoices(1, provider="gone", first=201)
    invoices(1)
    operation = started()
    assert advance_slice(operation.pk).is_finished
    assert item_outcomes(operation) == {"201": "skipped misconfigured", "101": "canceled canceled"}
    assert statuses_by_id() == {"201": "created", "101": "canceled"}
    assert log_codes_by_id() == {"201": "", "101": "claim canceled"}
    assert scripted_provider.cancel_count == 1


def test_rate_limited_item_waits_for_the_end_of_the_pause(scripted_provider, invoices, started):
    invoices(1)
    operation = started()
    scripted_provider.next_cancels("rate_limited")
    progress = advance_slice(operation.pk, deadline=0.5)  # shorter than the pause: the slice does not wait for its end
    while not scripted_provider.cancel_count:  # no request within the deadline on a slow machine
        progress = advance_slice(operation.pk, deadline=0.5)
    assert progress.has_more
    assert 0 < progress.wait_seconds <= 60
    assert item_outcomes(operation) == {"101": ""}
    assert statuses_by_id() == {"101": "created"}
    ProviderState.objects.update(paused_until=None)
    assert advance_slice(operation.pk).is_finished
    assert item_outcomes(operation) == {"101": "canceled canceled"}
    assert statuses_by_id() == {"101": "canceled"}
    assert log_codes_by_id() == {"101": "claim rate_limited claim canceled"}
    assert scripted_provider.cancel_count == 2


def test_rejected_credentials_stop_the_requests(scripted_provider, invoices, started):
    invoices(40)
    operation = started()
    scripted_provider.all_cancels("bad_credentials")
    progress = advance_slice(operation.pk)
    sent_count = scripted_provider.cancel_count
    assert progress.has_more
    assert progress.wait_seconds > 200
    assert operation.items.filter(outcome="not_processed", code="bad_credentials").count() == sent_count < 40
    assert operation.items.left().count() == 40 - sent_count
    assert set(statuses_by_id().values()) == {"created"}
    assert Counter(log_codes_by_id().values())["claim bad_credentials"] == sent_count


def test_paused_provider_does_not_delay_another(scripted_provider, invoices, started):
    """Its items come first and would fill every slice."""
    invoices(3, provider="cryptocloud", first=201)
    invoices(3)
    operation = started()
    paused = ScriptedProvider.of("cryptocloud")
    Invoice.objects.all()._writer.pause("cryptocloud", "bad_credentials", 300)
    assert advance_slice(operation.pk, limit=2).wait_seconds == 0
    progress = advance_slice(operation.pk, limit=2)
    assert progress.has_more
    assert 200 < progress.wait_seconds <= 300
    assert operation.items.left().count() == 3
    assert {statuses_by_id()[each] for each in ("201", "202", "203")} == {"created"}
    assert Counter(log_codes_by_id().values()) == {"": 3, "claim canceled": 3}
    assert scripted_provider.cancel_count == 3
    assert paused.cancel_count == 0


def test_stop_event_records_requests_in_flight(scripted_provider, invoices, started):
    """The stop arrives during the first request."""
    invoices(60)
    operation = started()
    stop = threading.Event()

    def stop_operation(external_id):
        stop.set()
        return "canceled"

    scripted_provider.all_cancels(stop_operation)
    progress = advance_slice(operation.pk, stop=stop)
    sent = scripted_provider.cancel_count
    assert progress.has_more
    assert sent < 60
    assert operation.items.filter(outcome="canceled").count() == sent
    assert sorted(statuses_by_id().values()) == ["canceled"] * sent + ["created"] * (60 - sent)
    assert not operation.items.left().filter(token__isnull=False).exists()
    assert Counter(log_codes_by_id().values())["claim canceled"] == sent


@pytest.mark.scripted_providers("firekassa", concurrency=1)
def test_stop_by_another_process_ends_the_slice(scripted_provider, invoices, started, in_thread, monkeypatch):
    invoices(60)
    operation = started()
    monkeypatch.setattr("django_invoice_cancel.operations.slices.STOP_CHECK_SECONDS", 0.0)

    def stop_operation(external_id):
        scripted_provider.before_send = None
        in_thread(lambda: BulkOperation.objects.get(pk=operation.pk).stop()).result()

    scripted_provider.before_send = stop_operation
    assert advance_slice(operation.pk) == Advance(has_more=False)
    assert 0 < scripted_provider.cancel_count < 60
    assert stored_progress(operation) == "stopped"
    assert operation.items.left().count() == 60 - scripted_provider.cancel_count
    sent = scripted_provider.cancel_count
    assert Counter(statuses_by_id().values()) == {"canceled": sent, "created": 60 - sent}
    assert Counter(log_codes_by_id().values())["claim canceled"] == sent


def test_resumed_operation_processes_the_remaining_items(scripted_provider, invoices, started):
    invoices(4)
    operation = started()
    advance_slice(operation.pk, limit=1)
    assert operation.stop()
    assert advance_slice(operation.pk) == Advance(has_more=False)
    assert operation.resume()
    assert advance_slice(operation.pk).is_finished
    assert sorted(scripted_provider.cancels) == ["101", "102", "103", "104"]
    assert set(statuses_by_id().values()) == {"canceled"}
    assert set(log_codes_by_id().values()) == {"claim canceled"}


def test_slice_without_remaining_time_processes_nothing(scripted_provider, invoices, started):
    invoices(3)
    operation = started()
    assert advance_slice(operation.pk, deadline=0.0).has_more
    assert item_outcomes(operation) == dict.fromkeys(("101", "102", "103"), "")
    assert not operation.items.left().filter(token__isnull=False).exists()
    assert set(statuses_by_id().values()) == {"created"}
    assert set(log_codes_by_id().values()) == {""}
    assert scripted_provider.cancel_count == 0


def test_check_stores_the_providers_status(scripted_provider, invoices, started):
    first, second, _ = invoices(3)
    set_columns(first, status="in_doubt")
    set_columns(second, status="in_doubt", claim_expires_at=second.created_at.replace(year=2020))
    scripted_provider.set_status("101", "canceled")
    scripted_provider.set_status("103", "paid")
    operation = started("check")
    assert advance_slice(operation.pk).is_finished
    assert statuses_by_id() == {"101": "canceled", "102": "created", "103": "paid"}
    assert item_outcomes(operation) == {
        "101": "already_canceled already_canceled",
        "102": "not_processed still_open",
        "103": "refused has_payment",
    }
    assert scripted_provider.cancel_count == 0
    assert scripted_provider.lookup_count == 1


@pytest.mark.scripted_providers("firekassa", supports_lookup=False, is_repeat_harmless=True)
def test_check_without_lookup_repeats_requests_only_after_the_doubt_period(scripted_provider, invoices, started):
    in_doubt, _open = invoices(2)
    set_columns(in_doubt, status="in_doubt", claim_expires_at=in_doubt.created_at.replace(year=2020))
    operation = started("check")
    assert advance_slice(operation.pk).is_finished
    assert item_outcomes(operation) == {"101": "canceled canceled", "102": "not_processed no_lookup"}
    assert statuses_by_id() == {"101": "canceled", "102": "created"}
    assert scripted_provider.cancels == ["101"]


def test_resolve_stores_the_decision(scripted_provider, invoices, started):
    first, _ = invoices(2)
    set_columns(first, status="in_doubt")
    operation = started("resolve", decision="canceled", trigger="operator")
    assert advance_slice(operation.pk).is_finished
    assert item_outcomes(operation) == {"101": "already_canceled resolved", "102": "skipped not_in_doubt"}
    assert statuses_by_id() == {"101": "canceled", "102": "created"}
    assert scripted_provider.cancel_count == 0
    assert scripted_provider.lookup_count == 0


def test_resolve_skips_an_invoice_with_a_later_attempt(scripted_provider, invoices, started):
    """Between the selection and the slice, the doubt ended and another one began."""
    (invoice,) = invoices(1)
    set_columns(invoice, status="in_doubt", attempt="00000000-0000-4000-8000-000000000001")
    operation = started("resolve", decision="canceled", trigger="operator")
    set_columns(invoice, attempt="00000000-0000-4000-8000-000000000002")
    assert advance_slice(operation.pk).is_finished
    assert item_outcomes(operation) == {"101": "skipped changed"}
    assert statuses_by_id() == {"101": "in_doubt"}
    assert log_codes_by_id() == {"101": ""}
    assert scripted_provider.cancel_count == 0


def test_resolve_ignores_a_pause(scripted_provider, invoices, started):
    (invoice,) = invoices(1)
    set_columns(invoice, status="in_doubt")
    Invoice.objects.all()._writer.pause("firekassa", "bad_credentials", 300)
    operation = started("resolve", decision="paid", trigger="operator")
    assert advance_slice(operation.pk).is_finished
    assert item_outcomes(operation) == {"101": "refused resolved"}
    assert statuses_by_id() == {"101": "paid"}
    assert log_codes_by_id() == {"101": "resolved"}
    assert scripted_provider.cancel_count == 0
