"""Permissions (promise P11): each URL and each action of our admin classes, by GET and POST, for each kind of user.

A cell of the table is ``GET/POST``, or one status code for both. ``login`` is a redirect to the login page. ``*`` marks
a POST that wrote something, and the number behind it is the number of provider calls. A GET writes and calls nothing.
"""

from collections.abc import Callable
from itertools import count
from typing import Any
from uuid import uuid4

import pytest
from django.contrib import admin
from django.contrib.admin.models import LogEntry
from django.db.models import QuerySet
from django.test import Client
from django.urls import reverse

from django_invoice_cancel.domain.clock import utc_now
from django_invoice_cancel.models import BulkOperation, BulkOperationItem, Invoice, InvoiceTransition, ProviderState
from django_invoice_cancel.testing import make_invoice
from tests.support.users import client_of, user_with

pytestmark = [pytest.mark.django_db, pytest.mark.urls("tests.integration.admin.operations.scoped_sites")]

ROLES: dict[str, tuple[str, ...] | None] = {
    "anonymous": None,
    "none": (),
    "blind": ("cancel_invoice", "resolve_invoice", "view_bulkoperation"),  # may act, but may not see invoices
    "view": ("view_invoice", "view_bulkoperation"),
    "change": ("view_invoice", "change_invoice"),
    "cancel": ("view_invoice", "cancel_invoice"),
    "resolve": ("view_invoice", "resolve_invoice"),
    "superuser": (),
    "hidden": (),  # a superuser, on a site that hides the invoice
}
TABLE = """
                                       anonymous none blind view    change   cancel    resolve  superuser hidden
invoice_changelist                     login     403  403   200     200      200       200      200       200
invoice_add                            login     403  403   403     403      403       403      200/302*  200/302*
invoice_history                        login     403  403   200     200      200       200      200       302
invoice_delete                         login     403  403   403     403      403       403      200/302*  403
invoice_change                         login     403  403   200/403 200/302* 200/403   200/403  200/302*  302
invoice_<path:object_id>/              login     302  302   302     302      302       302      302       302
invoice_cancel                         login     403  403   403     403      200/302*1 403      200/302*1 404
invoice_check                          login     403  403   403     403      200/302*1 403      200/302*1 404
invoice_resolve                        login     403  403   403     403      403       200/302* 200/302*  404
invoice_handled                        login     403  403   403     403      403       200/302* 200/302*  404
invoice_withdraw                       login     403  403   403     403      200/302*  403      200/302*  404
invoice_resume                         login     403  403   403     403      200/302*  403      200/302*  404
invoice.cancel_selected_invoices       login     403  403   302/200 302/200  302/302*  302      302/302*  302/302*
invoice.check_selected_invoices        login     403  403   302/200 302/200  302/200*  302      302/200*  302/200*
invoice.resolve_selected_invoices      login     403  403   302/200 302/200  302       302/302* 302/302*  302/302*
invoice.delete_selected                login     403  403   302/200 302/200  302       302      302       302
bulkoperation_changelist               login     403  403   200     403      200       200      200       200
bulkoperation_add                      login     403  403   403     403      403       403      403       403
bulkoperation_history                  login     302  302   200     403      200       200      200       302
bulkoperation_delete                   login     403  403   403     403      403       403      403       403
bulkoperation_change                   login     403  403   302     403      302       302      302       404
bulkoperation_<path:object_id>/        login     403  403   200     403      200       200      200       404
bulkoperation_operation[draft]         login     403  403   200     403      200       200      200       404
bulkoperation_operation[report]        login     403  403   200     403      200       200      200       404
bulkoperation_csv                      login     403  403   200     403      200       200      200       404
bulkoperation_confirm[cancel]          login     403  403   403     403      302/200*  403      302/200*  404
bulkoperation_confirm[check]           login     403  403   403     403      302/200*  403      302/200*  404
bulkoperation_confirm[resolve]         login     403  403   403     403      403       302/200* 302/200*  404
bulkoperation_run[cancel]              login     403  403   403     403      302/302*1 403      302/302*1 404
bulkoperation_run[check]               login     403  403   403     403      302/302*1 403      302/302*1 404
bulkoperation_run[resolve]             login     403  403   403     403      403       302/302* 302/302*  404
bulkoperation_stop[cancel]             login     403  403   403     403      302/302*  403      302/302*  404
bulkoperation_stop[resolve]            login     403  403   403     403      403       302/302* 302/302*  404
bulkoperation_continue[cancel]         login     403  403   403     403      302/200*  403      302/200*  404
bulkoperation_continue[resolve]        login     403  403   403     403      403       302/200* 302/200*  404
bulkoperation_end[cancel]              login     403  403   403     403      302/302*  403      302/302*  404
bulkoperation_end[resolve]             login     403  403   403     403      403       302/302* 302/302*  404
bulkoperation_release[cancel]          login     403  403   403     403      302/204*  403      302/204*  404
bulkoperation_release[resolve]         login     403  403   403     403      403       302/204* 302/204*  404
bulkoperation_resume[cancel]           login     403  403   403     403      200/200*  403      200/200*  404
bulkoperation_resume[check]            login     403  403   403     403      200/200*  403      200/200*  404
bulkoperation_again[cancel]            login     403  403   403     403      302/200*  403      302/200*  404
bulkoperation_again[check]             login     403  403   403     403      302/403   403/302* 302/302*  404
bulkoperation.end_selected_operations  login     403  403   302/200 403      302/302*  302      302/302*  302
bulkoperation.delete_selected          login     403  403   302/200 403      302       302      302       302
"""
"""URLs by their names and actions as ``model.action``. The kind of operation is in brackets if it matters."""
MATRIX = {line.split()[0]: line.split()[1:] for line in TABLE.splitlines()[2:]}

_numbers = count(1)


class Rows:
    """The rows that a request needs. All of them belong to the user of the request."""

    def __init__(self, user: Any, reference: str) -> None:
        self.user, self.reference = user, reference

    def invoice(self, status: str = "created") -> Invoice:
        number = next(_numbers)
        return make_invoice(status, provider="firekassa", external_id=str(number), reference=self.reference, amount="5")

    def unlogged(self) -> Invoice:
        """Store an invoice without a log: only such an invoice can be deleted."""
        invoice = Invoice(provider="firekassa", external_id=str(next(_numbers)), reference=self.reference)
        invoice.save()
        return invoice

    def paused(self, row: Any) -> Any:
        """Return the row, at a provider that is paused."""
        Invoice.objects.all()._writer.pause("firekassa", "bad_credentials", 300)
        return row

    def operation(self, kind: str, progress: str = "draft") -> BulkOperation:
        selected = Invoice.objects.filter(pk=self.invoice("created" if kind == "cancel" else "in_doubt").pk)
        made: BulkOperation = BulkOperation.objects.draft(selected, operation=kind, actor=self.user)
        if progress != "draft":
            made.confirm(reason="old", page_key=uuid4(), decision="canceled" if kind == "resolve" else "")
        if progress == "stopped":
            made.stop(self.user)
        if progress == "finished":
            done = {"outcome": "in_doubt", "code": CODES[kind], "done_at": utc_now()}
            QuerySet(BulkOperationItem).filter(operation=made).update(**done)
            made.finish()
        return made


SHOP_FIELDS = {"amount": "6", "currency": "USD", "issued_at_0": "2026-11-20", "issued_at_1": "12:00:00"}
ADDED = {"provider": "cryptocloud", "external_id": "900", "reference": "order", "status": "created", **SHOP_FIELDS}
CODES = {"cancel": "no_answer", "check": "no_lookup"}
"""Why the item of a report is in doubt. The next step is a check after the first, and a decision after the second."""
GROUPS = {kind: {"outcome": "in_doubt", "provider": "firekassa", "code": code} for kind, code in CODES.items()}
REQUESTS: dict[str, tuple[Callable[[Rows], Any], dict[str, Any]]] = {
    "invoice_changelist": (lambda rows: rows.invoice(), {}),
    "invoice_add": (lambda rows: rows.invoice(), ADDED),
    "invoice_history": (lambda rows: rows.invoice(), {}),
    "invoice_delete": (lambda rows: rows.unlogged(), {"post": "yes"}),
    "invoice_change": (lambda rows: rows.invoice(), {"reference": "order", **SHOP_FIELDS}),
    "invoice_<path:object_id>/": (lambda rows: rows.invoice(), {}),
    "invoice_cancel": (lambda rows: rows.invoice(), {"reason": "old"}),
    "invoice_check": (lambda rows: rows.invoice("in_doubt"), {}),
    "invoice_resolve": (lambda rows: rows.invoice("in_doubt"), {"decision": "canceled", "reason": "seen"}),
    "invoice_handled": (lambda rows: rows.invoice("paid_after_cancel"), {"note": "paid back"}),
    "invoice_withdraw": (lambda rows: rows.invoice("requested"), {"reason": "a mistake"}),
    "invoice_resume": (lambda rows: rows.paused(rows.invoice()), {}),
    "invoice.cancel_selected_invoices": (lambda rows: rows.invoice(), {}),
    "invoice.check_selected_invoices": (lambda rows: rows.invoice("in_doubt"), {}),
    "invoice.resolve_selected_invoices": (lambda rows: rows.invoice("in_doubt"), {}),
    "invoice.delete_selected": (lambda rows: rows.unlogged(), {"post": "yes"}),
    "bulkoperation_changelist": (lambda rows: rows.operation("cancel"), {}),
    "bulkoperation_add": (lambda rows: rows.operation("cancel"), {}),
    "bulkoperation_history": (lambda rows: rows.operation("cancel"), {}),
    "bulkoperation_delete": (lambda rows: rows.operation("cancel"), {"post": "yes"}),
    "bulkoperation_change": (lambda rows: rows.operation("cancel"), {"progress": "running"}),
    "bulkoperation_<path:object_id>/": (lambda rows: rows.operation("cancel"), {}),
    "bulkoperation_operation[draft]": (lambda rows: rows.operation("cancel"), {"reason": "old"}),
    "bulkoperation_operation[report]": (lambda rows: rows.operation("cancel", "finished"), {}),
    "bulkoperation_csv": (lambda rows: rows.operation("cancel", "finished"), {}),
    **{
        f"bulkoperation_{page}[{kind}]": (lambda rows, args=(kind, progress): rows.operation(*args), data)
        for page, progress, data in (
            ("confirm", "draft", {"decision": "canceled", "reason": "old"}),
            ("run", "running", {}),
            ("stop", "running", {}),
            ("continue", "stopped", {}),
            ("end", "stopped", {}),
            ("release", "running", {}),
        )
        for kind in (("cancel", "check", "resolve") if page in ("confirm", "run") else ("cancel", "resolve"))
    },
    "bulkoperation_resume[cancel]": (lambda rows: rows.paused(rows.operation("cancel", "running")), {}),
    "bulkoperation_resume[check]": (lambda rows: rows.paused(rows.operation("check", "running")), {}),
    "bulkoperation_again[cancel]": (
        lambda rows: rows.operation("cancel", "finished"),
        GROUPS["cancel"],
    ),
    "bulkoperation_again[check]": (lambda rows: rows.operation("check", "finished"), GROUPS["check"]),
    "bulkoperation.end_selected_operations": (lambda rows: rows.operation("cancel", "stopped"), {}),
    "bulkoperation.delete_selected": (lambda rows: rows.operation("cancel", "stopped"), {"post": "yes"}),
}
"""How to make the row that a request is about, and the data of the POST."""


def test_matrix_contains_every_url_and_action():
    names = set()
    for model in (Invoice, BulkOperation):
        model_admin, own = admin.site.get_model_admin(model), model._meta.model_name
        urls = [url.name or f"invoice_cancel_{own}_{url.pattern}" for url in model_admin.get_urls()]
        names |= {name.removeprefix("invoice_cancel_") for name in urls}
        names |= {f"{own}.{action}" for action in (*model_admin.actions, *dict(admin.site.actions))}
    assert names == {name.partition("[")[0] for name in MATRIX}
    assert REQUESTS.keys() == MATRIX.keys()


@pytest.mark.parametrize("role", ROLES)
def test_status_codes_writes_and_provider_calls(scripted_provider, role):
    permissions = ROLES[role]
    user = None if permissions is None else user_with(*permissions, is_superuser=role in ("superuser", "hidden"))
    client = Client() if user is None else client_of(user)
    rows, site = Rows(user, "hidden" if role == "hidden" else "order"), "narrow" if role == "hidden" else "admin"
    seen = {name: request_both_ways(client, rows, name, site, scripted_provider) for name in MATRIX}
    assert seen == {name: cells[list(ROLES).index(role)] for name, cells in MATRIX.items()}


def request_both_ways(client: Client, rows: Rows, name: str, site: str, provider: Any) -> str:
    """Send both requests, and return the cell of the table."""
    make, data = REQUESTS[name]
    row = make(rows)
    name = name.partition("[")[0]
    model, _, action = name.partition(".")
    page = name.partition("_")[2]
    data = data | {"page_key": getattr(row, "page_key", "") or "", "attempt": getattr(row, "attempt", "") or ""}
    if action:
        url = reverse(f"{site}:invoice_cancel_{model}_changelist")
        data = data | {"action": action, "_selected_action": [str(row.pk)]}
    elif page.startswith("<"):
        url = reverse(f"{site}:invoice_cancel_{name.partition('_')[0]}_changelist") + f"{row.pk}/"
    else:
        args = [] if page in ("changelist", "add") else ["firekassa" if name == "invoice_resume" else row.pk]
        url = reverse(f"{site}:invoice_cancel_{name}", args=args)
        url += "?provider=firekassa" if name == "bulkoperation_resume" else ""
    before = stored_state(provider)
    got = shown_status(client.get(url, data if action else {}))
    assert stored_state(provider) == before, f"GET {name}"
    posted = shown_status(client.post(url, data))
    after = stored_state(provider)
    calls = after[0] - before[0]
    changed = "*" if after != before else ""
    ProviderState.objects.all().delete()
    posted = f"{posted}{changed}{calls or ''}"
    return got if got == posted else f"{got}/{posted}"


def shown_status(response: Any) -> str:
    return "login" if "/login/" in response.headers.get("Location", "") else str(response.status_code)


def stored_state(provider: Any) -> list[Any]:
    """Return the number of provider calls, and all that a request can change."""
    return [
        provider.cancel_count + provider.lookup_count,
        *(sorted(map(str, rows.values_list())) for rows in (Invoice.objects.all(), BulkOperation.objects.all())),
        *(model.objects.count() for model in (InvoiceTransition, LogEntry, BulkOperationItem)),
        list(ProviderState.objects.values_list()),
    ]
