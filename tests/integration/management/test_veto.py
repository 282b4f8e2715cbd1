"""Commands: a dry run and a run leave out what the shop forbids, and show its reason."""

import json
from datetime import timedelta

import pytest

from django_invoice_cancel.models import BulkOperation, Invoice
from django_invoice_cancel.testing import make_invoice
from tests.support.clock import travel_forward
from tests.support.invoices import count_statuses
from tests.support.operations import advance_slice, item_outcomes
from tests.support.vetoes import SHIPPED, count_requests

pytestmark = pytest.mark.django_db(transaction=True)

ALL = ("cancel_invoices", "--all", "--noinput")


@pytest.mark.parametrize("arguments", [(*ALL, "--dry-run"), ALL], ids=["dry-run", "run"])
def test_summary_names_vetoed_invoices_and_the_reason(shop_rule, manage, arguments):
    invoice = make_invoice()
    shop_rule.forbid(answer="The goods\nare \x1b[31mshipped.")
    ended = manage(*arguments)
    assert ended.code == 0
    assert "A rule of your shop forbids its cancellation." in ended.out
    assert f"{invoice.external_id} (The goods are [31mshipped.)" in " ".join(ended.out.split())
    assert "\x1b" not in ended.out
    assert count_statuses() == {"created": 1}
    assert count_requests() == 0


@pytest.mark.parametrize("arguments", [(*ALL, "--dry-run"), ALL], ids=["dry-run", "run"])
def test_json_lines_have_the_reason(shop_rule, manage, arguments):
    forbidden = make_invoice()
    shop_rule.forbid()
    [line] = manage(*arguments, "--format", "jsonl").out.splitlines()
    result = json.loads(line)
    assert result["external_id"] == forbidden.external_id
    assert result["outcome"] == "skipped"
    assert result["code"] == "vetoed"
    assert result["veto_reason"] == SHIPPED
    assert result["has_veto_failed"] is False
    assert count_statuses() == {"created": 1}
    assert count_requests() == 0


def test_run_with_a_failed_check_of_the_shop_exits_with_an_error(shop_rule, manage):
    make_invoice()
    shop_rule.forbid(answer=ValueError("no order"))
    ended = manage(*ALL)
    assert ended.code == 4
    assert "The check of the shop failed (ValueError). See the log." in ended.err
    assert count_statuses() == {"created": 1}
    assert count_requests() == 0


def test_operation_in_the_background_leaves_out_vetoed_invoices(shop_rule, manage):
    forbidden, other = make_invoice(), make_invoice()
    shop_rule.forbid(forbidden)
    operation = BulkOperation.objects.get(pk=manage(*ALL, "--background").out.strip())
    assert advance_slice(operation.pk).is_finished
    assert item_outcomes(operation) == {
        forbidden.external_id: "skipped vetoed",
        other.external_id: "canceled canceled",
    }
    assert count_requests() == 1


@pytest.mark.parametrize(
    "command", [("cancel_invoices", "--requested", "--noinput"), ("reconcile_invoices",)], ids=["requested", "cron"]
)
def test_vetoed_request_is_tried_again_with_growing_waits_until_it_is_allowed(shop_rule, manage, command):
    invoice = make_invoice("requested", age=timedelta(hours=1))
    requested_at = invoice.cancel_requested_at
    shop_rule.forbid()
    assert manage(*command).code == 0
    invoice.refresh_from_db()
    assert invoice.cancel_requested_at == requested_at
    assert invoice.cancel_try_count == 1
    assert list(Invoice.objects.requested()) == [invoice]
    assert list(Invoice.objects.needing_attention()) == [invoice]
    assert not Invoice.objects.due_for_canceling().exists()
    assert count_requests() == 0
    shop_rule.allow()
    with travel_forward(minutes=2):
        assert manage(*command).code == 0
    invoice.refresh_from_db()
    assert invoice.status == "canceled"
    assert invoice.cancel_requested_at is None
    assert count_requests() == 1


def test_vetoed_repeat_exits_like_other_doubts(shop_rule, manage):
    invoice = make_invoice("in_doubt", age=timedelta(days=2))
    shop_rule.forbid()
    ended = manage("reconcile_invoices", "--resubmit", "--provider", "firekassa")
    assert ended.code == 3
    assert f"{invoice.external_id} ({SHIPPED})" in " ".join(ended.out.split())
    assert count_statuses() == {"in_doubt": 1}
    assert count_requests() == 0
