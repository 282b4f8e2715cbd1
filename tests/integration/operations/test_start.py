"""operations.start stores a selection and starts it in one call. It sends nothing itself."""

import pytest
from django.db import transaction

from django_invoice_cancel.models import BulkOperation, Invoice
from django_invoice_cancel.operations import advance, start
from django_invoice_cancel.testing import make_invoice
from tests.support.invoices import statuses_by_id
from tests.support.operations import item_outcomes

pytestmark = pytest.mark.django_db(transaction=True)

DISPATCHED = []


def dispatch(operation_id):
    DISPATCHED.append(operation_id)


@pytest.fixture
def dispatcher(settings):
    settings.INVOICE_CANCEL = {**settings.INVOICE_CANCEL, "DISPATCH": f"{__name__}.dispatch", "DISPATCH_WORKERS": 2}
    DISPATCHED.clear()


def test_start_stores_a_running_operation_and_sends_nothing(scripted_provider, invoices):
    invoices(3)

    operation = start(Invoice.objects.all(), actor="Ada", reason="season over")

    stored = BulkOperation.objects.get()
    assert stored == operation
    assert stored.operation == "cancel"
    assert stored.progress == operation.progress == "running"
    assert stored.total == 3
    assert stored.actor_label == "Ada"
    assert stored.reason == "season over"
    assert set(statuses_by_id().values()) == {"created"}
    assert scripted_provider.cancel_count == 0


def test_advance_processes_a_started_operation(scripted_provider, invoices):
    invoices(3)
    operation = start(Invoice.objects.all(), actor="Ada")

    progress = advance(operation.pk)

    assert progress.is_finished is True
    assert set(item_outcomes(operation).values()) == {"canceled canceled"}
    assert scripted_provider.cancel_count == 3


def test_invoice_that_matches_after_the_start_is_not_selected(scripted_provider, invoices):
    invoices(2)
    operation = start(Invoice.objects.filter(status="created"), actor="Ada")
    Invoice.objects.create(provider="firekassa", external_id="999")

    advance(operation.pk)

    assert operation.items.count() == 2
    assert Invoice.objects.get(external_id="999").status == "created"
    assert scripted_provider.cancel_count == 2


@pytest.mark.parametrize(("workers", "messages"), [(None, 2), (3, 3)])
def test_operation_is_dispatched_after_the_commit(scripted_provider, invoices, dispatcher, workers, messages):
    invoices(3)

    with transaction.atomic():
        operation = start(Invoice.objects.all(), actor="Ada", workers=workers)
        before_the_commit = list(DISPATCHED)

    assert before_the_commit == []
    assert [str(operation.pk)] * messages == DISPATCHED
    assert scripted_provider.cancel_count == 0


def test_rolled_back_start_stores_and_dispatches_nothing(scripted_provider, invoices, dispatcher):
    invoices(3)

    with transaction.atomic():
        start(Invoice.objects.all(), actor="Ada")
        transaction.set_rollback(True)

    assert BulkOperation.objects.count() == 0
    assert DISPATCHED == []


def test_resolve_stores_the_decision_and_sends_nothing(scripted_provider):
    make_invoice("in_doubt")
    scripted_provider.reset()
    operation = start(
        Invoice.objects.all(), operation="resolve", decision="canceled", actor="Ada", reason="seen in the dashboard"
    )

    assert advance(operation.pk).is_finished is True
    assert set(statuses_by_id().values()) == {"canceled"}
    assert scripted_provider.cancel_count == 0
    assert scripted_provider.lookup_count == 0
