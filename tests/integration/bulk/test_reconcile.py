"""Many lookups: in groups of the provider's size, shared with other reconciling processes, respecting pauses."""

import threading
import time

import pytest

from django_invoice_cancel.bulk import reconcile_invoices, workers
from django_invoice_cancel.bulk.start import make_readers, preview_selection
from django_invoice_cancel.domain.outcomes import Code, LookupReply
from django_invoice_cancel.models import Invoice, ProviderState
from django_invoice_cancel.models.writes.claims import ClaimWriter
from django_invoice_cancel.models.writes.observations import ObservationWriter
from django_invoice_cancel.testing import ScriptedProvider, make_invoice
from tests.support.clock import travel_forward
from tests.support.invoices import count_statuses, stored
from tests.support.logs import count_answers, count_log_rows, log_entries
from tests.support.results import count_codes

pytestmark = pytest.mark.django_db


@pytest.fixture
def doubtful(make, monkeypatch):
    """Return a function that brings `count` invoices into doubt, whatever their status at the provider is."""

    def doubt(count, shop, answer="in_doubt"):
        invoices = make(count, shop.alias)
        shop.next_cancels(*[answer] * count)
        with monkeypatch.context() as patch:
            patch.setattr(workers, "FAILURES_THAT_PAUSE", count + 1)
            invoices.cancel()
        ProviderState.objects.all().delete()
        return invoices

    return doubt


def due():
    return Invoice.objects.due_for_reconciling()


def test_lookups_are_grouped_by_the_providers_limit(scripted, doubtful):
    shop = scripted(lookup_group_size=10)
    doubtful(25, shop, "answer_lost")
    with travel_forward(minutes=2):
        results = list(reconcile_invoices(due()))
    assert count_codes(results) == {"already_canceled": 25}
    assert sorted(len(ids) for ids in shop.lookups) == [5, 10, 10]
    assert shop.cancel_count == 25
    assert count_statuses() == {"canceled": 25}
    assert count_answers() == {"no_answer": 25, "observed": 25}


@pytest.mark.slow
def test_cryptocloud_lookups_contain_up_to_100_invoices(sandbox, at_sandbox):
    invoices = at_sandbox(250)
    results = list(reconcile_invoices(invoices))
    assert count_codes(results) == {"still_open": 250}
    assert sandbox.summary()["totals"] == {"lookup": 3}
    assert count_statuses() == {"created": 250}


def test_two_reconciliations_share_the_work(scripted, doubtful):
    """Both have read the same rows; each invoice is looked up by one of them."""
    shop = scripted(lookup_group_size=5, concurrency=1)
    doubtful(20, shop, "answer_lost")
    with travel_forward(minutes=2):
        first = reconcile_invoices(due())
        one = next(first)
        second = list(reconcile_invoices(due()))
        rest = list(first)
    looked_up = [external_id for ids in shop.lookups for external_id in ids]
    assert len(looked_up) == 20
    assert len(set(looked_up)) == 20
    assert one.code == "already_canceled"
    assert len(rest) + 1 == 20
    assert count_codes(second).keys() <= {"already_canceled", "being_checked"}
    assert shop.cancel_count == 20
    assert count_statuses() == {"canceled": 20}
    assert count_answers() == {"no_answer": 20, "observed": 20}


def test_invoice_that_another_process_looks_up_is_reported_as_being_checked(scripted, doubtful, monkeypatch):
    shop = scripted()
    doubtful(3, shop)
    book = ObservationWriter.book_check

    def other_first(self, invoices):
        book(self, [Invoice.objects.get(pk=invoices[0].pk)])
        return book(self, invoices)

    monkeypatch.setattr(ObservationWriter, "book_check", other_first)
    with travel_forward(minutes=2):
        results = list(reconcile_invoices(due()))
    assert count_codes(results) == {"being_checked": 1, "still_open": 2}
    assert shop.cancel_count == 3
    assert shop.lookup_count == 1
    assert len(shop.lookups[0]) == 2
    assert count_statuses() == {"in_doubt": 3}
    assert count_answers() == {"no_answer": 3, "still_open": 2}


def test_still_open_counts_only_after_the_doubt_period(scripted, doubtful):
    shop = scripted()
    doubtful(3, shop)
    with travel_forward(minutes=2):
        assert count_codes(reconcile_invoices(due())) == {"still_open": 3}
        assert count_statuses() == {"in_doubt": 3}
    with travel_forward(minutes=17):
        results = list(reconcile_invoices(due()))
    assert [(result.outcome, result.code) for result in results] == [("not_processed", "still_open")] * 3
    assert count_statuses() == {"created": 3}
    assert shop.cancel_count == 3
    assert shop.lookup_count == 2
    assert count_answers() == {"no_answer": 3, "still_open": 6}


def test_unreachable_provider_does_not_advance_the_backoff(scripted, doubtful):
    shop = scripted()
    invoices = doubtful(3, shop)
    shop.all_lookups("not_processed")
    with travel_forward(minutes=2):
        assert count_codes(reconcile_invoices(due())) == {"unreachable": 3}
    assert set(invoices.values_list("check_count", flat=True)) == {0}
    shop.all_lookups("created")
    with travel_forward(minutes=8):
        assert count_codes(reconcile_invoices(due())) == {"still_open": 3}
    assert set(invoices.values_list("check_count", flat=True)) == {1}
    assert count_statuses() == {"in_doubt": 3}
    assert count_answers() == {"no_answer": 3, "still_open": 3}
    assert shop.cancel_count == 3
    assert shop.lookup_count == 2


def test_paused_provider_gets_no_lookup(scripted, doubtful):
    shop = scripted()
    invoices = doubtful(3, shop)
    with travel_forward(minutes=2):
        invoices._writer.pause("shop", "bad_credentials", 300)
        assert count_codes(reconcile_invoices(due())) == {"provider_paused": 3}
    assert shop.cancel_count == 3
    assert shop.lookup_count == 0
    assert count_statuses() == {"in_doubt": 3}
    assert count_answers() == {"no_answer": 3}


def test_rejected_credentials_of_a_lookup_pause_the_provider(scripted, doubtful):
    shop = scripted(lookup_group_size=2, concurrency=1)
    doubtful(10, shop)
    shop.all_lookups("bad_credentials")
    with travel_forward(minutes=2):
        results = list(reconcile_invoices(due()))
        assert ProviderState.objects.get().pause_code == "bad_credentials"
    assert shop.cancel_count == 10
    assert shop.lookup_count == 1
    assert count_codes(results) == {"bad_credentials": 2, "provider_paused": 8}
    assert count_statuses() == {"in_doubt": 10}
    assert count_answers() == {"no_answer": 10}


def test_reconciliation_waits_for_a_short_pause(scripted, doubtful):
    shop = scripted(lookup_group_size=2, concurrency=1)
    doubtful(6, shop, "answer_lost")
    shop.next_lookups(LookupReply(None, Code.RATE_LIMITED, is_answer=False, retry_after=0.05))
    with travel_forward(minutes=2):
        results = list(reconcile_invoices(due()))
    assert sum(count_codes(results).values()) == 6
    assert count_codes(results)["already_canceled"] >= 4
    assert shop.lookup_count == 3
    assert shop.cancel_count == 6
    assert count_answers()["no_answer"] == 6
    assert count_statuses()["canceled"] == count_answers()["observed"] == count_codes(results)["already_canceled"]


def test_abandoned_claim_becomes_in_doubt_before_the_lookup(shop):
    invoice = make_invoice("abandoned", provider="shop")
    shop.reset()
    assert count_codes(reconcile_invoices(due())) == {"still_open": 1}
    assert [step[:2] for step in log_entries(invoice)[-2:]] == [("canceling", "in_doubt"), ("in_doubt", "in_doubt")]
    assert stored(invoice).status == "in_doubt"
    assert shop.cancel_count == 0
    assert shop.lookup_count == 1


def test_abandoned_claim_that_another_process_takes_first_is_reported_as_being_checked(shop, monkeypatch):
    """No cancellation is in progress, although the row that was read was claimed."""
    invoice = make_invoice("abandoned", provider="shop")
    shop.reset()
    abandon = ClaimWriter.mark_abandoned

    def other_first(self, invoices, audit):
        abandon(self, [Invoice.objects.get(pk=invoice.pk)], audit)
        return abandon(self, invoices, audit)

    monkeypatch.setattr(ClaimWriter, "mark_abandoned", other_first)
    assert count_codes(reconcile_invoices(due())) == {"being_checked": 1}
    assert stored(invoice).status == "in_doubt"
    assert shop.cancel_count == 0
    assert shop.lookup_count == 0
    assert [step[:2] for step in log_entries(invoice)[-1:]] == [("canceling", "in_doubt")]


@pytest.mark.parametrize("limit", [-1, 2.5, "3"])
def test_invalid_limit_is_rejected_before_any_lookup(shop, limit):
    make_invoice("in_doubt", provider="shop")
    shop.reset()
    with pytest.raises(ValueError, match=f"limit must be .* not {limit!r}"):
        reconcile_invoices(Invoice.objects.all(), limit=limit)
    assert shop.lookup_count == 0


def test_valid_claim_is_not_changed(shop):
    invoice = make_invoice("canceling", provider="shop")
    assert count_codes(reconcile_invoices(Invoice.objects.all())) == {"in_progress": 1}
    assert stored(invoice).status == "canceling"
    assert shop.cancel_count == 0
    assert shop.lookup_count == 0
    assert [step[:2] for step in log_entries(invoice)] == [("created", "canceling")]


def test_misconfigured_alias_is_reported_and_its_abandoned_claims_become_in_doubt(settings, shop, make):
    make_invoice("abandoned", provider="shop")
    settings.INVOICE_CANCEL = {"PROVIDERS": {}}
    shop.reset()
    assert count_codes(reconcile_invoices(due())) == {"misconfigured": 1}
    assert shop.cancel_count == 0
    assert shop.lookup_count == 0
    assert count_statuses() == {"in_doubt": 1}
    assert count_log_rows("abandoned") == 1


def test_limit_bounds_the_number_of_lookups(scripted, doubtful):
    shop = scripted(lookup_group_size=5)
    doubtful(12, shop)
    with travel_forward(minutes=2):
        assert count_codes(reconcile_invoices(due(), limit=7)) == {"still_open": 7}
    assert sorted(len(ids) for ids in shop.lookups) == [2, 5]


def test_no_lookup_is_sent_after_stop(scripted, doubtful):
    shop = scripted(lookup_group_size=1, concurrency=1)
    doubtful(6, shop)
    stop = threading.Event()
    shop.all_lookups(lambda external_id: stop.set())
    with travel_forward(minutes=2):
        results = list(reconcile_invoices(due(), stop=stop))
    assert len(results) == shop.lookup_count < 6
    assert count_statuses() == {"in_doubt": 6}
    assert shop.cancel_count == 6
    assert count_answers() == {"no_answer": 6, "still_open": shop.lookup_count}


def test_row_that_cannot_be_recorded_does_not_stop_the_others(scripted, doubtful, monkeypatch):
    shop = scripted()
    doubtful(5, shop, "answer_lost")
    lock, refused = ObservationWriter.record_lookup, []

    def refuse(self, seen, reply, audit, **options):
        if seen.invoice.external_id == "000002":
            refused.append(seen)
            raise ZeroDivisionError
        lock(self, seen, reply, audit, **options)

    monkeypatch.setattr(ObservationWriter, "record_lookup", refuse)
    with travel_forward(minutes=2):
        results = list(reconcile_invoices(due()))
    assert [result.external_id for result in results if not result.is_recorded] == ["000002"]
    assert count_statuses() == {"canceled": 4, "in_doubt": 1}
    assert len(refused) == 1
    assert shop.lookup_count == 1
    assert shop.cancel_count == 5
    assert count_answers() == {"no_answer": 5, "observed": 4}


# -- a provider that cannot be asked ----------------------------------------------------------------------------------


def test_provider_without_lookup_gets_requests_only_with_resubmit(scripted, doubtful):
    shop = scripted(supports_lookup=False, is_repeat_harmless=True)
    doubtful(3, shop)
    with travel_forward(minutes=20):
        assert count_codes(reconcile_invoices(due())) == {"no_lookup": 3}
        assert shop.cancel_count == 3
        assert count_codes(reconcile_invoices(due(), resubmit=True)) == {"canceled": 3}
    assert shop.cancel_count == 6
    assert count_statuses() == {"canceled": 3}
    assert count_answers() == {"no_answer": 3, "canceled": 3}


def test_repeats_stop_after_five_inconclusive_answers(scripted, doubtful):
    """A provider that is down is not asked to cancel a hundred times, for 15 seconds each."""
    shop = scripted(supports_lookup=False, is_repeat_harmless=True)
    doubtful(30, shop)
    shop.all_cancels("in_doubt")
    with travel_forward(minutes=20):
        results = list(reconcile_invoices(due(), resubmit=True))
        assert ProviderState.objects.get().is_paused
    assert shop.cancel_count == 30 + 5
    assert count_codes(results) == {"no_answer": 5, "provider_paused": 25}
    assert count_statuses() == {"in_doubt": 30}
    assert count_answers() == {"no_answer": 35}


def test_lookups_keep_the_rate(scripted, doubtful):
    shop = scripted(lookup_group_size=1, rate=1000)
    doubtful(5, shop)
    with travel_forward(minutes=2):
        list(reconcile_invoices(due()))
        assert ProviderState.objects.get().next_send_at is not None
    assert shop.lookup_count == 5


def test_repeats_keep_the_rate(scripted, doubtful):
    shop = scripted(supports_lookup=False, is_repeat_harmless=True)
    doubtful(5, shop)
    shop = scripted(supports_lookup=False, is_repeat_harmless=True, rate=20)
    times = []
    shop.before_send = lambda external_id: times.append(time.monotonic())
    with travel_forward(minutes=20):
        began = time.monotonic()
        assert count_codes(reconcile_invoices(due(), resubmit=True)) == {"canceled": 5}
    assert shop.cancel_count == 5
    assert count_statuses() == {"canceled": 5}
    assert times[-1] - began >= 4 / 20 - 0.01  # the first may be late in its slot


def test_repeat_that_must_wait_uses_no_slot_of_the_rate(scripted, doubtful):
    shop = scripted(supports_lookup=False, is_repeat_harmless=True, rate=0.01)
    doubtful(1, shop)
    ProviderState.objects.all().delete()
    with travel_forward(minutes=2):  # the doubt period is not over
        assert count_codes(reconcile_invoices(due(), resubmit=True)) == {"doubt_period": 1}
    assert not ProviderState.objects.exists()
    assert shop.cancel_count == 1
    assert count_statuses() == {"in_doubt": 1}
    assert count_answers() == {"no_answer": 1}


def test_repeat_without_a_slot_is_postponed(scripted, doubtful, monkeypatch):
    shop = scripted(supports_lookup=False, is_repeat_harmless=True)
    doubtful(3, shop)
    shop = scripted(supports_lookup=False, is_repeat_harmless=True, rate=0.001)
    stop = threading.Event()
    monkeypatch.setattr(workers.ProviderWorkerPool, "retry_slot_later", lambda pool: stop.set())  # it found no slot
    with travel_forward(minutes=20):
        assert count_codes(reconcile_invoices(due(), resubmit=True, stop=stop)) == {"canceled": 1}
    assert shop.cancel_count == 1
    assert count_statuses() == {"canceled": 1, "in_doubt": 2}
    assert count_answers() == {"no_answer": 3, "canceled": 1}


def test_preview_sends_no_request(scripted, doubtful):
    shop = scripted()
    doubtful(1, shop)
    assert count_codes(preview_selection(make_readers(Invoice.objects.all()), wanted="check")) == {"dry_run": 1}
    scripted(supports_lookup=False)
    assert count_codes(preview_selection(make_readers(Invoice.objects.all()), wanted="check")) == {"no_lookup": 1}
    assert shop.lookup_count == 0
    assert count_log_rows("observed") == 0
    assert ScriptedProvider.of("shop").lookup_count == 0
