"""``cancel_invoices``: what it selects, what it refuses before anything is sent, what it says, how it ends."""

import io
import json
import sys
from datetime import timedelta

import pytest
from django.contrib.auth import get_user_model
from django.db import transaction
from django.utils import timezone

from django_invoice_cancel.models import Invoice
from django_invoice_cancel.testing import make_invoice
from tests.bulk.reading import rows_each, statuses

pytestmark = pytest.mark.django_db

ALL = ["cancel_invoices", "--all", "--noinput"]
BAD = {
    # what is wrong: (arguments, exit code, what the message names)
    "no selector": ([], 1, "--older-than 2d, or --all"),
    "no selector but a limit": (["--limit", "3"], 1, "--all"),
    "ids without a provider": (["000000"], 1, "--provider"),
    "unknown alias": (["--provider", "nobody"], 1, "'nobody'"),
    "unknown id": (["000000", "nonsense", "--provider", "shop"], 1, "nonsense"),
    "id that is none": (["000000", "a b", "--provider", "shop"], 1, "'a b'"),
    "file that is not there": (["--from-file", "/nowhere/ids", "--provider", "shop"], 1, "/nowhere/ids"),
    "stdin without --noinput": (["--from-file", "-", "--provider", "shop"], 1, "--noinput"),
    "ids and a filter": (["000000", "--provider", "shop", "--older-than", "2d"], 1, "--older-than"),
    "an age that is none": (["--older-than", "soon"], 1, "'soon' is not an age"),
    "a time that is none": (["--expires-before", "2026-13-01"], 1, "'2026-13-01' is not a time"),
    "limit 0": (["--all", "--limit", "0"], 1, "'0' is not a whole number above 0"),
    "limit -1": (["--all", "--limit", "-1"], 1, "-1"),
    "concurrency many": (["--all", "--concurrency", "many"], 1, "'many'"),
    "rate 0": (["--all", "--rate", "0"], 1, "'0' is not a number"),
    "unknown database": (["--all", "--database", "elsewhere"], 1, "elsewhere"),
    "unknown format": (["--all", "--format", "xml"], 1, "xml"),
}


@pytest.mark.parametrize("wrong", BAD)
def test_bad_input_is_named_before_anything_is_sent(shop, make, manage, wrong):
    arguments, code, named = BAD[wrong]
    make(3)
    ended = manage("cancel_invoices", *arguments)
    assert (ended.code, ended.out) == (code, "")
    assert named in ended.err
    assert (shop.cancel_count, rows_each(), statuses()) == (0, {}, {"created": 3})


@pytest.mark.parametrize("name", ["limit", "concurrency", "rate"])
@pytest.mark.parametrize("value", [0, -1, "3"])
def test_bounds_given_by_call_command_are_checked_too(shop, make, manage, name, value):
    """``call_command`` does not read keywords as a shell's arguments are read: 0 must not mean "no limit"."""
    make(3)
    ended = manage("cancel_invoices", all=True, noinput=True, **{name: value})
    assert (ended.code, ended.err) == (1, f"--{name} must be a number above 0, not {value!r}.")
    assert (shop.cancel_count, rows_each()) == (0, {})


def test_unreadable_bytes_are_named(shop, make, manage, tmp_path):
    make(1)
    (tmp_path / "ids").write_bytes(b"\xff\xfe\x00")
    ended = manage("cancel_invoices", "--provider", "shop", "--noinput", "--from-file", str(tmp_path / "ids"))
    assert (ended.code, shop.cancel_count) == (1, 0)
    assert "Nothing was sent." in ended.err


def test_wrong_ids_of_a_file_are_named_by_line(shop, make, manage, tmp_path):
    make(2)
    (tmp_path / "ids").write_text("000000\nlost\n\n000001\nalso lost\n")
    ended = manage("cancel_invoices", "--provider", "shop", "--noinput", "--from-file", str(tmp_path / "ids"))
    assert "line 2: lost" in ended.err
    assert "line 5: 'also lost' is not an id" in ended.err
    assert (ended.code, shop.cancel_count) == (1, 0)


def test_many_wrong_ids_are_not_all_listed(shop, manage, tmp_path):
    (tmp_path / "ids").write_text("\n".join(f"lost-{number}" for number in range(1000)))
    ended = manage("cancel_invoices", "--provider", "shop", "--noinput", "--from-file", str(tmp_path / "ids"))
    assert "... and 980 more" in ended.err
    assert (len(ended.err.splitlines()), shop.cancel_count) == (22, 0)


# -- what is selected -------------------------------------------------------------------------------------------------


@pytest.fixture
def selection(shop):
    """One invoice of each kind that the selectors tell apart."""
    now = timezone.now()
    kinds = {
        "old": {"issued_at": now - timedelta(days=3)},
        "new": {},
        "ending": {"expires_at": now + timedelta(hours=1)},
        "refused": {"status": "refused"},
        "requested": {"status": "requested"},
        "paid": {"status": "paid", "issued_at": now - timedelta(days=3)},
    }
    for name, fields in kinds.items():
        make_invoice(fields.pop("status", "created"), provider="shop", external_id=name, **fields)
    shop.reset()


SELECTED = {
    "--all": "ending new old requested",
    "--all --include-refused": "ending new old refused requested",
    "--provider shop": "ending new old requested",
    "--older-than 2d": "old",
    "--older-than 90s": "old",
    "--older-than 1w": "",
    "--expires-before 2999-01-01": "ending",
    "--expires-before 2999-01-01T00:00+05:00": "ending",
    "--expires-before 2020-01-01": "",
    "--requested": "requested",
    "--older-than 2d --expires-before 2999-01-01": "",
    "--provider shop old new": "new old",
    "--provider shop old old": "old",
    "--provider shop paid old": "old",
    "--provider shop refused": "refused",
}


@pytest.mark.parametrize("arguments", SELECTED)
def test_selectors(selection, shop, manage, arguments):
    manage("cancel_invoices", *arguments.split(), "--noinput")
    assert " ".join(sorted(shop.cancels)) == SELECTED[arguments]


def test_ids_come_from_a_file_with_or_without_other_columns(shop, make, manage, tmp_path):
    make(4)
    (tmp_path / "ids").write_text("\ufeff000001\n\n 000003 \n", encoding="utf-8")
    (tmp_path / "csv").write_text("external_id,reference\n000002,order-2\n")
    for name in ("ids", "csv"):
        assert (
            manage("cancel_invoices", "--provider", "shop", "--noinput", "--from-file", str(tmp_path / name)).code == 0
        )
    assert sorted(shop.cancels) == ["000001", "000002", "000003"]


def test_ids_come_from_stdin(shop, make, manage, monkeypatch):
    make(3)
    monkeypatch.setattr(sys, "stdin", io.StringIO("000002\n000000\n"))
    assert manage("cancel_invoices", "--provider", "shop", "--noinput", "--from-file", "-").code == 0
    assert sorted(shop.cancels) == ["000000", "000002"]


def test_limit_concurrency_and_rate_reach_the_run(shop, make, manage):
    make(30)
    ended = manage(*ALL, "--limit", "5", "--concurrency", "1", "--rate", "500")
    assert ended.out.startswith("5 invoices: 5 canceled\n")
    assert (shop.cancels, statuses()) == ([f"00000{n}" for n in range(5)], {"canceled": 5, "created": 25})


@pytest.mark.django_db(databases=["default", "other"])
def test_other_database(shop, make, manage):
    make(2)
    make(3, using="other")
    assert manage(*ALL, "--database", "other").code == 0
    assert (shop.cancel_count, statuses(), statuses("other")) == (3, {"created": 2}, {"canceled": 3})


@pytest.mark.parametrize("known", [True, False], ids=["a user", "a label"])
def test_who_and_why_are_in_the_log(shop, make, manage, known):
    user = get_user_model().objects.create_user("till") if known else None
    make(1)
    manage(*ALL, "--actor", "till", "--reason", "unpaid for a week")
    [last] = Invoice.objects.get().transitions.filter(to_status="canceled")
    assert (last.actor, last.actor_label, last.reason, last.trigger) == (user, "till", "unpaid for a week", "command")
    assert shop.cancel_count == 1


def test_required_reason_is_asked_for(scripted, make, manage):
    shop = scripted(REQUIRE_REASON=True)
    make(1)
    ended = manage(*ALL)
    assert (ended.code, shop.cancel_count) == (1, 0)
    assert "--reason" in ended.err
    assert manage(*ALL, "--reason", "closing down").code == 0


@pytest.mark.django_db(transaction=True)
def test_inside_a_transaction_it_is_an_error(shop, make, manage):
    make(1)
    with transaction.atomic():
        ended = manage(*ALL)
    assert (ended.code, shop.cancel_count, rows_each()) == (1, 0, {})
    assert "cancel_on_commit" in ended.err


# -- asking first -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "code", "sent"),
    [("y\n", 0, 3), ("YES\n", 0, 3), ("n\n", 1, 0), ("\n", 1, 0), ("", 1, 0)],
    ids=["y", "yes", "n", "return", "nobody there"],
)
def test_it_asks_and_names_the_counts_by_provider(scripted, make, manage, monkeypatch, answer, code, sent):
    shop = scripted("shop", "kiosk")
    make(3)
    make(1200, "kiosk", status="paid")
    monkeypatch.setattr(sys, "stdin", io.StringIO(answer))
    ended = manage("cancel_invoices", "--all")
    assert "        3  shop\nCancel 3 invoices? [y/N] " in ended.err
    assert (ended.code, shop.cancel_count) == (code, sent)
    assert ("nothing was sent" in ended.err) == (code == 1)


def test_it_names_the_limit_when_it_asks(shop, make, manage, monkeypatch):
    make(1200)
    monkeypatch.setattr(sys, "stdin", io.StringIO("n"))
    assert "Cancel 1,200 invoices, at most 5 of them? [y/N]" in manage("cancel_invoices", "--all", "--limit", "5").err
    assert shop.cancel_count == 0


def test_ctrl_c_at_the_question_sends_nothing(shop, make, manage, monkeypatch):
    class Interrupted(io.StringIO):
        def readline(self, *args):
            raise KeyboardInterrupt

    make(1)
    monkeypatch.setattr(sys, "stdin", Interrupted())
    ended = manage("cancel_invoices", "--all")
    assert (ended.code, shop.cancel_count, rows_each()) == (130, 0, {})


def test_nothing_to_cancel_is_not_asked_about(shop, manage):
    ended = manage("cancel_invoices", "--all")
    assert (ended.code, ended.out, ended.err) == (0, "0 invoices: nothing to do\n", "")
    assert shop.cancel_count == 0


# -- what it says -----------------------------------------------------------------------------------------------------


def test_dry_run_says_what_would_be_done_and_does_nothing(shop, make, manage, django_assert_max_num_queries):
    make(120)
    make(1, status="paid")
    with django_assert_max_num_queries(8):
        ended = manage("cancel_invoices", "--provider", "shop", "--dry-run", "000120", "000001", "--format", "jsonl")
    said = [json.loads(line) for line in ended.out.splitlines()]
    assert [(line["external_id"], line["outcome"], line["code"]) for line in said] == [
        ("000001", "skipped", "dry_run"),
        ("000120", "skipped", "has_payment"),
    ]
    assert manage("cancel_invoices", "--all", "--dry-run", "--limit", "70").out.startswith("70 invoices: 70 skipped")
    assert (ended.code, shop.cancel_count, rows_each()) == (0, 0, {})


def test_jsonl_puts_results_and_nothing_else_on_stdout(shop, make, manage):
    shop.next_cancels("refused")
    make(3)
    ended = manage(*ALL, "--format", "jsonl", "--concurrency", "1")
    said = [json.loads(line) for line in ended.out.splitlines()]
    assert [(line["external_id"], line["outcome"]) for line in said] == [
        ("000000", "refused"),
        ("000001", "canceled"),
        ("000002", "canceled"),
    ]
    assert said[0]["message"] == "Scripted provider refused to cancel it."
    assert "3 invoices: 2 canceled · 1 refused" in ended.err
    assert shop.cancel_count == 3


def test_summary_groups_the_reasons_and_gives_examples(shop, make, manage):
    make(9)
    for number in range(5):
        shop.next_cancels("not_found", external_id=f"00000{number}")
    shop.next_cancels("paid", external_id="000005")
    ended = manage(*ALL, "--concurrency", "1")
    assert ended.out == (
        "9 invoices: 6 refused · 3 canceled\n"
        "        5  shop  refused   Scripted provider does not know this invoice.\n"
        "                           000000, 000001, 000002 and 2 more\n"
        "        3  shop  canceled  Scripted provider confirmed the cancellation.\n"
        "        1  shop  refused   It holds money.\n"
        "                           000005\n"
    )
    assert (ended.code, shop.cancel_count) == (0, 9)


def test_nothing_is_said_at_verbosity_0_but_what_is_wrong(shop, make, manage):
    make(3)
    shop.next_cancels("in_doubt")
    ended = manage(*ALL, "-v", "0")
    assert (ended.code, ended.out) == (3, "")
    assert ended.err == "1 in doubt. Do not cancel them again: reconcile_invoices finds out."
    assert shop.cancel_count == 3


def test_without_a_terminal_a_line_comes_now_and_then(shop, make, manage, monkeypatch):
    monkeypatch.setattr("django_invoice_cancel.management.progress.EVERY_SECONDS", 0.0)
    make(3)
    ended = manage(*ALL, "--concurrency", "1")
    assert ended.err.splitlines()[-1] == "Canceling: 3 of 3 (3 canceled)"
    assert shop.cancel_count == 3


# -- how it ends ------------------------------------------------------------------------------------------------------

ENDS = {
    "all answered": (["canceled", "paid", "refused", "not_found", "expired"], 0),
    "some in doubt": (["canceled", "in_doubt"], 3),
    "in doubt outweighs not tried": (["in_doubt", "bad_credentials"], 3),
    "credentials rejected": (["bad_credentials"], 4),
    "not processed twice": (["not_processed"] * 5, 4),
}


@pytest.mark.parametrize("case", ENDS)
def test_exit_code_is_the_gravest(scripted, make, manage, case):
    answers, code = ENDS[case]
    shop = scripted(concurrency=1)
    make(5)
    shop.next_cancels(*answers)
    if answers[-1] == "bad_credentials":
        shop.all_cancels("bad_credentials")
    ended = manage(*ALL)
    assert (ended.code, shop.cancel_count > 0) == (code, True)
    assert (ended.err == "") == (code == 0)


def test_what_is_not_recorded_is_as_grave_as_doubt(shop, make, manage, monkeypatch):
    from django_invoice_cancel.models.verbs.records import Records

    def fail(*args, **kwargs):
        raise ZeroDivisionError

    monkeypatch.setattr(Records, "record", fail)
    make(2)
    ended = manage(*ALL)
    assert (ended.code, shop.cancel_count, statuses()) == (3, 2, {"canceling": 2})
    assert "2 not recorded: reconcile_invoices repairs that." in ended.err


def test_misconfigured_alias_is_not_tried(scripted, make, manage):
    shop = scripted()
    make(2)
    make(3, "nobody")
    ended = manage(*ALL)
    assert (ended.code, shop.cancel_count) == (4, 2)
    assert "3 not tried or not processed: unchanged." in ended.err
