"""A text of others with U+202E does not reorder the sentence around it: it is inside ``<bdi>``, or escaped.

Inputs, and the cells of Django's own pages that contain nothing else, are paragraphs of their own.
"""

import csv
import io
import re
from datetime import timedelta
from html.parser import HTMLParser

import pytest
from django.core.management import call_command
from django.urls import reverse

from django_invoice_cancel.domain.clock import utc_now
from django_invoice_cancel.domain.outcomes import Code, Outcome, ProviderReply
from django_invoice_cancel.models import BulkOperation, Invoice
from django_invoice_cancel.operations import advance
from django_invoice_cancel.testing import ScriptedProvider, make_invoice
from tests.support.invoice_pages import PAGES, invoice_url
from tests.support.invoices import count_statuses, set_columns, set_columns_and_refresh
from tests.support.operation_pages import operation_url
from tests.support.users import client_of, user_with

pytestmark = pytest.mark.django_db(transaction=True)

TURN = "\u202e"
TEXT = f"a{TURN}b"
ISOLATED = frozenset({"bdi", "textarea"})
CELLS = frozenset({"td", "th"})
VOID = frozenset({"br", "input", "link", "meta", "img", "hr"})
STATES = ("created", "requested", "refused", "canceling", "abandoned", "in_doubt", "canceled", "paid")


class _Turns(HTMLParser):
    """Collects the places of U+202E that could reorder the text around it."""

    def __init__(self):
        super().__init__()
        self.open, self.found, self.count, self.is_header = [], [], 0, False

    def handle_starttag(self, tag, attrs):
        if dict(attrs).get("id") in ("user-tools", "content"):  # Django's header names the user who is logged in
            self.is_header = dict(attrs)["id"] == "user-tools"
        self.found += [f"<{tag} {name}>" for name, value in attrs if TURN in (value or "") and name != "value"]
        self.count += sum(TURN in (value or "") for _name, value in attrs)
        if tag not in VOID:
            is_cell = tag == "div" and "readonly" in (dict(attrs).get("class") or "")
            self.open.append("td" if is_cell else tag)

    def handle_endtag(self, tag):
        if tag not in VOID:
            self.open.pop()

    def handle_data(self, data):
        if self.is_header:
            return
        self.count += data.count(TURN)
        is_value_of_a_cell = bool(CELLS & set(self.open)) and " " not in data.strip()
        if TURN in data and not ISOLATED & set(self.open) and not is_value_of_a_cell:
            self.found.append(f"{'/'.join(self.open[-3:])}: {data.strip()}")


def assert_isolated(response, *, at_least=0):
    assert response.status_code == 200
    reader = _Turns()
    reader.feed(response.content.decode())
    assert reader.found == []
    assert reader.count >= at_least


@pytest.fixture
def staff():
    permissions = ("view_invoice", "change_invoice", "cancel_invoice", "resolve_invoice", "view_bulkoperation")
    user = user_with(*permissions)
    user.username = TEXT
    user.save()
    client = client_of(user)
    client.user = user
    return client


@pytest.fixture
def invoice(scripted_provider, monkeypatch):
    """Return a function that makes an invoice whose texts turn the direction."""
    monkeypatch.setattr(ScriptedProvider, "id_pattern", re.compile(".*"))

    def make(state="created", **columns):
        made = make_invoice(state, amount="10", age=timedelta(days=2))
        texts = {"external_id": f"{TEXT}{made.pk}", "reference": TEXT, "currency": TEXT}
        set_columns_and_refresh(made, **texts | columns)
        return made

    return make


def play(staff, invoice, provider, answer="canceled"):
    """Cancel an invoice by its page, with a reason and a message that turn the direction."""
    provider.next_cancels(answer)
    return staff.post(invoice_url(invoice, "cancel"), {"reason": TEXT}, follow=True)


@pytest.mark.parametrize("state", STATES)
def test_pages_of_an_invoice(scripted_provider, staff, invoice, state):
    made = invoice(state)
    for page in ("change", *PAGES):
        assert_isolated(staff.get(invoice_url(made, page)), at_least=1)
    assert_isolated(staff.get(invoice_url(made, "history")))
    assert scripted_provider.cancel_count == 0


@pytest.mark.parametrize("alias", ["firekassa", TEXT], ids=ascii)
@pytest.mark.parametrize("page", ["change", "history"])
def test_log_of_an_invoice(scripted_provider, staff, invoice, page, alias):
    made = invoice()
    reply = ProviderReply(Outcome.REFUSED, TEXT, provider_message=TEXT, http_status=409)
    assert_isolated(play(staff, made, scripted_provider, reply), at_least=4)
    set_columns(made, provider=alias)
    assert_isolated(staff.get(invoice_url(made, page)), at_least=4)
    assert scripted_provider.cancel_count == 1
    assert count_statuses() == {"created": 1}


@pytest.mark.parametrize(
    ("state", "page", "data"),
    [
        ("in_doubt", "resolve", {"decision": "canceled", "reason": TEXT}),
        ("in_doubt", "resolve", {"decision": "canceled", "reason": ""}),
        ("paid_after_cancel", "handled", {"note": TEXT, "seen": "paid"}),
        ("requested", "withdraw", {"reason": TEXT}),
        ("in_doubt", "check", {}),
        ("paid", "cancel", {"reason": TEXT}),
    ],
    ids=["resolve", "without reason", "handled", "withdraw", "check", "not cancelable"],
)
def test_messages_and_the_log_of_the_admin(scripted_provider, staff, invoice, state, page, data):
    made = invoice(state)
    answer = staff.post(invoice_url(made, page), {**data, "attempt": str(made.attempt or "")}, follow=True)
    assert_isolated(answer, at_least=1)
    assert_isolated(staff.get(invoice_url(made, "history")))
    assert_isolated(staff.get(reverse("admin:index")))
    assert scripted_provider.cancel_count == 0


def test_list_of_invoices(scripted_provider, staff, invoice):
    invoice()
    invoice("in_doubt", provider=TEXT)
    assert_isolated(staff.get(reverse("admin:invoice_cancel_invoice_changelist")), at_least=3)
    assert scripted_provider.cancel_count == 0


def make_draft(operation="cancel", **fields):
    invoices = Invoice.objects.all()
    return BulkOperation.objects.draft(invoices, operation=operation, unmatched=[TEXT], **{"actor": TEXT, **fields})


@pytest.mark.parametrize("operation", ["cancel", "check", "resolve"])
@pytest.mark.parametrize("is_own", [True, False], ids=["own", "another user's"])
def test_confirmation_page(scripted_provider, staff, invoice, operation, is_own):
    for state in ("created", "in_doubt", "paid"):
        invoice(state)
    invoice("in_doubt", provider=TEXT)
    draft = make_draft(operation, actor=staff.user if is_own else TEXT, reason=TEXT)
    assert_isolated(staff.get(operation_url(draft)), at_least=5)
    assert scripted_provider.cancel_count == 0


@pytest.mark.parametrize("progress", ["running", "stopped", "finished"])
def test_names_of_those_who_continued_and_stopped(scripted_provider, staff, invoice, progress):
    invoice()
    operation, follower = make_draft(), make_draft()
    names = {"actor_label": "Ada", "runner_label": TEXT, "stopped_by_label": TEXT, "started_at": utc_now()}
    BulkOperation.objects.filter(pk=operation.pk).update(progress=progress, worked_at=utc_now(), **names)
    BulkOperation.objects.filter(pk=follower.pk).update(progress="running", continues=operation, **names)
    assert_isolated(staff.get(operation_url(operation)), at_least=2)
    assert TURN not in staff.get(operation_url(operation), {"format": "json"}).json()["sentence"]
    assert scripted_provider.cancel_count == 0


def test_progress_report_history_and_file(scripted_provider, staff, invoice):
    for answer in ("canceled", "in_doubt"):
        made = invoice()
        reply = ProviderReply(
            Outcome(answer), Code.CANCELED if answer == "canceled" else TEXT, http_status=200, provider_message=TEXT
        )
        scripted_provider.next_cancels(reply, external_id=made.external_id)
    invoice("paid", provider=TEXT)
    operation = make_draft(reason=TEXT)
    operation.confirm()
    assert_isolated(staff.get(operation_url(operation)), at_least=2)
    operation.items.filter(outcome="skipped").update(code=Code.VETOED, veto_reason=TEXT)
    advance(operation.pk, is_message=False)
    shown = staff.get(operation_url(operation))
    assert_isolated(shown, at_least=7)
    assert shown.content.decode().count(f"<q><bdi>{TEXT}</bdi></q>") == 1
    assert_isolated(staff.get(reverse("admin:invoice_cancel_bulkoperation_changelist")), at_least=1)
    assert_isolated(staff.get(reverse("admin:invoice_cancel_bulkoperation_history", args=[operation.pk])))
    content = staff.get(operation_url(operation, "csv")).getvalue().decode("utf-8-sig")
    assert TURN not in content
    rows = list(csv.DictReader(io.StringIO(content)))
    assert {row["Reference"] for row in rows} == {"a\\u202eb", ""}
    assert scripted_provider.cancel_count == 2
    assert count_statuses() == {"canceled": 1, "in_doubt": 1, "paid": 1}


def test_output_of_a_command(scripted_provider, invoice):
    scripted_provider.all_cancels("refused")
    made = invoice()
    out, err = io.StringIO(), io.StringIO()
    call_command("cancel_invoices", "--all", "--noinput", stdout=out, stderr=err)
    printed = out.getvalue() + err.getvalue()
    assert f"a\\u202eb{made.pk}" in printed
    assert TURN not in printed
    assert scripted_provider.cancel_count == 1
    assert count_statuses() == {"created": 1}
