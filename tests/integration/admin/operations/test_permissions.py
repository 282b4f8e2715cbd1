"""Permissions that a status code does not show: the offered actions, drafts of others, and forged requests."""

import pytest
from django.contrib.admin.models import LogEntry
from django.test import Client
from django.urls import reverse

from django_invoice_cancel import operations
from django_invoice_cancel.models import BulkOperation, Invoice
from tests.support.operation_pages import operation_url
from tests.support.users import client_of, user_with

pytestmark = pytest.mark.django_db

USERS = {
    "view": ("view_invoice", "view_bulkoperation"),
    "change": ("view_invoice", "change_invoice"),
    "cancel": ("view_invoice", "cancel_invoice"),
    "resolve": ("view_invoice", "resolve_invoice"),
    "superuser": None,
}


def client_named(name: str) -> Client:
    codenames = USERS[name]
    if codenames is None:
        return client_of(user_with(is_superuser=True))
    return client_of(user_with(*codenames))


def stored_state() -> list[object]:
    operations = BulkOperation.objects.values_list("operation", "progress", "reason", "worked_at")
    return [*operations, *Invoice.objects.values_list("status"), LogEntry.objects.count()]


@pytest.mark.parametrize(
    ("user", "offered"),
    [
        ("view", set()),
        ("change", set()),
        ("cancel", {"cancel_selected_invoices", "check_selected_invoices"}),
        ("resolve", {"resolve_selected_invoices"}),
        ("superuser", {"cancel_selected_invoices", "check_selected_invoices", "resolve_selected_invoices"}),
    ],
)
def test_list_offers_the_permitted_actions(invoices, user, offered):
    invoices(1)
    shown = client_named(user).get(reverse("admin:invoice_cancel_invoice_changelist")).content.decode()
    every = ("cancel_selected_invoices", "check_selected_invoices", "resolve_selected_invoices")
    assert {action for action in every if f'value="{action}"' in shown} == offered


def test_draft_is_confirmed_only_by_the_user_who_selected_it(scripted_provider, operator_client, invoices, choose):
    """The selection was checked with the permissions of its creator; another user may have fewer."""
    draft = choose(operator_client, invoices(1))
    other = client_named("cancel")
    assert other.post(operation_url(draft, "confirm"), {"reason": "x"}).status_code == 403
    assert (
        '<form method="post" action="' + operation_url(draft, "confirm")
        not in other.get(operation_url(draft)).content.decode()
    )
    draft.refresh_from_db()
    assert draft.progress == "draft"
    assert scripted_provider.cancel_count == 0


@pytest.mark.parametrize("name", ["confirm", "run", "stop", "continue", "end", "release", "again"])
def test_every_post_needs_a_csrf_token(scripted_provider, operator, invoices, name):
    invoices(1)
    made = BulkOperation.objects.draft(Invoice.objects.all(), actor=operator)
    if name != "confirm":
        made.confirm()
    client = client_of(operator, enforce_csrf_checks=True)
    before = stored_state()
    assert client.post(operation_url(made, name), {"reason": "x"}).status_code == 403
    assert stored_state() == before
    assert scripted_provider.cancel_count == 0


@pytest.mark.parametrize("name", ["delete", "cancel_selected_invoices", "_advance", "run_view", "stop/continue"])
def test_no_view_is_chosen_by_a_name_in_the_url(scripted_provider, supervisor_client, invoices, name):
    invoices(1)
    made = operations.start(Invoice.objects.all(), actor="Ada")
    before = stored_state()
    answer = supervisor_client.post(f"{operation_url(made)}{name}/", {"action": name, "operation": "resolve"})
    assert answer.status_code in (302, 403, 404)
    assert stored_state() == before
    assert scripted_provider.cancel_count == 0
