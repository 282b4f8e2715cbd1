"""P7: after a crash between any two steps, reconcile stores the provider's status. Nothing is sent twice."""

import subprocess
import sys

import pytest

from django_invoice_cancel.exceptions import CancelNotPossible
from django_invoice_cancel.models import Invoice
from django_invoice_cancel.models.writes.rows import RowWriter
from django_invoice_cancel.services import cancel
from tests.support.clock import travel_forward
from tests.support.invoices import stored
from tests.support.logs import CANCELED_LOG, log_entries, status_and_log
from tests.support.results import cancel_error

POINTS = {
    # point of the crash: (requests sent, status after the crash, status after reconcile)
    "in the claim": (0, "created", "created"),
    "after the claim": (0, "canceling", "created"),
    "after the answer": (1, "canceling", "canceled"),
    "in the record": (1, "canceling", "canceled"),
    "after the record": (1, "canceled", "canceled"),
}
LOGS = {
    "in the claim": [],
    "after the claim": [
        ("created", "canceling", "", ""),
        ("canceling", "in_doubt", "in_doubt", "abandoned"),
        ("in_doubt", "created", "not_processed", "still_open"),
    ],
    "after the answer": [
        ("created", "canceling", "", ""),
        ("canceling", "in_doubt", "in_doubt", "abandoned"),
        ("in_doubt", "canceled", "already_canceled", "observed"),
    ],
    "after the record": CANCELED_LOG,
}
LOGS["in the record"] = LOGS["after the answer"]
INTERRUPTED = {  # unlike a killed process, an interrupted thread still writes
    "after the claim": (0, "created", "created"),
    "after the answer": (1, "in_doubt", "canceled"),
}
LOGS_OF_INTERRUPTED = {
    "after the claim": [("created", "canceling", "", ""), ("canceling", "created", "not_processed", "given_back")],
    "after the answer": [
        CANCELED_LOG[0],
        ("canceling", "in_doubt", "in_doubt", "no_answer"),
        ("in_doubt", "canceled", "already_canceled", "observed"),
    ],
}


def reconcile_and_check(sandbox, invoice, point, points=POINTS, logs=LOGS):
    sent, remaining, final = points[point]
    assert stored(invoice).status == remaining
    assert sandbox.count("cancel") == sent
    # after the end of the claim, within the doubt period
    with travel_forward(minutes=7):
        stored(invoice).reconcile()
    with travel_forward(minutes=22):
        stored(invoice).reconcile()
    assert stored(invoice).status == final
    assert [step for step in log_entries(invoice) if step[0] != step[1]] == logs[point]
    assert sandbox.count("cancel") == sent
    assert sandbox.executed(invoice.external_id) == sent


@pytest.mark.slow
@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("point", POINTS)
def test_rows_of_a_killed_process_are_reconciled(sandbox, register, child_env, point):
    invoice = register()
    arguments = [
        sys.executable,
        "-m",
        "tests.integration.services.crashing_process",
        sandbox.base_url,
        invoice.external_id,
        point,
    ]
    assert subprocess.run(arguments, env=child_env(), timeout=60).returncode == 9
    reconcile_and_check(sandbox, invoice, point)


class Killed(KeyboardInterrupt):
    """Ends the thread as Ctrl-C does."""


def kill_at(monkeypatch, point):
    submit, append, appended = cancel.submit, RowWriter.append, []

    def killing_submit(*args):
        if point == "after the claim":
            raise Killed
        answer = submit(*args)
        if point == "after the answer":
            raise Killed
        return answer

    def killing_append(self, entries):
        append(self, entries)
        appended.append(entries)
        if point == "in the claim" or (point == "in the record" and len(appended) > 1):  # also when it is tried again
            raise Killed

    def killing_result(*args, **kwargs):
        raise Killed

    monkeypatch.setattr(cancel, "submit", killing_submit)
    monkeypatch.setattr(RowWriter, "append", killing_append)
    if point == "after the record":
        monkeypatch.setattr(cancel, "result_of_answer", killing_result)


@pytest.mark.django_db
@pytest.mark.parametrize("point", POINTS)
def test_rows_of_an_interrupted_thread_are_reconciled(sandbox, register, monkeypatch, point):
    invoice = register()
    with monkeypatch.context() as killing:
        kill_at(killing, point)
        with pytest.raises(Killed):
            Invoice.objects.get(pk=invoice.pk).cancel()
    reconcile_and_check(sandbox, invoice, point, POINTS | INTERRUPTED, LOGS | LOGS_OF_INTERRUPTED)


@pytest.mark.django_db
def test_claim_of_a_dead_process_is_not_sent_again(sandbox, register, monkeypatch):
    """Also after the end of the claim. Only reconcile may change the invoice."""
    invoice = register()
    with monkeypatch.context() as killing:
        kill_at(killing, "in the record")
        with pytest.raises(Killed):
            stored(invoice).cancel()
    for minutes, code in ((0, "in_progress"), (4, "in_progress"), (7, "in_doubt"), (600, "in_doubt")):
        with travel_forward(minutes=minutes):
            error = cancel_error(stored(invoice).cancel)
            assert type(error) is CancelNotPossible
            assert error.result.code == code
    assert sandbox.count("cancel") == 1
    assert status_and_log(invoice) == ("canceling", CANCELED_LOG[:1])
