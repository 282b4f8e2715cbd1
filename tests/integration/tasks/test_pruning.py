"""The statements of docs/discussions/scaling.md work as described, and late payments are still flagged afterwards."""

import re
from datetime import timedelta

import pytest
from django.db import connection

from django_invoice_cancel import operations
from django_invoice_cancel.domain.clock import utc_now
from django_invoice_cancel.models import BulkOperation, InvoiceTransition
from django_invoice_cancel.testing import make_invoice
from tests.docs.pages import text_of

pytestmark = pytest.mark.django_db

OLD = timedelta(days=3000)


def run_statements():
    statements = re.findall(r"^```sql\n(.*?)^```", text_of("docs/discussions/scaling.md"), re.MULTILINE | re.DOTALL)
    assert len(statements) == 2
    with connection.cursor() as cursor:
        for statement in statements:
            cursor.execute(statement.replace('"trigger"', connection.ops.quote_name("trigger")))


def logged(invoice):
    return [row.to_status for row in invoice.transitions.all()]


def test_pruning_keeps_log_rows_that_confirm_a_cancellation(scripted_provider):
    finished = make_invoice("canceled", age=OLD)
    doubtful = make_invoice("in_doubt", age=OLD)
    recent = make_invoice("canceled")
    rows = {invoice: logged(invoice) for invoice in (doubtful, recent)}
    assert logged(finished) == ["canceling", "canceled"]

    run_statements()

    assert logged(finished) == ["canceled"]
    assert {invoice: logged(invoice) for invoice in rows} == rows


def test_late_payment_is_flagged_after_pruning(scripted_provider):
    invoice = make_invoice("canceled", age=OLD)
    run_statements()
    invoice.observe_status("paid")
    assert invoice.paid_after_cancel_at is not None
    assert InvoiceTransition.objects.filter(invoice=invoice).count() == 2


def test_items_of_old_finished_operations_are_pruned(invoices):
    chosen = invoices(3)
    old, running, recent = (operations.start(chosen) for _ in range(3))
    for operation in (old, recent):
        operation.finish()
    BulkOperation.objects.filter(pk__in=[old.pk, running.pk]).update(finished_at=utc_now() - OLD)

    run_statements()

    assert [operation.items.count() for operation in (old, running, recent)] == [0, 3, 3]
    assert BulkOperation.objects.filter(pk=old.pk, total=3).exists()
