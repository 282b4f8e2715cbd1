"""A project may change its site, admins, models, templates, and the permissions for single rows."""

from pathlib import Path

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.urls import reverse

from django_invoice_cancel import operations
from django_invoice_cancel.admin import BulkOperationAdmin
from django_invoice_cancel.models import BulkOperation, BulkOperationItem, Invoice
from tests.support.html import page_text
from tests.support.invoices import count_statuses
from tests.support.logs import count_answers
from tests.support.operation_pages import click_run, operation_url, run_slice

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.urls("tests.integration.admin.operations.custom_site"),
]

TEMPLATES = Path(__file__).parent / "templates"
INVOICES = "shop_admin:invoice_cancel_invoice_changelist"
ORDERS = "shop_admin:invoice_cancel_bulkoperationitem_changelist"


@pytest.fixture
def own_templates(settings):
    settings.TEMPLATES = [settings.TEMPLATES[0] | {"DIRS": [TEMPLATES]}]


def select(client, address, rows, action="cancel_selected_invoices"):
    data = {"action": action, "_selected_action": [row.pk for row in rows]}
    answer = client.post(reverse(address), data)
    assert answer.status_code in (200, 302)
    return BulkOperation.objects.latest("created_at")


def left(operation):
    rows = operation.items.select_related("invoice").order_by("pk")
    return [(row.invoice.reference if row.invoice else row.label, row.outcome, row.code) for row in rows]


def test_pages_of_a_custom_site_link_to_that_site(scripted_provider, own_templates, operator_client, invoices):
    draft = select(operator_client, INVOICES, invoices(1))
    shown = page_text(operator_client.get(operation_url(draft, site="shop_admin")))
    assert 'href="/shop/invoice_cancel/bulkoperation/"' in shown
    assert f'action="{operation_url(draft, "confirm", "shop_admin")}"' in shown
    assert operation_url(draft, "confirm", "shop_admin").startswith("/shop/")
    assert '="/admin/' not in shown
    operator_client.post(operation_url(draft, "confirm", "shop_admin"), {"reason": "x"})
    answer = click_run(operator_client, draft, "shop_admin")
    assert answer.headers["Location"] == operation_url(draft, site="shop_admin")
    assert scripted_provider.cancel_count == 1


def test_templates_can_be_overridden_and_named(scripted_provider, own_templates, operator_client, invoices):
    draft = select(operator_client, INVOICES, invoices(1))
    assert "Branded" in page_text(operator_client.get(operation_url(draft, site="shop_admin")))
    assert "Branded" not in page_text(operator_client.get(operation_url(draft)))
    operator_client.post(operation_url(draft, "confirm"), {"reason": "x"})
    click_run(operator_client, draft)
    assert "Our own summary" in page_text(operator_client.get(operation_url(draft)))


def test_permission_method_decides_for_each_row(scripted_provider, own_templates, operator_client, invoices):
    rows = [*invoices(1, reference="mine"), *invoices(2, reference="not mine")]
    draft = select(operator_client, INVOICES, rows)
    assert left(draft) == [
        ("mine", "", ""),
        ("not mine", "skipped", "not_permitted"),
        ("not mine", "skipped", "not_permitted"),
    ]
    shown = page_text(operator_client.get(operation_url(draft, site="shop_admin")))
    assert "Cancel 1 invoice?" in shown
    assert "2 without your permission" in shown
    operator_client.post(operation_url(draft, "confirm", "shop_admin"), {"reason": "x"})
    assert run_slice(operator_client, draft)["state"] == "finished idle "
    assert [invoice.status for invoice in Invoice.objects.order_by("pk")] == ["canceled", "created", "created"]
    assert scripted_provider.cancel_count == 1


def test_permission_method_applies_to_follow_ups(scripted_provider, operator_client, invoices):
    """Somebody else's report: its button selects by the permissions of whoever presses it."""
    invoices(1, reference="mine")
    invoices(1, reference="not mine")
    scripted_provider.all_cancels("not_processed")
    operation = operations.start(Invoice.objects.all(), actor="Ada")
    operations.advance(operation.pk, is_message=False)
    group = {"outcome": "not_processed", "code": "unreachable", "provider": "firekassa"}
    operator_client.post(operation_url(operation, "again", "shop_admin"), group)
    made = BulkOperation.objects.exclude(pk=operation.pk).get()
    assert left(made) == [("mine", "", ""), ("not mine", "skipped", "not_permitted")]
    assert scripted_provider.cancel_count == 2
    assert count_statuses() == {"created": 2}
    assert count_answers() == {"unreachable": 2}


@pytest.mark.parametrize("name", ["operation", "csv", "confirm", "run", "stop", "continue", "end", "release", "again"])
def test_operation_outside_of_the_hosts_query_set_has_no_pages(
    scripted_provider, operator_client, invoices, monkeypatch, name
):
    invoices(1)
    running = operations.start(Invoice.objects.all(), actor="Ada")
    of_ones_own = BulkOperationAdmin.get_queryset
    monkeypatch.setattr(
        BulkOperationAdmin, "get_queryset", lambda self, request: of_ones_own(self, request).filter(actor=request.user)
    )
    assert [
        getattr(operator_client, method)(operation_url(running, name)).status_code for method in ("get", "post")
    ] == [
        404,
        404,
    ]
    running.refresh_from_db()
    assert running.progress == "running"
    assert BulkOperation.objects.count() == 1
    assert scripted_provider.cancel_count == 0


def test_orders_without_an_invoice_are_listed(scripted_provider, own_templates, operator_client, invoices):
    orders = order_each(invoices(2, reference="order"), labels=("", "secret"), without=("cash 1", "<cash> 2"))
    draft = select(operator_client, ORDERS, orders)
    assert left(draft) == [
        ("order", "", ""),
        ("order", "skipped", "not_permitted"),
        ("cash 1: -", "skipped", "no_invoice"),
        ("<cash> 2: -", "skipped", "no_invoice"),
    ]
    shown = page_text(operator_client.get(operation_url(draft, site="shop_admin")))
    assert "2 not found · 1 without your permission" in shown
    assert "&lt;cash&gt; 2" in shown
    assert "<cash>" not in shown
    operator_client.post(operation_url(draft, "confirm", "shop_admin"), {"reason": "x"})
    run_slice(operator_client, draft)
    assert "1 canceled; " in page_text(operator_client.get(operation_url(draft, site="shop_admin")))
    assert scripted_provider.cancel_count == 1


def order_each(invoices, labels, without):
    """Return items of an old operation: they play the orders."""
    old = BulkOperation.objects.create(progress="finished")
    pairs = [*zip(labels, invoices, strict=True), *((label, None) for label in without)]
    return [BulkOperationItem.objects.create(operation=old, label=label, invoice=each) for label, each in pairs]


def test_host_keeps_its_own_actions(operator_client, invoices):
    order_each(invoices(1), labels=("",), without=())
    shown = operator_client.get(reverse(ORDERS)).content.decode()
    assert 'value="print_labels"' in shown
    assert 'value="cancel_selected_invoices"' in shown


def test_site_without_the_pages_names_the_missing_registration(scripted_provider, operator_client, invoices):
    (invoice,) = invoices(1)
    data = {"action": "cancel_selected_invoices", "_selected_action": [invoice.pk]}
    with pytest.raises(ImproperlyConfigured, match="Register BulkOperation with BulkOperationAdmin"):
        operator_client.post(reverse("bare_admin:invoice_cancel_invoice_changelist"), data)
    assert BulkOperation.objects.count() == 0
    assert scripted_provider.cancel_count == 0
