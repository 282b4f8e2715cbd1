"""``cancel_invoices``: its output during and after the run, and its exit codes."""

import io
import json

import pytest
from django.core.management import call_command

from django_invoice_cancel.models.writes.answers import AnswerWriter
from django_invoice_cancel.testing import ScriptedProvider
from tests.support.invoices import count_statuses
from tests.support.logs import count_answers, count_invoices_by_log_rows

pytestmark = pytest.mark.django_db

ALL = ["cancel_invoices", "--all", "--noinput"]


# -- output -----------------------------------------------------------------------------------------------------------


def test_dry_run_lists_the_actions_and_changes_nothing(shop, make, manage, django_assert_max_num_queries):
    make(120)
    make(1, status="paid")
    with django_assert_max_num_queries(8):
        ended = manage("cancel_invoices", "--provider", "shop", "--dry-run", "000120", "000001", "--format", "jsonl")
    lines = [json.loads(line) for line in ended.out.splitlines()]
    assert [(line["external_id"], line["outcome"], line["code"]) for line in lines] == [
        ("000001", "skipped", "dry_run"),
        ("000120", "skipped", "has_payment"),
    ]
    assert manage("cancel_invoices", "--all", "--dry-run", "--limit", "70").out.startswith("70 invoices: 70 skipped")
    assert ended.code == 0
    assert shop.cancel_count == 0
    assert count_invoices_by_log_rows() == {}


def test_jsonl_writes_only_results_to_stdout(shop, make, manage):
    shop.next_cancels("refused")
    make(3)
    ended = manage(*ALL, "--format", "jsonl", "--concurrency", "1")
    lines = [json.loads(line) for line in ended.out.splitlines()]
    assert [(line["external_id"], line["outcome"]) for line in lines] == [
        ("000000", "refused"),
        ("000001", "canceled"),
        ("000002", "canceled"),
    ]
    assert lines[0]["message"] == "Scripted provider refused to cancel it."
    assert "3 invoices: 2 canceled · 1 refused" in ended.err
    assert shop.cancel_count == 3


def in_ascii(*arguments):
    """Call a command whose stdout accepts only ASCII, as under LC_ALL=C; return its output."""
    out = io.TextIOWrapper(io.BytesIO(), encoding="ascii", write_through=True)
    call_command(*arguments, stdout=out, stderr=io.StringIO())
    out.seek(0)
    return out.read()


def test_ascii_stdout_gets_escaped_output(shop, make):
    shop.next_cancels("refused")
    make(3, reference="Заказ № 5 \N{CREDIT CARD}")
    lines = [json.loads(line) for line in in_ascii(*ALL, "--format", "jsonl", "--concurrency", "1").splitlines()]
    assert [line["reference"] for line in lines] == ["Заказ № 5 \N{CREDIT CARD}"] * 3
    assert shop.cancel_count == 3
    assert count_statuses() == {"canceled": 2, "created": 1}


def test_summary_is_written_to_an_ascii_stream(shop, make):
    shop.next_cancels("refused")
    make(3)
    assert in_ascii(*ALL, "--concurrency", "1").startswith("3 invoices: 2 canceled \\xb7 1 refused\n")
    assert shop.cancel_count == 3
    assert count_statuses() == {"canceled": 2, "created": 1}


def test_summary_groups_the_reasons_and_gives_examples(shop, make, manage):
    make(9)
    for number in range(5):
        shop.next_cancels("not_found", external_id=f"00000{number}")
    shop.next_cancels("paid", external_id="000005")
    ended = manage(*ALL, "--concurrency", "1")
    assert ended.out == (
        "9 invoices: 6 refused · 3 canceled\n"
        "        5  shop  refused   Scripted provider did not find this invoice.\n"
        "                           000000, 000001, 000002 and 2 more\n"
        "        3  shop  canceled  Scripted provider confirmed the cancellation.\n"
        "        1  shop  refused   A payment was received for it.\n"
        "                           000005\n"
    )
    assert ended.code == 0
    assert shop.cancel_count == 9


def test_verbosity_0_prints_only_problems(shop, make, manage):
    make(3)
    shop.next_cancels("in_doubt")
    ended = manage(*ALL, "-v", "0")
    assert ended.code == 3
    assert ended.out == ""
    assert ended.err == "In doubt: 1. Do not cancel them again. Run reconcile_invoices."
    assert shop.cancel_count == 3
    assert count_statuses() == {"canceled": 2, "in_doubt": 1}
    assert count_answers() == {"canceled": 2, "no_answer": 1}


def test_progress_is_printed_at_intervals_without_a_terminal(shop, make, manage, monkeypatch):
    monkeypatch.setattr("django_invoice_cancel.management.output.EVERY_SECONDS", 0.0)
    make(3)
    ended = manage(*ALL, "--concurrency", "1")
    assert ended.err.splitlines()[-1] == "Canceling: 3 of 3 (3 canceled)"
    assert shop.cancel_count == 3


# -- exit codes -------------------------------------------------------------------------------------------------------

ENDS = {
    # answers, exit code: number of requests, statuses of the five invoices, codes in their log
    "all answered": (
        ["canceled", "paid", "refused", "not_found", "expired"],
        0,
        5,
        {"canceled": 1, "paid": 1, "created": 2, "expired": 1},
        {"canceled": 1, "has_payment": 1, "provider_refused": 1, "not_found": 1, "closed": 1},
    ),
    "some in doubt": (
        ["canceled", "in_doubt"],
        3,
        5,
        {"canceled": 4, "in_doubt": 1},
        {"canceled": 4, "no_answer": 1},
    ),
    "in doubt outweighs not tried": (
        ["in_doubt", "bad_credentials"],
        3,
        2,
        {"in_doubt": 1, "created": 4},
        {"no_answer": 1, "bad_credentials": 1},
    ),
    "credentials rejected": (["bad_credentials"], 4, 1, {"created": 5}, {"bad_credentials": 1}),
    "not processed twice": (["not_processed"] * 5, 4, 5, {"created": 5}, {"unreachable": 5}),
}


@pytest.mark.parametrize("case", ENDS)
def test_most_severe_exit_code_is_returned(scripted, make, manage, case):
    script, code, sent, statuses, answers = ENDS[case]
    shop = scripted(concurrency=1)
    make(5)
    shop.next_cancels(*script)
    if script[-1] == "bad_credentials":
        shop.all_cancels("bad_credentials")
    ended = manage(*ALL)
    assert ended.code == code
    assert (ended.err == "") == (code == 0)
    assert shop.cancel_count == sent
    assert count_statuses() == statuses
    assert count_answers() == answers


def test_hint_for_doubts_depends_on_the_status_lookup_of_the_provider(settings, make, manage):
    """FireKassa has no status lookup, so reconcile_invoices without --resubmit cannot resolve the doubt."""
    backend = "django_invoice_cancel.testing.ScriptedProvider"
    mute = {"BACKEND": backend, "OPTIONS": {"supports_lookup": False}}
    settings.INVOICE_CANCEL = {"PROVIDERS": {"shop": {"BACKEND": backend}, "mute": mute}}
    for alias, count in (("shop", 2), ("mute", 3)):
        ScriptedProvider.of(alias).all_cancels("in_doubt")
        make(count, alias)
    ended = manage(*ALL)
    assert ended.code == 3
    assert count_statuses() == {"in_doubt": 5}
    assert "In doubt: 2. Do not cancel them again. Run reconcile_invoices." in ended.err
    assert "In doubt, at a provider without a status lookup: 3. Do not cancel them again. " in ended.err
    assert [ScriptedProvider.of(alias).cancel_count for alias in ("shop", "mute")] == [2, 3]
    assert count_answers() == {"no_answer": 5}


def test_unrecorded_answer_has_the_exit_code_of_a_doubt(shop, make, manage, monkeypatch):
    def fail(*args, **kwargs):
        raise ZeroDivisionError

    monkeypatch.setattr(AnswerWriter, "record", fail)
    make(2)
    ended = manage(*ALL)
    assert ended.code == 3
    assert shop.cancel_count == 2
    assert count_statuses() == {"canceling": 2}
    assert count_invoices_by_log_rows() == {1: 2}
    assert ended.err == "Answers that could not be recorded: 2. Run reconcile_invoices to record them."


def test_untried_invoices_are_reported_beside_doubts(scripted, make, manage):
    shop = scripted(concurrency=1)
    shop.next_cancels("in_doubt", "bad_credentials")
    make(5)
    ended = manage(*ALL, "-v", "0")
    assert ended.code == 3
    assert shop.cancel_count == 2
    assert count_statuses() == {"in_doubt": 1, "created": 4}
    assert count_answers() == {"no_answer": 1, "bad_credentials": 1}
    assert ended.err == (
        "In doubt: 1. Do not cancel them again. Run reconcile_invoices. "
        "Not tried or not processed, and unchanged: 4. Run the command again later. "
        "shop: Scripted provider rejected our credentials. "
        "shop: Scripted provider is paused after failed requests; nothing was sent."
    )


def test_invoices_of_a_misconfigured_alias_are_not_tried(scripted, make, manage):
    shop = scripted()
    make(2)
    make(3, "nobody")
    ended = manage(*ALL)
    assert ended.code == 4
    assert shop.cancel_count == 2
    assert count_statuses() == {"canceled": 2, "created": 3}
    assert count_invoices_by_log_rows() == {2: 2}
    assert "Not tried or not processed, and unchanged: 3." in ended.err
