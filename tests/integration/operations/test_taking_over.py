"""Leases: no process works on items of another one, and items of a crashed worker get their one correct outcome."""

import time
from collections import Counter
from datetime import timedelta
from types import SimpleNamespace

import pytest
from django.db import OperationalError

from django_invoice_cancel.domain.clock import utc_now
from django_invoice_cancel.models import BulkOperationItem, Invoice
from django_invoice_cancel.models.operation_item import BulkOperationItemManager
from tests.support.invoices import set_columns, statuses_by_id
from tests.support.logs import log_codes_by_id
from tests.support.operations import advance_slice, item_outcomes, stored_progress

pytestmark = pytest.mark.django_db(transaction=True)


class Killed(BaseException):
    """What kill -9 looks like from within: nothing after it is carried out."""


def let_leases_run_out() -> None:
    past = utc_now() - timedelta(seconds=1)
    BulkOperationItem.objects.filter(leased_until__isnull=False).update(leased_until=past)


def test_what_another_holds_is_not_taken(scripted_provider, invoices, started):
    invoices(3)
    operation = started()
    held = operation.items.lease(2, seconds=60)
    advance_slice(operation.pk)
    left = advance_slice(operation.pk)
    assert left.has_more is True
    assert left.wait_seconds == 1.0
    assert [item.invoice.external_id for item in held] == ["101", "102"]
    assert item_outcomes(operation) == {"101": "", "102": "", "103": "canceled canceled"}
    assert statuses_by_id() == {"101": "created", "102": "created", "103": "canceled"}
    assert log_codes_by_id() == {"101": "", "102": "", "103": "claim canceled"}
    assert scripted_provider.cancels == ["103"]


@pytest.mark.scripted_providers("firekassa", concurrency=1)
def test_two_at_once_share_the_items(scripted_provider, invoices, started, in_thread):
    """The first waits at the provider until the second is done: neither asks what the other holds."""
    invoices(20)
    operation = started()
    second = []

    def meanwhile(external_id):
        scripted_provider.before_send = None
        second.append(in_thread(advance_slice, operation.pk, limit=10).result())

    scripted_provider.before_send = meanwhile
    advance_slice(operation.pk, limit=10)
    assert len(second) == 1
    assert set(item_outcomes(operation).values()) == {"canceled canceled"}
    assert sorted(scripted_provider.cancels) == [str(number) for number in range(101, 121)]
    assert set(statuses_by_id().values()) == {"canceled"}
    assert set(log_codes_by_id().values()) == {"claim canceled"}
    assert stored_progress(operation) == "finished"


def test_an_expired_lease_is_worked_off_by_somebody_else(scripted_provider, invoices, started):
    """Its holder died before it claimed anything."""
    invoices(2)
    operation = started()
    operation.items.lease(2, seconds=-1)
    assert advance_slice(operation.pk).is_finished
    assert item_outcomes(operation) == {"101": "canceled canceled", "102": "canceled canceled"}
    assert set(statuses_by_id().values()) == {"canceled"}
    assert set(log_codes_by_id().values()) == {"claim canceled"}
    assert scripted_provider.cancel_count == 2


def test_a_kill_with_the_request_out_is_in_doubt(scripted_provider, invoices, started):
    invoices(1)
    operation = started()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(BulkOperationItemManager, "release", lambda self, items: None)
        patch.setattr("django_invoice_cancel.models.writes.answers.AnswerWriter._on_time", _die)
        with pytest.raises(Killed):
            advance_slice(operation.pk)
    assert statuses_by_id() == {"101": "canceling"}
    assert item_outcomes(operation) == {"101": ""}
    let_leases_run_out()
    assert advance_slice(operation.pk).is_finished
    assert item_outcomes(operation) == {"101": "in_doubt abandoned"}
    assert statuses_by_id() == {"101": "canceling"}
    assert log_codes_by_id() == {"101": "claim"}  # reconcile takes it up
    assert scripted_provider.cancel_count == 1


@pytest.mark.scripted_providers("firekassa", supports_lookup=False, is_repeat_harmless=True)
def test_a_kill_between_invoice_and_item_is_read_from_the_log(scripted_provider, invoices, started):
    """A check that repeats the cancel writes its item after the invoice: in between, the log knows."""
    (invoice,) = invoices(1)
    scripted_provider.next_cancels("in_doubt")
    Invoice.objects.all().cancel()
    set_columns(invoice, claim_expires_at=utc_now() - timedelta(days=1))
    operation = started("check")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(BulkOperationItemManager, "release", lambda self, items: None)
        patch.setattr(BulkOperationItemManager, "conclude", _die)
        with pytest.raises(Killed):
            advance_slice(operation.pk)
    assert statuses_by_id() == {"101": "canceled"}
    assert item_outcomes(operation) == {"101": ""}
    let_leases_run_out()
    assert advance_slice(operation.pk).is_finished
    assert item_outcomes(operation) == {"101": "canceled canceled"}
    assert statuses_by_id() == {"101": "canceled"}
    assert log_codes_by_id() == {"101": "claim no_answer claim canceled"}
    assert scripted_provider.cancel_count == 2


def test_invoice_and_item_are_written_together_or_not_at_all(scripted_provider, invoices, started):
    """The process dies in the transaction that writes both."""
    invoices(1)
    operation = started()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(BulkOperationItemManager, "release", lambda self, items: None)
        patch.setattr(BulkOperationItemManager, "conclude", _die)
        with pytest.raises(Killed):
            advance_slice(operation.pk)
    assert statuses_by_id() == {"101": "canceling"}
    assert item_outcomes(operation) == {"101": ""}
    assert log_codes_by_id() == {"101": "claim"}
    assert scripted_provider.cancel_count == 1


def test_an_answer_that_cannot_be_recorded_keeps_its_lease(scripted_provider, invoices, started):
    """Given back, it would be tried again, found claimed, and called skipped although a request was out."""
    invoices(2)
    operation = started()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("django_invoice_cancel.models.writes.answers.AnswerWriter._on_time", _fail)
        assert advance_slice(operation.pk).has_more
    assert operation.items.left().filter(token__isnull=False).count() == 2
    assert advance_slice(operation.pk).wait_seconds == 1.0
    let_leases_run_out()
    assert advance_slice(operation.pk).is_finished
    assert item_outcomes(operation) == {"101": "in_doubt abandoned", "102": "in_doubt abandoned"}
    assert set(statuses_by_id().values()) == {"canceling"}
    assert set(log_codes_by_id().values()) == {"claim"}  # reconcile takes them up
    assert scripted_provider.cancel_count == 2


def test_what_was_given_back_is_tried_again(scripted_provider, invoices, started):
    """A dead worker's log says that it sent nothing: the item is no answer, but work."""
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


def test_an_outcome_is_written_once(scripted_provider, invoices, started):
    (invoice,) = invoices(1)
    operation = started()
    operation.items.conclude([(invoice.pk, "refused", "provider_refused")])
    operation.items.conclude([(invoice.pk, "canceled", "canceled")])
    assert item_outcomes(operation) == {"101": "refused provider_refused"}
    assert advance_slice(operation.pk).is_finished
    assert scripted_provider.cancel_count == 0


def test_a_lease_lasts_as_long_as_the_slice_and_its_last_request(scripted_provider, invoices, started, in_thread):
    invoices(1)
    operation = started()
    seen = []

    def look(external_id):
        seen.append(in_thread(lambda: operation.items.left().get().leased_until - utc_now()).result())

    scripted_provider.before_send = look
    advance_slice(operation.pk, deadline=5.0)
    assert scripted_provider.deadline == 15
    assert 15 + 60 < seen[0].total_seconds() < 120
    assert scripted_provider.cancel_count == 1


def _die(*args: object, **kwargs: object) -> None:
    raise Killed


def _fail(*args: object, **kwargs: object) -> None:
    raise OperationalError("database is locked")


@pytest.mark.scripted_providers("firekassa", concurrency=1)
def test_a_machine_that_was_suspended_leaves_what_others_took(
    scripted_provider, invoices, started, in_thread, monkeypatch
):
    """Its monotonic clock stood still: by that the slice has just begun, though its leases are over."""
    invoices(300)
    operation = started()
    asleep = []
    clocks = SimpleNamespace(monotonic=time.monotonic, time=lambda: time.time() + sum(asleep))
    monkeypatch.setattr("django_invoice_cancel.operations.slices.time", clocks)

    def others():
        operation.items.left().update(leased_until=utc_now() - timedelta(seconds=1))
        return operation.items.lease(300, seconds=60)

    def suspend(external_id):
        scripted_provider.before_send = None
        asleep.append(600.0)
        assert len(in_thread(others).result()) == 300

    scripted_provider.before_send = suspend
    advance_slice(operation.pk, deadline=60.0)
    sent = scripted_provider.cancel_count
    assert 0 < sent <= 2 * 1 + 50  # the window: what it had claimed before
    assert Counter(statuses_by_id().values()) == {"canceled": sent, "created": 300 - sent}
    assert Counter(item_outcomes(operation).values()) == {"canceled canceled": sent, "": 300 - sent}
    assert operation.items.left().filter(leased_until__gt=utc_now()).count() == 300 - sent
