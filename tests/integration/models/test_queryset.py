"""The filters of the query set on one table of invoices. A template cannot cancel an invoice by reading attributes."""

from datetime import timedelta

import pytest
from django.db import connection
from django.template import Context, Template

from django_invoice_cancel.models import Invoice
from tests.support.invoices import invoice_in_status, stored
from tests.support.logs import log_changes
from tests.support.writes import LOCAL_NOON, NOON, seconds

pytestmark = pytest.mark.django_db

PAST, FUTURE = NOON - seconds(1), NOON + seconds(1)

TABLE = {
    "open": ("created", {}),
    "open, refused": ("created", {"last_outcome": "refused"}),
    "open, unknown": ("created", {"last_outcome": "not_found"}),
    "open, not processed": ("created", {"last_outcome": "not_processed"}),
    "open, old": ("created", {"issued_at": LOCAL_NOON - timedelta(days=3)}),
    "open, due": ("created", {"next_check_at": NOON}),
    "open, not due": ("created", {"next_check_at": FUTURE}),
    "open, requested": ("created", {"cancel_requested_at": NOON, "cancel_try_at": FUTURE}),
    "open, requested, due": ("created", {"cancel_requested_at": NOON - seconds(900), "cancel_try_at": NOON}),
    "open, requested long ago": ("created", {"cancel_requested_at": NOON - seconds(901), "cancel_try_at": FUTURE}),
    "claimed, requested": (
        "canceling",
        {"cancel_requested_at": NOON, "cancel_try_at": PAST, "claim_expires_at": FUTURE},
    ),
    "claimed, requested long ago": (
        "canceling",
        {"cancel_requested_at": NOON - seconds(901), "cancel_try_at": PAST, "claim_expires_at": FUTURE},
    ),
    "in doubt, requested": (
        "in_doubt",
        {"cancel_requested_at": NOON - seconds(901), "cancel_try_at": PAST, "next_check_at": FUTURE},
    ),
    "claimed": ("canceling", {"claim_expires_at": FUTURE}),
    "claimed, over": ("canceling", {"claim_expires_at": NOON - seconds(60)}),
    "claimed, abandoned": ("canceling", {"claim_expires_at": NOON - seconds(60.000001)}),
    "in doubt, due": ("in_doubt", {"next_check_at": PAST}),
    "in doubt, not due": ("in_doubt", {"next_check_at": FUTURE}),
    "canceled": ("canceled", {}),
    "canceled, old": ("canceled", {"issued_at": LOCAL_NOON - timedelta(days=3)}),
    "partly paid": ("partially_paid", {}),
    "paid": ("paid", {}),
    "paid after cancel": ("paid", {"paid_after_cancel_at": PAST}),
    "paid after cancel, handled": ("paid", {"paid_after_cancel_at": PAST, "paid_after_cancel_handled_at": PAST}),
    "overpaid": ("overpaid", {}),
    "expired": ("expired", {}),
    "failed": ("failed", {}),
}

REQUESTED = {"open, requested", "open, requested, due", "open, requested long ago"}
OPEN = {"open", "open, unknown", "open, not processed", "open, old", "open, due", "open, not due"} | REQUESTED
DOUBTFUL = {"in doubt, due", "in doubt, not due", "in doubt, requested"}

QUESTIONS = [
    ("cancelable", lambda all: all.cancelable(), OPEN),
    ("cancelable, asked for", lambda all: all.cancelable(include_refused=True), OPEN | {"open, refused"}),
    ("in doubt", lambda all: all.in_doubt(), DOUBTFUL),
    ("abandoned", lambda all: all.abandoned(), {"claimed, abandoned"}),
    ("due", lambda all: all.due_for_reconciling(), {"open, due", "claimed, abandoned", "in doubt, due"}),
    ("requested", lambda all: all.requested(), REQUESTED),
    ("due for canceling", lambda all: all.due_for_canceling(), {"open, requested, due"}),
    ("requested long ago", lambda all: all.requested_long_ago(), {"open, requested long ago"}),
    ("unpaid since an instant", lambda all: all.unpaid_since(LOCAL_NOON - timedelta(days=2)), {"open, old"}),
    ("unpaid since an age", lambda all: all.unpaid_since(timedelta(days=2)), {"open, old"}),
    ("paid after cancel", lambda all: all.paid_after_cancel(), {"paid after cancel"}),
    (
        "needing attention",
        lambda all: all.needing_attention(),
        DOUBTFUL
        | {"claimed, abandoned", "paid after cancel", "open, requested long ago", "claimed, requested long ago"},
    ),
]


@pytest.mark.parametrize(("ask", "expected"), [row[1:] for row in QUESTIONS], ids=[row[0] for row in QUESTIONS])
def test_query_set_methods_return_exactly_the_expected_invoices(clock, ask, expected):
    for name, (status, columns) in TABLE.items():
        invoice_in_status(status, reference=name, **columns)
    assert set(ask(Invoice.objects).values_list("reference", flat=True)) == expected
    assert set(ask(Invoice.objects.filter(pk__gt=0)).values_list("reference", flat=True)) == expected


@pytest.mark.parametrize("name", [name for name in TABLE if name.startswith("claimed")])
def test_is_abandoned_agrees_with_the_query_set(clock, name):
    status, columns = TABLE[name]
    invoice = invoice_in_status(status, **columns)
    assert invoice.is_abandoned is Invoice.objects.abandoned().exists() is (name == "claimed, abandoned")


# -- templates --------------------------------------------------------------------------------------------------

WRITES = {
    Invoice: [
        "save", "delete", "cancel", "cancel_on_commit", "withdraw", "observe_status", "reconcile", "resolve",
        "acancel", "awithdraw", "aobserve_status", "areconcile", "aresolve",
    ],
    type(Invoice.objects): [
        "register", "register_many", "observe_status", "aregister", "aobserve_status",
        "update", "bulk_update", "bulk_create", "update_or_create",
    ],
    type(Invoice.objects.all()): ["update", "delete", "bulk_update", "bulk_create", "update_or_create", "cancel"],
}  # fmt: skip


@pytest.mark.parametrize(
    ("owner", "name"),
    [pytest.param(owner, name, id=f"{owner.__name__}.{name}") for owner in WRITES for name in WRITES[owner]],
)
def test_every_writing_method_is_marked_for_templates(owner, name):
    assert getattr(owner, name).alters_data is True


@pytest.mark.parametrize(
    "method",
    ["cancel", "acancel", "cancel_on_commit", "withdraw", "awithdraw", "observe_status", "reconcile", "delete"],
)
def test_template_that_names_a_method_neither_calls_it_nor_fails(method):
    invoice = invoice_in_status()
    html = Template(f"<b>{{{{ invoice.{method} }}}}</b>").render(Context({"invoice": invoice}))
    assert html == "<b></b>"
    assert stored(invoice).status == "created"
    assert log_changes(invoice) == []


def test_template_names_a_status_by_the_class_of_statuses():
    page = Template("{{ invoice.Status.PAID }}{% if invoice.status == invoice.Status.CREATED %} no, open{% endif %}")
    assert page.render(Context({"invoice": invoice_in_status()})) == "paid no, open"


def test_manager_has_no_cancel_method():
    """``Invoice.objects.cancel()`` would be every invoice there is."""
    assert not hasattr(Invoice.objects, "cancel")


@pytest.mark.skipif(connection.vendor != "sqlite", reason="reads the plan of SQLite")
@pytest.mark.parametrize("question", ["abandoned", "due_for_reconciling", "due_for_canceling", "needing_attention"])
def test_queries_of_cron_read_no_whole_table(question):
    plan = getattr(Invoice.objects.all(), question)().explain()
    assert "SCAN" not in plan
    assert "SEARCH" in plan
