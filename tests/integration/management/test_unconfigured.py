"""Invoices of an unconfigured account: cron reports them once an hour, and always exits with 4."""

from datetime import timedelta

import pytest

from django_invoice_cancel.models import Invoice, ProviderState
from django_invoice_cancel.testing import ScriptedProvider, make_invoice
from tests.support.invoices import count_statuses

pytestmark = pytest.mark.django_db
MINUTE = 60.0
UNAVAILABLE = []
"""If not empty, the resolver raises ConnectionError."""


def resolve_account(alias):
    if UNAVAILABLE:
        raise ConnectionError("the database of accounts is unavailable")
    return {"BACKEND": "django_invoice_cancel.testing.ScriptedProvider"} if alias == "tenant" else None


@pytest.fixture
def removed(scripted):
    """Return a function that makes invoices at the account ``old``, and removes it from the settings."""

    def prepare(kind="in_doubt", count=3):
        scripted("shop", "old")
        for _ in range(count):
            make_invoice(kind, provider="old", age=timedelta(minutes=2))
        return scripted("shop")

    return prepare


def run_cron(manage, clock, minutes, *arguments, every=1):
    """Run the command every `every` minutes; return the exit codes, and the output by minute."""
    codes, written = set(), {}
    for minute in range(0, minutes, every):
        ended = manage("reconcile_invoices", *(arguments or ("-v", "0")))
        codes.add(ended.code)
        if ended.out or ended.err:
            written[minute] = ended.out + ended.err
        clock.advance(every * MINUTE)
    return codes, written


EVERY_MINUTE = pytest.param(1, id="every minute", marks=pytest.mark.slow)
EVERY_10_MINUTES = pytest.param(10, id="every 10 minutes")


@pytest.mark.parametrize("every", [EVERY_MINUTE, EVERY_10_MINUTES])
@pytest.mark.parametrize("count", [1, 20])
@pytest.mark.parametrize("kind", ["in_doubt", "abandoned"])
def test_account_that_is_no_longer_configured_is_reported_once_an_hour(removed, manage, clock, kind, count, every):
    shop = removed(kind, count)
    codes, written = run_cron(manage, clock, 130, every=every)
    assert codes == {4}
    assert list(written) == [0, 60, 120]
    assert f"Not tried or not processed, and unchanged: {count}." in written[0]
    assert "old: " in written[0]
    assert "configured" in written[0]
    assert shop.lookup_count == 0
    assert shop.cancel_count == 0
    assert Invoice.objects.filter(provider="old", status="created").count() == 0


@pytest.mark.parametrize("every", [EVERY_MINUTE, EVERY_10_MINUTES])
def test_requested_cancellations_of_an_unconfigured_account_are_reported_once_an_hour(removed, manage, clock, every):
    removed("requested", 5)
    codes, written = run_cron(manage, clock, 59, every=every)
    assert codes <= {0, 4}
    assert list(written) == [0]
    assert count_statuses() == {"created": 5}


def test_invoices_of_an_account_that_is_configured_again_are_looked_up_at_once(removed, scripted, manage, clock):
    removed()
    run_cron(manage, clock, 3)
    scripted("shop", "old")
    old = ScriptedProvider.of("old")
    old.all_lookups("canceled")
    ended = manage("reconcile_invoices", "-v", "0")
    assert ended.code == 0
    assert ended.err == ""
    assert old.lookup_count == 1
    assert count_statuses() == {"canceled": 3}


def test_unconfigured_account_does_not_hide_the_problems_of_other_accounts(removed, scripted, manage, clock):
    shop = removed()
    run_cron(manage, clock, 2)
    make_invoice("requested", provider="shop", age=timedelta(minutes=2))
    shop.all_cancels("not_processed")
    ended = manage("reconcile_invoices", "-v", "0")
    assert ended.code == 4
    assert "shop: Scripted provider could not be reached" in ended.err
    assert "old" not in ended.err
    assert shop.cancel_count == 1


def test_each_unconfigured_account_is_reported_separately(scripted, manage, clock):
    scripted("shop", "old", "older")
    make_invoice("in_doubt", provider="old", age=timedelta(minutes=2))
    scripted("shop", "older")
    assert list(run_cron(manage, clock, 5)[1]) == [0]
    make_invoice("in_doubt", provider="older", age=timedelta(minutes=2))
    scripted("shop")
    written = run_cron(manage, clock, 5)[1]
    assert list(written) == [0]
    assert "older: " in written[0]
    assert "old: " not in written[0]


def test_without_v_0_each_run_reports_the_unconfigured_account(removed, manage, clock):
    removed()
    codes, written = run_cron(manage, clock, 3, "-v", "1")
    assert codes == {4}
    assert list(written) == [0, 1, 2]


@pytest.mark.parametrize("arguments", [["--dry-run"], ["--status", "created", "-v", "0"]], ids=" ".join)
def test_dry_run_and_status_option_do_not_suppress_the_next_report(removed, manage, clock, arguments):
    removed()
    manage("reconcile_invoices", *arguments)
    assert list(run_cron(manage, clock, 2)[1]) == [0]


@pytest.mark.parametrize("every", [EVERY_MINUTE, EVERY_10_MINUTES])
def test_resolver_that_fails_is_reported_once_an_hour(settings, manage, clock, monkeypatch, every):
    settings.INVOICE_CANCEL = {"PROVIDER_RESOLVER": f"{__name__}.resolve_account"}
    for _ in range(3):
        make_invoice("in_doubt", provider="tenant", age=timedelta(minutes=2))
    tenant = ScriptedProvider.of("tenant")
    tenant.reset()
    monkeypatch.setattr(f"{__name__}.UNAVAILABLE", ["yes"])
    codes, written = run_cron(manage, clock, 65, every=every)
    assert codes == {4}
    assert list(written) == [0, 60]
    monkeypatch.setattr(f"{__name__}.UNAVAILABLE", [])
    tenant.all_lookups("canceled")
    assert manage("reconcile_invoices", "-v", "0").code == 0
    assert tenant.lookup_count == 1
    assert count_statuses() == {"canceled": 3}


def test_report_of_an_unconfigured_account_writes_no_pause_and_no_heartbeat(removed, manage):
    removed()
    manage("reconcile_invoices", "-v", "0")
    state = ProviderState.objects.get(alias="old")
    assert state.is_paused is False
    assert state.last_reconcile_at is None
