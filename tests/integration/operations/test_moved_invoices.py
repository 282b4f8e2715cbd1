"""P5: an invoice that was moved to another account after its selection is not requested at the old one."""

import pytest
from django.conf import settings
from django.db import connections
from django.db.models import QuerySet
from django.test import override_settings

from django_invoice_cancel.bulk import reconcile_invoices
from django_invoice_cancel.bulk.selection import KeyListReader
from django_invoice_cancel.bulk.start import cancel_selection, reconcile_selection
from django_invoice_cancel.domain.audit import AuditContext
from django_invoice_cancel.models import Invoice
from django_invoice_cancel.models.writes.claims import ClaimWriter
from django_invoice_cancel.testing import ScriptedProvider
from tests.support.invoices import set_columns, statuses_by_id
from tests.support.logs import log_codes_by_id
from tests.support.operations import advance_slice, item_outcomes, requests_by_account

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.scripted_providers("a", "b")]


def move(invoices, alias="b"):
    QuerySet(Invoice).filter(pk__in=[invoice.pk for invoice in invoices]).update(provider=alias)


@pytest.mark.parametrize(
    ("kind", "fields"),
    [("cancel", {}), ("check", {}), ("resolve", {"decision": "canceled", "trigger": "operator"})],
    ids=["cancel", "check", "resolve"],
)
def test_items_of_moved_invoices_end_as_changed(scripted_provider, invoices, started, kind, fields):
    rows = invoices(5, provider="a")
    if kind != "cancel":
        for invoice in rows:
            set_columns(invoice, status="in_doubt")
    operation = started(kind, **fields)
    move(rows[:3])
    before = statuses_by_id()
    assert advance_slice(operation.pk).is_finished
    assert {name: item_outcomes(operation)[name] for name in ("101", "102", "103")} == dict.fromkeys(
        ("101", "102", "103"), "skipped changed"
    )
    assert {name: statuses_by_id()[name] for name in ("101", "102", "103")} == {
        n: before[n] for n in ("101", "102", "103")
    }
    assert {name: log_codes_by_id()[name] for name in ("101", "102", "103")} == {"101": "", "102": "", "103": ""}
    assert requests_by_account()["b"] == (0, 0)
    assert requests_by_account()["a"] == {"cancel": (2, 0), "check": (0, 1), "resolve": (0, 0)}[kind]


def test_operation_of_a_removed_account_finishes(scripted_provider, invoices, started):
    """Its invoices were moved and its alias was removed."""
    rows = invoices(5, provider="a")
    operation = started()
    move(rows)
    providers = {"b": settings.INVOICE_CANCEL["PROVIDERS"]["b"]}
    with override_settings(INVOICE_CANCEL={"PROVIDERS": providers}):
        assert advance_slice(operation.pk).is_finished
        assert ScriptedProvider.of("b").cancel_count == 0
    assert set(item_outcomes(operation).values()) == {"skipped changed"}


def test_invoice_moved_between_read_and_claim_is_not_requested(scripted_provider, invoices, started, monkeypatch):
    rows = invoices(5, provider="a")
    operation = started()
    claim, moved = ClaimWriter.claim, []

    def move_and_claim(self, batch, *args, **options):
        if not moved:
            moved.append(rows[1])
            move(moved)
        return claim(self, batch, *args, **options)

    monkeypatch.setattr(ClaimWriter, "claim", move_and_claim)
    assert advance_slice(operation.pk).is_finished
    assert item_outcomes(operation) == {
        "102": "skipped changed",
        **dict.fromkeys(("101", "103", "104", "105"), "canceled canceled"),
    }
    assert requests_by_account() == {"a": (4, 0), "b": (0, 0)}
    assert statuses_by_id()["102"] == "created"


def test_lookup_of_an_invoice_moved_during_it_is_logged_only(scripted_provider, invoices):
    rows = invoices(3, provider="a")
    for invoice in rows:
        set_columns(invoice, status="in_doubt", next_check_at=invoice.created_at)
        ScriptedProvider.of("a").set_status(invoice.external_id, "canceled")

    def move_one(external_id):
        if external_id == "102":
            move(rows[1:2])
            connections.close_all()  # of the worker thread

    scripted_provider.all_lookups(move_one)
    codes = {result.external_id: result.code for result in reconcile_invoices(Invoice.objects.in_doubt())}
    assert codes == {"101": "already_canceled", "102": "changed", "103": "already_canceled"}
    assert statuses_by_id() == {"101": "canceled", "102": "in_doubt", "103": "canceled"}
    assert log_codes_by_id()["102"] == "changed"


@pytest.mark.parametrize("run", [cancel_selection, reconcile_selection])
def test_selected_invoices_of_another_account_are_skipped(scripted_provider, invoices, run):
    rows = invoices(4, provider="a")
    reader = KeyListReader(Invoice.objects.all(), [invoice.pk for invoice in rows])
    move(rows[:2])
    results = list(run(Invoice.objects.all()._writer, {"a": reader}, AuditContext()))
    assert sorted(result.code for result in results if result.external_id in ("101", "102")) == ["changed", "changed"]
    assert requests_by_account()["b"] == (0, 0)
