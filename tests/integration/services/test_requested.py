"""P12: a stored cancel request is sent, or it stays listed."""

import socket
from contextlib import suppress

import pytest
from asgiref.sync import async_to_sync
from django.core.management import CommandError, call_command
from django.db import connections, transaction

from django_invoice_cancel.domain.audit import AuditContext
from django_invoice_cancel.models import Invoice
from tests.support.clock import travel_forward
from tests.support.invoices import stored
from tests.support.logs import log_entries, status_and_log
from tests.support.results import cancel_error

pytestmark = pytest.mark.django_db(transaction=True)

REQUESTED = ("created", "created", "", "requested")
CLAIMED = ("created", "canceling", "", "")
CONFIRMED = ("canceling", "canceled", "canceled", "canceled")
RATE_LIMITED = ("canceling", "created", "not_processed", "rate_limited")
REJECTED = ("canceling", "created", "not_processed", "bad_credentials")
IN_DOUBT = ("canceling", "in_doubt", "in_doubt", "provider_error")
STILL_OPEN = ("in_doubt", "created", "not_processed", "still_open")


def run_reconcile_command(**delta):
    """Run reconcile_invoices later, as cron does. Return the exit code."""
    with travel_forward(**delta):
        try:
            call_command("reconcile_invoices", verbosity=0)
        except CommandError as error:
            return error.returncode
    return 0


def request(invoice, **fields):
    with transaction.atomic():
        assert invoice.cancel_on_commit(**{"actor": "shop", "reason": "the customer changed their mind", **fields})


def log_authors(invoice):
    """Return actor, reason and trigger of the log rows that claim the invoice."""
    claims = invoice.transitions.filter(to_status="canceling").order_by("id")
    return list(claims.values_list("actor_label", "reason", "trigger"))


AUTHOR = ("shop", "the customer changed their mind", "on_commit")
FIRST_ANSWERS = {
    # behaviour of the first cancel: (log before cron, minutes until each run of cron, log of these, requests)
    "rate_limited": ([CLAIMED, RATE_LIMITED], [2], [CLAIMED, CONFIRMED], 2),
    "bad_credentials": ([CLAIMED, REJECTED], [6], [CLAIMED, CONFIRMED], 2),
    "error_500_before": ([CLAIMED, IN_DOUBT], [16], [STILL_OPEN, CLAIMED, CONFIRMED], 2),
    "error_500_after": ([CLAIMED, IN_DOUBT], [2], [("in_doubt", "canceled", "already_canceled", "observed")], 1),
}


@pytest.mark.parametrize("behaviour", FIRST_ANSWERS)
def test_failed_request_is_sent_again_by_reconcile(sandbox, register, behaviour):
    before, runs, after, sent = FIRST_ANSWERS[behaviour]
    invoice = register()
    sandbox.script(invoice.external_id, [behaviour])
    request(invoice)
    assert log_entries(invoice) == [REQUESTED, *before]
    assert stored(invoice).cancel_requested_at is not None
    for minutes in runs:
        assert run_reconcile_command(minutes=minutes) == 0
    assert status_and_log(invoice) == ("canceled", [REQUESTED, *before, *after])
    assert stored(invoice).cancel_requested_at is None
    assert set(log_authors(invoice)) == {AUTHOR}
    assert sandbox.count("cancel") == sent
    assert sandbox.executed(invoice.external_id) == 1


def test_request_at_an_unreachable_provider_is_sent_by_reconcile(sandbox, register, settings):
    reachable = settings.INVOICE_CANCEL
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))  # without listen()
        invoice = register()
        options = {"api_key": "key", "base_url": f"http://127.0.0.1:{closed.getsockname()[1]}"}
        provider = reachable["PROVIDERS"]["cryptocloud"] | {"OPTIONS": options}
        settings.INVOICE_CANCEL = {"PROVIDERS": {"cryptocloud": provider}}
        request(invoice)
        assert log_entries(invoice)[-1] == ("canceling", "created", "not_processed", "unreachable")
        assert [run_reconcile_command(seconds=seconds) for seconds in (30, 61)] == [0, 4]
    settings.INVOICE_CANCEL = reachable
    assert [run_reconcile_command(seconds=seconds) for seconds in (62, 122)] == [0, 0]
    assert stored(invoice).status == "canceled"
    assert sandbox.count("cancel") == 1
    assert log_authors(invoice) == [AUTHOR] * 3


def crash_after_commit(invoice):
    with transaction.atomic():
        assert invoice.cancel_on_commit(actor="shop", reason=AUTHOR[1])
        connections["default"].run_on_commit = []


def callback_of_another_app_raises(invoice):
    def callback():
        raise ZeroDivisionError

    with suppress(ZeroDivisionError), transaction.atomic():
        transaction.on_commit(callback)
        assert invoice.cancel_on_commit(actor="shop", reason=AUTHOR[1])


@pytest.mark.parametrize("drop_or_fail", [crash_after_commit, callback_of_another_app_raises])
def test_request_without_a_callback_is_sent_by_reconcile(sandbox, register, drop_or_fail):
    invoice = register()
    drop_or_fail(invoice)
    assert status_and_log(invoice) == ("created", [REQUESTED])
    assert sandbox.requests == []
    assert run_reconcile_command(seconds=59) == 0
    assert sandbox.requests == []
    assert run_reconcile_command(seconds=61) == 0
    assert status_and_log(invoice) == ("canceled", [REQUESTED, CLAIMED, CONFIRMED])
    assert log_authors(invoice) == [AUTHOR]
    assert sandbox.count("cancel") == 1


def test_request_of_a_failing_callback_is_sent_by_reconcile(sandbox, register, monkeypatch, caplog):
    def fail(*args):
        raise ZeroDivisionError

    invoice = register()
    with monkeypatch.context() as patch:
        patch.setattr("django_invoice_cancel.services.cancel.submit", fail)
        request(invoice)
    assert stored(invoice).status == "created"
    assert sandbox.requests == []  # not sent: the claim was released
    assert [run_reconcile_command(seconds=seconds) for seconds in (59, 61, 122)] == [0, 0, 0]
    assert stored(invoice).status == "canceled"
    assert sandbox.count("cancel") == 1
    assert log_authors(invoice) == [AUTHOR] * 2


@pytest.mark.parametrize("behaviour", ["bad_credentials", "error_500_before"])
def test_waiting_request_needs_attention_after_15_minutes(sandbox, register, behaviour):
    invoice = register()
    sandbox.script(invoice.external_id, [behaviour])
    request(invoice)
    with travel_forward(minutes=14, seconds=59):
        listed = set(Invoice.objects.needing_attention())
        assert listed == ({invoice} if stored(invoice).status == "in_doubt" else set())
    with travel_forward(minutes=15, seconds=1):
        assert list(Invoice.objects.needing_attention()) == [invoice]
    run_reconcile_command(minutes=16)
    with travel_forward(minutes=16):
        assert list(Invoice.objects.needing_attention()) == []
    assert stored(invoice).status == "canceled"
    assert sandbox.count("cancel") == 2


def test_request_withdrawn_before_the_commit_is_not_sent(sandbox, register):
    invoice = register()
    with transaction.atomic():
        assert invoice.cancel_on_commit(actor="shop")
        assert stored(invoice).withdraw(actor="shop", reason="by mistake") is True
    assert run_reconcile_command(minutes=2) == 0
    assert status_and_log(invoice) == ("created", [REQUESTED, ("created", "created", "", "withdrawn")])
    assert sandbox.requests == []


def test_request_that_is_withdrawn_in_doubt_is_looked_up_and_not_repeated(sandbox, register):
    invoice = register()
    sandbox.script(invoice.external_id, ["error_500_before"])
    request(invoice)
    assert stored(invoice).withdraw(actor="shop") is False
    assert [run_reconcile_command(minutes=minutes) for minutes in (2, 16, 80, 2000)] == [3, 0, 0, 0]
    assert stored(invoice).status == "created"
    assert sandbox.count("cancel") == 1


def test_awithdraw_clears_the_request(sandbox, register):
    invoice = register()
    crash_after_commit(invoice)
    assert async_to_sync(invoice.awithdraw)(actor="shop") is True
    assert stored(invoice).cancel_requested_at is None
    assert invoice.cancel_requested_at is None
    assert sandbox.requests == []


def test_latest_of_several_requests_is_logged(sandbox, register):
    invoice = register()
    with transaction.atomic():
        assert invoice.cancel_on_commit(actor="shop", reason="first")
        assert stored(invoice).cancel_on_commit(actor="boss", reason="second")
    assert stored(invoice).status == "canceled"
    assert sandbox.count("cancel") == 1
    assert log_authors(invoice) == [("boss", "second", "on_commit")]


def test_direct_cancellation_is_logged_with_its_own_actor(sandbox, register):
    invoice = register()
    crash_after_commit(invoice)
    assert stored(invoice).cancel(actor="boss", reason="closing down").ok
    assert log_authors(invoice) == [("boss", "closing down", "api")]
    assert run_reconcile_command(minutes=2) == 0
    assert sandbox.count("cancel") == 1


@pytest.mark.parametrize("status", ["canceling", "in_doubt"])
def test_request_is_declined_during_a_cancellation(sandbox, register, status):
    invoice = register()
    if status == "in_doubt":
        sandbox.script(invoice.external_id, ["error_500_before"])
        cancel_error(invoice.cancel)
    else:
        invoice._writer.claim([stored(invoice)], AuditContext())
    log = log_entries(invoice)
    assert invoice.cancel_on_commit() is False
    assert log_entries(invoice) == log
    assert stored(invoice).cancel_requested_at is None


def test_reconcile_of_one_invoice_does_not_send_a_stored_request(sandbox, register):
    invoice = register()
    crash_after_commit(invoice)
    with travel_forward(days=2):
        assert stored(invoice).reconcile().code == "still_open"
    assert stored(invoice).status == "created"
    assert sandbox.count("cancel") == 0
    assert sandbox.count("lookup") == 1


def test_reason_is_required_for_the_request_and_not_for_reconcile(sandbox, register, configure):
    configure(REQUIRE_REASON=True)
    invoice = register()
    with pytest.raises(ValueError, match="A reason is required"):
        invoice.cancel_on_commit()
    crash_after_commit(invoice)
    assert run_reconcile_command(minutes=2) == 0
    assert stored(invoice).status == "canceled"
    assert sandbox.count("cancel") == 1
