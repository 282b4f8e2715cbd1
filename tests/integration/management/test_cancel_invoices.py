"""``cancel_invoices``: its selection, the errors before anything is sent, and the confirmation."""

import io
import os
import sys
from datetime import timedelta

import pytest
from django.contrib.auth import get_user_model
from django.db import transaction
from django.utils import timezone

from django_invoice_cancel.domain.audit import AuditContext
from django_invoice_cancel.models import Invoice
from django_invoice_cancel.testing import make_invoice
from tests.support.invoices import count_statuses
from tests.support.logs import count_invoices_by_log_rows

pytestmark = pytest.mark.django_db

ALL = ["cancel_invoices", "--all", "--noinput"]
INVALID = {
    # case: (arguments, exit code, text in the message)
    "no selector": ([], 1, "--older-than 2d, or --all"),
    "no selector but a limit": (["--limit", "3"], 1, "--all"),
    "ids without a provider": (["000000"], 1, "--provider"),
    "unknown alias": (["--provider", "nobody"], 1, "'nobody'"),
    "unknown id": (["000000", "nonsense", "--provider", "shop"], 1, "nonsense"),
    "id that is none": (["000000", "a b", "--provider", "shop"], 1, "'a b'"),
    "file that is not there": (["--from-file", "/nowhere/ids", "--provider", "shop"], 1, "/nowhere/ids"),
    "a file without a name": (["--from-file", "", "--provider", "shop", "--noinput"], 1, "'' cannot be read"),
    "a file without a name or provider": (["--from-file", "", "--noinput"], 1, "require --provider"),
    "a provider without a name": (
        ["--older-than", "2d", "--provider", "", "--noinput"],
        1,
        "Provider '' is not configured",
    ),
    "in the background elsewhere": (
        ["--all", "--noinput", "--background", "--database", "other"],
        1,
        "requires database 'default'",
    ),
    "stdin without --noinput": (["--from-file", "-", "--provider", "shop"], 1, "--noinput"),
    "ids and a filter": (["000000", "--provider", "shop", "--older-than", "2d"], 1, "--older-than"),
    "an age that is none": (["--older-than", "soon"], 1, "'soon' is not a valid age"),
    "an age of nothing": (["--provider", "shop", "--older-than", "0d"], 1, "'0d' is not a valid age"),
    "a time that is none": (["--expires-before", "2026-13-01"], 1, "'2026-13-01' is not a valid time"),
    "a time off the calendar": (["--expires-before", "9999-12-31T23:59-12:00"], 1, "-12:00' is not a valid time"),
    "limit 0": (["--all", "--limit", "0"], 1, "'0' is not a whole number from 1 to 1000000000"),
    "limit -1": (["--all", "--limit", "-1"], 1, "-1"),
    "concurrency many": (["--all", "--concurrency", "many"], 1, "'many'"),
    "concurrency 1001": (["--all", "--concurrency", "1001"], 1, "'1001' is not a whole number from 1 to 1000."),
    "limit of 31 digits": (["--all", "--limit", "1" + "0" * 30], 1, "is not a whole number from 1 to 1000000000."),
    "limit of 5000 digits": (["--all", "--limit", "1" * 5000], 1, "--limit"),
    **{
        f"rate {text}": (
            ["--all", "--rate", text],
            1,
            f"'{text}' is not a number of requests a second from 0.001 to 1000",
        )
        for text in ("0", "-1", "1e-320", "1e-6", "0.0009", "nan", "inf", "1e300", "many")
    },
    "a reason that is too long": (["--all", "--reason", "x" * 1001], 1, "at most 1000 characters, not 1,001."),
    "unknown database": (["--all", "--database", "elsewhere"], 1, "elsewhere"),
    "unknown format": (["--all", "--format", "xml"], 1, "xml"),
}


@pytest.mark.parametrize("case", INVALID)
def test_invalid_input_is_named_before_any_request(shop, make, manage, case):
    arguments, code, named = INVALID[case]
    make(3)
    ended = manage("cancel_invoices", *arguments)
    assert ended.code == code
    assert ended.out == ""
    assert named in ended.err
    assert shop.cancel_count == 0
    assert count_invoices_by_log_rows() == {}
    assert count_statuses() == {"created": 3}


@pytest.mark.parametrize("name", ["limit", "concurrency", "rate"])
@pytest.mark.parametrize("value", [0, -1, "3", float("nan"), float("inf"), True, 1e300, 1e-320])
def test_options_of_call_command_are_checked_too(shop, make, manage, name, value):
    """``call_command`` does not read keywords as a shell's arguments are read: 0 must not mean "no limit"."""
    make(3)
    ended = manage("cancel_invoices", all=True, noinput=True, **{name: value})
    assert ended.code == 1
    assert ended.out == ""
    assert ended.err.startswith(f"--{name} must be ")
    assert ended.err.endswith(f", not {value!r}.")
    assert shop.cancel_count == 0
    assert count_invoices_by_log_rows() == {}


@pytest.mark.parametrize(
    ("name", "value", "named"),
    [
        ("older_than", "soon", "--older-than: 'soon' is not a valid age"),
        ("expires_before", "x", "--expires-before: 'x' is"),
        ("reason", "x" * 1001, "--reason: A reason has at most 1000 characters"),
    ],
)
def test_texts_of_call_command_are_parsed_as_in_a_shell(shop, make, manage, name, value, named):
    make(3)
    ended = manage("cancel_invoices", all=True, noinput=True, **{name: value})
    assert ended.code == 1
    assert ended.out == ""
    assert shop.cancel_count == 0
    assert ended.err.startswith(named)


@pytest.mark.parametrize("is_call", [True, False], ids=["call_command", "shell"])
def test_reason_is_stripped_as_in_a_form(shop, make, manage, is_call):
    [invoice] = make(1)
    text = f"  {'x' * 1000}\n"
    ended = (
        manage("cancel_invoices", all=True, noinput=True, reason=text)
        if is_call
        else manage("cancel_invoices", "--all", "--noinput", "--reason", text)
    )
    assert ended.code == 0
    assert shop.cancel_count == 1
    assert invoice.transitions.order_by("id").last().reason == "x" * 1000


def test_age_of_call_command_selects_as_in_a_shell(shop, make, manage):
    make(1, issued_at=timezone.now() - timedelta(days=3))
    make(1)
    assert manage("cancel_invoices", older_than="2d", noinput=True).code == 0
    assert shop.cancels == ["000000"]


def test_unreadable_bytes_are_named(shop, make, manage, tmp_path):
    make(1)
    (tmp_path / "ids").write_bytes(b"\xff\xfe\x00")
    ended = manage("cancel_invoices", "--provider", "shop", "--noinput", "--from-file", str(tmp_path / "ids"))
    assert ended.code == 1
    assert shop.cancel_count == 0
    assert "Nothing was sent." in ended.err


def test_unknown_ids_of_a_file_are_named_with_their_lines(shop, make, manage, tmp_path):
    make(2)
    (tmp_path / "ids").write_text("000000\nlost\n\n000001\nalso lost\n")
    ended = manage("cancel_invoices", "--provider", "shop", "--noinput", "--from-file", str(tmp_path / "ids"))
    assert "line 2: lost" in ended.err
    assert "line 5: 'also lost' is not an id" in ended.err
    assert ended.code == 1
    assert shop.cancel_count == 0


def test_list_of_unknown_ids_is_limited(shop, manage, tmp_path):
    (tmp_path / "ids").write_text("\n".join(f"lost-{number}" for number in range(1000)))
    ended = manage("cancel_invoices", "--provider", "shop", "--noinput", "--from-file", str(tmp_path / "ids"))
    assert "... and 980 more" in ended.err
    assert len(ended.err.splitlines()) == 22
    assert shop.cancel_count == 0


# -- the selection ---------------------------------------------------------------------------------------------------


@pytest.fixture
def selection(shop):
    """One invoice of each kind that the selectors distinguish."""
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


def test_ids_come_from_a_pipe(shop, make, manage, tmp_path, in_thread):
    """``--from-file <(psql ...)``: what cannot be read twice is kept."""
    make(3)
    os.mkfifo(tmp_path / "ids")
    writer = in_thread((tmp_path / "ids").write_text, "000002\n000000\n")
    ended = manage("cancel_invoices", "--provider", "shop", "--noinput", "--from-file", str(tmp_path / "ids"))
    writer.result(10)
    assert ended.code == 0
    assert sorted(shop.cancels) == ["000000", "000002"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [(["--noinput", "--from-file", "-"], "Stdin is closed."), ([], "Use --noinput to skip the confirmation.")],
    ids=["ids", "the answer"],
)
def test_closed_stdin_is_an_error(shop, make, manage, monkeypatch, arguments, message):
    make(3)
    monkeypatch.setattr(sys, "stdin", None)  # as Python does for <&-
    ended = manage("cancel_invoices", "--provider", "shop", *arguments)
    assert ended.code == 1
    assert shop.cancel_count == 0
    assert count_statuses() == {"created": 3}
    assert count_invoices_by_log_rows() == {}
    assert ended.err.endswith(message)


def test_request_repeated_after_a_refusal_is_carried_out(shop, make, manage):
    """The request is newer than the refusal, so a new attempt does not clear it."""
    [invoice] = make(1)
    shop.next_cancels("refused")
    make(0).cancel()
    invoice._writer.request_cancel(invoice, AuditContext("anna"))
    assert manage("cancel_invoices", "--requested", "--noinput").code == 0
    assert shop.cancel_count == 2
    assert count_statuses() == {"canceled": 1}


def test_limit_concurrency_and_rate_reach_the_run(shop, make, manage):
    make(30)
    ended = manage(*ALL, "--limit", "5", "--concurrency", "1", "--rate", "500")
    assert ended.out.startswith("5 invoices: 5 canceled\n")
    assert shop.cancels == [f"00000{n}" for n in range(5)]
    assert count_statuses() == {"canceled": 5, "created": 25}


@pytest.mark.django_db(databases=["default", "other"])
def test_other_database(shop, make, manage):
    make(2)
    make(3, using="other")
    assert manage(*ALL, "--database", "other").code == 0
    assert shop.cancel_count == 3
    assert count_statuses() == {"created": 2}
    assert count_statuses("other") == {"canceled": 3}


@pytest.mark.parametrize("known", [True, False], ids=["a user", "a label"])
def test_actor_and_reason_are_in_the_log(shop, make, manage, known):
    user = get_user_model().objects.create_user("till") if known else None
    make(1)
    manage(*ALL, "--actor", "till", "--reason", "unpaid for a week")
    [last] = Invoice.objects.get().transitions.filter(to_status="canceled")
    assert last.actor == user
    assert last.actor_label == "till"
    assert last.reason == "unpaid for a week"
    assert last.trigger == "command"
    assert shop.cancel_count == 1


def test_missing_required_reason_is_an_error(scripted, make, manage):
    shop = scripted(REQUIRE_REASON=True)
    make(1)
    ended = manage(*ALL)
    assert ended.code == 1
    assert shop.cancel_count == 0
    assert "--reason" in ended.err
    assert manage(*ALL, "--reason", "closing down").code == 0


@pytest.mark.django_db(transaction=True)
def test_command_inside_a_transaction_is_an_error(shop, make, manage):
    make(1)
    with transaction.atomic():
        ended = manage(*ALL)
    assert ended.code == 1
    assert shop.cancel_count == 0
    assert count_statuses() == {"created": 1}
    assert count_invoices_by_log_rows() == {}
    assert "cancel_on_commit" in ended.err


# -- confirmation -----------------------------------------------------------------------------------------------------


UNCONFIRMED = "Not confirmed. Nothing was sent. Use --noinput to skip the confirmation."
REFUSAL = {"y\n": "", "YES\n": "", "n\n": UNCONFIRMED, "\n": UNCONFIRMED, "": "\n" + UNCONFIRMED}


@pytest.mark.parametrize(
    ("answer", "code", "sent"),
    [("y\n", 0, 3), ("YES\n", 0, 3), ("n\n", 1, 0), ("\n", 1, 0), ("", 1, 0)],
    ids=["y", "yes", "n", "return", "no stdin"],
)
def test_confirmation_names_the_counts_by_provider(scripted, make, manage, monkeypatch, answer, code, sent):
    shop = scripted("shop", "kiosk")
    make(3)
    make(12, "kiosk", status="paid")
    monkeypatch.setattr(sys, "stdin", io.StringIO(answer))
    ended = manage("cancel_invoices", "--all")
    assert "        3  shop\nCancel 3 invoices? [y/N] " in ended.err
    assert ended.code == code
    assert shop.cancel_count == sent
    assert ended.err.endswith("[y/N] " * (code == 0) + REFUSAL[answer])


def test_confirmation_names_the_limit(shop, make, manage, monkeypatch):
    make(1200)
    monkeypatch.setattr(sys, "stdin", io.StringIO("n"))
    assert "Cancel 1,200 invoices, at most 5 of them? [y/N]" in manage("cancel_invoices", "--all", "--limit", "5").err
    assert shop.cancel_count == 0


def test_interrupt_at_the_confirmation_sends_nothing(shop, make, manage, monkeypatch):
    class Interrupted(io.StringIO):
        def readline(self, *args):
            raise KeyboardInterrupt

    make(1)
    monkeypatch.setattr(sys, "stdin", Interrupted())
    ended = manage("cancel_invoices", "--all")
    assert ended.code == 130
    assert shop.cancel_count == 0
    assert count_statuses() == {"created": 1}
    assert count_invoices_by_log_rows() == {}
    assert ended.err.endswith("[y/N] \nNot confirmed. Nothing was sent.")


def test_empty_selection_needs_no_confirmation(shop, manage):
    ended = manage("cancel_invoices", "--all")
    assert ended.code == 0
    assert ended.out == "0 invoices: nothing to do\n"
    assert ended.err == ""
    assert shop.cancel_count == 0
