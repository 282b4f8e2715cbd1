"""No user can act on hidden rows: every URL, by GET and POST, on sites that hide rows.

Each test ends with the number of requests that reached the provider and with the remaining rows.
"""

import csv
import io
from datetime import timedelta

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import User
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from django_invoice_cancel import operations
from django_invoice_cancel.domain.clock import utc_now
from django_invoice_cancel.models import BulkOperation, BulkOperationItem, Invoice, InvoiceTransition, ProviderState
from tests.apps.child_models.models import NumberedInvoice, ShopInvoice
from tests.integration.admin.operations.scoped_sites import NarrowAdmin
from tests.support.html import page_text
from tests.support.invoices import count_statuses, set_columns
from tests.support.operation_pages import click_run, continue_and_run, operation_url, poll_progress
from tests.support.users import client_of, user_with

pytestmark = [pytest.mark.django_db, pytest.mark.urls("tests.integration.admin.operations.scoped_sites")]

HIDING = ("narrow", "hooked", "rows", "plain", "proxy")
LOOKS = ("operation", "csv")
ACTS = ("confirm", "run", "stop", "continue", "end", "release", "again")
EVERY = (*LOOKS, *ACTS)
DATA = {"reason": "x", "decision": "canceled", "outcome": "", "code": "in_doubt", "provider": "firekassa"}


@pytest.fixture
def superuser(db):
    """A superuser: only the admin of invoices hides anything from this user."""
    return User.objects.create_superuser("superuser")


@pytest.fixture
def client(superuser):
    return client_of(superuser)


@pytest.fixture
def hidden(invoices):
    """Three invoices that no site here shows."""
    return invoices(3, reference="hidden")


@pytest.fixture
def visible(invoices):
    return invoices(2, reference="shown")


def rows_left():
    """Every row that an attack might change."""
    operations = BulkOperation.objects.order_by("pk").values_list("pk", "progress", "worked_at", "actor_label")
    items = BulkOperationItem.objects.order_by("pk").values_list("pk", "outcome", "token")
    log = InvoiceTransition.objects.count(), LogEntry.objects.count()
    return [*operations], [*items], [*Invoice.objects.order_by("pk").values_list("status", "attempt")], log


def requests_sent(provider):
    return provider.cancel_count, provider.lookup_count


def started(operation="cancel", **fields):
    """Start an operation on all invoices, as code does."""
    decision = {"decision": "canceled", "reason": "seen"} if operation == "resolve" else {}
    return operations.start(Invoice.objects.all(), operation=operation, actor="Ada", **decision, **fields)


def in_progress(progress, operation="cancel", actor=None):
    made = BulkOperation.objects.draft(Invoice.objects.all(), operation=operation, actor=actor, reason="nightly")
    BulkOperation.objects.filter(pk=made.pk).update(progress=progress, started_at=utc_now())
    made.refresh_from_db()
    return made


def answered(client, method, address, **options):
    return getattr(client, method)(address, DATA, **options).status_code


# -- an operation of hidden rows only -------------------------------------------------------------------------


@pytest.mark.parametrize("site", HIDING)
def test_operation_of_hidden_invoices_has_no_page(scripted_provider, client, hidden, site):
    made = in_progress("draft")
    before = rows_left()
    for name in EVERY:
        for method in ("get", "post"):
            assert answered(client, method, operation_url(made, name, site)) == 404, f"{method} {name}"
    assert client.get(operation_url(made, site=site), {"format": "json"}).status_code == 404
    for name in ("change", "history", "delete"):
        address = reverse(f"{site}:invoice_cancel_bulkoperation_{name}", args=[made.pk])
        for method in ("get", "post"):
            assert answered(client, method, address) in (302, 403, 404), f"{method} {name}"
        assert "nightly" not in page_text(client.get(address, follow=True)), name
    assert rows_left() == before
    assert requests_sent(scripted_provider) == (0, 0)


@pytest.mark.parametrize(
    ("operation", "progress"),
    [
        ("cancel", "running"),
        ("cancel", "stopped"),
        ("cancel", "finished"),
        ("check", "draft"),
        ("resolve", "running"),
    ],
)
def test_operation_of_hidden_invoices_has_no_page_in_any_state(scripted_provider, client, hidden, operation, progress):
    made = in_progress(progress, operation)
    before = rows_left()
    for name in EVERY:
        assert answered(client, "post", operation_url(made, name, "narrow")) == 404, name
    assert answered(client, "get", operation_url(made, "csv", "narrow")) == 404
    assert client.get(operation_url(made, site="narrow"), {"format": "json"}).status_code == 404
    assert rows_left() == before
    assert requests_sent(scripted_provider) == (0, 0)


@pytest.mark.parametrize("site", HIDING)
def test_operation_of_hidden_invoices_is_not_listed(scripted_provider, client, hidden, site):
    started()
    answer = client.get(reverse(f"{site}:invoice_cancel_bulkoperation_changelist"))
    assert list(answer.context["cl"].result_list) == []
    assert requests_sent(scripted_provider) == (0, 0)


def test_site_without_an_admin_of_invoices_shows_no_operation(scripted_provider, client, visible):
    made = started()
    before = rows_left()
    for name in EVERY:
        for method in ("get", "post"):
            assert answered(client, method, operation_url(made, name, "none")) == 403, f"{method} {name}"
    assert client.get(reverse("none:invoice_cancel_bulkoperation_changelist")).status_code == 403
    assert rows_left() == before
    assert requests_sent(scripted_provider) == (0, 0)


def test_user_without_view_permission_for_invoices_sees_no_operation(scripted_provider, visible):
    made = started()
    client = client_of(user_with("cancel_invoice", "resolve_invoice", "view_bulkoperation"))
    before = rows_left()
    for name in EVERY:
        for method in ("get", "post"):
            assert answered(client, method, operation_url(made, name, "narrow")) == 403, f"{method} {name}"
    assert rows_left() == before
    assert requests_sent(scripted_provider) == (0, 0)


@pytest.mark.parametrize("site", HIDING)
def test_list_filters_do_not_reveal_the_number_of_hidden_invoices(scripted_provider, client, hidden, visible, site):
    started()
    before = rows_left()
    address = reverse(f"{site}:invoice_cancel_bulkoperation_changelist")
    searches = [{"total": "5"}, {"total": "2"}, {"total__gt": "4"}, {"total__range": "2,5"}, {"total__regex": "^5"}]
    assert [client.get(address, search).status_code for search in searches] == [400] * 5
    assert client.get(address, {"progress__exact": "running"}).status_code == 200
    assert rows_left() == before
    assert requests_sent(scripted_provider) == (0, 0)


# -- a part of an operation -----------------------------------------------------------------------------------


def check_part_is_read_only(client, made, site):
    shown = page_text(client.get(operation_url(made, site=site)))
    for name in ("csv", "confirm", "stop"):
        assert operation_url(made, name, site) not in shown.replace("data-run", ""), name
    assert 'data-mode="drive"' not in shown
    assert "You cannot see some invoices of this operation" in shown
    for name in ("csv", "confirm", "run", "stop", "continue", "end", "release"):
        assert answered(client, "post", operation_url(made, name, site)) == 403, name


@pytest.mark.parametrize("site", HIDING)
def test_part_of_an_operation_is_read_only(scripted_provider, client, superuser, visible, hidden, site):
    made = in_progress("running", "cancel", actor=superuser)
    before = rows_left()
    check_part_is_read_only(client, made, site)
    for name in ("csv", "confirm", "run", "stop", "continue", "end", "release"):
        assert answered(client, "get", operation_url(made, name, site)) == 403, name
    json = client.post(operation_url(made, "run", site), headers={"accept": "application/json"})
    assert json.status_code == 403
    assert rows_left() == before
    assert requests_sent(scripted_provider) == (0, 0)


@pytest.mark.parametrize("operation", ["cancel", "check", "resolve"])
@pytest.mark.parametrize("progress", ["draft", "running", "stopped"])
def test_part_of_an_operation_is_read_only_in_any_state(
    scripted_provider, client, superuser, visible, hidden, progress, operation
):
    made = in_progress(progress, operation, actor=superuser)
    before = rows_left()
    check_part_is_read_only(client, made, "narrow")
    assert rows_left() == before
    assert requests_sent(scripted_provider) == (0, 0)


@pytest.mark.parametrize("site", HIDING)
def test_part_of_an_operation_shows_its_own_rows_and_counts(scripted_provider, client, visible, hidden, site):
    made = started()
    made.items.filter(invoice__in=hidden).update(outcome="refused", code="has_payment")
    now = client.get(operation_url(made, site=site), {"format": "json"}).json()
    assert now["total"] == 2
    assert now["done"] == 0
    assert now["amount_done"] == "0 of 2 done"
    assert now["counts"] == [{"outcome": "untried", "label": "Not tried", "count": "2"}]
    BulkOperation.objects.update(progress="finished")
    made.items.filter(invoice__in=visible).update(outcome="canceled", code="canceled")
    answer = client.get(operation_url(made, site=site))
    shown = page_text(answer)
    assert "<h1>Cancellation of 2 invoices</h1>" in shown
    assert "2 canceled." in shown
    assert [row.item.invoice for row in answer.context["rows"]] == visible
    assert [(group.count, group.outcome) for group in answer.context["groups"]] == [("2", "canceled")]
    assert [(each["key"], each["count"]) for each in answer.context["filters"]] == [("", "2"), ("canceled", "2")]
    assert client.get(operation_url(made, site=site), {"outcome": "refused"}).context["rows"] == []
    assert not any(each.external_id in shown for each in hidden)
    listed = client.get(reverse(f"{site}:invoice_cancel_bulkoperation_changelist"))
    assert "2 canceled, 2 of 2 done" in page_text(listed)
    assert "Cancellation of 2 invoices" in page_text(listed)
    history = reverse(f"{site}:invoice_cancel_bulkoperation_history", args=[made.pk])
    assert client.get(history).status_code == 403
    assert requests_sent(scripted_provider) == (0, 0)


@pytest.mark.parametrize("site", HIDING)
def test_draft_shows_its_visible_rows(scripted_provider, client, superuser, visible, hidden, site):
    set_columns(hidden[0], status="paid")
    shown = page_text(client.get(operation_url(in_progress("draft", actor=superuser), site=site)))
    assert "<h1>Cancel 2 invoices?</h1>" in shown
    assert "20.00 USD" in shown
    assert "will not be canceled" not in shown
    assert not any(each.external_id in shown for each in hidden)
    assert "Select the invoices again." in shown
    assert requests_sent(scripted_provider) == (0, 0)


@pytest.mark.parametrize("site", HIDING)
def test_pause_of_hidden_invoices_is_not_shown(scripted_provider, client, visible, hidden, invoices, site):
    invoices(1, provider="cryptocloud", reference="hidden")
    ProviderState.objects.create(
        alias="cryptocloud", paused_until=utc_now() + timedelta(hours=1), pause_code="bad_credentials"
    )
    draft = in_progress("draft")
    assert "rejected our credentials" not in page_text(client.get(operation_url(draft, site=site)))
    if site not in ("plain", "proxy"):
        changelist = reverse(f"{site}:invoice_cancel_invoice_changelist")
        assert ("rejected our credentials" in page_text(client.get(changelist))) == (site == "rows")
    assert requests_sent(scripted_provider) == (0, 0)


@pytest.mark.parametrize("site", HIDING)
def test_operation_can_be_run_when_its_hidden_rows_are_done(scripted_provider, client, visible, hidden, site):
    made = started()
    made.items.filter(invoice__in=hidden).update(outcome="refused", code="has_payment")
    assert client.post(operation_url(made, "stop", site)).status_code == 302
    assert continue_and_run(client, made, site).status_code == 302
    assert answered(client, "get", operation_url(made, "csv", site)) == 403
    assert poll_progress(client, made)["state"] == "finished idle "
    assert count_statuses() == {"canceled": 2, "created": 3}
    assert sorted(scripted_provider.cancels) == sorted(each.external_id for each in visible)


@pytest.mark.parametrize("site", HIDING)
def test_fully_visible_operation_can_be_run_and_exported(scripted_provider, client, visible, site):
    made = started()
    assert continue_and_run(client, made, site).status_code == 302
    answer = client.get(operation_url(made, "csv", site))
    lines = list(csv.reader(io.StringIO(answer.getvalue().decode("utf-8-sig"))))
    assert [line[1] for line in lines[1:]] == [each.external_id for each in visible]
    assert count_statuses() == {"canceled": 2}
    assert requests_sent(scripted_provider) == (2, 0)


# -- what follows ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("site", HIDING)
def test_follow_up_takes_visible_rows_only(scripted_provider, client, visible, hidden, site):
    """The check of another user: its follow-up cancels, and must not reach what is hidden."""
    made = started("check")
    made.items.update(outcome="not_processed", code="still_open")
    BulkOperation.objects.update(progress="finished")
    client.post(
        operation_url(made, "again", site), {"outcome": "not_processed", "code": "still_open", "provider": "firekassa"}
    )
    follow_up = BulkOperation.objects.exclude(pk=made.pk).get()
    assert [item.invoice for item in follow_up.items.order_by("pk")] == visible
    client.post(operation_url(follow_up, "confirm", site), {"reason": "x"})
    click_run(client, follow_up, site)
    assert count_statuses() == {"canceled": 2, "created": 3}
    assert sorted(scripted_provider.cancels) == sorted(each.external_id for each in visible)


@pytest.mark.parametrize("site", HIDING)
def test_check_that_starts_at_once_looks_up_visible_rows_only(scripted_provider, client, visible, hidden, site):
    for each in (*visible, *hidden):
        set_columns(each, status="in_doubt")
    draft = in_progress("draft")
    client.post(operation_url(draft, "again", site), {"code": "in_doubt"})
    check = BulkOperation.objects.exclude(pk=draft.pk).get()
    click_run(client, check, site)
    assert [item.invoice for item in check.items.order_by("pk")] == visible
    assert sorted(sum(scripted_provider.lookups, ())) == sorted(each.external_id for each in visible)
    assert requests_sent(scripted_provider)[0] == 0


# -- rows that become hidden, or forbidden --------------------------------------------------------------------


@pytest.mark.parametrize("site", HIDING)
def test_rows_that_were_hidden_after_the_selection_are_not_sent(scripted_provider, client, superuser, visible, site):
    draft = in_progress("draft", actor=superuser)
    Invoice.objects.filter(pk=visible[0].pk).update(reference="hidden")
    assert client.post(operation_url(draft, "confirm", site), {"reason": "x"}).status_code == 403
    BulkOperation.objects.update(progress="running")
    assert client.post(operation_url(draft, "run", site)).status_code == 403
    assert count_statuses() == {"created": 2}
    assert requests_sent(scripted_provider) == (0, 0)


@pytest.mark.parametrize("operation", ["cancel", "check", "resolve"])
def test_operation_with_a_row_that_the_permission_method_denies_is_not_run(
    scripted_provider, client, visible, monkeypatch, operation
):
    made = started(operation)
    name = "has_resolve_permission" if operation == "resolve" else "has_cancel_permission"
    monkeypatch.setattr(NarrowAdmin, name, lambda self, request, obj=None: obj is None or obj.pk != visible[1].pk)
    before = rows_left()
    for act in ("run", "stop", "continue", "end", "release"):
        assert {answered(client, method, operation_url(made, act, "narrow")) for method in ("get", "post")} == {403}
    assert (
        client.get(operation_url(made, site="narrow"), {"format": "json"}).json()["state"].startswith("running watch ")
    )
    assert client.get(operation_url(made, "csv", "narrow")).status_code == 200
    assert rows_left() == before
    assert requests_sent(scripted_provider) == (0, 0)


@pytest.mark.parametrize("operation", ["cancel", "check", "resolve"])
def test_user_denied_by_the_admin_of_invoices_runs_nothing(scripted_provider, client, visible, monkeypatch, operation):
    """The permission itself is given; the host's hook refuses it for the model as a whole."""
    made = started(operation)
    made.items.update(outcome="in_doubt", code="no_lookup")
    for name in ("has_cancel_permission", "has_resolve_permission"):
        monkeypatch.setattr(NarrowAdmin, name, lambda self, request, obj=None: False)
    before = rows_left()
    data = {"outcome": "in_doubt", "code": "no_lookup", "provider": "firekassa"}
    for name in ("run", "stop", "continue", "end", "release", "again"):
        assert client.post(operation_url(made, name, "narrow"), data).status_code == 403
    assert rows_left() == before
    assert requests_sent(scripted_provider) == (0, 0)


# -- the actions ----------------------------------------------------------------------------------------------

ACTIONS = ("cancel_selected_invoices", "check_selected_invoices", "resolve_selected_invoices")


SELECTED, ALL = {}, {"select_across": "1"}


@pytest.mark.parametrize(
    ("site", "action", "extra"),
    [(site, ACTIONS[0], extra) for site in ("narrow", "hooked", "rows", "proxy") for extra in (SELECTED, ALL)]
    + [("narrow", action, extra) for action in ACTIONS[1:] for extra in (SELECTED, ALL)],
)
def test_action_takes_no_hidden_row(scripted_provider, client, visible, hidden, site, action, extra):
    model = "child_models_proxyinvoice" if site == "proxy" else "invoice_cancel_invoice"
    data = {"action": action, "_selected_action": [each.pk for each in (*visible, *hidden)], "index": "0", **extra}
    client.post(reverse(f"{site}:{model}_changelist"), data)
    made = BulkOperation.objects.get()
    assert [item.invoice for item in made.items.filter(invoice__isnull=False).order_by("pk")] == visible
    client.post(operation_url(made, "confirm", site), {"reason": "x", "decision": "canceled"})
    click_run(client, made, site)
    assert {Invoice.objects.get(pk=each.pk).status for each in hidden} == {"created"}
    assert not {each.external_id for each in hidden} & {*scripted_provider.cancels, *sum(scripted_provider.lookups, ())}
    assert scripted_provider.cancel_count == (2 if action == "cancel_selected_invoices" else 0)


@pytest.mark.parametrize(
    ("site", "action"), [(site, ACTIONS[0]) for site in HIDING] + [("narrow", action) for action in ACTIONS[1:]]
)
def test_orders_lead_to_no_hidden_invoice(scripted_provider, client, visible, hidden, site, action):
    """The list of orders shows each order; the invoices behind some of them are hidden."""
    old = BulkOperation.objects.create(progress="finished")
    orders = [
        BulkOperationItem.objects.create(operation=old, label=f"order {number}", invoice=invoice)
        for number, invoice in enumerate((*visible, *hidden))
    ]
    data = {"action": action, "_selected_action": [order.pk for order in orders]}
    client.post(reverse(f"{site}:invoice_cancel_bulkoperationitem_changelist"), data)
    made = BulkOperation.objects.exclude(pk=old.pk).get()
    rows = made.items.order_by("pk").values_list("invoice", "label", "outcome", "code")
    skipped = [(None, f"order {number}: -", "skipped", "not_permitted") for number in (2, 3, 4)]
    assert list(rows) == [*((each.pk, "", "", "") for each in visible), *skipped]
    client.post(operation_url(made, "confirm", site), {"reason": "x", "decision": "canceled"})
    click_run(client, made, site)
    assert {Invoice.objects.get(pk=each.pk).status for each in hidden} == {"created"}
    assert not {each.external_id for each in hidden} & {*scripted_provider.cancels, *sum(scripted_provider.lookups, ())}


def test_orders_on_a_site_without_an_admin_of_invoices_create_no_operation(scripted_provider, client, visible):
    order = BulkOperationItem.objects.create(operation=BulkOperation.objects.create(), invoice=visible[0])
    data = {"action": "cancel_selected_invoices", "_selected_action": [order.pk]}
    client.raise_request_exception = False
    answer = client.post(reverse("none:invoice_cancel_bulkoperationitem_changelist"), data)
    assert answer.status_code == 500
    assert "Register Invoice with InvoiceAdmin." in str(answer.exc_info[1])
    assert BulkOperation.objects.count() == 1
    assert requests_sent(scripted_provider) == (0, 0)


def test_names_of_another_users_selection_are_not_shown_with_a_part_of_it(scripted_provider, client, visible, hidden):
    made = BulkOperation.objects.draft(Invoice.objects.all(), actor="Ada", unmatched=["order of a hidden customer"])
    made.confirm()
    assert "hidden customer" not in page_text(client.get(operation_url(made, site="narrow"), {"outcome": "skipped"}))
    made.items.filter(invoice__in=hidden).delete()
    BulkOperation.objects.update(progress="finished")
    assert "hidden customer" in page_text(client.get(operation_url(made, site="narrow")))
    assert requests_sent(scripted_provider) == (0, 0)


# -- child classes --------------------------------------------------------------------------------------------


@pytest.fixture
def children(scripted_provider, invoices):
    """Return a function that makes two visible children and a hidden one, whose keys differ from their invoices'."""

    def make(model):
        invoices(3, reference="no child")
        names = ("shown", "shown", "hidden")
        fields = [{"external_id": f"90{number}", "reference": name} for number, name in enumerate(names)]
        return [model.objects.create(provider="firekassa", **each) for each in fields]

    return make


@pytest.mark.parametrize(("site", "model"), [("child", ShopInvoice), ("numbered", NumberedInvoice)])
def test_admin_of_a_child_class_shows_its_own_rows(scripted_provider, client, children, site, model):
    first, second, _hidden = children(model)
    made = started()
    answer = client.get(operation_url(made, site=site), {"format": "json"})
    assert answer.json()["total"] == 2
    assert {answered(client, "post", operation_url(made, name, site)) for name in ("run", "stop", "csv")} == {403}
    BulkOperation.objects.update(progress="finished")
    rows = client.get(operation_url(made, site=site)).context["rows"]
    assert [row.item.invoice.external_id for row in rows] == [first.external_id, second.external_id]
    assert count_statuses() == {"created": 6}
    assert requests_sent(scripted_provider) == (0, 0)


@pytest.mark.parametrize(("site", "model"), [("child", ShopInvoice), ("numbered", NumberedInvoice)])
def test_action_on_children_takes_their_visible_invoices(scripted_provider, client, children, site, model):
    rows = children(model)
    data = {"action": "cancel_selected_invoices", "_selected_action": [each.pk for each in rows]}
    client.post(reverse(f"{site}:child_models_{model._meta.model_name}_changelist"), data)
    made = BulkOperation.objects.get()
    client.post(operation_url(made, "confirm", site), {"reason": "x"})
    click_run(client, made, site)
    assert sorted(scripted_provider.cancels) == ["900", "901"]
    assert count_statuses() == {"canceled": 2, "created": 4}


@pytest.mark.parametrize(("site", "model"), [("child", ShopInvoice), ("numbered", NumberedInvoice)])
@pytest.mark.parametrize("name", ["change", "history", "cancel", "check"])
def test_pages_of_a_child_are_those_of_its_own_invoice(scripted_provider, client, children, site, model, name):
    shown, _other, hidden = children(model)
    address = reverse(f"{site}:child_models_{model._meta.model_name}_{name}", args=[shown.pk])
    answer = client.get(address)
    assert answer.status_code == 200
    assert shown.external_id in page_text(answer)
    barred = reverse(f"{site}:child_models_{model._meta.model_name}_{name}", args=[hidden.pk])
    assert {answered(client, method, barred) for method in ("get", "post")} <= {302, 403, 404}
    if name == "cancel":
        assert client.post(address, {"reason": "x"}).status_code == 302
    canceled = [shown.external_id] if name == "cancel" else []
    assert scripted_provider.cancels == canceled
    assert scripted_provider.lookup_count == 0
    assert count_statuses() == ({"canceled": 1, "created": 5} if canceled else {"created": 6})


def test_report_links_to_no_page_of_another_key(scripted_provider, client, children):
    """Pages of ``NumberedInvoice`` are addressed by its own key, which is another invoice's."""
    children(NumberedInvoice)
    made = started()
    BulkOperation.objects.update(progress="finished")
    assert "/change/" not in client.get(operation_url(made, site="numbered")).content.decode()
    assert requests_sent(scripted_provider) == (0, 0)


# -- counts ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("site", ["narrow", "hooked", "rows"])
def test_dashboard_counts_no_operation_of_hidden_invoices(scripted_provider, client, hidden, site):
    made = started()
    BulkOperation.objects.update(started_at=utc_now() - timedelta(hours=1))
    changelist = reverse(f"{site}:invoice_cancel_invoice_changelist")
    shown = page_text(client.get(changelist))
    assert "attention=interrupted" not in shown
    assert "operation interrupted" not in shown
    assert "operations interrupted" not in shown
    listed = reverse(f"{site}:invoice_cancel_bulkoperation_changelist") + "?attention=interrupted"
    assert list(client.get(listed).context["cl"].result_list) == []
    Invoice.objects.filter(pk=hidden[0].pk).update(reference="")
    assert "1 operation interrupted" in page_text(client.get(changelist))
    assert list(client.get(listed).context["cl"].result_list) == [made]
    assert requests_sent(scripted_provider) == (0, 0)


def test_each_site_decides_by_its_own_admin(scripted_provider, client, visible, hidden):
    made = started()
    totals = {
        site: client.get(operation_url(made, site=site), {"format": "json"}).json()["total"]
        for site in ("admin", "rows")
    }
    assert totals == {"admin": 5, "rows": 2}
    assert client.post(operation_url(made, "run", "rows")).status_code == 403
    assert requests_sent(scripted_provider) == (0, 0)
    assert continue_and_run(client, made).status_code == 302
    assert requests_sent(scripted_provider) == (5, 0)
    assert count_statuses() == {"canceled": 5}


@pytest.mark.parametrize("site", ["narrow", "plain", "proxy"])
def test_hiding_rows_costs_no_query_per_row(scripted_provider, client, invoices, site):
    def counted(number):
        invoices(number, reference="hidden")
        invoices(number, reference="shown")
        made = started()
        addresses = (operation_url(made, site=site), reverse(f"{site}:invoice_cancel_bulkoperation_changelist"))
        with CaptureQueriesContext(connection) as captured:
            assert {client.get(address).status_code for address in addresses} == {200}
        return len(captured)

    assert counted(3) == counted(40)
    assert requests_sent(scripted_provider) == (0, 0)
