"""Only permitted users can act: every URL of an operation, by GET and POST, for every kind of user."""

import pytest
from django.contrib.admin.models import LogEntry
from django.test import Client
from django.urls import reverse

from django_invoice_cancel import operations
from django_invoice_cancel.models import BulkOperation, Invoice
from tests.support.operation_pages import operation_url
from tests.support.users import client_of, user_with

pytestmark = pytest.mark.django_db(transaction=True)

USERS = {
    "none": (),
    "view": ("view_invoice", "view_bulkoperation"),
    "change": ("view_invoice", "change_invoice"),
    "cancel": ("view_invoice", "cancel_invoice"),
    "resolve": ("view_invoice", "resolve_invoice"),
    "superuser": None,
}
LOOKS = ("operation", "csv")
ACTS = ("confirm", "run", "stop", "continue", "again")
MAY_LOOK = {"view", "cancel", "resolve", "superuser"}
MAY_ACT = {"cancel": {"cancel", "superuser"}, "check": {"cancel", "superuser"}, "resolve": {"resolve", "superuser"}}


def client_named(name: str) -> Client:
    codenames = USERS[name]
    if codenames is None:
        return client_of(user_with(is_superuser=True))
    return client_of(user_with(*codenames))


def left_behind() -> list[object]:
    operations = BulkOperation.objects.values_list("operation", "progress", "reason", "worked_at")
    return [*operations, *Invoice.objects.values_list("status"), LogEntry.objects.count()]


@pytest.mark.parametrize("state", ["draft", "running"])
@pytest.mark.parametrize("operation", ["cancel", "check", "resolve"])
@pytest.mark.parametrize("method", ["get", "post"])
@pytest.mark.parametrize("user", USERS)
def test_who_may_not_gets_403_and_nothing_is_written_or_sent(
    scripted_provider, invoices, user, method, operation, state
):
    invoices(2)
    made = BulkOperation.objects.draft(Invoice.objects.all(), operation=operation)
    BulkOperation.objects.update(progress=state)
    client = client_named(user)
    before = left_behind()
    for name in LOOKS:
        answer = getattr(client, method)(operation_url(made, name), {"reason": "x", "decision": "canceled"})
        assert name == name
        assert answer.status_code == (200 if user in MAY_LOOK else 403)
    assert left_behind() == before
    if user not in MAY_ACT[operation]:
        for name in ACTS:
            answer = getattr(client, method)(operation_url(made, name), {"reason": "x", "decision": "canceled"})
            assert name == name
            assert answer.status_code == 403
        assert left_behind() == before
    assert scripted_provider.cancel_count == 0
    assert scripted_provider.lookup_count == 0


@pytest.mark.parametrize("user", ["cancel", "superuser"])
def test_a_get_of_what_acts_only_leads_back(scripted_provider, invoices, user):
    invoices(2)
    made = operations.start(Invoice.objects.all(), actor="Ada")
    client = client_named(user)
    before = left_behind()
    for name in ACTS:
        answer = client.get(operation_url(made, name))
        assert answer.status_code == 302
        assert answer.headers["Location"] == operation_url(made)
    assert left_behind() == before
    assert scripted_provider.cancel_count == 0


@pytest.mark.parametrize("name", [*LOOKS, *ACTS])
def test_who_is_not_logged_in_is_sent_to_the_login(invoices, name):
    invoices(1)
    made = BulkOperation.objects.draft(Invoice.objects.all())
    answer = Client().post(operation_url(made, name))
    assert answer.status_code == 302
    assert answer.headers["Location"].startswith(reverse("admin:login"))


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
def test_actions_are_offered_and_done_by_permission(scripted_provider, invoices, user, offered):
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


def test_a_draft_is_confirmed_only_by_who_selected_it(scripted_provider, browser, invoices, choose):
    """It was frozen by their permissions, row by row; another's may be fewer."""
    draft = choose(browser, invoices(1))
    other = client_named("cancel")
    assert other.post(operation_url(draft, "confirm"), {"reason": "x"}).status_code == 403
    assert (
        '<form method="post" action="' + operation_url(draft, "confirm")
        not in other.get(operation_url(draft)).content.decode()
    )
    draft.refresh_from_db()
    assert draft.progress == "draft"
    assert scripted_provider.cancel_count == 0


@pytest.mark.parametrize("name", ["confirm", "run", "stop", "continue", "again"])
def test_every_post_needs_a_csrf_token(scripted_provider, clerk, invoices, name):
    invoices(1)
    made = BulkOperation.objects.draft(Invoice.objects.all(), actor=clerk)
    if name != "confirm":
        made.confirm()
    client = client_of(clerk, enforce_csrf_checks=True)
    before = left_behind()
    assert client.post(operation_url(made, name), {"reason": "x"}).status_code == 403
    assert left_behind() == before
    assert scripted_provider.cancel_count == 0


def test_no_operation_is_added_changed_or_deleted_by_hand(invoices):
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
def test_the_list_of_operations_is_for_who_may_look(user, expected):
    assert client_named(user).get(reverse("admin:invoice_cancel_bulkoperation_changelist")).status_code == expected


@pytest.mark.parametrize("name", ["delete", "cancel_selected_invoices", "_advance", "run_view", "stop/continue"])
def test_no_handler_is_chosen_by_a_name_in_the_address(scripted_provider, judges_browser, invoices, name):
    invoices(1)
    made = operations.start(Invoice.objects.all(), actor="Ada")
    before = left_behind()
    answer = judges_browser.post(f"{operation_url(made)}{name}/", {"action": name, "operation": "resolve"})
    assert answer.status_code in (302, 403, 404)
    assert left_behind() == before
    assert scripted_provider.cancel_count == 0
