"""Requested cancellations in the commands: selection, backoff, options, and one report for both parts."""

import itertools
import json
import os
import signal
from datetime import timedelta

import pytest
from django.contrib.auth.models import User

from django_invoice_cancel.domain.audit import AuditContext
from django_invoice_cancel.domain.clock import utc_now
from django_invoice_cancel.models import Invoice
from django_invoice_cancel.models.writes.requests import RequestWriter
from django_invoice_cancel.testing import ScriptedProvider, make_invoice
from tests.support.invoices import count_statuses
from tests.support.logs import count_answers

pytestmark = pytest.mark.django_db
MINUTE, HOUR, DAY = 60.0, 3600.0, 86_400.0


def requested(external_id="asked", provider="shop", age=timedelta(minutes=2), **fields):
    """Store an invoice whose cancellation was requested, by a process that ended before it sent the request."""
    return make_invoice("requested", provider=provider, external_id=external_id, age=age, **fields)


def request(invoice, actor, reason=""):
    assert invoice._writer.request_cancel(invoice, AuditContext(actor, "on_commit", reason))


def claimed_by():
    """Return who is named by the claims in the log, by the invoice's id."""
    rows = Invoice.objects.filter(transitions__to_status="canceling").order_by("transitions__id")
    names = ("external_id", "transitions__actor_label", "transitions__reason", "transitions__trigger")
    return {row[0]: row[1:] for row in rows.values_list(*names)}


def back_off(external_id="asked"):
    """Return the number of tries and the seconds until the next one."""
    invoice = Invoice.objects.get(external_id=external_id)
    return invoice.cancel_try_count, round((invoice.cancel_try_at - utc_now()).total_seconds())


# -- requests --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("age", "sent"), [(0, 0), (59, 0), (61, 1), (DAY, 1)], ids=["at once", "59 s", "61 s", "a day"]
)
def test_reconcile_sends_a_requested_cancellation_that_is_due(shop, manage, age, sent):
    requested(age=timedelta(seconds=age))
    make_invoice("created", provider="shop", external_id="open")
    assert manage("reconcile_invoices", "-v", "0").code == 0
    assert shop.cancel_count == sent
    assert shop.lookup_count == 0
    assert count_statuses() == ({"canceled": 1, "created": 1} if sent else {"created": 2})


@pytest.mark.parametrize("status", ["created", "canceled", "paid"])
def test_reconcile_of_a_status_sends_no_cancel_request(shop, manage, status):
    requested()
    manage("reconcile_invoices", "--status", status)
    manage("reconcile_invoices", "--status", status, "--dry-run")
    assert shop.cancel_count == 0
    assert back_off()[0] == 0


def test_now_looks_up_invoices_that_are_not_due_and_sends_no_early_request(shop, manage):
    requested(age=timedelta())
    make_invoice("in_doubt", provider="shop")
    shop.reset()
    assert manage("reconcile_invoices", "--now").code == 3
    assert shop.lookup_count == 1
    assert shop.cancel_count == 0


def test_lookup_that_finds_the_invoice_canceled_replaces_the_request(shop, manage, clock):
    """A lookup and a request are due for one row, because a previous lookup found it still open."""
    requested()
    shop.next_cancels("in_doubt", "not_processed")
    manage("reconcile_invoices")
    clock.advance(16 * MINUTE)
    assert manage("reconcile_invoices").code == 4  # still open, and tried again
    clock.advance(HOUR)
    shop.set_status("asked", "canceled")
    assert manage("reconcile_invoices").code == 0
    assert shop.lookup_count == 2
    assert shop.cancel_count == 2
    assert count_statuses() == {"canceled": 1}
    assert count_answers() == {"requested": 1, "no_answer": 1, "still_open": 1, "unreachable": 1, "observed": 1}


def test_invoice_that_is_still_open_is_canceled_in_the_same_run(shop, manage, clock):
    requested()
    shop.next_cancels("in_doubt")
    assert manage("reconcile_invoices").code == 3
    clock.advance(16 * MINUTE)
    ended = manage("reconcile_invoices")
    assert ended.code == 0
    assert ended.out.splitlines()[0] == "2 invoices: 1 not processed · 1 canceled"
    assert shop.cancel_count == 2
    assert shop.lookup_count == 1
    assert count_statuses() == {"canceled": 1}


# -- the back-off -----------------------------------------------------------------------------------------------


TRIES = {
    "not_processed": 4,
    "rate_limited": 4,
    "bad_credentials": 4,
    "not_found": 0,
    "in_doubt": 3,
}


@pytest.mark.parametrize("answer", TRIES)
def test_each_run_tries_once_and_schedules_the_next_try(shop, manage, answer):
    requested()
    shop.all_cancels(answer)
    assert manage("reconcile_invoices").code == TRIES[answer]
    assert shop.cancel_count == 1
    assert back_off() == (1, 60)
    assert manage("reconcile_invoices").code == 0
    assert shop.cancel_count == 1
    assert Invoice.objects.get().cancel_requested_at is not None


def test_refusal_ends_a_requested_cancellation(shop, manage, clock):
    requested()
    shop.all_cancels("refused")
    for _ in range(3):
        assert manage("reconcile_invoices").code == 0
        clock.advance(DAY)
    assert shop.cancel_count == 1
    assert Invoice.objects.requested().count() == 0
    assert count_statuses() == {"created": 1}


def run_cron_for(days, manage, clock):
    """Run cron each time that something is due, for `days` days; return the times."""
    began = utc_now()
    while utc_now() < began + timedelta(days=days):
        manage("reconcile_invoices", "-v", "0")
        invoice = Invoice.objects.get()
        times = [invoice.next_check_at, invoice.cancel_try_at if invoice.status == "created" else None]
        due = [at for at in times if at is not None]
        wait = min(at - utc_now() for at in due).total_seconds()
        clock.advance(max(wait, 0.0) + 1)


@pytest.fixture
def sent_at(shop):
    """The times at which a cancel request reached the provider."""
    times = []
    shop.before_send = lambda external_id: times.append(utc_now())
    return times


@pytest.mark.slow
def test_provider_that_loses_each_request_gets_at_most_one_a_day(shop, manage, clock, sent_at):
    requested(age=timedelta())
    shop.all_cancels("in_doubt")
    run_cron_for(30, manage, clock)
    gaps = [(later - earlier).total_seconds() for earlier, later in itertools.pairwise(sent_at)]
    assert [gap > 15 * MINUTE for gap in gaps[:3]] == [True] * 3  # a doubt period lies between any two
    assert gaps[3] >= HOUR
    assert gaps[4] >= 6 * HOUR
    assert all(gap >= DAY for gap in gaps[5:])
    assert len(sent_at) == shop.cancel_count == 35
    assert Invoice.objects.get().cancel_requested_at is not None


def test_unreachable_provider_is_retried_after_the_documented_intervals(shop, manage, clock, sent_at):
    requested(age=timedelta())
    shop.all_cancels("not_processed")
    began = utc_now()
    run_cron_for(4, manage, clock)
    minutes = [round((at - began).total_seconds() / MINUTE) for at in sent_at]
    assert minutes == [1, 2, 7, 22, 82, 442, 1882, 3322, 4762]


def test_misconfigured_provider_advances_the_backoff_and_is_listed(shop, manage, clock, settings):
    requested()
    configured, settings.INVOICE_CANCEL = settings.INVOICE_CANCEL, {"PROVIDERS": {}}
    assert manage("reconcile_invoices").code == 4
    assert back_off() == (1, 60)
    assert manage("reconcile_invoices").code == 0
    clock.advance(DAY)
    assert Invoice.objects.needing_attention().count() == 1
    assert manage("reconcile_invoices").code == 4
    assert back_off() == (2, 5 * MINUTE)
    settings.INVOICE_CANCEL = configured
    clock.advance(6 * MINUTE)
    assert manage("reconcile_invoices").code == 0
    assert ScriptedProvider.of("shop").cancel_count == 1
    assert count_statuses() == {"canceled": 1}


def test_pause_does_not_advance_the_backoff(shop, manage, clock):
    requested()
    Invoice.objects.all()._writer.pause("shop", "bad_credentials", 10 * DAY)
    for _ in range(5):
        assert manage("reconcile_invoices", "-v", "0").code == 4
        clock.advance(DAY)
    assert shop.cancel_count == 0
    assert back_off()[0] == 0
    clock.advance(6 * DAY)
    assert manage("reconcile_invoices").code == 0
    assert shop.cancel_count == 1
    assert count_statuses() == {"canceled": 1}


def test_claim_released_by_a_pause_does_not_count_as_a_try(scripted, manage, clock):
    """Rejected credentials pause the provider while others are claimed and not sent."""
    shop = scripted(concurrency=1)
    for number in range(30):
        requested(f"{number:02d}")
    shop.next_cancels("bad_credentials")
    assert manage("reconcile_invoices").code == 4
    assert shop.cancel_count == 1
    assert count_answers()["bad_credentials"] == 1
    counts = sorted(Invoice.objects.values_list("cancel_try_count", flat=True))
    assert counts == [0] * 29 + [1]
    clock.advance(6 * MINUTE)
    assert manage("reconcile_invoices").code == 0
    assert shop.cancel_count == 31
    assert count_statuses() == {"canceled": 30}


# -- options ----------------------------------------------------------------------------------------------------


@pytest.fixture
def both(scripted):
    """At two accounts, two invoices in doubt and two whose cancellation was requested."""
    shop = scripted("shop", "kiosk")
    for alias in ("shop", "kiosk"):
        for number in (1, 2):
            make_invoice("in_doubt", provider=alias, external_id=f"{alias}-doubt-{number}", age=timedelta(minutes=30))
            requested(f"{alias}-asked-{number}", alias)
        ScriptedProvider.of(alias).reset()
    return shop


@pytest.mark.parametrize(
    ("arguments", "lookups", "cancels"),
    [
        ("", 4, 4),
        ("--limit 3", 3, 0),
        ("--limit 4", 4, 0),
        ("--limit 5", 4, 1),
        ("--limit 100", 4, 4),
        ("--provider shop", 2, 2),
        ("--provider kiosk --limit 3", 2, 1),
        ("--dry-run", 0, 0),
    ],
)
def test_options_apply_to_lookups_and_requests(both, manage, arguments, lookups, cancels):
    ended = manage("reconcile_invoices", *arguments.split())
    providers = [ScriptedProvider.of(alias) for alias in ("shop", "kiosk")]
    assert sum(len(ids) for each in providers for ids in each.lookups) == lookups
    assert sum(each.cancel_count for each in providers) == cancels
    assert ended.code == 0
    total = 8 if arguments == "--dry-run" else lookups + cancels
    assert ended.out.startswith(f"{total} invoices: ")


def test_dry_run_with_a_limit_lists_the_actions_of_a_run(both, manage):
    output = manage("reconcile_invoices", "--dry-run", "--limit", "5", "--format", "jsonl").out
    assert [json.loads(line)["code"] for line in output.splitlines()] == ["dry_run"] * 5
    output = manage("reconcile_invoices", "--dry-run", "--format", "jsonl").out
    assert sum("asked" in json.loads(line)["external_id"] for line in output.splitlines()) == 4


def test_jsonl_contains_results_of_lookups_and_requests(both, manage):
    output = manage("reconcile_invoices", "--format", "jsonl").out
    results = [(each["code"], each["external_id"]) for each in map(json.loads, output.splitlines())]
    assert sorted(code for code, _ in results) == ["canceled"] * 4 + ["still_open"] * 4
    assert [code for code, _ in results][:4] == ["still_open"] * 4


def test_exit_code_is_the_most_severe_of_lookups_and_requests(shop, manage):
    make_invoice("in_doubt", provider="shop", age=timedelta(minutes=30))
    requested()
    shop.all_lookups("no_answer")
    shop.all_cancels("not_processed")
    ended = manage("reconcile_invoices")
    assert ended.code == 3
    assert "In doubt: 1" in ended.err
    assert "unchanged: 1." in ended.err


def test_interrupt_during_the_lookups_sends_no_cancel_request(shop, manage):
    make_invoice("in_doubt", provider="shop", age=timedelta(minutes=30))
    requested()
    shop.reset()

    def interrupt(external_id):
        os.kill(os.getpid(), signal.SIGINT)
        return "created"

    shop.next_lookups(interrupt)
    assert manage("reconcile_invoices").code == 130
    assert shop.lookup_count == 1
    assert shop.cancel_count == 0
    assert count_statuses() == {"created": 2}
    assert Invoice.objects.requested().count() == 1


def test_exited_reader_stops_lookups_and_requests(both, manage, unread):
    assert manage("reconcile_invoices", "--format", "jsonl", stdout=unread).code == 130
    assert sum(ScriptedProvider.of(alias).cancel_count for alias in ("shop", "kiosk")) == 0


# -- who is named -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "command",
    [
        ["reconcile_invoices"],
        ["cancel_invoices", "--requested", "--noinput"],
        ["cancel_invoices", "--requested", "--noinput", "--actor", "cron", "--reason", "swept"],
    ],
    ids=" ".join,
)
def test_each_request_is_logged_under_its_user(scripted, manage, command):
    shop = scripted(concurrency=4)
    ada = User.objects.create_user("ada")
    people = {"a": (ada, "moved"), "b": ("till 3", "moved"), "c": (ada, "too late"), "d": (None, "")}
    for external_id, (actor, reason) in people.items():
        request(requested(external_id), actor, reason)
    assert manage(*command).code == 0
    assert shop.cancel_count == 4
    assert count_statuses() == {"canceled": 4}
    assert claimed_by() == {
        "a": ("ada", "moved", "on_commit"),
        "b": ("till 3", "moved", "on_commit"),
        "c": ("ada", "too late", "on_commit"),
        "d": ("", "", "on_commit"),
    }


def test_deleted_user_is_named_by_the_label(shop, manage):
    ada = User.objects.create_user("ada")
    request(requested(), ada, "moved")
    ada.delete()
    assert manage("reconcile_invoices").code == 0
    rows = Invoice.objects.get().transitions.exclude(code="requested")
    assert {(row.actor, row.actor_label) for row in rows} == {(None, "ada")}
    assert shop.cancel_count == 1


def test_requests_of_many_users_are_sent_in_one_run(scripted, manage):
    shop = scripted(concurrency=8)
    for number in range(50):
        request(requested(f"{number:03d}"), f"customer {number}")
    assert manage("reconcile_invoices").code == 0
    assert shop.cancel_count == 50
    assert count_statuses() == {"canceled": 50}
    assert {label for label, _, _ in claimed_by().values()} == {f"customer {number}" for number in range(50)}


# -- withdrawal -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("is_withdrawn", "sent"), [(False, 2), (True, 1)])
def test_resubmit_repeats_no_cancel_request_that_was_withdrawn(scripted, manage, clock, is_withdrawn, sent):
    shop = scripted(supports_lookup=False, is_repeat_harmless=True)
    invoice = requested()
    shop.next_cancels("in_doubt")
    manage("reconcile_invoices")
    if is_withdrawn:
        assert Invoice.objects.get().withdraw() is False
    clock.advance(16 * MINUTE)
    manage("reconcile_invoices", "--resubmit")
    invoice.refresh_from_db()
    invoice.reconcile(resubmit=True)
    assert shop.cancel_count == sent
    assert count_statuses() == ({"in_doubt": 1} if is_withdrawn else {"canceled": 1})


def test_new_request_after_a_withdrawal_may_be_repeated(scripted, manage, clock):
    shop = scripted(supports_lookup=False, is_repeat_harmless=True)
    invoice = requested()
    invoice.withdraw()
    shop.next_cancels("in_doubt")
    manage("cancel_invoices", "--all", "--noinput")
    clock.advance(16 * MINUTE)
    assert manage("reconcile_invoices", "--resubmit").code == 0
    assert shop.cancel_count == 2
    assert count_statuses() == {"canceled": 1}


# -- cancel_invoices --requested --------------------------------------------------------------------------------


def test_requested_option_sends_requests_that_are_not_due(shop, manage):
    requested(age=timedelta())
    shop.next_cancels("not_processed")
    assert [manage("cancel_invoices", "--requested", "--noinput").code for _ in range(2)] == [4, 0]
    assert shop.cancel_count == 2
    assert count_statuses() == {"canceled": 1}


def test_requested_option_advances_the_backoff(shop, manage):
    requested(age=timedelta())
    shop.all_cancels("not_processed")
    for tries, wait in ((1, MINUTE), (2, 5 * MINUTE), (3, 15 * MINUTE)):
        assert manage("cancel_invoices", "--requested", "--noinput").code == 4
        assert shop.cancel_count == tries
        assert back_off() == (tries, wait)


def test_requested_option_cannot_be_stored_as_an_operation(shop, manage):
    """An operation has one actor and one reason, and would send what is withdrawn before it runs."""
    requested()
    ended = manage("cancel_invoices", "--requested", "--background", "--noinput")
    assert ended.code == 1
    assert "--requested" in ended.err
    assert count_statuses() == {"created": 1}


@pytest.mark.parametrize("command", [["reconcile_invoices"], ["cancel_invoices", "--requested", "--noinput"]])
def test_commands_need_no_reason_for_requested_cancellations(scripted, manage, command):
    shop = scripted(REQUIRE_REASON=True)
    requested()
    assert manage(*command).code == 0
    assert shop.cancel_count == 1


@pytest.mark.parametrize("command", [["reconcile_invoices"], ["cancel_invoices", "--requested", "--noinput"]])
def test_request_withdrawn_after_it_was_selected_is_not_sent(shop, manage, monkeypatch, command):
    invoice = requested()
    claim_requested = RequestWriter.claim_requested

    def withdraw_first(self, invoices, **options):
        invoice.withdraw(actor="clerk")
        return claim_requested(self, invoices, **options)

    monkeypatch.setattr(RequestWriter, "claim_requested", withdraw_first)
    ended = manage(*command, "--format", "jsonl")
    assert ended.code == 0
    assert json.loads(ended.out)["code"] == "changed"
    assert shop.cancel_count == 0
    assert count_statuses() == {"created": 1}
    assert Invoice.objects.requested().count() == 0


@pytest.mark.django_db(transaction=True)
def test_two_concurrent_commands_send_each_request_once(scripted, manage, in_thread):
    shop = scripted(concurrency=2)
    for number in range(40):
        requested(f"{number:02d}")
    runs = [in_thread(manage, "reconcile_invoices", "-v", "0") for _ in range(2)]
    for run in runs:
        run.result(60)
    assert shop.cancel_count == 40
    assert len(set(shop.cancels)) == 40
    assert count_statuses() == {"canceled": 40}
