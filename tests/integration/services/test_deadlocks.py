"""P7: a write with a deadlock at any statement is retried, and has the same result as without a deadlock."""

import threading
from itertools import count

import pytest
from django.db import OperationalError, connection, transaction
from django.db.models import QuerySet

from django_invoice_cancel import operations
from django_invoice_cancel.bulk import cancel_invoices, reconcile_invoices
from django_invoice_cancel.domain.audit import AuditContext
from django_invoice_cancel.domain.statuses import Status
from django_invoice_cancel.models import BulkOperation, BulkOperationItem, Invoice, ProviderState
from django_invoice_cancel.operations import advance
from django_invoice_cancel.testing import make_invoice
from tests.support.logs import status_and_log
from tests.support.results import cancel_error

pytestmark = pytest.mark.django_db(transaction=True)

TIMEOUT_SECONDS = 20


def only(invoice):
    return Invoice.objects.filter(pk=invoice.pk)


def start(invoice, **fields):
    return operations.start(only(invoice), actor="Ada", reason="late", **fields)


def prepare_advance(invoice, **fields):
    operation = start(invoice, **fields)
    return lambda: advance(operation.pk).is_finished


def stopped_operation(invoice):
    operation = start(invoice)
    operation.stop()
    return operation


def register(invoice):
    return Invoice.objects.register(provider="shop", external_id=f"{invoice.pk}-new", status="paid", actor="Ada")


def register_again(invoice):
    names = {"provider": invoice.provider, "external_id": invoice.external_id}
    return Invoice.objects.register(**names, reference="order-17")


def register_many(invoice):
    new = [{"provider": "shop", "external_id": f"{invoice.pk}-{number}", "status": "paid"} for number in (1, 2)]
    names = {"provider": invoice.provider, "external_id": invoice.external_id}
    return Invoice.objects.register_many([*new, {**names, "reference": "order-17"}], actor="Ada")


CALLS = {
    "cancel": ("created", lambda invoice: lambda: invoice.cancel(actor="Ada").outcome),
    "cancel_on_commit": ("created", lambda invoice: lambda: invoice.cancel_on_commit(actor="Ada")),
    "withdraw": ("requested", lambda invoice: lambda: invoice.withdraw(actor="Ada")),
    "observe_status": ("created", lambda invoice: lambda: invoice.observe_status("paid")),
    "observe_status of a late payment": ("canceled", lambda invoice: lambda: invoice.observe_status("paid")),
    "reconcile": ("in_doubt", lambda invoice: lambda: invoice.reconcile(actor="Ada").code),
    "reconcile of an abandoned claim": ("abandoned", lambda invoice: lambda: invoice.reconcile().code),
    "resolve": ("in_doubt", lambda invoice: lambda: invoice.resolve("canceled", actor="Ada", reason="seen")),
    "resolve of a claim": ("abandoned", lambda invoice: lambda: invoice.resolve("paid", actor="Ada", reason="seen")),
    "mark_handled": ("paid_after_cancel", lambda invoice: lambda: invoice.mark_handled(actor="Ada", note="refunded")),
    "register": ("created", lambda invoice: lambda: register(invoice)[1]),
    "register again": ("created", lambda invoice: lambda: register_again(invoice)[1]),
    "register_many": ("created", lambda invoice: lambda: register_many(invoice)),
    "cancel_invoices": ("created", lambda invoice: lambda: [each.code for each in cancel_invoices(only(invoice))]),
    "reconcile_invoices": (
        "in_doubt",
        lambda invoice: lambda: [each.code for each in reconcile_invoices(only(invoice))],
    ),
    "start": ("created", lambda invoice: lambda: start(invoice).total),
    "stop": ("created", lambda invoice: start(invoice).stop),
    "resume": ("created", lambda invoice: stopped_operation(invoice).resume),
    "advance of a cancellation": ("created", prepare_advance),
    "advance of a check": ("in_doubt", lambda invoice: prepare_advance(invoice, operation="check")),
    "advance of a decision": (
        "in_doubt",
        lambda invoice: prepare_advance(invoice, operation="resolve", decision="canceled"),
    ),
    "rejected credentials": ("created", lambda invoice: lambda: cancel_error(invoice.cancel).result.code),
}

WITH_MANY_WRITES = (
    "cancel_invoices",
    "reconcile_invoices",
    "start",
    "advance of a cancellation",
    "advance of a check",
    "advance of a decision",
    "reconcile of an abandoned claim",
)
"""Each of the writes costs one call."""


class Deadlock:
    """Raises the error of a deadlock once, at the write with this number."""

    def __init__(self, number):
        self.number, self.writes = number, 0

    def __call__(self, execute, sql, params, many, context):
        if sql.split(None, 1)[0] in ("INSERT", "UPDATE", "DELETE"):
            self.writes += 1
            if self.writes == self.number:
                raise OperationalError(1213, "Deadlock found when trying to get lock; try restarting transaction")
        return execute(sql, params, many, context)


def call_with_deadlock(shop, name, number):
    """Call with a deadlock at this write (0: none). Return the result, the rows and the numbers of requests."""
    shop.reset()
    ProviderState.objects.all().delete()
    BulkOperation.objects.all().delete()
    status, prepare = CALLS[name]
    invoice = make_invoice(status, provider="shop")
    earlier = {*Invoice.objects.values_list("pk", flat=True)} - {invoice.pk}
    shop.all_lookups("canceled")
    if name == "rejected credentials":
        shop.all_cancels("bad_credentials")
    call = prepare(invoice)
    with connection.execute_wrapper(deadlock := Deadlock(number)):
        returned = call()
    others = Invoice.objects.exclude(pk__in={*earlier, invoice.pk}).order_by("pk")
    made = [status_and_log(each) for each in others]
    operations = list(BulkOperation.objects.values_list("progress", "total"))
    items = list(BulkOperationItem.objects.values_list("outcome", "code"))
    states = list(ProviderState.objects.values_list("failures", "pause_code"))
    outcome = [returned, status_and_log(invoice), only(invoice).get().reference, made, operations, items, states]
    return deadlock, [*outcome, invoice.status, shop.cancel_count, shop.lookup_count]


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=[pytest.mark.slow] if name in WITH_MANY_WRITES else []) for name in CALLS],
)
def test_call_with_a_deadlock_at_any_statement_has_the_same_result(shop, name):
    _, expected = call_with_deadlock(shop, name, 0)
    for number in count(1):
        deadlock, outcome = call_with_deadlock(shop, name, number)
        if deadlock.writes < number:
            break
        assert outcome == expected, f"a deadlock at write {number}"
    assert number > 1


@pytest.mark.parametrize("name", ["cancel_on_commit", "resolve", "mark_handled", "register_many", "withdraw"])
def test_deadlock_in_the_callers_transaction_is_raised(shop, name):
    """The database has rolled back all of the transaction: only the caller can repeat it."""
    status, prepare = CALLS[name]
    invoice = make_invoice(status, provider="shop")
    before = status_and_log(invoice)
    call = prepare(invoice)
    with pytest.raises(OperationalError, match="Deadlock"), transaction.atomic():  # noqa: SIM117
        with connection.execute_wrapper(deadlock := Deadlock(1)):
            call()
    assert deadlock.writes == 1
    assert status_and_log(invoice) == before
    assert shop.cancel_count == 0


@pytest.mark.skipif(connection.vendor == "sqlite", reason="SQLite locks no rows")
def test_victim_of_a_real_deadlock_is_retried(shop, in_thread):
    invoice, other = make_invoice("in_doubt", provider="shop"), make_invoice("created", provider="shop")
    Invoice.objects.bulk_create([Invoice(provider="shop", external_id=f"weight-{n}") for n in range(200)])
    has_other, wants_other, tries = threading.Event(), threading.Event(), []

    def update_as_rival():
        with transaction.atomic(), connection.cursor() as cursor:
            if connection.vendor == "postgresql":  # the other transaction becomes the victim
                cursor.execute("SET LOCAL deadlock_timeout = '60s'")
            QuerySet(Invoice).exclude(pk=invoice.pk).update(reference="held")  # the victim has written fewer rows
            has_other.set()
            assert wants_other.wait(TIMEOUT_SECONDS)
            QuerySet(Invoice).filter(pk=invoice.pk).update(reference="rival")

    def update_other():
        tries.append(1)
        wants_other.set()
        QuerySet(Invoice).filter(pk=other.pk).update(currency="EUR")

    rival = in_thread(update_as_rival)
    assert has_other.wait(TIMEOUT_SECONDS)
    invoice._writer.resolve(invoice, Status.CANCELED, AuditContext("Ada", "operator", "seen"), on_recorded=update_other)
    rival.result(TIMEOUT_SECONDS)
    assert len(tries) == 2
    assert status_and_log(invoice)[0] == "canceled"
    assert status_and_log(invoice)[1][-1] == ("in_doubt", "canceled", "", "resolved")
    assert [code for *_, code in status_and_log(invoice)[1]].count("resolved") == 1
    assert only(invoice).get().reference == "rival"
    assert only(other).get().reference == "held"
    assert only(other).get().currency == "EUR"
    assert shop.cancel_count == 0


IN_ONE_TRANSACTION = [
    "observe_status",
    "observe_status of a late payment",
    "withdraw",
    "resolve",
    "resolve of a claim",
    "mark_handled",
    "register_many",
]


@pytest.mark.parametrize("name", IN_ONE_TRANSACTION)
def test_commit_that_succeeds_and_reports_an_error_is_not_repeated(shop, name, monkeypatch):
    _, expected = call_with_deadlock(shop, name, 0)
    commit, failed = connection.commit, []

    def commit_and_fail():
        commit()
        if armed and not failed:
            failed.append(1)
            raise OperationalError("server closed the connection unexpectedly")

    prepare = CALLS[name][1]

    def prepared(invoice):
        call = prepare(invoice)
        armed.append(1)
        return call

    armed = []
    monkeypatch.setattr(connection, "commit", commit_and_fail)
    monkeypatch.setitem(CALLS, name, (CALLS[name][0], prepared))
    _, outcome = call_with_deadlock(shop, name, 0)
    assert failed == [1]
    assert outcome == expected
