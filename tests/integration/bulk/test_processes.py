"""P3 and P7 with real processes, counted at the provider: two with the same invoices, and one that is killed."""

import json
import random
import signal
import subprocess
import sys

import pytest

from django_invoice_cancel.bulk import reconcile_invoices
from django_invoice_cancel.models import Invoice
from tests.support.clock import travel_forward
from tests.support.invoices import count_statuses
from tests.support.logs import count_answers, count_invoices_by_log_rows, invoices_with_broken_log

pytestmark = pytest.mark.django_db(transaction=True, databases=["default", "other"])  # a child has both

CANCEL = ["cancel_invoices", "--provider", "cryptocloud", "--noinput", "-v", "0"]


def start(sandbox, env, *arguments):
    return subprocess.Popen(
        [sys.executable, "-m", "tests.integration.bulk.child", sandbox.base_url, *arguments], env=env
    )


@pytest.mark.slow
def test_two_processes_on_the_same_selection_request_each_invoice_once(sandbox, at_sandbox, child_env):
    at_sandbox(200)
    sandbox.configure(latency=0.02)  # they do overlap
    children = [start(sandbox, child_env(), *CANCEL) for _ in range(2)]
    assert [child.wait(timeout=60) for child in children] == [0, 0]
    summary = sandbox.summary()
    assert set(summary["counts"]["cancel"].values()) == set(summary["executed"].values()) == {1}
    assert summary["totals"] == {"cancel": 200}
    assert count_statuses() == {"canceled": 200}
    assert count_invoices_by_log_rows() == {2: 200}


def kill_in_the_middle(sandbox, child_env, chance):
    """Kill a run after a random number of requests; return how many claims it leaves open."""
    settings = json.dumps({"CLAIM_TTL": 30, "DOUBT_PERIOD": 60})
    options = json.dumps({"concurrency": 4, "deadline": 2})
    env = child_env(INVOICE_CANCEL_TEST_SETTINGS=settings, INVOICE_CANCEL_TEST_OPTIONS=options)
    before = sandbox.count("cancel")
    child = start(sandbox, env, *CANCEL)
    wanted = before + chance.randint(1, 90)
    sandbox.wait_until(lambda: sandbox.count("cancel") >= wanted or child.poll() is not None, timeout=30)
    child.kill()
    assert child.wait(timeout=30) in (0, -signal.SIGKILL)
    return Invoice.objects.filter(status="canceling").count()


def as_the_provider_says(sandbox):
    """The same invoices are canceled here and at the provider; each was requested at most once."""
    executed = {external_id for external_id, count in sandbox.summary()["executed"].items() if count}
    here = set(Invoice.objects.filter(status="canceled").values_list("external_id", flat=True))
    assert here == executed
    assert invoices_with_broken_log() == []
    assert set(sandbox.summary()["counts"].get("cancel", {"": 1}).values()) == {1}


def killed_and_reconciled(sandbox, at_sandbox, child_env, settings, times, seed):
    """Kill the run, check the rows, reconcile within and after the doubt period. Repeat with 100 more invoices."""
    settings.INVOICE_CANCEL = {"PROVIDERS": sandbox.settings(deadline=2), "CLAIM_TTL": 30, "DOUBT_PERIOD": 60}
    sandbox.configure(latency=0.005)
    chance = random.Random(seed)  # noqa: S311 - a moment, not a secret
    for _ in range(times):
        at_sandbox(100)
        open_rows = kill_in_the_middle(sandbox, child_env, chance)
        assert open_rows <= 58  # 2 x concurrency + 50
        requested = sandbox.count("cancel")
        with travel_forward(seconds=100):  # abandoned, and in doubt
            list(reconcile_invoices(Invoice.objects.due_for_reconciling()))
        assert "canceling" not in count_statuses()
        with travel_forward(seconds=300):  # the doubt period is over
            list(reconcile_invoices(Invoice.objects.filter(status="in_doubt")))
        assert count_statuses().keys() <= {"created", "canceled"}
        assert sandbox.count("cancel") == requested
        as_the_provider_says(sandbox)


@pytest.mark.slow
def test_run_killed_three_times_agrees_with_the_provider_after_reconcile(sandbox, at_sandbox, child_env, settings):
    killed_and_reconciled(sandbox, at_sandbox, child_env, settings, 3, seed=3)


@pytest.mark.destructive
def test_run_killed_twenty_times_agrees_with_the_provider_after_reconcile(sandbox, at_sandbox, child_env, settings):
    seed = random.SystemRandom().randrange(10**6)
    print(f"seed {seed}")  # noqa: T201 - shown where it fails
    killed_and_reconciled(sandbox, at_sandbox, child_env, settings, 20, seed=seed)


@pytest.mark.slow
def test_crash_leaves_at_most_the_claimed_invoices_in_doubt(sandbox, at_sandbox, child_env, settings):
    """The provider carries out and never answers; the process is killed while it waits for concurrency answers."""
    settings.INVOICE_CANCEL = {"PROVIDERS": sandbox.settings(deadline=2), "CLAIM_TTL": 30, "DOUBT_PERIOD": 60}
    invoices = at_sandbox(150, "silent_after")
    options = json.dumps({"concurrency": 4, "deadline": 14})
    env = child_env(INVOICE_CANCEL_TEST_SETTINGS=json.dumps({"CLAIM_TTL": 30}), INVOICE_CANCEL_TEST_OPTIONS=options)
    child = start(sandbox, env, *CANCEL)
    sandbox.wait_until(lambda: sandbox.count("cancel") == 4, timeout=30)
    child.kill()
    child.wait(timeout=30)
    assert count_statuses() == {"canceling": 4, "created": 146}
    with travel_forward(seconds=100):
        codes = [result.code for result in reconcile_invoices(Invoice.objects.due_for_reconciling())]
    assert codes == ["already_canceled"] * 4
    assert count_statuses() == {"canceled": 4, "created": 146}
    assert sandbox.count("cancel") == 4
    assert count_invoices_by_log_rows() == {3: 4}
    assert count_answers() == {"abandoned": 4, "observed": 4}
    assert invoices.filter(status="canceled", status_confirmed_at__isnull=True).count() == 0
