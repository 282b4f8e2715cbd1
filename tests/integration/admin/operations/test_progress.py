"""The page that processes an operation: batches, the status text, the button, other pages, and forbidden effects."""

import re
from datetime import timedelta

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.messages import get_messages
from django.db import connection
from django.urls import reverse

from django_invoice_cancel.domain.clock import utc_now
from django_invoice_cancel.models import BulkOperation, Invoice, ProviderState
from tests.support.html import page_text
from tests.support.invoices import count_statuses
from tests.support.logs import count_answers, count_invoices_by_log_rows
from tests.support.operation_pages import click_run, key_header, operation_url, poll_progress, run_slice
from tests.support.users import client_of, user_with

pytestmark = pytest.mark.django_db(transaction=True)

DRIVES = "This page does the work. If you close it, the operation pauses; nothing is lost."
dispatched: list[str] = []


def dispatch(operation_id: str) -> None:
    dispatched.append(operation_id)


def listed(answer):
    return [operation.progress for operation in answer.context["cl"].result_list]


def test_column_header_sorts_the_list_by_progress(scripted_provider, operator_client, invoices, running):
    running(1)
    BulkOperation.objects.draft(Invoice.objects.all(), actor="Ada")
    BulkOperation.objects.filter(pk=running(1).pk).update(progress="finished")
    answer = operator_client.get(reverse("admin:invoice_cancel_bulkoperation_changelist"))
    assert listed(answer) == ["finished", "draft", "running"]
    [address] = re.findall(r'column-state.*?href="(\?[^"]*)"', page_text(answer))
    assert listed(operator_client.get(answer.request["PATH_INFO"] + address)) == ["draft", "finished", "running"]


def poll_as_driver(client, operation):
    """Read the progress as the page that has the operation's key does."""
    return client.get(operation_url(operation), {"format": "json"}, headers=key_header(operation)).json()


@pytest.fixture
def dispatcher(settings):
    """A dispatcher whose workers never come."""
    dispatched.clear()
    settings.INVOICE_CANCEL = settings.INVOICE_CANCEL | {"DISPATCH": f"{__name__}.dispatch"}
    return dispatched


def test_page_processes_slices_until_the_operation_is_finished(
    scripted_provider, operator_client, running, monkeypatch
):
    monkeypatch.setattr("django_invoice_cancel.admin.operations.admin.ITEM_BATCH_SIZE", 2)
    operation = running(5)
    shown = page_text(operation.page)
    assert DRIVES in shown
    assert 'data-mode="drive"' in shown
    assert "<title>0% · Cancellation of 5 invoices" in shown
    assert 'max="5" value="0"' in shown
    seen = [run_slice(operator_client, operation) for _slice in range(3)]
    assert [(now["done"], now["total"], now["tab_title"]) for now in seen] == [
        (2, 5, "40% · Cancellation of 5 invoices"),
        (4, 5, "80% · Cancellation of 5 invoices"),
        (5, 5, "Cancellation of 5 invoices"),
    ]
    assert [now["state"] for now in seen] == ["running drive stop", "running drive stop", "finished idle "]
    assert seen[1]["counts"] == [
        {"outcome": "canceled", "label": "Canceled", "count": "4"},
        {"outcome": "untried", "label": "Not tried", "count": "1"},
    ]
    assert scripted_provider.cancel_count == 5


def test_button_processes_a_slice_without_javascript(scripted_provider, operator_client, running):
    operation = running(3)
    shown = page_text(operation.page)
    assert f'action="{operation_url(operation, "run")}"' in shown
    assert "<noscript><p>JavaScript is off. Each click on Continue does a part of the work." in shown
    answer = click_run(operator_client, operation)
    assert answer.status_code == 302
    assert answer.headers["Location"] == operation_url(operation)
    assert "3 canceled." in page_text(operator_client.get(operation_url(operation)))
    assert scripted_provider.cancel_count == 3


def test_one_message_at_the_end_and_one_log_entry(scripted_provider, operator_client, running, monkeypatch):
    monkeypatch.setattr("django_invoice_cancel.admin.operations.admin.ITEM_BATCH_SIZE", 2)
    operation = running(5)
    messages_shown = []
    for _slice in range(5):
        data = {"page_key": str(operation.page_key)}
        answer = operator_client.post(operation_url(operation, "run"), data, follow=True)
        messages_shown += [str(message) for message in get_messages(answer.wsgi_request)]
    assert messages_shown == ["Cancellation of 5 invoices: 5 canceled."]
    assert LogEntry.objects.count() == 1
    assert scripted_provider.cancel_count == 5


@pytest.mark.parametrize(
    ("answers", "level", "said"),
    [
        (["canceled", "already_canceled"], "success", "Cancellation of 2 invoices: 2 canceled."),
        (["canceled", "paid"], "success", "Cancellation of 2 invoices: 1 canceled; 1 left alone: payment received."),
    ],
    ids=["all", "some"],
)
def test_only_complete_success_is_shown_as_success(scripted_provider, operator_client, running, answers, level, said):
    scripted_provider.next_cancels(*answers)
    operation = running(2)
    data = {"page_key": str(operation.page_key)}
    answer = operator_client.post(operation_url(operation, "run"), data, follow=True)
    assert [(message.level_tag, str(message)) for message in get_messages(answer.wsgi_request)] == [(level, said)]
    assert scripted_provider.cancel_count == 2


def test_operation_runs_with_atomic_requests(scripted_provider, operator_client, running):
    """ATOMIC_REQUESTS: the pages that ask a provider are exempt; the action writes its draft inside."""
    connection.settings_dict["ATOMIC_REQUESTS"] = True
    try:
        operation = running(3)
        now = run_slice(operator_client, operation)
    finally:
        connection.settings_dict["ATOMIC_REQUESTS"] = False
    assert now["state"] == "finished idle "
    assert scripted_provider.cancel_count == 3


@pytest.mark.scripted_providers("firekassa", concurrency=1)
def test_two_pages_share_the_work(scripted_provider, operator_client, operator, running, in_thread, monkeypatch):
    """The second tab does a slice while a request of the first one is out."""
    monkeypatch.setattr("django_invoice_cancel.admin.operations.admin.ITEM_BATCH_SIZE", 10)
    operation = running(20)
    second, tab = [], client_of(operator)

    def meanwhile(external_id):
        scripted_provider.before_send = None
        second.append(in_thread(run_slice, tab, operation).result())

    scripted_provider.before_send = meanwhile
    run_slice(operator_client, operation)
    assert second[0]["done"] == 10
    assert page_text(operator_client.get(operation_url(operation))).count("20 canceled.") >= 1
    assert sorted(scripted_provider.cancels) == sorted(Invoice.objects.values_list("external_id", flat=True))
    assert count_statuses() == {"canceled": 20}
    assert count_invoices_by_log_rows() == {2: 20}


def test_stop_and_continue(scripted_provider, operator_client, running, monkeypatch):
    monkeypatch.setattr("django_invoice_cancel.admin.operations.admin.ITEM_BATCH_SIZE", 2)
    operation = running(5)
    run_slice(operator_client, operation)
    operator_client.post(operation_url(operation, "stop"))
    shown = page_text(operator_client.get(operation_url(operation)))
    assert f"Stopped by {operation.runner_label}. 3 invoices were not tried and are unchanged." in shown
    assert f'action="{operation_url(operation, "continue")}"' in shown
    assert f'action="{operation_url(operation, "end")}"' in shown
    assert f'action="{operation_url(operation, "stop")}"' not in shown
    assert run_slice(operator_client, operation)["done"] == 2
    operator_client.post(operation_url(operation, "continue"))
    while run_slice(operator_client, operation)["state"].startswith("running"):
        pass
    assert "5 canceled." in page_text(operator_client.get(operation_url(operation)))
    assert scripted_provider.cancel_count == 5
    assert count_statuses() == {"canceled": 5}
    assert count_invoices_by_log_rows() == {2: 5}


@pytest.mark.scripted_providers("firekassa", concurrency=1)
def test_running_slice_notices_stop(scripted_provider, operator_client, operator, running, in_thread, monkeypatch):
    monkeypatch.setattr("django_invoice_cancel.operations.slices.STOP_CHECK_SECONDS", 0.0)
    operation = running(60)
    tab = client_of(operator)

    def meanwhile(external_id):
        scripted_provider.before_send = None
        in_thread(tab.post, operation_url(operation, "stop")).result()

    scripted_provider.before_send = meanwhile
    now = run_slice(operator_client, operation)
    assert now["state"] == "stopped idle continue,end"
    assert now["done"] == scripted_provider.cancel_count < 60
    assert count_statuses() == {"canceled": now["done"], "created": 60 - now["done"]}
    assert count_answers() == {"canceled": now["done"]}


@pytest.mark.scripted_providers("firekassa", concurrency=1)
def test_stopping_page_mentions_requests_in_flight(
    scripted_provider, operator_client, operator, running, in_thread, monkeypatch
):
    """Stop was pressed while a request was out: nobody says of it that it was not tried."""
    monkeypatch.setattr("django_invoice_cancel.operations.slices.STOP_CHECK_SECONDS", 0.0)
    operation = running(60)
    tab, stopping = client_of(operator), []

    def meanwhile(external_id):
        scripted_provider.before_send = None
        in_thread(tab.post, operation_url(operation, "stop")).result()
        stopping.append(
            in_thread(lambda: (page_text(tab.get(operation_url(operation))), poll_progress(tab, operation))).result()
        )

    scripted_provider.before_send = meanwhile
    run_slice(operator_client, operation)
    [(shown, now)] = stopping
    assert "Stopping. No more requests are sent; requests in flight are completed." in shown
    assert "not tried and" not in shown
    assert "By reason" not in shown
    assert '<script src="/static/invoice_cancel' in shown
    assert now["state"] == "stopped watch continue,end"
    after, left = poll_progress(operator_client, operation), 60 - scripted_provider.cancel_count
    assert after["state"] == "stopped idle continue,end"
    assert (
        after["sentence"] == f"Stopped by {operation.runner_label}. {left} invoices were not tried and are unchanged."
    )
    assert count_statuses() == {"canceled": 60 - left, "created": left}
    assert count_answers() == {"canceled": 60 - left}


def test_items_of_a_dead_worker_are_not_reported_as_unchanged(scripted_provider, operator_client, running):
    operation = running(3)
    operation.items.lease(2, seconds=-1)
    operator_client.post(operation_url(operation, "stop"))
    said = poll_progress(operator_client, operation)["sentence"]
    assert said == (
        f"Stopped by {operation.runner_label}. 1 invoice was not tried and is unchanged. "
        "2 invoices were in progress; their results are not known yet."
    )
    shown = operator_client.get(operation_url(operation))
    assert [(group.count, group.text) for group in shown.context["groups"]] == [
        ("2", "It was in progress; its result is not known yet."),
        ("1", "It was not tried and is unchanged."),
    ]
    assert [row.reason for row in shown.context["rows"]].count("It was not tried and is unchanged.") == 1
    written = operator_client.get(operation_url(operation, "csv")).getvalue().decode()
    assert written.count("It was in progress; its result is not known yet.") == 2
    assert scripted_provider.cancel_count == 0
    assert count_statuses() == {"created": 3}
    assert count_invoices_by_log_rows() == {}


def test_page_waits_while_others_have_leased_all_items(scripted_provider, operator_client, running):
    """Another page holds all that is left: this one looks again later, and does not ask for slice after slice."""
    operation = running(3)
    operation.items.lease(3, seconds=60)
    for now in (run_slice(operator_client, operation), poll_as_driver(operator_client, operation)):
        assert now["sentence"].startswith("Another page, which may be closed, has reserved the remaining invoices.")
        assert now["state"] == "running drive stop"
        assert now["wait_seconds"] == 2.0
        assert now["is_leased_elsewhere"] is True
    operation.items.update(leased_until=utc_now() - timedelta(seconds=1))
    now = poll_as_driver(operator_client, operation)
    assert now["sentence"] == DRIVES
    assert now["wait_seconds"] == 0.0
    assert now["is_leased_elsewhere"] is False
    assert run_slice(operator_client, operation)["state"] == "finished idle "
    assert scripted_provider.cancel_count == 3
    assert count_statuses() == {"canceled": 3}
    assert count_invoices_by_log_rows() == {2: 3}


def test_state_changes_when_a_pause_begins_and_ends(scripted_provider, operator_client, running):
    """While paused it shows the reasons and an amber line: both are of then, and go when the work goes on."""
    operation = running(40)
    scripted_provider.all_cancels("bad_credentials")
    assert run_slice(operator_client, operation)["state"] == "running drive stop paused"
    ProviderState.objects.update(paused_until=utc_now())
    assert poll_as_driver(operator_client, operation)["state"] == "running drive stop"
    assert scripted_provider.cancel_count < 40
    assert count_statuses() == {"created": 40}
    assert count_answers() == {"bad_credentials": scripted_provider.cancel_count}


def test_pause_is_shown_with_the_number_of_untried_invoices(scripted_provider, operator_client, running):
    operation = running(40)
    scripted_provider.all_cancels("bad_credentials")
    now = run_slice(operator_client, operation)
    left = 40 - scripted_provider.cancel_count
    assert now["sentence"].startswith("Paused until ")
    assert now["sentence"].endswith(
        f"firekassa (Scripted provider) rejected our credentials. {left} invoices were not tried and are unchanged."
    )
    assert 200 < now["wait_seconds"] <= 300
    shown = page_text(operator_client.get(operation_url(operation)))
    count = scripted_provider.cancel_count
    assert f"Not processed: {count}</b> <span>firekassa (Scripted provider) rejected our credentials.</span>" in shown
    assert 0 < scripted_provider.cancel_count < 40
    assert count_statuses() == {"created": 40}
    assert count_answers() == {"bad_credentials": scripted_provider.cancel_count}


def test_viewer_only_watches_the_progress(scripted_provider, running):
    operation = running(2)
    viewer = client_of(user_with("view_invoice", "view_bulkoperation"))
    shown = page_text(viewer.get(operation_url(operation)))
    assert 'data-mode="watch"' in shown
    assert f"Another page, opened by {operation.runner_label}, does the work (last activity: just now)." in shown
    assert '<form method="post" action="/admin/invoice_cancel' not in shown
    assert viewer.get(operation_url(operation) + "?format=json").json()["state"] == "running watch "
    assert scripted_provider.cancel_count == 0


def test_page_only_watches_with_a_dispatcher(scripted_provider, operator_client, dispatcher, running):
    operation = running(2)
    assert dispatcher == [str(operation.pk)]
    shown = page_text(operator_client.get(operation_url(operation)))
    assert "Handed to the workers just now; none has started." in shown
    assert 'data-mode="watch"' in shown
    assert run_slice(operator_client, operation)["done"] == 0
    assert scripted_provider.cancel_count == 0


def test_operation_of_a_closed_page_is_continued(scripted_provider, operator_client, running):
    """The process of a page died with two items in its hands; another page waits, and then takes them."""
    operation = running(3)
    operation.items.lease(2, seconds=60)
    run_slice(operator_client, operation)
    assert run_slice(operator_client, operation)["state"] == "running drive stop"
    assert scripted_provider.cancel_count == 1
    operation.items.filter(outcome="").update(leased_until=utc_now() - timedelta(seconds=1))
    assert run_slice(operator_client, operation)["state"] == "finished idle "
    assert scripted_provider.cancel_count == 3
    assert count_statuses() == {"canceled": 3}
    assert count_invoices_by_log_rows() == {2: 3}
