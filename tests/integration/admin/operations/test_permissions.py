"""Only permitted users can act: every URL of an operation, by GET and POST, for every kind of user."""

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
    "none": (),
    "view": ("view_invoice", "view_bulkoperation"),
    "change": ("view_invoice", "change_invoice"),
    "cancel": ("view_invoice", "cancel_invoice"),
    "resolve": ("view_invoice", "resolve_invoice"),
    "superuser": None,
}
VIEWS = ("operation", "csv")
ACTS = ("confirm", "run", "stop", "continue", "end", "release", "again")
MAY_VIEW = {"view", "cancel", "resolve", "superuser"}
MAY_ACT = {"cancel": {"cancel", "superuser"}, "check": {"cancel", "superuser"}, "resolve": {"resolve", "superuser"}}


def client_named(name: str) -> Client:
    codenames = USERS[name]
    if codenames is None:
        return client_of(user_with(is_superuser=True))
    return client_of(user_with(*codenames))


def stored_state() -> list[object]:
    operations = BulkOperation.objects.values_list("operation", "progress", "reason", "worked_at")
    return [*operations, *Invoice.objects.values_list("status"), LogEntry.objects.count()]


@pytest.mark.parametrize("state", ["draft", "running"])
@pytest.mark.parametrize("user", USERS)
def test_user_without_permission_gets_403_and_nothing_is_written_or_sent(scripted_provider, invoices, user, state):
    invoices(2)
    client = client_named(user)
    for operation in ("cancel", "check", "resolve"):
        made = BulkOperation.objects.draft(Invoice.objects.all(), operation=operation)
        BulkOperation.objects.update(progress=state)
        before = stored_state()
        forbidden = () if user in MAY_ACT[operation] else ACTS
        for name in (*VIEWS, *forbidden):
            expected = 200 if name in VIEWS and user in MAY_VIEW else 403
            for method in ("get", "post"):
                answer = getattr(client, method)(operation_url(made, name), {"reason": "x", "decision": "canceled"})
                assert answer.status_code == expected, f"{operation}: {method} {name}"
        assert stored_state() == before, operation
    assert scripted_provider.cancel_count == 0
    assert scripted_provider.lookup_count == 0


@pytest.mark.parametrize("user", ["cancel", "superuser"])
def test_get_request_to_an_action_only_redirects(scripted_provider, invoices, user):
    invoices(2)
    made = operations.start(Invoice.objects.all(), actor="Ada")
    client = client_named(user)
    before = stored_state()
    for name in ACTS:
        answer = client.get(operation_url(made, name))
        assert answer.status_code == 302
        assert answer.headers["Location"] == operation_url(made)
    assert stored_state() == before
    assert scripted_provider.cancel_count == 0


def test_anonymous_user_is_redirected_to_the_login(invoices):
    invoices(1)
    made = BulkOperation.objects.draft(Invoice.objects.all())
    for name in (*VIEWS, *ACTS):
        answer = Client().post(operation_url(made, name))
        assert answer.status_code == 302, name
        assert answer.headers["Location"].startswith(reverse("admin:login")), name


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
def test_actions_need_their_permission(scripted_provider, invoices, user, offered):
    (invoice,) = invoices(1)
    client = client_named(user)
    address = reverse("admin:invoice_cancel_invoice_changelist")
    shown = client.get(address).content.decode()
    every = ("cancel_selected_invoices", "check_selected_invoices", "resolve_selected_invoices")
    assert {action for action in every if f'value="{action}"' in shown} == offered
    for action in set(every) - offered:
        client.post(address, {"action": action, "_selected_action": [invoice.pk]})
    assert BulkOperation.objects.count() == 0
    assert scripted_provider.cancel_count == 0


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


def test_no_operation_is_added_changed_or_deleted_manually(invoices):
    invoices(1)
    made = BulkOperation.objects.draft(Invoice.objects.all())
    client = client_named("superuser")
    changes = reverse("admin:invoice_cancel_bulkoperation_change", args=[made.pk])
    assert client.get(reverse("admin:invoice_cancel_bulkoperation_add")).status_code == 403
    assert client.post(reverse("admin:invoice_cancel_bulkoperation_delete", args=[made.pk])).status_code == 403
    assert client.post(changes, {"progress": "running"}).headers["Location"] == operation_url(made)
    made.refresh_from_db()
    assert made.progress == "draft"


@pytest.mark.parametrize(("user", "expected"), [("none", 403), ("change", 403), ("view", 200), ("resolve", 200)])
def test_list_of_operations_needs_a_permission(user, expected):
    assert client_named(user).get(reverse("admin:invoice_cancel_bulkoperation_changelist")).status_code == expected


@pytest.mark.parametrize("name", ["delete", "cancel_selected_invoices", "_advance", "run_view", "stop/continue"])
def test_no_view_is_chosen_by_a_name_in_the_url(scripted_provider, supervisor_client, invoices, name):
    invoices(1)
    made = operations.start(Invoice.objects.all(), actor="Ada")
    before = stored_state()
    answer = supervisor_client.post(f"{operation_url(made)}{name}/", {"action": name, "operation": "resolve"})
    assert answer.status_code in (302, 403, 404)
    assert stored_state() == before
    assert scripted_provider.cancel_count == 0
