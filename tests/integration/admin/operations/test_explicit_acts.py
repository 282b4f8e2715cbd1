"""Promise P13 on the page of an operation: only the page that answered a confirmation or Continue sends requests."""

from datetime import timedelta
from uuid import uuid4

import pytest
from django.contrib.admin.models import LogEntry
from django.core.management import call_command
from django.urls import reverse

from django_invoice_cancel import operations
from django_invoice_cancel.domain.clock import utc_now
from django_invoice_cancel.models import BulkOperation, Invoice, InvoiceTransition, ProviderState
from tests.support.html import page_text
from tests.support.invoices import count_statuses
from tests.support.logs import count_invoices_by_log_rows
from tests.support.operation_pages import click_run, key_header, operation_url, poll_progress, run_slice
from tests.support.users import client_of, user_with

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def colleague(db):
    return user_with("view_invoice", "cancel_invoice")


def make_quiet(operation, seconds=3 * 3600):
    """Set the last activity of an operation to a time in the past."""
    BulkOperation.objects.filter(pk=operation.pk).update(worked_at=utc_now() - timedelta(seconds=seconds))


def button_names(answer):
    return list(answer.context["snapshot"].buttons)


def logged_messages(operation):
    entries = LogEntry.objects.filter(object_id=str(operation.pk)).order_by("pk")
    return [(entry.user.username, entry.get_change_message()) for entry in entries]


def actors(status="canceled"):
    rows = InvoiceTransition.objects.filter(to_status=status).order_by("pk")
    return list(rows.values_list("actor_label", flat=True))


@pytest.mark.parametrize("who", ["the same user", "a colleague"])
def test_visit_of_an_interrupted_operation_sends_nothing(scripted_provider, running, operator_client, colleague, who):
    operation = running(27)
    make_quiet(operation)
    client = operator_client if who == "the same user" else client_of(colleague)
    for _visit in range(2):
        shown = client.get(operation_url(operation))
        assert shown.context["snapshot"].mode == "watch"
        assert shown.context["page_key"] == ""
        assert button_names(shown) == ["continue", "end"]
        assert "Interrupted 3 h ago. 27 invoices were not tried and are unchanged." in page_text(shown)
        poll_progress(client, operation)
        client.post(operation_url(operation, "run"), headers={"accept": "application/json"})
        client.post(operation_url(operation, "run"))
    assert str(operation.page_key) not in shown.content.decode()
    assert scripted_provider.cancel_count == 0
    assert count_statuses() == {"created": 27}
    assert count_invoices_by_log_rows() == {}


def test_interrupted_operation_also_shows_the_pause_of_its_provider(scripted_provider, running, operator_client):
    operation = running(2)
    until = utc_now() + timedelta(minutes=5)
    ProviderState.objects.create(alias="firekassa", paused_until=until, pause_code="rate_limited")
    make_quiet(operation)
    shown = operator_client.get(operation_url(operation))
    sentence = shown.context["snapshot"].sentence
    assert sentence.startswith("Interrupted 3 h ago. Paused until ")
    assert sentence.endswith(" 2 invoices were not tried and are unchanged.")
    assert button_names(shown) == ["continue", "end"]
    assert scripted_provider.cancel_count == 0
    assert count_statuses() == {"created": 2}


@pytest.mark.parametrize("key", ["", "another", "of another operation"])
def test_slice_without_the_key_is_refused(scripted_provider, running, operator_client, key):
    other = running(1)
    operation = running(2)
    sent = {"": "", "another": str(uuid4()), "of another operation": str(other.page_key)}[key]
    headers = {"accept": "application/json", "x-operation-key": sent}
    now = operator_client.post(operation_url(operation, "run"), headers=headers).json()
    assert now["state"].startswith("running watch ")
    answer = operator_client.post(operation_url(operation, "run"), {"page_key": sent})
    assert answer.status_code == 302
    assert scripted_provider.cancel_count == 0
    assert count_statuses() == {"created": 3}


def test_key_of_another_user_is_refused(scripted_provider, running, colleague):
    """Another user logs in, in the browser that shows the page."""
    operation = running(2)
    now = run_slice(client_of(colleague), operation)
    assert now["state"].startswith("running watch ")
    assert scripted_provider.cancel_count == 0
    assert count_statuses() == {"created": 2}


def test_only_the_response_of_the_confirmation_contains_the_key(scripted_provider, running, operator_client):
    operation = running(2)
    assert operation.page.status_code == 200
    assert f'data-key="{operation.page_key}"' in operation.page.content.decode()
    assert "no-store" in operation.page.headers["Cache-Control"]
    for method, name in (("get", "operation"), ("get", "confirm"), ("post", "confirm"), ("get", "continue")):
        shown = getattr(operator_client, method)(operation_url(operation, name), {"reason": "x"}, follow=True)
        assert 'data-key=""' in shown.content.decode(), (method, name)
    assert scripted_provider.cancel_count == 0


def test_continue_moves_the_work_and_its_actor_to_the_new_page(
    scripted_provider, running, operator, operator_client, colleague, monkeypatch
):
    monkeypatch.setattr("django_invoice_cancel.admin.operations.admin.ITEM_BATCH_SIZE", 2)
    operation = running(5)
    old_key = key_header(operation)
    run_slice(operator_client, operation)
    other = client_of(colleague)
    shown = other.get(operation_url(operation))
    assert button_names(shown) == ["stop", "continue", "end"]
    assert f"Another page, opened by {operator.username}, does the work" in page_text(shown)

    page = other.post(operation_url(operation, "continue"))
    assert page.context["snapshot"].mode == "drive"
    old = operator_client.post(
        operation_url(operation, "run"), headers={"accept": "application/json", **old_key}
    ).json()
    assert old["state"] == "running watch stop,continue,end"
    assert f"opened by {colleague.username}, does the work" in old["sentence"]
    while run_slice(other, operation)["state"].startswith("running"):
        pass

    assert actors() == [operator.username] * 2 + [colleague.username] * 3
    assert logged_messages(operation) == [
        (operator.username, "Started."),
        (colleague.username, "Continued with 3 invoices left."),
    ]
    report = page_text(operator_client.get(operation_url(operation)))
    assert f"Started by {operator.username}" in report
    assert f"Continued by {colleague.username}" in report
    assert scripted_provider.cancel_count == 5
    assert count_statuses() == {"canceled": 5}
    assert count_invoices_by_log_rows() == {2: 5}


def test_command_processes_an_interrupted_operation_as_who_continued_it(scripted_provider, running, colleague):
    operation = running(2)
    client_of(colleague).post(operation_url(operation, "continue"))
    make_quiet(operation)
    call_command("run_bulk_operations")
    assert actors() == [colleague.username] * 2
    assert scripted_provider.cancel_count == 2
    assert count_statuses() == {"canceled": 2}


def test_stop_and_stop_for_good_are_logged_under_who_did_it(
    scripted_provider, running, operator, operator_client, colleague, monkeypatch
):
    monkeypatch.setattr("django_invoice_cancel.admin.operations.admin.ITEM_BATCH_SIZE", 2)
    operation = running(5)
    run_slice(operator_client, operation)
    other = client_of(colleague)
    other.post(operation_url(operation, "stop"))
    now = run_slice(operator_client, operation)
    assert now["state"] == "stopped idle continue,end"
    assert now["sentence"] == f"Stopped by {colleague.username}. 3 invoices were not tried and are unchanged."
    other.post(operation_url(operation, "end"))
    shown = operator_client.get(operation_url(operation))
    assert button_names(shown) == []
    assert f"2 canceled; 3 not tried. Stopped for good by {colleague.username}." in page_text(shown)
    for name in ("continue", "run", "stop", "end"):
        operator_client.post(operation_url(operation, name), {"page_key": str(operation.page_key)})
    operation.refresh_from_db()
    assert operation.progress == "finished"
    assert operation.finished_at is not None
    assert logged_messages(operation) == [
        (operator.username, "Started."),
        (colleague.username, "Stopped with 3 invoices left."),
        (colleague.username, "Stopped for good with 3 invoices left."),
    ]
    assert scripted_provider.cancel_count == 2
    assert count_statuses() == {"canceled": 2, "created": 3}


def test_remaining_invoices_of_an_ended_operation_can_be_tried_again(scripted_provider, running, operator_client):
    operation = running(3)
    operator_client.post(operation_url(operation, "end"))
    shown = operator_client.get(operation_url(operation))
    assert [(group.count, group.step_label) for group in shown.context["groups"]] == [("3", "Try these again")]
    group = {"outcome": "", "code": "", "provider": "firekassa"}
    operator_client.post(operation_url(operation, "again"), group)
    draft = BulkOperation.objects.latest("created_at")
    assert draft.progress == "draft"
    assert draft.continues == operation
    assert draft.items.left().count() == 3
    assert scripted_provider.cancel_count == 0
    assert count_statuses() == {"created": 3}


def test_page_without_javascript_keeps_the_key_from_click_to_click(
    scripted_provider, running, operator_client, monkeypatch
):
    monkeypatch.setattr("django_invoice_cancel.admin.operations.admin.ITEM_BATCH_SIZE", 2)
    operation = running(3)
    page = click_run(operator_client, operation)
    assert page.status_code == 200
    assert f'name="page_key" value="{operation.page_key}"' in page.content.decode()
    assert click_run(operator_client, operation).status_code == 302
    assert scripted_provider.cancel_count == 3
    assert count_statuses() == {"canceled": 3}


def test_closed_page_releases_the_operation(scripted_provider, running, operator_client):
    operation = running(2)
    stale = operator_client.post(operation_url(operation, "release"), headers={"x-operation-key": str(uuid4())})
    assert stale.status_code == 204
    operation.refresh_from_db()
    assert operation.page_key is not None
    assert operator_client.post(operation_url(operation, "release"), headers=key_header(operation)).status_code == 204
    sentence = poll_progress(operator_client, operation)["sentence"]
    assert sentence == "The last requests are being completed (last activity: just now)."
    make_quiet(operation, seconds=6)
    shown = operator_client.get(operation_url(operation))
    assert "Interrupted just now. 2 invoices were not tried and are unchanged." in page_text(shown)
    assert button_names(shown) == ["continue", "end"]
    assert run_slice(operator_client, operation)["done"] == 0
    assert scripted_provider.cancel_count == 0


@pytest.mark.scripted_providers("firekassa", concurrency=1)
@pytest.mark.parametrize("act", ["release", "continue"])
def test_running_slice_ends_when_its_page_is_closed_or_replaced(
    scripted_provider, running, operator, operator_client, in_thread, monkeypatch, act
):
    monkeypatch.setattr("django_invoice_cancel.admin.operations.confirm.PAGE_CHECK_SECONDS", 0.0)
    operation = running(60)
    tab, headers = client_of(operator), key_header(operation)

    def act_in_other_tab(external_id):
        scripted_provider.before_send = None
        in_thread(tab.post, operation_url(operation, act), headers=headers).result()

    scripted_provider.before_send = act_in_other_tab
    now = operator_client.post(
        operation_url(operation, "run"), headers={"accept": "application/json", **headers}
    ).json()
    assert now["state"].startswith("running watch ")
    assert now["done"] == scripted_provider.cancel_count < 60
    assert count_statuses() == {"canceled": now["done"], "created": 60 - now["done"]}


def test_report_names_the_operations_that_continue_it(scripted_provider, running, operator_client):
    scripted_provider.all_cancels("not_processed")
    operation = running(2)
    assert run_slice(operator_client, operation)["state"] == "finished idle "
    before = poll_progress(operator_client, operation)["changed_by"]
    group = {"outcome": "not_processed", "code": "unreachable", "provider": "firekassa"}
    operator_client.post(operation_url(operation, "again"), group)
    assert poll_progress(operator_client, operation)["changed_by"] == before
    later = BulkOperation.objects.latest("created_at")
    operator_client.post(operation_url(later, "confirm"), {"reason": "x"})
    later.refresh_from_db()
    assert poll_progress(operator_client, operation)["changed_by"] != before
    shown = page_text(operator_client.get(operation_url(operation)))
    assert f'<a href="{operation_url(later)}">Cancellation of 2 invoices</a> ({later.runner_label})' in shown
    assert scripted_provider.cancel_count == 2


# -- the list of operations -----------------------------------------------------------------------------------


def end_in_list(client, *selected):
    data = {"action": "end_selected_operations", "_selected_action": [each.pk for each in selected]}
    answer = client.post(reverse("admin:invoice_cancel_bulkoperation_changelist"), data, follow=True)
    return [str(message) for message in answer.context["messages"]]


def test_interrupted_operations_are_ended_in_their_list(scripted_provider, running, operator_client, operator):
    interrupted, stopped, active = running(2), running(2), running(2)
    make_quiet(interrupted)
    operator_client.post(operation_url(stopped, "stop"))
    said = end_in_list(operator_client, interrupted, stopped, active)
    assert said == ["Stopped for good: 2.", "Not changed, because they are not interrupted: 1."]
    rows = dict(BulkOperation.objects.values_list("pk", "progress"))
    assert rows == {interrupted.pk: "finished", stopped.pk: "finished", active.pk: "running"}
    assert logged_messages(interrupted)[-1] == (operator.username, "Stopped for good with 2 invoices left.")
    assert scripted_provider.cancel_count == 0
    assert count_statuses() == {"created": 6}


def test_user_without_permission_ends_nothing_in_the_list(scripted_provider, running, operator_client):
    operation = running(2)
    make_quiet(operation)
    viewer = client_of(user_with("view_invoice", "view_bulkoperation"))
    assert (
        "end_selected_operations"
        not in viewer.get(reverse("admin:invoice_cancel_bulkoperation_changelist")).content.decode()
    )
    end_in_list(viewer, operation)
    resolver = client_of(user_with("view_invoice", "resolve_invoice"))
    assert end_in_list(resolver, operation) == ["Not permitted: 1."]
    operation.refresh_from_db()
    assert operation.progress == "running"
    assert scripted_provider.cancel_count == 0


def test_operation_that_was_started_by_code_is_not_run_by_its_page(scripted_provider, invoices, operator_client):
    invoices(2)
    operation = operations.start(Invoice.objects.all(), actor="Ada")
    shown = operator_client.get(operation_url(operation))
    assert shown.context["snapshot"].mode == "watch"
    assert run_slice(operator_client, operation)["done"] == 0
    assert scripted_provider.cancel_count == 0
    operator_client.post(operation_url(operation, "continue"))
    assert run_slice(operator_client, operation)["state"] == "finished idle "
    assert scripted_provider.cancel_count == 2
    assert count_statuses() == {"canceled": 2}
