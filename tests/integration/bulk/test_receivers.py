"""F8: signal receivers may be slow, fail or be interrupted. Claims do not wait for them, and no signal is lost."""

import threading
from collections import Counter

import pytest
from django.db import connections

from django_invoice_cancel.bulk import cancel_invoices, reconcile_invoices
from django_invoice_cancel.bulk.start import cancel_selection, make_readers
from django_invoice_cancel.domain.audit import AuditContext
from django_invoice_cancel.models import Invoice, InvoiceTransition
from django_invoice_cancel.models.writes.notices import Outbox
from django_invoice_cancel.signals import invoice_paid_after_cancel, invoice_status_changed
from tests.support.invoices import count_statuses
from tests.support.logs import count_invoices_by_log_rows, count_log_rows, invoices_with_broken_log
from tests.support.results import count_codes

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def receive():
    """Return a function that connects a receiver of every change of status."""
    connected = []

    def connect(function):
        def receiver(sender, invoice, transition, old_status, new_status, **kwargs):
            function(invoice, old_status, new_status)

        connected.append(receiver)
        invoice_status_changed.connect(receiver)

    yield connect
    for receiver in connected:
        invoice_status_changed.disconnect(receiver)


# -- slow -----------------------------------------------------------------------------------------------------

SLOW = {
    "3 s": (3, {"CLAIM_TTL": 300}),
    "half a second with short claims": (0.5, {"CLAIM_TTL": 8, "deadline": 2}),
    "longer than a claim": (400, {"CLAIM_TTL": 300}),
    "longer than a short claim": (10, {"CLAIM_TTL": 8, "deadline": 2}),
    "3 s with one thread": (3, {"concurrency": 1, "CLAIM_TTL": 30, "deadline": 5}),
    "3 s with a rate": (3, {"rate": 20.0, "CLAIM_TTL": 30, "deadline": 5}),
}
TAKES_SECONDS = {"3 s with one thread", "3 s with a rate"}
CASES = [pytest.param(case, marks=pytest.mark.slow) if case in TAKES_SECONDS else case for case in SLOW]


@pytest.mark.parametrize("case", CASES)
def test_slow_receivers_do_not_prevent_any_request(scripted, make, receive, clock, case):
    """The receiver waits until the threads have sent all claimed requests, and then advances the clock."""
    seconds, options = SLOW[case]
    shop = scripted(**options)
    sent = threading.Condition()

    def send(external_id):
        with sent:
            sent.notify_all()

    def receiver(invoice, old, new):
        with sent:
            sent.wait_for(lambda: shop.cancel_count >= InvoiceTransition.objects.filter(code="").count(), 10)
        clock.advance(seconds)

    shop.all_cancels(send)
    receive(receiver)
    results = list(cancel_invoices(make(60)))
    assert count_codes(results) == {"canceled": 60}
    assert shop.cancel_count == 60
    assert count_statuses() == {"canceled": 60}
    assert count_invoices_by_log_rows() == {2: 60}
    assert count_log_rows("given_back") == 0


@pytest.mark.parametrize("case", CASES)
def test_run_makes_progress_with_very_slow_receivers(scripted, make, receive, clock, case):
    """The clock advances before a thread sends, so that some claims expire. The number of new claims is bounded."""
    seconds, options = SLOW[case]
    shop = scripted(**options)
    receive(lambda invoice, old, new: clock.advance(seconds))
    results = list(cancel_invoices(make(60)))
    assert count_codes(results) == {"canceled": 60}
    assert shop.cancel_count == 60
    assert count_statuses() == {"canceled": 60}
    assert InvoiceTransition.objects.count() <= 3 * 2 * 60


def test_requests_are_sent_before_the_receivers_of_their_claims_are_called(scripted, make, receive):
    """The receiver waits for the request. It would time out if the request waited for the receiver."""
    shop = scripted(concurrency=4)
    sent = threading.Event()
    was_sent = []
    shop.before_send = lambda external_id: sent.set()
    receive(lambda invoice, old, new: was_sent.append(sent.wait(10)))
    assert make(8).cancel().ok
    assert was_sent == [True] * 16
    assert shop.cancel_count == 8
    assert count_statuses() == {"canceled": 8}


def test_should_stop_is_called_only_in_the_callers_thread(scripted, make, receive):
    """A stored operation reads its row to find out, and worker threads must use no database."""
    shop = scripted(concurrency=4)
    sent = threading.Event()
    shop.before_send = lambda external_id: sent.set()
    receive(lambda invoice, old, new: sent.wait(10))
    threads = set()

    def should_stop():
        threads.add(threading.current_thread())
        return False

    invoices = make(8)
    results = cancel_selection(invoices._writer, make_readers(invoices), AuditContext(), should_stop=should_stop)
    assert count_codes(results) == {"canceled": 8}
    assert threads == {threading.current_thread()}
    assert shop.cancel_count == 8
    assert count_invoices_by_log_rows() == {2: 8}


def test_answers_do_not_wait_for_slow_receivers(scripted, make, receive, clock):
    """Once a receiver was slow, the next ones are called while nothing is claimed."""
    shop = scripted()
    open_claims = []

    def slow(invoice, old, new):
        open_claims.append(count_statuses().get("canceling", 0))
        clock.advance(3)

    receive(slow)
    assert make(150).cancel().ok
    assert len(open_claims) == 300
    assert set(open_claims[1:]) == {0}
    assert shop.cancel_count == 150
    assert count_invoices_by_log_rows() == {2: 150}


@pytest.mark.slow
def test_number_of_waiting_signals_is_limited(scripted, make, receive, clock, monkeypatch):
    waiting = []
    put = Outbox.put

    def put_and_count(self, notices):
        put(self, notices)
        waiting.append(len(self))

    monkeypatch.setattr(Outbox, "put", put_and_count)
    shop = scripted()
    receive(lambda invoice, old, new: clock.advance(3))
    assert make(600).cancel().ok
    assert max(waiting) <= 300  # of 1200
    assert shop.cancel_count == 600


def test_each_change_sends_one_signal_in_order_with_the_written_values(scripted, make, receive):
    shop = scripted()
    seen = []
    receive(lambda invoice, old, new: seen.append((invoice.external_id, old, new, invoice.status)))
    shop.next_cancels("refused", external_id="000007")
    make(60).cancel()
    by_invoice = {each: [row[1:] for row in seen if row[0] == each] for each, *_ in seen}
    canceled = [("created", "canceling", "canceling"), ("canceling", "canceled", "canceled")]
    assert by_invoice.pop("000007") == [("created", "canceling", "canceling"), ("canceling", "created", "created")]
    assert len(by_invoice) == 59
    assert [each for each in by_invoice.values() if each != canceled] == []
    assert shop.cancel_count == 60


@pytest.mark.parametrize("how", ["stopped", "closed"])
def test_run_that_ends_early_has_sent_the_signals_of_its_changes(scripted, make, receive, how):
    shop = scripted()
    seen = Counter()
    receive(lambda invoice, old, new: seen.update([new]))
    stop = threading.Event()
    results = cancel_invoices(make(500), stop=stop)
    next(results)
    if how == "stopped":
        stop.set()
        list(results)
    results.close()
    assert seen["canceled"] == shop.cancel_count == count_statuses()["canceled"]
    assert seen["canceling"] == seen["canceled"] + seen["created"]
    assert seen["created"] == count_log_rows("given_back")


def test_slow_receivers_of_a_reconciliation_delay_no_recording(scripted, make, receive, clock):
    shop = scripted()
    for invoice in make(30, status="in_doubt"):
        shop.set_status(invoice.external_id, "canceled")
    found = []
    receive(lambda invoice, old, new: found.append(count_statuses().get("in_doubt", 0)) or clock.advance(3))
    results = list(reconcile_invoices(Invoice.objects.in_doubt()))
    assert count_codes(results) == {"already_canceled": 30}
    assert found == [0] * 30


# -- a payment that a receiver records ------------------------------------------------------------------------


def test_payment_recorded_by_a_receiver_stops_a_request_that_was_not_sent(scripted, make, receive):
    shop = scripted(concurrency=2)

    def pay(invoice, old, new):
        if new == "canceling" and invoice.external_id in ("000003", "000017"):
            Invoice.objects.observe_status("shop", invoice.external_id, "paid")

    receive(pay)
    codes = {result.external_id: result.code for result in cancel_invoices(make(20))}
    assert codes.pop("000003") == "has_payment"
    assert codes.pop("000017") == "has_payment"
    assert set(codes.values()) == {"canceled"}
    assert shop.cancel_count == 18
    assert len(set(shop.cancels)) == 18
    assert count_statuses() == {"canceled": 18, "paid": 2}
    assert Invoice.objects.paid_after_cancel().count() == 0
    assert invoices_with_broken_log() == []


def test_payment_of_the_first_invoice_stops_its_request(scripted, make, receive):
    """Its thread is idle, and still waits a moment for the receivers."""
    shop = scripted()
    receive(lambda invoice, old, new: new == "canceling" and invoice.observe_status("paid"))
    assert count_codes(cancel_invoices(make(1))) == {"has_payment": 1}
    assert shop.cancel_count == 0
    assert count_statuses() == {"paid": 1}


# -- interrupted ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("when", ["canceling", "canceled"])
@pytest.mark.parametrize("interruption", [KeyboardInterrupt, SystemExit])
def test_interrupted_receiver_leaves_no_open_claim(scripted, make, receive, when, interruption):
    shop = scripted(concurrency=2)
    raised = []

    def interrupt(invoice, old, new):
        if new == when and not raised:
            raised.append(new)
            raise interruption

    receive(interrupt)
    with pytest.raises(interruption):
        make(100).cancel()
    sent = shop.cancel_count
    assert 0 <= sent < 100
    assert count_statuses() == {
        status: count for status, count in {"canceled": sent, "created": 100 - sent}.items() if count
    }
    assert invoices_with_broken_log() == []


def test_failing_receiver_does_not_suppress_other_signals(scripted, make, receive, caplog):
    shop = scripted()
    seen = []

    def fail(invoice, old, new):
        raise ZeroDivisionError("a receiver's own bug")

    receive(fail)
    receive(lambda invoice, old, new: seen.append(new))
    assert make(20).cancel().ok
    assert Counter(seen) == {"canceling": 20, "canceled": 20}
    assert shop.cancel_count == 20
    assert "a receiver's own bug" in caplog.text


def test_late_payment_in_a_group_sends_its_signal(scripted, make):
    shop = scripted()
    received = []

    def receiver(sender, invoice, **kwargs):
        received.append(invoice.external_id)

    def pay(external_id):
        if external_id == "000003":
            Invoice.objects.observe_status("shop", external_id, "paid")
            connections.close_all()  # those of the thread that sends

    shop.before_send = pay
    invoice_paid_after_cancel.connect(receiver)
    try:
        make(20).cancel()
    finally:
        invoice_paid_after_cancel.disconnect(receiver)
    assert received == ["000003"]
    assert shop.cancel_count == 20


def test_without_receivers_no_signal_is_stored_and_no_request_waits(scripted, make, monkeypatch):
    taken, take = [], Outbox.take
    monkeypatch.setattr(Outbox, "take", lambda outbox: (taken.append(outbox), take(outbox))[1])
    shop = scripted()
    assert make(60).cancel().ok
    assert taken == []
    assert shop.cancel_count == 60
