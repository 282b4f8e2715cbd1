"""The report of an operation: the headline, the groups with their buttons, the table, the CSV file."""

import csv
import io
from decimal import Decimal

import pytest
from django.db.models import QuerySet
from django.utils.translation import override

from django_invoice_cancel.admin.operations.report import escape_formula
from django_invoice_cancel.domain.outcomes import Outcome, ProviderReply
from django_invoice_cancel.labels.formatting import format_money, format_number
from django_invoice_cancel.models import BulkOperation, Invoice
from django_invoice_cancel.testing import ScriptedProvider
from tests.support.html import page_text
from tests.support.invoices import count_statuses, set_columns
from tests.support.logs import count_answers
from tests.support.operation_pages import operation_url, run_slice
from tests.support.users import client_of, user_with

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def reported(scripted_provider, operator_client, invoices, choose):
    """Return a function that cancels invoices that are answered so, and returns the operation."""

    def report(*answers, **fields):
        chosen = invoices(len(answers), **fields)
        for invoice, answer in zip(chosen, answers, strict=True):
            scripted_provider.next_cancels(answer, external_id=invoice.external_id)
        draft = choose(operator_client, chosen)
        operator_client.post(operation_url(draft, "confirm"), {"reason": "too old"})
        run_slice(operator_client, draft)
        draft.refresh_from_db()
        return draft

    return report


def test_report_shows_totals_by_outcome_and_currency(scripted_provider, operator_client, reported):
    operation = reported("canceled", "canceled", "in_doubt", "paid", amount="10.00", currency="USD")
    _first, second, _doubt, paid = Invoice.objects.order_by("pk")
    QuerySet(Invoice).filter(pk=second.pk).update(amount="5", currency="EUR")
    QuerySet(Invoice).filter(pk=paid.pk).update(amount=None)
    operation.add_unmatched(["an order"])
    shown = page_text(operator_client.get(operation_url(operation)))
    for row in (
        'Canceled</th><td class="bo-number">2</td><td>5.00 EUR + 10.00 USD</td>',
        'Refused</th><td class="bo-number">1</td><td>1 without an amount</td>',
        'In doubt</th><td class="bo-number">1</td><td>10.00 USD</td>',
        'Skipped</th><td class="bo-number">1</td><td></td>',
        'Total</th><td class="bo-number">5</td><td>5.00 EUR + 20.00 USD; 1 without an amount</td>',
    ):
        assert row in shown
    assert scripted_provider.cancel_count == 4
    assert count_statuses() == {"canceled": 2, "in_doubt": 1, "paid": 1}


def lines(answer):
    return list(csv.reader(io.StringIO(answer.getvalue().decode("utf-8-sig"))))


def test_groups_are_by_reason_largest_first(scripted_provider, operator_client, reported):
    operation = reported("canceled", "canceled", "canceled", "in_doubt", "in_doubt", "paid")
    shown = page_text(operator_client.get(operation_url(operation)))
    assert "3 canceled; 2 in doubt; 1 left alone: payment received." in shown
    groups = [
        "<b>Canceled: 3</b> <span>firekassa (Scripted provider) confirmed the cancellation.",
        "<b>In doubt: 2</b> <span>No answer from firekassa (Scripted provider): it may or may not be canceled.",
        "<b>Refused: 1</b> <span>A payment was received for it.",
    ]
    places = [shown.index(group) for group in groups]
    assert places == sorted(places)
    assert shown.count("Check these") == 1
    assert '<li class="bo-in_doubt" id="bo-group-2"> <b>In doubt: 2</b>' in shown
    assert ' aria-describedby="bo-group-2">Check these</button>' in shown
    assert scripted_provider.cancel_count == 6
    assert count_statuses() == {"canceled": 3, "in_doubt": 2, "paid": 1}
    assert count_answers() == {"canceled": 3, "no_answer": 2, "has_payment": 1}


@pytest.mark.scripted_providers("firekassa", "kiosk")
def test_groups_name_the_account_of_a_provider(scripted_provider, operator_client, invoices, choose):
    draft = choose(operator_client, [*invoices(2), *invoices(1, provider="kiosk")])
    operator_client.post(operation_url(draft, "confirm"))
    run_slice(operator_client, draft)
    shown = page_text(operator_client.get(operation_url(draft)))
    assert "<b>Canceled: 2</b> <span>firekassa (Scripted provider) confirmed the cancellation." in shown
    assert "<b>Canceled: 1</b> <span>kiosk (Scripted provider) confirmed the cancellation." in shown
    assert scripted_provider.cancel_count == 2
    assert ScriptedProvider.of("kiosk").cancel_count == 1


@pytest.mark.parametrize(
    ("answer", "group", "button", "kind", "progress"),
    [
        ("in_doubt", {"outcome": "in_doubt", "code": "no_answer"}, "Check these", "check", "running"),
        ("refused", {"outcome": "refused", "code": "provider_refused"}, "Check these", "check", "running"),
        (
            "not_processed",
            {"outcome": "not_processed", "code": "unreachable"},
            "Try these again",
            "cancel",
            "draft",
        ),
    ],
)
def test_group_has_the_button_of_its_next_step(
    scripted_provider, operator_client, reported, answer, group, button, kind, progress
):
    operation = reported(answer, "canceled")
    assert page_text(operator_client.get(operation_url(operation))).count(f">{button}</button>") == 1
    answer = operator_client.post(operation_url(operation, "again"), {**group, "provider": "firekassa"})
    made = BulkOperation.objects.exclude(pk=operation.pk).get()
    assert (kind == "cancel" and answer["Location"] == operation_url(made)) or answer.context["operation"] == made
    assert made.operation == kind
    assert made.progress == progress
    assert made.total == 1
    assert made.continues == operation
    left = "in_doubt" if group["outcome"] == "in_doubt" else "created"
    assert scripted_provider.cancel_count == 2
    assert count_statuses() == {"canceled": 1, left: 1}
    assert count_answers() == {"canceled": 1, group["code"]: 1}


@pytest.mark.parametrize(
    "group",
    [
        {"outcome": "canceled", "code": "canceled"},
        {"outcome": "refused", "code": "has_payment"},
        {"outcome": "in_doubt", "code": "made_up"},
        {},
    ],
    ids=str,
)
def test_no_follow_up_is_created_without_a_next_step(scripted_provider, operator_client, reported, group):
    operation = reported("canceled", "paid")
    operator_client.post(operation_url(operation, "again"), {**group, "provider": "firekassa"})
    assert BulkOperation.objects.get() == operation
    assert scripted_provider.cancel_count == 2


def test_remaining_doubt_offers_resolve_to_users_with_permission(
    scripted_provider, operator_client, supervisor_client, invoices, choose
):
    (invoice,) = invoices(1)
    set_columns(invoice, status="in_doubt")
    scripted_provider.all_lookups("not_found")
    operation = choose(operator_client, [invoice], "check_selected_invoices")
    run_slice(operator_client, operation)
    group = {"outcome": "in_doubt", "code": "not_found", "provider": "firekassa"}
    assert "1 checked; 1 still in doubt." in page_text(operator_client.get(operation_url(operation)))
    assert "Resolve these" not in page_text(operator_client.get(operation_url(operation)))
    assert operator_client.post(operation_url(operation, "again"), group).status_code == 403
    assert "Resolve these" in page_text(supervisor_client.get(operation_url(operation)))
    supervisor_client.post(operation_url(operation, "again"), group)
    made = BulkOperation.objects.exclude(pk=operation.pk).get()
    assert made.operation == "resolve"
    assert made.progress == "draft"
    assert scripted_provider.cancel_count == 0
    assert scripted_provider.lookup_count == 1
    assert count_statuses() == {"in_doubt": 1}
    assert count_answers() == {"not_found": 1}


def test_table_shows_the_outcome_and_the_current_status(scripted_provider, operator_client, reported):
    operation = reported("in_doubt")
    invoice = Invoice.objects.get()
    invoice.observe_status("paid")
    shown = page_text(operator_client.get(operation_url(operation)))
    row = shown[shown.index(f">{invoice.external_id}<") :]
    row = row[: row.index("</tr>")]
    assert "In doubt</span>" in row
    assert "<td>Paid</td>" in row
    assert '<td class="bo-number">10.00 USD</td>' in row
    assert scripted_provider.cancel_count == 1
    assert count_statuses() == {"paid": 1}
    assert count_answers() == {"no_answer": 1, "observed": 1}


def test_table_is_filtered_by_outcome_and_paged(scripted_provider, operator_client, reported):
    operation = reported(*["canceled"] * 105, "refused")
    first, second, last = (
        operator_client.get(operation_url(operation), {"outcome": "canceled", "page": number}) for number in (1, 2, 99)
    )
    assert [answer.context["page"].number for answer in (first, second, last)] == [1, 2, 2]
    assert [len(answer.context["rows"]) for answer in (first, second)] == [100, 5]
    assert len(operator_client.get(operation_url(operation), {"outcome": "refused"}).context["rows"]) == 1
    assert len(operator_client.get(operation_url(operation), {"outcome": "no such"}).context["rows"]) == 100
    assert scripted_provider.cancel_count == 106


def test_file_has_a_line_for_each_invoice(scripted_provider, operator_client, reported):
    operation = reported("canceled", "paid", reference="order-17")
    answer = operator_client.get(operation_url(operation, "csv"))
    head, first, second = lines(answer)
    assert answer.headers["Content-Type"] == "text/csv; charset=utf-8"
    assert head[:7] == ["Provider", "External id", "Reference", "Amount", "Currency", "Outcome", "Code"]
    assert first[2:] == [
        *("order-17", "10.00", "USD", "Canceled", "canceled"),
        *("firekassa (Scripted provider) confirmed the cancellation.", "Canceled", "", "", ""),
    ]
    assert second[5:] == ["Refused", "has_payment", "A payment was received for it.", "Paid", "", "", ""]
    assert len(lines(operator_client.get(operation_url(operation, "csv"), {"outcome": "refused"}))) == 2
    assert scripted_provider.cancel_count == 2


@pytest.mark.parametrize("cell", ["=1+1", "+1", "-1", "@SUM(A1)", "\tx", "\rx"])
def test_no_cell_is_a_formula(scripted_provider, operator_client, reported, cell):
    operation = reported("canceled", reference=cell)
    assert lines(operator_client.get(operation_url(operation, "csv")))[1][2] == f"'{cell}"
    assert escape_formula(cell) == f"'{cell}"
    assert escape_formula("order-17") == "order-17"
    assert scripted_provider.cancel_count == 1


def test_texts_of_others_are_escaped(scripted_provider, supervisor_client, supervisor, invoices, choose):
    """A reference, a currency, a reason and a provider's own code and words come from strangers."""
    evil = "<script>alert(1)</script>"
    (invoice,) = invoices(1, reference=evil, currency="<b>")
    reply = ProviderReply(Outcome.REFUSED, "<i>", provider_message=evil)
    scripted_provider.next_cancels(reply)
    draft = choose(supervisor_client, [invoice])
    pages = [supervisor_client.get(operation_url(draft)).content.decode()]
    supervisor_client.post(operation_url(draft, "confirm"), {"reason": evil})
    run_slice(supervisor_client, draft)
    pages.append(supervisor_client.get(operation_url(draft)).content.decode())
    for shown in pages:
        assert evil not in shown
        assert "<b></" not in shown
        assert "<i>" not in shown
    assert "&lt;script&gt;" in pages[1]
    assert scripted_provider.cancel_count == 1


def test_past_operations_are_listed(scripted_provider, operator_client, reported):
    reported("canceled", "canceled", "refused")
    answer = operator_client.get("/admin/invoice_cancel/bulkoperation/")
    shown = page_text(answer)
    assert "Cancellation of 3 invoices</a>" in shown
    assert "2 canceled, 3 of 3 done" in shown
    assert "Finished" in shown


@pytest.mark.parametrize(("language", "title"), [("en", "Bulk operations"), ("ru", "Массовые операции")])
def test_list_of_operations_has_a_title(operator_client, language, title):
    """Django's "Выберите массовая операция" wants another case."""
    shown = page_text(
        operator_client.get("/admin/invoice_cancel/bulkoperation/", headers={"accept-language": language})
    )
    assert f"<h1>{title}</h1>" in shown


def test_numbers_have_the_format_of_the_language():
    with override("de"):
        assert format_number(1014) == "1.014"
        assert format_money(Decimal("1501.5"), "EUR") == "1.501,50 EUR"


def test_viewer_sees_the_report_without_buttons(scripted_provider, reported):
    operation = reported("in_doubt")
    shown = page_text(client_of(user_with("view_invoice", "view_bulkoperation")).get(operation_url(operation)))
    assert "0 canceled; " in shown
    assert "Check these" not in shown
    assert scripted_provider.cancel_count == 1
    assert count_statuses() == {"in_doubt": 1}
    assert count_answers() == {"no_answer": 1}
