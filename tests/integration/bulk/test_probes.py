"""The first request of a bulk run after a pause: one for all processes, and a pause can be ended while a run waits."""

import threading

import pytest

from django_invoice_cancel import operations
from django_invoice_cancel.bulk import cancel_invoices, reconcile_invoices, run
from django_invoice_cancel.models import BulkOperation, Invoice, ProviderState
from tests.support.invoices import count_statuses, set_columns
from tests.support.logs import count_answers, count_invoices_by_log_rows
from tests.support.results import count_codes

pytestmark = pytest.mark.django_db


def writer():
    return Invoice.objects.all()._writer


@pytest.fixture
def at_wait(monkeypatch):
    """Return a function that sets what happens each time a run waits. It gets the number of the wait."""
    collect, steps, waits = run.BulkRun._collect_jobs, [], []

    def wait(self, timeout):
        if timeout:
            waits.append(timeout)
            for step in steps:
                step(len(waits))
        collect(self, timeout)

    monkeypatch.setattr(run.BulkRun, "_collect_jobs", wait)
    return steps.append


def test_run_sends_one_probe_after_a_pause_was_ended(scripted, make):
    shop = scripted(concurrency=8)
    shop.all_cancels("bad_credentials")
    invoices = make(60)
    writer().pause("shop", "bad_credentials", 300)
    writer().resume("shop")
    results = list(cancel_invoices(invoices))
    assert shop.cancel_count == 1
    assert count_codes(results) == {"bad_credentials": 1, "provider_paused": 59}
    state = ProviderState.objects.get()
    assert 295 < state.seconds_left <= 300
    assert state.probe_until is None
    assert count_statuses() == {"created": 60}
    assert count_answers() == {"bad_credentials": 1}


def test_usable_probe_is_followed_by_the_others(scripted, make, at_wait):
    shop = scripted(concurrency=8)
    invoices = make(60)
    writer().pause("shop", "bad_credentials", 300)
    writer().resume("shop")
    claimed, answer = [], threading.Event()

    def step(number):
        if not answer.is_set():
            claimed.append(count_statuses().get("canceling", 0))
        if number == 5:
            answer.set()

    at_wait(step)
    shop.before_send = lambda external_id: answer.wait(10)
    assert count_codes(cancel_invoices(invoices)) == {"canceled": 60}
    assert set(claimed) == {1}
    assert shop.cancel_count == 60
    state = ProviderState.objects.get()
    assert state.pause_code == ""
    assert state.probe_until is None
    assert count_statuses() == {"canceled": 60}


def test_run_that_waits_notices_that_the_pause_was_ended(scripted, make, clock, at_wait):
    """The pause has 50 seconds left. The run sends within a few seconds."""
    shop = scripted()
    invoices = make(9)
    writer().pause("shop", "rate_limited", 50)

    def step(number):
        if number == 2:
            writer().resume("shop")
        clock.advance(1)

    at_wait(step)
    assert count_codes(cancel_invoices(invoices)) == {"canceled": 9}
    assert clock.moved < 20
    assert shop.cancel_count == 9
    assert count_statuses() == {"canceled": 9}
    assert count_answers() == {"canceled": 9}


def test_run_waits_for_the_probe_of_another_process(scripted, make, at_wait):
    """The other process dies or answers; until then nothing is sent and nothing is claimed."""
    shop = scripted()
    invoices = make(9)
    writer().pause("shop", "bad_credentials", 300)
    writer().resume("shop")
    probe = writer().take_probe("shop", options_digest="")
    seen = []

    def step(number):
        if number <= 20:
            seen.append((shop.cancel_count, count_statuses().get("canceling", 0)))
        if number == 20:
            writer().release_probe(probe)

    at_wait(step)
    assert count_codes(cancel_invoices(invoices)) == {"canceled": 9}
    assert set(seen) == {(0, 0)}
    assert shop.cancel_count == 9
    assert count_statuses() == {"canceled": 9}


@pytest.mark.django_db(transaction=True)
def test_two_workers_send_one_probe(scripted, make, in_thread):
    """Both workers of an operation begin at the end of a pause. The rejected probe pauses both."""
    shop = scripted(concurrency=4)
    make(40)
    operation = operations.start(Invoice.objects.all(), workers=2)
    writer().pause("shop", "bad_credentials", 300)
    writer().resume("shop")
    shop.all_cancels("bad_credentials")
    both_at_work, at_work = threading.Event(), []

    def work():
        at_work.append(1)
        if len(at_work) == 2:
            both_at_work.set()
        return operations.advance(operation.pk, is_message=False)

    shop.before_send = lambda external_id: both_at_work.wait(10)
    slices = [future.result() for future in [in_thread(work), in_thread(work)]]
    assert shop.cancel_count == 1
    assert all(slice_.has_more for slice_ in slices)
    assert all(200 < slice_.wait_seconds <= 300 for slice_ in slices)
    assert operation.items.left().count() == 39
    assert count_statuses() == {"created": 40}
    assert count_answers() == {"bad_credentials": 1}


def test_waiting_operation_continues_after_the_pause_was_ended(scripted, make):
    shop = scripted()
    make(12)
    operation = operations.start(Invoice.objects.all())
    writer().pause("shop", "bad_credentials", 300)
    assert operations.advance(operation.pk, is_message=False).wait_seconds > 290
    assert shop.cancel_count == 0
    writer().resume("shop")
    assert operations.advance(operation.pk, is_message=False).is_finished
    assert shop.cancel_count == 12
    assert count_statuses() == {"canceled": 12}
    assert BulkOperation.objects.get().progress == "finished"
    assert ProviderState.objects.get().pause_code == ""


def test_waiting_operation_continues_with_new_options(scripted, make):
    scripted(deadline=9.0)
    make(12)
    operation = operations.start(Invoice.objects.all())
    digest = "0123456789abcdef0123456789abcdef"
    writer().pause("shop", "bad_credentials", 300, options_digest=digest)
    shop = scripted(deadline=8.0)
    assert operations.advance(operation.pk, is_message=False).is_finished
    assert shop.cancel_count == 12
    assert count_statuses() == {"canceled": 12}
    assert ProviderState.objects.get().rejected_options == ""


def test_run_with_the_same_options_stays_paused(scripted, make):
    shop = scripted(deadline=9.0)
    shop.all_cancels("bad_credentials")
    invoices = make(12)
    list(cancel_invoices(invoices))
    sent = shop.cancel_count
    again = scripted(deadline=9.0)
    assert count_codes(cancel_invoices(invoices)) == {"provider_paused": 12}
    assert again.cancel_count == 0
    assert 1 <= sent <= 8
    assert count_statuses() == {"created": 12}
    assert count_answers() == {"bad_credentials": sent}


def test_lookups_of_a_run_are_probed_too(scripted, make):
    shop = scripted(lookup_group_size=5)
    shop.all_lookups("bad_credentials")
    invoices = make(20)
    for invoice in invoices:
        set_columns(invoice, status="in_doubt")
    writer().pause("shop", "bad_credentials", 300)
    writer().resume("shop")
    results = list(reconcile_invoices(invoices))
    assert shop.lookup_count == 1
    assert count_codes(results) == {"bad_credentials": 5, "provider_paused": 15}
    assert ProviderState.objects.get().probe_until is None
    assert shop.cancel_count == 0
    assert count_statuses() == {"in_doubt": 20}
    assert count_invoices_by_log_rows() == {}
