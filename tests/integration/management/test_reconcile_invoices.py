"""``reconcile_invoices``: the default selection, the other selections, and its heartbeat."""

import json
from datetime import timedelta

import pytest
from django.db import transaction

from django_invoice_cancel.models import Invoice, ProviderState
from django_invoice_cancel.testing import ScriptedProvider, make_invoice
from tests.support.invoices import count_statuses
from tests.support.logs import count_answers, count_log_rows

pytestmark = pytest.mark.django_db


@pytest.fixture
def doubtful(shop):
    """Two invoices in doubt, one of them due; an abandoned one, a paid one and an open one."""
    make_invoice("in_doubt", provider="shop", external_id="due", age=timedelta(minutes=3))
    make_invoice("in_doubt", provider="shop", external_id="not-due")
    make_invoice("abandoned", provider="shop", external_id="abandoned")
    make_invoice("paid", provider="shop", external_id="paid")
    make_invoice("created", provider="shop", external_id="open")
    shop.reset()


SELECTED = {
    "": "abandoned due",
    "--now": "abandoned due not-due",
    "--status created": "open",
    "--status paid": "paid",
    "--provider shop": "abandoned due",
    "--limit 1": "due",
}


@pytest.mark.parametrize("arguments", SELECTED)
def test_only_selected_invoices_are_looked_up(doubtful, shop, manage, arguments):
    manage("reconcile_invoices", *arguments.split())
    assert " ".join(sorted(each for ids in shop.lookups for each in ids)) == SELECTED[arguments]
    assert shop.cancel_count == 0


INVALID = {
    "unknown alias": (["--provider", "nobody"], "'nobody'"),
    "status of ours": (["--status", "in_doubt"], "in_doubt"),
    "limit 0": (["--limit", "0"], "'0' is not a whole number from 1 to 1000000000"),
    "unknown database": (["--database", "elsewhere"], "elsewhere"),
}


@pytest.mark.parametrize("case", INVALID)
def test_invalid_input_is_named_before_any_lookup(doubtful, shop, manage, case):
    arguments, named = INVALID[case]
    ended = manage("reconcile_invoices", *arguments)
    assert ended.code == 1
    assert shop.lookup_count == 0
    assert named in ended.err


def test_limit_0_of_call_command_is_not_unlimited(doubtful, shop, manage):
    assert manage("reconcile_invoices", limit=0).code == 1
    assert shop.lookup_count == 0


def test_full_run_writes_a_heartbeat_for_every_alias(scripted, manage):
    scripted("shop", "kiosk")
    assert manage("reconcile_invoices").code == 0
    beats = dict(ProviderState.objects.values_list("alias", "last_reconcile_at"))
    assert sorted(beats) == ["kiosk", "shop"]
    assert all(beats.values()) is True
    assert ScriptedProvider.of("shop").lookup_count == 0


GONE = []
"""Accounts that the resolver knows no more."""


def account(alias):
    return None if alias in GONE else {"BACKEND": "django_invoice_cancel.testing.ScriptedProvider"}


@pytest.fixture
def with_resolver(settings, monkeypatch):
    """Return a function that configures these accounts, and a resolver for all others, some of which have doubts."""

    def configure(*aliases):
        settings.INVOICE_CANCEL = {
            "PROVIDERS": {alias: account(alias) for alias in aliases},
            "PROVIDER_RESOLVER": f"{__name__}.account",
        }
        for alias in ("kiosk", "closed", "booth"):
            make_invoice("in_doubt", provider=alias)  # not due yet
        make_invoice("abandoned", provider="stall")
        make_invoice("created", provider="idle")
        Invoice.objects.all()._writer.pause("stall", "rate_limited", 300)
        monkeypatch.setattr(f"{__name__}.GONE", ["closed"])

    return configure


def beats():
    return sorted(ProviderState.objects.filter(last_reconcile_at__isnull=False).values_list("alias", flat=True))


@pytest.mark.parametrize("aliases", [[], ["shop"]], ids=["resolver only", "beside the settings"])
def test_heartbeat_is_written_for_each_resolved_account_with_due_invoices(with_resolver, manage, aliases):
    with_resolver(*aliases)
    manage("reconcile_invoices")
    assert beats() == ["booth", "kiosk", *aliases, "stall"]


def test_run_for_one_account_writes_only_its_heartbeat(with_resolver, manage):
    with_resolver("shop")
    manage("reconcile_invoices", "--provider", "kiosk")
    assert beats() == ["kiosk"]


@pytest.mark.parametrize("arguments", [["--status", "created"], ["--dry-run"]], ids=" ".join)
def test_runs_that_do_not_reconcile_write_no_heartbeat(doubtful, shop, manage, arguments):
    manage("reconcile_invoices", *arguments)
    assert not ProviderState.objects.filter(last_reconcile_at__isnull=False).exists()
    assert shop.lookup_count == (arguments != ["--dry-run"])


def test_verbosity_0_prints_nothing_if_nothing_is_due(shop, manage):
    ended = manage("reconcile_invoices", "-v", "0")
    assert ended.code == 0
    assert ended.out == ""
    assert ended.err == ""
    assert shop.lookup_count == 0
    assert manage("reconcile_invoices").out == "0 invoices: nothing to do\n"


def test_run_whose_reader_has_exited_writes_no_heartbeat(scripted, manage, unread):
    """As with ``| head -1``: the run ends before all invoices were looked up."""
    shop = scripted(concurrency=1, lookup_group_size=1)
    for _ in range(40):
        make_invoice("in_doubt", provider="shop", age=timedelta(days=1))
    shop.reset()
    assert manage("reconcile_invoices", "--format", "jsonl", stdout=unread).code == 130
    assert 0 < shop.lookup_count < 40
    assert beats() == []
    looked = shop.lookup_count
    assert shop.cancel_count == 0
    assert count_statuses() == {"created": looked, "in_doubt": 40 - looked}
    assert count_answers() == {"no_answer": 40, "still_open": looked}


def test_remaining_doubts_end_with_exit_code_3(doubtful, shop, manage):
    shop.all_lookups("no_answer")
    ended = manage("reconcile_invoices")
    assert ended.code == 3
    assert shop.lookup_count == 1
    assert ended.err == "In doubt: 2. They will be looked up again, at increasing intervals."
    assert shop.cancel_count == 0
    assert count_statuses() == {"created": 1, "in_doubt": 3, "paid": 1}
    assert count_answers() == {"no_answer": 2, "abandoned": 1, "observed": 1}


@pytest.mark.parametrize("arguments", [[], ["--status", "created"]], ids=["in doubt", "open"])
def test_still_open_ends_with_exit_code_0(shop, manage, arguments):
    """Neither an error nor a reason to run the command again, so cron sends no mail."""
    make_invoice("created" if arguments else "in_doubt", provider="shop", age=timedelta(minutes=30))
    shop.reset()
    ended = manage("reconcile_invoices", "-v", "0", *arguments)
    assert ended.code == 0
    assert ended.err == ""
    assert shop.lookup_count == 1
    assert shop.cancel_count == 0
    assert count_statuses() == {"created": 1}


def test_paused_provider_ends_with_exit_code_4(doubtful, shop, manage):
    Invoice.objects.all()._writer.pause("shop", "bad_credentials", 300)
    ended = manage("reconcile_invoices")
    assert ended.code == 4
    assert shop.lookup_count == 0
    assert shop.cancel_count == 0
    assert count_statuses() == {"canceling": 1, "created": 1, "in_doubt": 2, "paid": 1}
    assert count_answers() == {"no_answer": 2, "observed": 1}


def test_jsonl_writes_only_results_to_stdout(doubtful, shop, manage):
    ended = manage("reconcile_invoices", "--format", "jsonl")
    assert sorted(json.loads(line)["external_id"] for line in ended.out.splitlines()) == ["abandoned", "due"]
    assert shop.lookup_count == 1
    assert "2 invoices" in ended.err


def test_dry_run_sends_no_lookup(doubtful, shop, manage):
    ended = manage("reconcile_invoices", "--dry-run", "--now")
    assert ended.out.startswith("3 invoices: 3 skipped\n")
    assert ended.code == 0
    assert shop.lookup_count == 0
    assert count_statuses()["in_doubt"] == 2


@pytest.mark.django_db(transaction=True)
def test_command_inside_a_transaction_is_an_error(shop, manage):
    with transaction.atomic():
        ended = manage("reconcile_invoices")
    assert ended.code == 1
    assert shop.lookup_count == 0


# -- a provider without a lookup --------------------------------------------------------------------------------------


@pytest.fixture
def mute(scripted):
    """A provider without lookup that declares a repeat harmless, with two invoices in doubt and an abandoned one."""
    shop = scripted("shop", supports_lookup=False, is_repeat_harmless=True)
    make_invoice("in_doubt", provider="shop", age=timedelta(minutes=30))
    make_invoice("in_doubt", provider="shop", age=timedelta(minutes=30))
    make_invoice("abandoned", provider="shop")
    shop.reset()
    return shop


def test_doubts_without_a_lookup_are_not_reported_every_minute(mute, manage):
    """An abandoned claim becomes in doubt. Then only --resubmit, --provider or a person processes the invoice."""
    ended = manage("reconcile_invoices")
    assert ended.code == 3
    assert count_statuses() == {"in_doubt": 3}
    assert ended.err == (
        "In doubt, at a provider without a status lookup: 1. "
        "Do not cancel them again. Run reconcile_invoices --resubmit, or resolve them in the admin."
    )
    ended = manage("reconcile_invoices", "-v", "0")
    assert ended.code == 0
    assert ended.err == ""
    assert mute.cancel_count == 0
    assert manage("reconcile_invoices", "--provider", "shop", "--now").code == 3
    assert mute.cancel_count == 0
    assert count_statuses() == {"in_doubt": 3}
    assert count_log_rows("abandoned") == 1


def test_resubmit_repeats_requests_if_a_repeat_is_harmless(mute, manage):
    ended = manage("reconcile_invoices", "--resubmit")
    assert mute.cancel_count == 2  # the doubt period of the abandoned one is not over
    assert ended.code == 3
    assert count_statuses() == {"canceled": 2, "in_doubt": 1}
    assert count_answers() == {"no_answer": 2, "abandoned": 1, "canceled": 2}


def test_dry_run_distinguishes_providers_with_and_without_lookup(mute, manage):
    output = manage("reconcile_invoices", "--provider", "shop", "--now", "--dry-run", "--format", "jsonl").out
    assert {json.loads(line)["code"] for line in output.splitlines()} == {"no_lookup"}
    output = manage("reconcile_invoices", "--resubmit", "--now", "--dry-run", "--format", "jsonl").out
    assert {json.loads(line)["code"] for line in output.splitlines()} == {"dry_run", "doubt_period"}
    assert mute.cancel_count == 0


@pytest.mark.slow
def test_firekassa_requests_are_repeated_at_a_real_server(sandbox, settings, manage, clock):
    sandbox.configure(repeat_is_ok=True)
    settings.INVOICE_CANCEL = {"PROVIDERS": sandbox.settings(deadline=0.3)}
    Invoice.objects.create(provider="firekassa", external_id="70000110")  # silent_after
    assert manage("cancel_invoices", "--all", "--noinput", "-v", "0").code == 3
    clock.advance(16 * 60)
    assert manage("reconcile_invoices", "--resubmit", "-v", "0").code == 0
    assert count_statuses() == {"canceled": 1}
    assert sandbox.count("cancel") == 2
    assert sandbox.executed("70000110") == 1
    assert count_answers() == {"no_answer": 1, "canceled": 1}
