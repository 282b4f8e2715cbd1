"""A primary and a delayed replica: every process that works on an operation reads the latest data."""

from io import StringIO

import pytest
from django.core.management import call_command

from django_invoice_cancel import operations
from django_invoice_cancel.models import BulkOperation, BulkOperationItem, Invoice
from django_invoice_cancel.operations import advance
from tests.support.operations import item_outcomes

pytestmark = pytest.mark.django_db(transaction=True, databases=["default", "other"])


class ReadFromReplica:
    """A router that reads from "other", to which nothing is replicated yet."""

    def db_for_read(self, model, **hints):
        return "other"

    def db_for_write(self, model, **hints):
        return "default"

    def allow_relation(self, *args, **hints):
        return True


@pytest.fixture
def replica(settings):
    settings.DATABASE_ROUTERS = [f"{__name__}.ReadFromReplica"]


def start(count):
    Invoice.objects.using("default").bulk_create(
        Invoice(provider="firekassa", external_id=str(101 + number)) for number in range(count)
    )
    return operations.start(Invoice.objects.all(), actor="Ada", reason="too old")


def test_slice_reads_from_the_write_database(scripted_provider, replica, django_assert_num_queries):
    with django_assert_num_queries(0, using="other"):
        operation = start(3)
        progress = advance(operation.pk)
        has_remaining = operation.items.left().exists()
    assert operation.total == 3
    assert progress.is_finished is True
    assert has_remaining is False
    assert set(item_outcomes(operation).values()) == {"canceled canceled"}
    assert scripted_provider.cancel_count == 3


def test_slice_leases_items_in_the_write_database(scripted_provider, replica):
    operation = start(3)
    progress = advance(operation.pk, limit=2)
    assert progress.has_more is True
    assert operation.items.left().count() == 1
    assert scripted_provider.cancel_count == 2
    assert not BulkOperationItem.objects.left().filter(token__isnull=False).exists()


def test_outcome_of_a_crashed_worker_is_read_from_the_write_database(scripted_provider, replica):
    operation = start(1)
    advance(operation.pk)
    row = operation.items.get()
    operation.items.update(outcome="", code="", leased_until=row.done_at.replace(year=2020))
    BulkOperation.objects.update(progress="running")
    advance(operation.pk)
    assert item_outcomes(operation) == {"101": "canceled canceled"}
    assert scripted_provider.cancel_count == 1


def test_command_finds_a_new_operation(scripted_provider, replica):
    operation = start(3)
    out = StringIO()
    call_command("run_bulk_operations", stdout=out)
    assert out.getvalue() == f"{operation.pk}: 3 of 3, finished\n"
    assert scripted_provider.cancel_count == 3


def test_stop_and_resume_read_the_write_database(replica):
    operation = start(3)
    other = BulkOperation.objects.get()
    assert operation.stop() is True
    assert other.stop() is False
    assert other.progress == "stopped"
    assert operation.resume() is True
    assert other.resume() is False
    assert other.progress == "running"


def test_start_refuses_invoices_of_another_database(scripted_provider):
    """Workers do not read that database, and the same filter would select other invoices in this one."""
    Invoice.objects.create(provider="firekassa", external_id="101")
    Invoice.objects.using("other").create(provider="firekassa", external_id="102")
    with pytest.raises(ValueError, match="'other'"):
        operations.start(Invoice.objects.using("other").all())
    assert BulkOperation.objects.count() == 0
    assert operations.start(Invoice.objects.using("default").all()).total == 1
