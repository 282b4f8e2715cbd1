"""A lease reserves items for one worker. Items of a crashed worker get their correct outcome once."""

import time
from collections import Counter
from datetime import timedelta
from types import SimpleNamespace

import pytest
from django.db import OperationalError

from django_invoice_cancel.domain.clock import utc_now
from django_invoice_cancel.models import BulkOperationItem, Invoice
from django_invoice_cancel.models.operation_item import BulkOperationItemManager
from django_invoice_cancel.models.writes.answers import AnswerWriter
from tests.support.invoices import set_columns, statuses_by_id
from tests.support.logs import log_codes_by_id
from tests.support.operations import advance_slice, item_outcomes, stored_progress

pytestmark = pytest.mark.django_db(transaction=True)


class Killed(BaseException):
    """Stands for kill -9: no handler may catch it."""


def expire_leases() -> None:
    past = utc_now() - timedelta(seconds=1)
    BulkOperationItem.objects.filter(leased_until__isnull=False).update(leased_until=past)


def test_items_leased_by_another_worker_are_skipped(scripted_provider, invoices, started):
    invoices(3)
    operation = started()
    leased = operation.items.lease(2, seconds=60)
    advance_slice(operation.pk)
    progress = advance_slice(operation.pk)
    assert progress.has_more is True
    assert progress.wait_seconds == 1.0
    assert [item.invoice.external_id for item in leased] == ["101", "102"]
    assert item_outcomes(operation) == {"101": "", "102": "", "103": "canceled canceled"}
    assert statuses_by_id() == {"101": "created", "102": "created", "103": "canceled"}
    assert log_codes_by_id() == {"101": "", "102": "", "103": "claim canceled"}
    assert scripted_provider.cancels == ["103"]


@pytest.mark.scripted_providers("firekassa", concurrency=1)
def test_concurrent_slices_share_the_items(scripted_provider, invoices, started, in_thread):
    """The request of the first slice waits until the second slice has finished."""
    invoices(20)
    operation = started()
    second = []

    def advance_concurrently(external_id):
        scripted_provider.before_send = None
        second.append(in_thread(advance_slice, operation.pk, limit=10).result())

    scripted_provider.before_send = advance_concurrently
    advance_slice(operation.pk, limit=10)
    assert len(second) == 1
    assert set(item_outcomes(operation).values()) == {"canceled canceled"}
    assert sorted(scripted_provider.cancels) == [str(number) for number in range(101, 121)]
    assert set(statuses_by_id().values()) == {"canceled"}
    assert set(log_codes_by_id().values()) == {"claim canceled"}
    assert stored_progress(operation) == "finished"


def test_items_of_an_expired_lease_are_processed(scripted_provider, invoices, started):
    """The worker crashed before it claimed an invoice."""
    invoices(2)
    operation = started()
    operation.items.lease(2, seconds=-1)
    assert advance_slice(operation.pk).is_finished
    assert item_outcomes(operation) == {"101": "canceled canceled", "102": "canceled canceled"}
    assert set(statuses_by_id().values()) == {"canceled"}
    assert set(log_codes_by_id().values()) == {"claim canceled"}
    assert scripted_provider.cancel_count == 2


def test_crash_during_the_request_ends_the_item_in_doubt(scripted_provider, invoices, started):
    invoices(1)
    operation = started()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(BulkOperationItemManager, "release", lambda self, items: None)
        patch.setattr(AnswerWriter, "record", die)
        with pytest.raises(Killed):
            advance_slice(operation.pk)
    assert statuses_by_id() == {"101": "canceling"}
    assert item_outcomes(operation) == {"101": ""}
    expire_leases()
    assert advance_slice(operation.pk).is_finished
    assert item_outcomes(operation) == {"101": "in_doubt abandoned"}
    assert statuses_by_id() == {"101": "canceling"}
    assert log_codes_by_id() == {"101": "claim"}  # for reconcile
    assert scripted_provider.cancel_count == 1


@pytest.mark.scripted_providers("firekassa", supports_lookup=False, is_repeat_harmless=True)
def test_outcome_after_a_crash_before_the_item_is_written_is_read_from_the_log(scripted_provider, invoices, started):
    """A check that repeats the request writes the item after the invoice."""
    (invoice,) = invoices(1)
    scripted_provider.next_cancels("in_doubt")
    Invoice.objects.all().cancel()
    set_columns(invoice, claim_expires_at=utc_now() - timedelta(days=1))
    operation = started("check")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(BulkOperationItemManager, "release", lambda self, items: None)
        patch.setattr(BulkOperationItemManager, "conclude", die)
        with pytest.raises(Killed):
            advance_slice(operation.pk)
    assert statuses_by_id() == {"101": "canceled"}
    assert item_outcomes(operation) == {"101": ""}
    expire_leases()
    assert advance_slice(operation.pk).is_finished
    assert item_outcomes(operation) == {"101": "canceled canceled"}
    assert statuses_by_id() == {"101": "canceled"}
    assert log_codes_by_id() == {"101": "claim no_answer claim canceled"}
    assert scripted_provider.cancel_count == 2


def test_invoice_and_item_are_written_in_one_transaction(scripted_provider, invoices, started):
    """The worker crashes within that transaction."""
    invoices(1)
    operation = started()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(BulkOperationItemManager, "release", lambda self, items: None)
        patch.setattr(BulkOperationItemManager, "conclude", die)
        with pytest.raises(Killed):
            advance_slice(operation.pk)
    assert statuses_by_id() == {"101": "canceling"}
    assert item_outcomes(operation) == {"101": ""}
    assert log_codes_by_id() == {"101": "claim"}
    assert scripted_provider.cancel_count == 1


def test_item_keeps_its_lease_if_its_answer_cannot_be_recorded(scripted_provider, invoices, started):
    """Without its lease, the item would be tried again and end as skipped, although its request was sent."""
    invoices(2)
    operation = started()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(AnswerWriter, "record", fail)
        assert advance_slice(operation.pk).has_more
    assert operation.items.left().filter(token__isnull=False).count() == 2
    assert advance_slice(operation.pk).wait_seconds == 1.0
    expire_leases()
    assert advance_slice(operation.pk).is_finished
    assert item_outcomes(operation) == {"101": "in_doubt abandoned", "102": "in_doubt abandoned"}
    assert set(statuses_by_id().values()) == {"canceling"}
    assert set(log_codes_by_id().values()) == {"claim"}  # for reconcile
    assert scripted_provider.cancel_count == 2


def test_item_is_retried_if_its_claim_was_released(scripted_provider, invoices, started):
    """The log of the crashed worker shows that it sent nothing."""
    (invoice,) = invoices(1)
    operation = started()
    operation.items.lease(1, seconds=-1)
    claim = invoice._writer.claim([invoice], operation.audit)
    invoice._writer.give_back(claim, [invoice])
    assert advance_slice(operation.pk).is_finished
    assert item_outcomes(operation) == {"101": "canceled canceled"}
    assert statuses_by_id() == {"101": "canceled"}
    assert log_codes_by_id() == {"101": "claim given_back claim canceled"}
    assert scripted_provider.cancel_count == 1


def test_outcome_of_an_item_is_written_once(scripted_provider, invoices, started):
    (invoice,) = invoices(1)
    operation = started()
    operation.items.conclude([(invoice.pk, "refused", "provider_refused")])
    operation.items.conclude([(invoice.pk, "canceled", "canceled")])
    assert item_outcomes(operation) == {"101": "refused provider_refused"}
    assert advance_slice(operation.pk).is_finished
    assert scripted_provider.cancel_count == 0


def test_lease_lasts_for_the_slice_and_its_last_request(scripted_provider, invoices, started, in_thread):
    invoices(1)
    operation = started()
    remaining = []

    def read_lease(external_id):
        remaining.append(in_thread(lambda: operation.items.left().get().leased_until - utc_now()).result())

    scripted_provider.before_send = read_lease
    advance_slice(operation.pk, deadline=5.0)
    assert scripted_provider.deadline == 15
    assert 15 + 60 < remaining[0].total_seconds() < 120
    assert scripted_provider.cancel_count == 1


def die(*args: object, **kwargs: object) -> None:
    raise Killed


def fail(*args: object, **kwargs: object) -> None:
    raise OperationalError("database is locked")


@pytest.mark.scripted_providers("firekassa", concurrency=1)
def test_suspended_worker_does_not_process_items_that_were_leased_again(
    scripted_provider, invoices, started, in_thread, monkeypatch
):
    """The monotonic clock stops during the suspension: the deadline is not reached, but the leases have expired."""
    invoices(300)
    operation = started()
    suspended = []
    clocks = SimpleNamespace(monotonic=time.monotonic, time=lambda: time.time() + sum(suspended))
    monkeypatch.setattr("django_invoice_cancel.operations.slices.time", clocks)

    def lease_again():
        operation.items.left().update(leased_until=utc_now() - timedelta(seconds=1))
        return operation.items.lease(300, seconds=60)

    def suspend(external_id):
        scripted_provider.before_send = None
        suspended.append(600.0)
        assert len(in_thread(lease_again).result()) == 300

    scripted_provider.before_send = suspend
    advance_slice(operation.pk, deadline=60.0)
    sent = scripted_provider.cancel_count
    assert 0 < sent <= 2 * 1 + 50  # at most the claims before the suspension
    assert Counter(statuses_by_id().values()) == {"canceled": sent, "created": 300 - sent}
    assert Counter(item_outcomes(operation).values()) == {"canceled canceled": sent, "": 300 - sent}
    assert operation.items.left().filter(leased_until__gt=utc_now()).count() == 300 - sent
