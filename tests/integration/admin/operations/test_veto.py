"""Confirmation page, progress and report of an operation with invoices that the shop forbids to cancel."""

import csv
import io

import pytest

from django_invoice_cancel.admin.operations import follow_up
from django_invoice_cancel.models import BulkOperation
from django_invoice_cancel.testing import make_invoice
from tests.support.html import element_texts, page_text
from tests.support.invoices import count_statuses
from tests.support.operation_pages import operation_url, run_slice
from tests.support.operations import item_outcomes
from tests.support.vetoes import SHIPPED, count_requests

pytestmark = pytest.mark.django_db(transaction=True)

SENTENCE = f"A rule of your shop forbids its cancellation: “{SHIPPED}”"


@pytest.fixture
def run(operator_client):
    """Return a function that confirms a draft and does its work."""

    def confirm_and_run(draft):
        operator_client.post(operation_url(draft, "confirm"), {"reason": "unpaid"})
        run_slice(operator_client, draft)
        draft.refresh_from_db()
        assert draft.progress == "finished"

    return confirm_and_run


def csv_rows(client, operation):
    content = b"".join(client.get(operation_url(operation, "csv")).streaming_content).decode("utf-8-sig")
    return list(csv.DictReader(io.StringIO(content)))


def test_confirmation_page_and_run_agree(shop_rule, operator_client, invoices, choose, run):
    chosen = invoices(5)
    shop_rule.forbid(*chosen[:2])
    draft = choose(operator_client, chosen)
    shown = page_text(operator_client.get(operation_url(draft)))
    assert "<h1>Cancel 3 invoices?</h1>" in shown
    assert "Reasons: 2 forbidden by a rule of your shop" in shown
    assert f"firekassa {chosen[0].external_id}</a> <br>{SHIPPED}</li>" in shown
    assert count_requests() == 0
    run(draft)
    outcomes = item_outcomes(draft)
    assert [outcomes[invoice.external_id] for invoice in chosen] == [
        *["skipped vetoed"] * 2,
        *["canceled canceled"] * 3,
    ]
    assert count_statuses() == {"canceled": 3, "created": 2}
    assert count_requests() == 3


def test_looking_at_the_confirmation_page_does_not_ask_the_shop_again(shop_rule, operator_client, invoices, choose):
    chosen = invoices(3)
    draft = choose(operator_client, chosen)
    operator_client.get(operation_url(draft))
    assert sorted(shop_rule.asked) == sorted(invoice.external_id for invoice in chosen)
    assert count_requests() == 0


def test_draft_in_which_all_are_vetoed_cannot_be_confirmed(shop_rule, operator_client, invoices, choose):
    shop_rule.forbid()
    draft = choose(operator_client, invoices(2))
    shown = page_text(operator_client.get(operation_url(draft)))
    assert "<h1>Cannot cancel invoices</h1>" in shown
    assert operation_url(draft, "confirm") not in shown
    assert count_statuses() == {"created": 2}
    assert count_requests() == 0


def test_report_shows_the_reasons(shop_rule, operator_client, invoices, choose, run):
    chosen = invoices(3)
    draft = choose(operator_client, chosen)
    shop_rule.forbid(chosen[0])
    shop_rule.forbid(chosen[1], answer='=HYPERLINK("<script>alert(1)</script>")')
    run(draft)
    page = operator_client.get(operation_url(draft))
    assert SENTENCE in element_texts(page, "bo-why")
    [vetoed] = [text for text in element_texts(page, "bo-skipped") if "By reason" not in text and "forbids" in text]
    assert "A rule of your shop forbids its cancellation. The reasons differ; see the table." in vetoed
    assert "<script>alert" not in page.content.decode()
    explanations = {row["External id"]: row["Explanation"] for row in csv_rows(operator_client, draft)}
    assert explanations[chosen[0].external_id] == SENTENCE
    assert count_statuses() == {"canceled": 1, "created": 2}
    assert count_requests() == 1


def test_report_names_the_common_reason_of_a_group(shop_rule, operator_client, invoices, choose, run):
    chosen = invoices(3)
    draft = choose(operator_client, chosen)
    shop_rule.forbid(*chosen[:2])
    run(draft)
    page = operator_client.get(operation_url(draft))
    assert [text for text in element_texts(page, "bo-groups") if f"Skipped: 2 {SENTENCE}" in text]
    assert count_requests() == 1


def test_vetoed_invoices_can_be_canceled_again_when_the_veto_has_ended(
    shop_rule, operator_client, invoices, choose, run
):
    chosen = invoices(3)
    draft = choose(operator_client, chosen)
    shop_rule.forbid(*chosen[:2])
    run(draft)
    assert operation_url(draft, "again") not in page_text(operator_client.get(operation_url(draft)))
    shop_rule.allow()
    shop_rule.forbid(chosen[0])
    assert operation_url(draft, "again") in page_text(operator_client.get(operation_url(draft)))
    group = {"outcome": "skipped", "code": "vetoed", "provider": "firekassa"}
    operator_client.post(operation_url(draft, "again"), group)
    following = BulkOperation.objects.get(continues=draft)
    assert item_outcomes(following) == {chosen[0].external_id: "skipped vetoed", chosen[1].external_id: ""}
    assert count_statuses() == {"canceled": 1, "created": 2}
    assert count_requests() == 1


def test_report_asks_the_shop_about_a_limited_number(shop_rule, operator_client, invoices, choose, run, monkeypatch):
    monkeypatch.setattr(follow_up, "MAX_VETOES", 2)
    chosen = invoices(4)
    draft = choose(operator_client, chosen)
    shop_rule.forbid()
    run(draft)
    del shop_rule.asked[:]
    assert operation_url(draft, "again") in page_text(operator_client.get(operation_url(draft)))
    assert len(shop_rule.asked) <= 2
    assert count_statuses() == {"created": 4}
    assert count_requests() == 0


def test_failed_check_of_the_shop_is_shown(shop_rule, operator_client, choose):
    shop_rule.forbid(answer=ValueError("secret words"))
    draft = choose(operator_client, [make_invoice()])
    shown = page_text(operator_client.get(operation_url(draft)))
    assert "The check of the shop failed (ValueError). See the log." in shown
    assert "secret words" not in shown
    assert count_requests() == 0
