"""P9: a failing provider is paused. The requests that still reach it are counted, and the other rows do not change."""

import threading
from queue import SimpleQueue

import pytest
from django.db import connections

from django_invoice_cancel.bulk import cancel_invoices, workers
from django_invoice_cancel.domain.outcomes import Code, Outcome, ProviderReply
from django_invoice_cancel.models import Invoice, ProviderState
from django_invoice_cancel.testing import ScriptedProvider
from tests.support.invoices import count_statuses
from tests.support.logs import count_answers, count_invoices_by_log_rows, count_log_rows
from tests.support.results import count_codes

pytestmark = pytest.mark.django_db


def limited(retry_after=None):
    return ProviderReply(Outcome.NOT_PROCESSED, Code.RATE_LIMITED, http_status=429, retry_after=retry_after)


@pytest.fixture
def short_pauses(monkeypatch):
    """429 pauses for hundredths of a second."""
    monkeypatch.setattr(workers, "MIN_RATE_PAUSE_SECONDS", 0.02)


class AtEachStep(threading.Event):
    """A stop event that is never set. A run checks it between its steps, and each check calls a function."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def is_set(self):
        self.function()
        return False


def test_rejected_credentials_pause_the_provider_at_once(scripted, make):
    """401 at the 50th of 500: at most ``concurrency`` more requests, the pause is written, the others are unchanged."""
    shop = scripted(concurrency=8)
    shop.next_cancels(*["canceled"] * 49)
    shop.all_cancels("bad_credentials")
    results = list(cancel_invoices(make(500)))
    codes = count_codes(results)
    assert 50 <= shop.cancel_count <= 50 + 8
    assert codes == {
        "canceled": 49,
        "bad_credentials": shop.cancel_count - 49,
        "provider_paused": 500 - shop.cancel_count,
    }
    assert count_statuses() == {"canceled": 49, "created": 451}
    state = ProviderState.objects.get()
    assert state.pause_code == "bad_credentials"
    assert 295 < state.seconds_left <= 300
    assert all(result.retry_after > 290 for result in results if result.code == "provider_paused")
    assert count_log_rows("given_back") <= 66
    assert count_answers() == {"canceled": 49, "bad_credentials": shop.cancel_count - 49}


def test_answer_to_a_request_from_before_a_pause_does_not_end_it(scripted):
    pool = workers.ProviderWorkerPool(scripted(), SimpleQueue())
    before = pool.pause_generation
    pool.update_from_reply(before, "bad_credentials", is_inconclusive=True, retry_after=None)
    pool.update_from_reply(before, "canceled", is_inconclusive=False, retry_after=None)
    assert pool.pause_code == "bad_credentials"
    assert pool.is_probing
    assert pool.paused_seconds > 290
    pool.update_from_reply(pool.pause_generation, "canceled", is_inconclusive=False, retry_after=None)
    assert pool.pause_code == ""
    assert not pool.is_probing


def test_other_provider_continues_during_a_pause(scripted, make):
    broken, good = scripted("broken", "good"), ScriptedProvider.of("good")
    broken.all_cancels("bad_credentials")
    make(60, "broken")
    make(60, "good")
    list(cancel_invoices(Invoice.objects.all()))
    assert good.cancel_count == Invoice.objects.filter(provider="good", status="canceled").count() == 60
    assert broken.cancel_count <= 1 + 8
    assert count_statuses() == {"canceled": 60, "created": 60}
    assert count_answers() == {"canceled": 60, "bad_credentials": broken.cancel_count}


@pytest.mark.parametrize("count", [300, pytest.param(5000, marks=pytest.mark.slow)])
def test_provider_that_always_times_out_leaves_few_invoices_in_doubt(scripted, make, clock, count):
    """At most 5 + concurrency of all invoices are in doubt. The next run continues when the provider is back."""
    shop = scripted(concurrency=8)
    shop.all_cancels("in_doubt")
    invoices = make(count)
    results = list(cancel_invoices(invoices))
    lost = shop.cancel_count
    assert 5 <= lost <= 5 + 8
    assert count_codes(results) == {"no_answer": lost, "provider_paused": count - lost}
    assert count_statuses() == {"in_doubt": lost, "created": count - lost}

    clock.advance(301)
    shop.all_cancels("canceled")
    results = list(cancel_invoices(invoices.filter(status="created")))
    assert count_codes(results) == {"canceled": count - lost}
    assert shop.cancel_count == count
    assert ProviderState.objects.get().pause_code == ""
    assert count_statuses() == {"in_doubt": lost, "canceled": count - lost}
    assert count_answers() == {"no_answer": lost, "canceled": count - lost}


def test_one_probe_is_sent_first_after_a_pause(scripted, make, clock):
    """The provider still fails: the run claims and sends one invoice, and the answer starts a new pause."""
    shop = scripted(concurrency=8)
    shop.all_cancels("in_doubt")
    invoices = make(60)
    list(cancel_invoices(invoices))
    lost = shop.cancel_count
    clock.advance(301)
    claimed, answer = [], threading.Event()

    def count_claimed():
        claimed.append(count_statuses().get("canceling", 0))
        if len(claimed) == 10:
            answer.set()

    shop.before_send = lambda external_id: answer.wait(10)
    results = list(cancel_invoices(invoices.filter(status="created"), stop=AtEachStep(count_claimed)))
    assert shop.cancel_count == lost + 1
    assert count_codes(results)["no_answer"] == 1
    assert max(claimed) == 1
    assert ProviderState.objects.get().seconds_left > 290
    assert count_statuses() == {"in_doubt": lost + 1, "created": 59 - lost}
    assert count_answers() == {"no_answer": lost + 1}


def test_five_lost_answers_pause_a_provider_and_four_do_not(scripted, make):
    shop = scripted(concurrency=1)
    shop.next_cancels(*["in_doubt"] * 4, "canceled", *["in_doubt"] * 4)
    make(50).cancel()
    assert shop.cancel_count == 50
    assert count_statuses() == {"canceled": 42, "in_doubt": 8}
    assert count_answers() == {"canceled": 42, "no_answer": 8}
    assert ProviderState.objects.get().failures == 0


def test_any_answer_about_an_invoice_resets_the_failure_count(scripted, make):
    shop = scripted(concurrency=1)
    shop.next_cancels(*["in_doubt", "in_doubt", "in_doubt", "in_doubt", "refused"] * 4)
    make(20).cancel()
    assert shop.cancel_count == 20
    assert count_statuses() == {"created": 4, "in_doubt": 16}
    assert count_answers() == {"provider_refused": 4, "no_answer": 16}


def test_pause_of_another_process_is_read_before_each_group(shop, make):
    """The other process stores a pause while this run is active. It applies from the next group on."""
    invoices = make(500)
    results = cancel_invoices(invoices)
    next(results)
    invoices._writer.pause("shop", "bad_credentials", 300)
    rest = list(results)
    assert shop.cancel_count <= shop.concurrency * 2 + workers.INVOICE_BATCH_SIZE + workers.INVOICE_BATCH_SIZE
    assert count_codes(rest)["provider_paused"] == 500 - shop.cancel_count
    assert count_statuses() == {"canceled": shop.cancel_count, "created": 500 - shop.cancel_count}
    assert count_answers() == {"canceled": shop.cancel_count}


def test_existing_pause_prevents_all_requests(shop, make):
    invoices = make(120)
    invoices._writer.pause("shop", "rate_limited", 61)
    assert count_codes(cancel_invoices(invoices)) == {"provider_paused": 120}
    assert shop.cancel_count == 0
    assert count_statuses() == {"created": 120}
    assert count_invoices_by_log_rows() == {}


@pytest.mark.parametrize(
    ("seconds", "expected", "status", "rows"),
    [(59, {"canceled": 9}, "canceled", {2: 9}), (61, {"provider_paused": 9}, "created", {})],
)
def test_run_waits_for_a_pause_of_a_minute_but_not_for_a_longer_one(shop, make, clock, seconds, expected, status, rows):
    invoices = make(9)
    invoices._writer.pause("shop", "rate_limited", seconds)
    assert count_codes(cancel_invoices(invoices, stop=AtEachStep(ticks(clock)))) == expected
    assert shop.cancel_count == expected.get("canceled", 0)
    assert (clock.moved >= 50) == (seconds < 60)
    assert count_statuses() == {status: 9}
    assert count_invoices_by_log_rows() == rows


def test_limit_of_zero_does_not_wait_for_a_pause(shop, make, clock):
    invoices = make(9)
    invoices._writer.pause("shop", "rate_limited", 59)
    assert list(cancel_invoices(invoices, limit=0, stop=AtEachStep(ticks(clock)))) == []
    assert shop.cancel_count == 0
    assert clock.moved == 0.0
    assert count_statuses() == {"created": 9}
    assert count_invoices_by_log_rows() == {}


def ticks(clock):
    """Return a function that moves the clock by ten seconds, from the third step on: the first two read the pause."""
    calls = []

    def tick():
        calls.append(clock.moved)
        if len(calls) > 2:
            clock.advance(10)

    return tick


def test_short_429_repeats_each_request_once(scripted, make, short_pauses):
    """No invoice without a final answer, none accepted twice, and only those that met the 429 are sent again."""
    shop = scripted(concurrency=8)
    shop.next_cancels(*["canceled"] * 60, *[limited(retry_after=0.05)] * 3)
    results = list(cancel_invoices(make(300)))
    assert count_codes(results) == {"canceled": 300}
    sent = [shop.cancels.count(each) for each in set(shop.cancels)]
    again = shop.cancel_count - 300
    assert again == 3
    assert len(sent) == 300
    assert max(sent) == 2
    assert sum(count == 2 for count in sent) == again
    assert count_statuses() == {"canceled": 300}
    assert count_answers() == {"canceled": 300, "rate_limited": 3}


@pytest.mark.slow
def test_run_waits_for_a_429_from_a_real_server(sandbox, at_sandbox):
    invoices = at_sandbox(150, provider="firekassa")
    sandbox.script("*", ["ordinary"] * 40 + ["rate_limited"] * 2)
    report = invoices.cancel()
    summary = sandbox.summary()
    assert report.ok is True
    assert count_statuses() == {"canceled": 150}
    assert set(summary["executed"].values()) == {1}
    assert summary["totals"]["cancel"] == 152
    assert max(summary["counts"]["cancel"].values()) == 2
    assert count_answers() == {"canceled": 150, "rate_limited": 2}


def test_invoice_with_two_429_answers_is_not_processed(scripted, make, short_pauses):
    shop = scripted(concurrency=1)
    invoices = make(3)
    shop.next_cancels(limited(0.01), limited(0.01), external_id="000001")
    results = list(cancel_invoices(invoices))
    assert {r.external_id: r.outcome for r in results} == {
        "000000": "canceled",
        "000001": "not_processed",
        "000002": "canceled",
    }
    assert shop.cancel_count == 4
    assert count_statuses() == {"canceled": 2, "created": 1}
    assert count_answers() == {"canceled": 2, "rate_limited": 2}


def test_endless_429_is_probed_at_growing_intervals_and_then_skipped(scripted, make, clock):
    """Each Retry-After is 1 s. Probes follow after 1, 2, 4 ... 64 seconds, then the other invoices are skipped."""
    shop = scripted(concurrency=4)
    shop.all_cancels(limited(retry_after=1.0))
    results = list(cancel_invoices(make(120), stop=AtEachStep(ticks(clock))))
    assert shop.cancel_count <= 4 + 7
    assert count_codes(results).keys() == {"rate_limited", "provider_paused"}
    assert len(results) == 120
    assert count_statuses() == {"created": 120}
    assert count_answers() == {"rate_limited": shop.cancel_count}


@pytest.mark.parametrize(
    ("retry_after", "released"), [(4.0, False), (6.0, True)], ids=["kept for 4 s", "released for 6 s"]
)
def test_claims_are_released_when_a_long_pause_begins(scripted, make, clock, retry_after, released):
    shop = scripted(concurrency=1)
    shop.next_cancels("canceled", limited(retry_after))
    claimed = []

    def count_claimed():
        """Count the claimed invoices during the pause: after the second request, and until the third."""
        if shop.cancel_count == 2:
            claimed.append(count_statuses().get("canceling", 0))
            clock.advance(1 if len(claimed) > 8 else 0)

    results = list(cancel_invoices(make(10), stop=AtEachStep(count_claimed)))
    assert count_codes(results) == {"canceled": 10}
    assert shop.cancel_count == 11
    assert (min(claimed) == 0) == released
    assert (count_log_rows("given_back") > 0) == released
    assert count_statuses() == {"canceled": 10}
    assert count_answers() == {"canceled": 10, "rate_limited": 1}


@pytest.mark.django_db(transaction=True)
def test_released_invoice_that_was_paid_is_reported_as_paid(scripted, make):
    """The webhook arrives between the claim and its release. The payment wins, and the result reports it."""
    shop = scripted(concurrency=1)
    shop.next_cancels("bad_credentials")

    def pay(external_id):
        Invoice.objects.observe_status("shop", "000002", "paid", trigger="webhook")
        connections.close_all()  # those of the thread that sends

    shop.before_send = pay
    results = {result.external_id: result.code for result in cancel_invoices(make(4))}
    assert results == {
        "000000": "bad_credentials",
        "000001": "provider_paused",
        "000002": "has_payment",
        "000003": "provider_paused",
    }
    assert shop.cancel_count == 1
    assert count_statuses() == {"created": 3, "paid": 1}
    assert count_answers() == {"bad_credentials": 1, "observed": 1}


def test_unreachable_provider_pauses_after_five(scripted, make):
    shop = scripted(concurrency=2)
    shop.all_cancels("not_processed")
    results = list(cancel_invoices(make(100)))
    assert 5 <= shop.cancel_count <= 7
    assert count_codes(results) == {"unreachable": shop.cancel_count, "provider_paused": 100 - shop.cancel_count}
    assert count_statuses() == {"created": 100}
    assert count_answers() == {"unreachable": shop.cancel_count}


def test_waiting_for_a_pause_makes_no_queries(shop, make, django_assert_max_num_queries):
    invoices = make(3)
    invoices._writer.pause("shop", "rate_limited", 30)
    stop = threading.Event()
    results = cancel_invoices(invoices, stop=stop)
    threading.Timer(0.5, stop.set).start()
    with django_assert_max_num_queries(8):
        assert list(results) == []
    assert shop.cancel_count == 0
    assert count_statuses() == {"created": 3}
    assert count_invoices_by_log_rows() == {}
