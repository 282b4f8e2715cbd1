"""A failing provider: exit codes and messages name it once. Cron does not receive the same message every minute."""

import logging
import subprocess
import sys
from datetime import timedelta

import pytest
from django.db import transaction

from django_invoice_cancel.domain.outcomes import Outcome, ProviderReply
from django_invoice_cancel.models import BulkOperation, Invoice, ProviderState
from django_invoice_cancel.services.cancel import cancel_invoice
from django_invoice_cancel.testing import ScriptedProvider, make_invoice
from tests.support.invoices import count_statuses
from tests.support.logs import count_answers, count_invoices_by_log_rows
from tests.support.results import count_codes

pytestmark = pytest.mark.django_db
ALL = ["cancel_invoices", "--all", "--noinput", "-v", "0"]
MINUTE, HOUR = 60.0, 3600.0


# -- another project's key (P9) ---------------------------------------------------------------------------------


@pytest.mark.parametrize("arguments", [[], ["-v", "0"]], ids=" ".join)
def test_account_that_knows_none_of_ten_invoices_ends_with_4_and_names_what_to_check(shop, make, manage, arguments):
    make(40)
    shop.all_cancels("not_found")
    ended = manage("cancel_invoices", "--all", "--noinput", *arguments)
    assert ended.code == 4
    assert "'shop' knows none of these" in ended.err
    assert "its credentials belong to the project that issued them" in ended.err
    assert count_statuses() == {"created": 40}
    assert 10 <= shop.cancel_count < 10 + shop.concurrency
    assert count_answers() == {"not_found": shop.cancel_count}


def test_run_after_a_corrected_key_cancels_all(shop, make, manage):
    make(40)
    shop.all_cancels("not_found")
    assert manage(*ALL).code == 4
    sent = shop.cancel_count
    shop.all_cancels(None)
    assert manage(*ALL).code == 0
    assert shop.cancel_count - sent == 40
    assert count_statuses() == {"canceled": 40}


@pytest.mark.parametrize(
    ("unknown", "known", "code"), [(9, 0, 0), (10, 0, 4), (12, 1, 0)], ids=["9", "10", "12 and a known one"]
)
def test_few_unknown_invoices_among_known_ones_are_not_reported(scripted, make, manage, unknown, known, code):
    shop = scripted(concurrency=1)
    make(known + unknown)
    shop.next_cancels(*["refused"] * known, *["not_found"] * unknown)
    assert manage(*ALL).code == code
    assert shop.cancel_count == known + unknown


def test_run_ends_after_ten_unknown_invoices_and_leaves_others_unchanged(scripted, make):
    shop = scripted(concurrency=1)
    make(200)
    shop.all_cancels("not_found")
    report = Invoice.objects.all().cancel()
    assert count_codes(report.results) == {"not_found": 10, "unknown_invoices": 190}
    assert shop.cancel_count == 10
    assert count_statuses() == {"created": 200}
    assert count_invoices_by_log_rows().get(2) == 10
    assert Invoice.objects.filter(last_outcome="").count() == 190


def test_unknown_invoices_after_a_known_one_do_not_end_the_run(scripted, make):
    shop = scripted(concurrency=1)
    make(40)
    shop.next_cancels("canceled")
    shop.all_cancels("not_found")
    Invoice.objects.all().cancel()
    assert shop.cancel_count == 40


def test_account_that_knows_no_invoice_does_not_stop_the_others(scripted, make):
    scripted("shop", "kiosk", concurrency=2)
    make(60)
    make(60, "kiosk")
    ScriptedProvider.of("kiosk").all_cancels("not_found")
    Invoice.objects.all().cancel()
    assert ScriptedProvider.of("shop").cancel_count == 60
    assert 10 <= ScriptedProvider.of("kiosk").cancel_count <= 11


def test_single_cancellations_are_not_ended_by_unknown_invoices(shop, make):
    make(15)
    shop.all_cancels("not_found")
    for invoice in Invoice.objects.all():
        cancel_invoice(invoice)
    assert shop.cancel_count == 15


def test_only_the_account_that_knows_none_is_named(scripted, make, manage):
    scripted("shop", "kiosk")
    make(12)
    make(12, "kiosk")
    ScriptedProvider.of("kiosk").all_cancels("not_found")
    ended = manage(*ALL)
    assert ended.code == 4
    assert "'kiosk' knows none of these" in ended.err
    assert "'shop'" not in ended.err
    assert ScriptedProvider.of("shop").cancel_count == 12


@pytest.mark.parametrize(("answer", "is_left"), [("not_found", True), ("refused", False)])
def test_unknown_invoice_stays_in_later_runs_and_a_refused_one_does_not(shop, make, answer, is_left):
    [invoice] = make(1)
    shop.next_cancels(answer)
    Invoice.objects.all().cancel()
    assert (invoice in Invoice.objects.cancelable()) is is_left
    assert Invoice.objects.get().status == "created"
    assert shop.cancel_count == 1
    assert count_answers() == {{"not_found": "not_found", "refused": "provider_refused"}[answer]: 1}


def test_refusal_after_an_unknown_answer_leaves_the_invoice_out(shop, make):
    make(1)
    shop.next_cancels("not_found", "refused")
    for _ in range(3):
        Invoice.objects.cancelable().cancel()
    assert shop.cancel_count == 2
    assert Invoice.objects.cancelable().count() == 0


# -- a lookup that is not answered ------------------------------------------------------------------------------


LOST = {
    "bad_credentials": "Scripted provider rejected our credentials.",
    "not_processed": "Scripted provider could not be reached",
    "no_answer": "No answer from Scripted provider",
    "rate_limited": "asks for fewer requests",
}


@pytest.mark.parametrize("status", ["created", "paid", "canceled", "expired"])
@pytest.mark.parametrize("answer", LOST)
def test_unanswered_lookups_of_a_status_end_with_4_and_are_named(shop, manage, status, answer):
    for _ in range(3):
        make_invoice(status, provider="shop")
    shop.reset()
    shop.all_lookups(answer)
    ended = manage("reconcile_invoices", "--status", status, "--now", "-v", "0")
    assert ended.code == 4
    assert ended.out == ""
    assert "shop" in ended.err
    assert LOST[answer] in ended.err
    assert shop.lookup_count == 1
    assert count_statuses() == {status: 3}


@pytest.mark.parametrize("status", ["created", "paid", "canceled"])
def test_unanswered_lookup_is_reported_instead_of_the_stored_status(shop, status):
    """The caller requested the provider's status, so a missing answer does not count as "paid"."""
    invoice = make_invoice(status, provider="shop")
    shop.all_lookups("not_processed")
    found = invoice.reconcile()
    assert found.outcome == "skipped"
    assert found.code == "unreachable"
    assert found.status == status
    assert found.ok is False


@pytest.mark.parametrize("answer", ["created", "not_found", "unknown_status", "paid"])
def test_lookups_that_are_answered_end_with_0(shop, manage, answer):
    make_invoice("created", provider="shop")
    shop.all_lookups(answer)
    assert manage("reconcile_invoices", "--status", "created", "-v", "0").code == 0
    assert shop.lookup_count == 1


def test_each_reason_is_named_once_for_each_account(scripted, manage):
    scripted("shop", "kiosk")
    for alias in ("shop", "kiosk"):
        ScriptedProvider.of(alias).all_lookups("not_processed")
        for _ in range(3):
            make_invoice("created", provider=alias)
    ended = manage("reconcile_invoices", "--status", "created", "-v", "0")
    assert ended.err.count("could not be reached") == 2
    assert ended.err.startswith("Not tried or not processed, and unchanged: 6. Run the command again later. ")


# -- a provider without a lookup --------------------------------------------------------------------------------


@pytest.mark.parametrize("status", ["created", "canceled", "paid"])
def test_status_option_skips_providers_without_lookup(scripted, manage, status):
    scripted("shop", supports_lookup=False)
    make_invoice(status, provider="shop")
    for arguments in ([], ["--dry-run"]):
        ended = manage("reconcile_invoices", "--status", status, *arguments)
        assert ended.code == 0
        assert ended.out == "0 invoices: nothing to do\n"


@pytest.mark.parametrize("arguments", [[], ["--dry-run"], ["--now"]], ids=" ".join)
def test_status_option_with_a_provider_without_lookup_is_an_error(scripted, manage, arguments):
    scripted("shop", supports_lookup=False)
    make_invoice("created", provider="shop")
    ended = manage("reconcile_invoices", "--status", "created", "--provider", "shop", *arguments)
    assert ended.code == 1
    assert ended.err == "Provider 'shop' has no status lookup."


@pytest.mark.parametrize("verbosity", [0, 1])
def test_nothing_selected_is_not_stored_as_an_operation(shop, make, manage, verbosity):
    make(2, status="paid")
    ended = manage("cancel_invoices", "--all", "--background", "--noinput", "-v", str(verbosity))
    assert ended.code == 0
    assert ended.out == ""
    assert BulkOperation.objects.count() == 0
    assert ended.err == ("No invoices are selected, so no operation was stored.\n" if verbosity else "")


# -- the log file -----------------------------------------------------------------------------------------------


def warnings(caplog):
    """Return the levels and texts of the records of this app that are worse than INFO."""
    found = [record for record in caplog.records if record.name == "django_invoice_cancel"]
    return [(record.levelname, record.getMessage()) for record in found if record.levelno > logging.INFO]


def test_new_doubt_is_logged_as_a_warning_once(shop, manage, caplog, clock):
    make_invoice("created", provider="shop")
    shop.all_cancels("in_doubt")
    manage(*ALL)
    assert [level for level, _ in warnings(caplog)] == ["WARNING"]
    caplog.clear()
    for _ in range(5):
        clock.advance(6 * MINUTE)
        shop.next_lookups("unknown_status")
        assert manage("reconcile_invoices", "--now", "-v", "0").code == 3
    assert warnings(caplog) == []
    assert shop.lookup_count == 5


def test_abandoned_claim_is_logged_as_a_warning_once(shop, manage, caplog):
    make_invoice("abandoned", provider="shop", external_id="17")
    for _ in range(3):
        manage("reconcile_invoices", "--now", "-v", "0")
    assert warnings(caplog) == [("WARNING", "shop 17: in doubt, because the process that was canceling it has ended.")]
    assert shop.lookup_count == 3


@pytest.mark.parametrize("order", ["canceled paid", "paid canceled"])
def test_payment_of_a_canceled_invoice_is_logged_as_an_error_once(
    shop, caplog, django_capture_on_commit_callbacks, order
):
    invoice = make_invoice("created", provider="shop", external_id="late")
    caplog.clear()
    with django_capture_on_commit_callbacks(execute=True):
        for status in (*order.split(), *order.split()):
            invoice.observe_status(status)
    assert warnings(caplog) == [
        ("ERROR", "shop late: a payment was received (paid), but its cancellation was confirmed.")
    ]
    assert shop.cancel_count == 0


def test_contradiction_is_logged_as_a_warning_once(shop, manage, caplog, django_capture_on_commit_callbacks):
    make_invoice("expired", provider="shop", external_id="open", age=timedelta(days=1))
    shop.all_lookups("created")
    with django_capture_on_commit_callbacks(execute=True):
        for _ in range(3):
            manage("reconcile_invoices", "--status", "expired", "-v", "0")
    assert warnings(caplog) == [("WARNING", "shop open: the provider calls it open, and it is stored as expired.")]
    assert shop.lookup_count == 3


def test_rolled_back_payment_is_not_logged(shop, caplog, django_capture_on_commit_callbacks):
    invoice = make_invoice("canceled", provider="shop")
    with django_capture_on_commit_callbacks(execute=True), transaction.atomic():
        invoice.observe_status("paid")
        transaction.set_rollback(True)
    assert warnings(caplog) == []
    assert count_statuses() == {"canceled": 1}


# -- cron and a provider that does not answer -------------------------------------------------------------------


@pytest.mark.parametrize("doubts", [1, pytest.param(20, marks=pytest.mark.slow)])
@pytest.mark.parametrize("answer", ["not_processed", "no_answer"])
def test_lost_lookup_does_not_advance_the_backoff_and_is_not_repeated_each_minute(shop, manage, clock, doubts, answer):
    for _ in range(doubts):
        make_invoice("in_doubt", provider="shop", age=timedelta(minutes=2))
    shop.all_lookups(answer)
    for _ in range(12):
        manage("reconcile_invoices", "-v", "0")
        clock.advance(MINUTE)
    assert shop.lookup_count == 3  # at the minutes 0, 5 and 10
    assert set(Invoice.objects.values_list("check_count", flat=True)) == {0}
    shop.all_lookups("canceled")
    clock.advance(5 * MINUTE)
    assert manage("reconcile_invoices", "-v", "0").code == 0
    assert count_statuses() == {"canceled": doubts}


def run_cron(manage, clock, times, *arguments):
    """Run cron each minute; return the exit codes, and the numbers of the runs with output."""
    exit_codes, with_output = [], []
    for number in range(times):
        ended = manage("reconcile_invoices", *arguments)
        exit_codes.append(ended.code)
        with_output += [number] if ended.out or ended.err else []
        clock.advance(MINUTE)
    return exit_codes, with_output


@pytest.mark.parametrize("kind", ["in_doubt", "requested"])
def test_cron_reports_a_pause_once(shop, manage, clock, kind):
    for _ in range(3):
        make_invoice(kind, provider="shop", age=timedelta(minutes=2))
    shop.reset()
    writer = Invoice.objects.all()._writer
    writer.pause("shop", "bad_credentials", 12 * MINUTE)
    assert run_cron(manage, clock, 10, "-v", "0") == ([4] * 10, [0])
    clock.advance(10 * MINUTE)
    writer.pause("shop", "bad_credentials", 12 * MINUTE)
    assert run_cron(manage, clock, 10, "-v", "0") == ([4] * 10, [0])
    assert shop.lookup_count == 0
    assert shop.cancel_count == 0


def test_report_of_a_pause_names_the_account_and_the_reason(shop, manage):
    make_invoice("requested", provider="shop", age=timedelta(minutes=2))
    Invoice.objects.all()._writer.pause("shop", "bad_credentials", HOUR)
    assert manage("reconcile_invoices", "-v", "0").err == (
        "Not tried or not processed, and unchanged: 1. Run the command again later. "
        "shop: Scripted provider is paused after failed requests; nothing was sent."
    )


def test_without_v_0_each_run_reports_the_pause(shop, manage, clock):
    make_invoice("requested", provider="shop", age=timedelta(minutes=2))
    Invoice.objects.all()._writer.pause("shop", "bad_credentials", HOUR)
    assert run_cron(manage, clock, 3) == ([4] * 3, [0, 1, 2])


def test_reported_pause_does_not_hide_other_problems(scripted, manage, clock):
    scripted("shop", "kiosk")
    make_invoice("requested", provider="shop", age=timedelta(minutes=2))
    Invoice.objects.all()._writer.pause("shop", "bad_credentials", HOUR)
    assert run_cron(manage, clock, 3, "-v", "0") == ([4] * 3, [0])
    make_invoice("requested", provider="kiosk", age=timedelta(minutes=2))
    ScriptedProvider.of("kiosk").all_cancels("not_processed")
    ended = manage("reconcile_invoices", "-v", "0")
    assert ended.code == 4
    assert ended.err == (
        "Not tried or not processed, and unchanged: 1. Run the command again later. "
        "kiosk: Scripted provider could not be reached; nothing was sent."
    )


def test_pause_that_began_in_a_run_is_not_reported_by_the_next(scripted, manage, clock):
    shop = scripted(concurrency=1)
    for number in range(3):
        make_invoice("requested", provider="shop", external_id=f"{number}", age=timedelta(minutes=2))
    shop.all_cancels("bad_credentials")
    exit_codes, with_output = run_cron(manage, clock, 4, "-v", "0")
    assert exit_codes == [4] * 4
    assert with_output == [0]
    assert shop.cancel_count == 1


@pytest.mark.slow
@pytest.mark.django_db(transaction=True)
def test_cron_process_prints_nothing_about_a_reported_pause(child_env):
    """The exit code is kept: only the mail is not sent again."""
    make_invoice("requested", provider="cryptocloud", age=timedelta(minutes=2))
    Invoice.objects.all()._writer.pause("cryptocloud", "bad_credentials", HOUR)
    command = [sys.executable, "-m", "django", "reconcile_invoices", "-v", "0", "--skip-checks"]
    ended = [subprocess.run(command, env=child_env(), capture_output=True, timeout=60) for _ in range(3)]
    assert [each.returncode for each in ended] == [4, 4, 4]
    assert [bool(each.stdout + each.stderr) for each in ended] == [True, False, False]


@pytest.mark.parametrize(
    ("answer", "level", "text"),
    [
        ("bad_credentials", "ERROR", "shop is paused for 300 s: Scripted provider rejected our credentials."),
        (
            ProviderReply(Outcome.NOT_PROCESSED, "rate_limited", retry_after=600.0),
            "WARNING",
            "shop is paused for 600 s: Scripted provider asks for fewer requests",
        ),
    ],
    ids=["credentials", "429"],
)
@pytest.mark.parametrize("is_bulk", [False, True], ids=["single", "bulk"])
def test_pause_is_logged_once_and_not_for_each_invoice_that_waits(scripted, make, caplog, answer, level, text, is_bulk):
    shop = scripted(concurrency=1)
    make(30)
    shop.all_cancels(answer)
    cancel_invoice(Invoice.objects.first())
    if is_bulk:
        caplog.clear()
        ProviderState.objects.all().delete()
        Invoice.objects.all().cancel(limit=20)
    for invoice in Invoice.objects.cancelable():
        cancel_invoice(invoice)
    [(found_level, found)] = warnings(caplog)
    assert found_level == level
    assert found.startswith(text) is True
    assert shop.cancel_count == 1 + is_bulk
