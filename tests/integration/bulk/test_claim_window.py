"""The limit of P7: the number of claimed invoices that are not recorded yet. No claim becomes too old."""

import threading
from queue import SimpleQueue

import pytest

from django_invoice_cancel.bulk import cancel_invoices
from django_invoice_cancel.bulk.workers import ProviderWorkerPool
from django_invoice_cancel.models import Invoice
from django_invoice_cancel.models.writes import InvoiceWriter
from django_invoice_cancel.testing import ScriptedProvider
from tests.support.invoices import count_statuses
from tests.support.logs import count_invoices_by_log_rows, count_log_rows
from tests.support.results import count_codes

pytestmark = pytest.mark.django_db

WINDOWS = {
    # options, CLAIM_TTL: the window
    "the groups' size bounds it": ({"concurrency": 8}, 300, 66),
    "the deadline bounds it": ({"concurrency": 2, "deadline": 30}, 300, 10),
    "the rate bounds it": ({"concurrency": 8, "rate": 0.2}, 300, 15),
    "never less than one": ({"concurrency": 1, "deadline": 149}, 300, 1),
}


@pytest.mark.parametrize("case", WINDOWS)
def test_window_of_claims_has_four_limits(scripted, case):
    options, ttl, window = WINDOWS[case]
    shop = scripted(**options, CLAIM_TTL=ttl)
    assert ProviderWorkerPool(shop, SimpleQueue()).window == window


@pytest.fixture
def open_rows(monkeypatch):
    """The number of claimed invoices after each claim."""
    seen = []
    claim = InvoiceWriter.claim

    def claim_and_count(self, *args, **kwargs):
        made = claim(self, *args, **kwargs)
        seen.append(Invoice.objects.filter(status="canceling").count())
        return made

    monkeypatch.setattr(InvoiceWriter, "claim", claim_and_count)
    return seen


@pytest.mark.parametrize(
    ("options", "window"), [({"concurrency": 4}, 40), ({"concurrency": 4, "deadline": 100}, 6)], ids=["wide", "narrow"]
)
def test_open_claims_never_exceed_the_window(scripted, make, open_rows, options, window):
    shop = scripted(**options)
    assert make(300).cancel().ok
    assert window / 2 <= max(open_rows) <= window
    assert shop.cancel_count == 300
    assert count_statuses() == {"canceled": 300}


def test_claims_do_not_expire_in_the_queue_of_a_slow_provider(scripted, make, clock):
    """One thread, 14 of 15 seconds for each of 50: a group of 50 would be claimed for 700 seconds."""
    shop = scripted(concurrency=1, deadline=15, CLAIM_TTL=300)
    shop.before_send = lambda external_id: clock.advance(14)
    invoices = make(50)
    report = invoices.cancel()
    assert report.ok is True
    assert shop.cancel_count == 50
    assert clock.moved == 700
    assert count_invoices_by_log_rows() == {2: 50}
    assert count_statuses() == {"canceled": 50}


def test_expired_claim_is_released_and_claimed_again(scripted, make, clock):
    """Something took far longer than its deadline: the claims behind it are not sent on the old lease."""
    shop = scripted(concurrency=1, deadline=15, CLAIM_TTL=300)
    first = []

    def stall(external_id):
        first.append(external_id)
        if len(first) == 1:
            clock.advance(160)

    shop.before_send = stall
    report = make(10).cancel()
    assert count_codes(report.results) == {"canceled": 10}
    assert shop.cancel_count == 10
    assert count_log_rows("given_back") == 9
    assert count_invoices_by_log_rows() == {2: 1, 4: 9}
    assert count_statuses() == {"canceled": 10}


def test_request_that_starts_after_its_lease_is_retried_once(scripted, make, clock):
    """The machine was suspended between claim and request. Nothing was sent, so the invoice is claimed again."""
    shop = scripted(concurrency=1, deadline=15, CLAIM_TTL=300)
    slept = []

    def sleep(external_id):
        if not slept:
            slept.append(external_id)
            clock.advance(301)

    shop.before_send = sleep
    [result] = make(1).cancel().results
    assert result.code == "canceled"
    assert shop.cancel_count == 1
    assert count_log_rows("lease_expired") == 1
    assert count_statuses() == {"canceled": 1}
    assert count_invoices_by_log_rows() == {4: 1}


def test_groups_are_claimed_and_recorded_with_one_statement(shop, make, django_assert_max_num_queries):
    """500 invoices in groups of 50: 0.3 statements an invoice, not 6."""
    invoices = make(500)
    with django_assert_max_num_queries(250):
        assert invoices.cancel().ok
    assert shop.cancel_count == 500
    assert count_invoices_by_log_rows() == {2: 500}


def test_slow_provider_does_not_delay_a_fast_one(scripted, make):
    """The slow provider answers only after the fast provider has answered for all of its invoices."""
    fast, slow = scripted("fast", "slow", concurrency=4), ScriptedProvider.of("slow")
    fast_is_done = threading.Event()
    slow.before_send = lambda external_id: fast_is_done.wait(30)
    make(150, "fast")
    make(20, "slow")
    order = []
    for result in cancel_invoices(Invoice.objects.all()):
        order.append(result.provider)
        if order.count("fast") == 150:
            fast_is_done.set()
    assert order.index("slow") >= 150
    assert fast.cancel_count == 150
    assert slow.cancel_count == 20
    assert count_statuses() == {"canceled": 170}
