"""A selection is read by primary key in pages: every invoice once, none twice, and no cursor is open during a write."""

import pytest
from django.db import connection
from django.db.models import Q, Window
from django.db.models.functions import RowNumber
from django.test.utils import CaptureQueriesContext

from django_invoice_cancel import operations
from django_invoice_cancel.bulk import cancel_invoices, reconcile_invoices, selection
from django_invoice_cancel.bulk.selection import KeyListReader, QuerySetReader, prepare_selection
from django_invoice_cancel.bulk.start import cancel_selection, make_readers
from django_invoice_cancel.domain.audit import AuditContext
from django_invoice_cancel.models import BulkOperation, Invoice
from django_invoice_cancel.operations import advance
from tests.apps.child_models.models import ShopInvoice
from tests.support.invoices import count_statuses
from tests.support.logs import count_invoices_by_log_rows
from tests.support.results import count_codes

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def small_pages(monkeypatch):
    monkeypatch.setattr(selection, "PAGE_SIZE", 7)


def numbered(invoices):
    """Return the invoices with their place among those of the same order."""
    return invoices.annotate(place=Window(RowNumber(), partition_by="reference", order_by="pk"))


REFUSED = {
    "sliced": (lambda all_: all_[:5], "slice"),
    "union": (lambda all_: all_.union(all_), "union"),
    "values": (lambda all_: all_.values("pk"), "values"),
    "values_list": (lambda all_: all_.values_list("pk"), "values"),
    "distinct on a field": (lambda all_: all_.distinct("provider"), "distinct"),
    "the first of each order": (lambda all_: numbered(all_).filter(place=1), "window function"),
    "or the first of each order": (lambda all_: numbered(all_).filter(Q(place=1) | Q(amount=1)), "window function"),
}


RUNS = {
    "cancel_invoices": cancel_invoices,
    "reconcile_invoices": reconcile_invoices,
    "cancel of the query set": lambda invoices: invoices.cancel(),
    "start": lambda invoices: operations.start(invoices, reason="season over"),
}


UNSUPPORTED = [
    (run, case)
    for run in RUNS
    for case in REFUSED
    if not (run == "start" and "first of each order" in case)  # start reads the selection with one statement
]


@pytest.mark.parametrize(("run", "case"), UNSUPPORTED)
def test_unsupported_query_set_raises_value_error(shop, make, run, case):
    choose, message = REFUSED[case]
    with pytest.raises(ValueError, match=f"{message}.* not supported"):
        RUNS[run](choose(make(10)))
    assert BulkOperation.objects.count() == 0
    assert shop.cancel_count == shop.lookup_count == 0
    assert count_invoices_by_log_rows() == {}


@pytest.mark.parametrize("run", ["cancel_invoices", "reconcile_invoices", "start"])
@pytest.mark.parametrize(
    "choose",
    [list, lambda all_: Invoice.objects, lambda all_: BulkOperation.objects.all()],
    ids=["a list", "a manager", "another model"],
)
def test_argument_that_is_no_query_set_of_invoices_raises_type_error(shop, make, run, choose):
    with pytest.raises(TypeError, match="invoices must be a query set of Invoice"):
        RUNS[run](choose(make(3)))
    assert BulkOperation.objects.count() == 0
    assert shop.cancel_count == shop.lookup_count == 0
    assert count_invoices_by_log_rows() == {}


def test_operation_stores_the_invoices_that_a_window_function_selects(shop, make):
    operation = operations.start(numbered(make(10)).filter(place__lte=4), reason="season over")
    assert operation.total == operation.items.count() == 4
    assert shop.cancel_count == 0


SELECTIONS = {
    "in any order": lambda all_: all_.order_by("-external_id", "?"),
    "reversed": lambda all_: all_.reverse(),
    "ordered and reversed": lambda all_: all_.order_by("-pk").reverse(),
    "distinct": lambda all_: all_.distinct(),
    "numbered by a window function": numbered,
    "by the keys of those found by a window function": lambda all_: all_.filter(
        pk__in=list(numbered(all_).filter(place__gt=0).values_list("pk", flat=True))
    ),
    "deferred": lambda all_: all_.only("reference"),
    "a row twice through a join": lambda all_: all_.filter(
        Q(transitions__isnull=True) | Q(transitions__from_status="created")
    ),
}


@pytest.mark.parametrize("name", SELECTIONS)
def test_every_selected_invoice_is_requested_once(shop, make, name):
    invoices = make(30)
    for invoice in invoices[:10]:
        for _ in range(2):  # two rows of the log: a join gives the invoice twice
            invoice.observe_status(provider_status="frozen", trigger="webhook")
    shop.reset()
    results = list(cancel_invoices(SELECTIONS[name](invoices)))
    assert sorted(shop.cancels) == sorted(invoices.values_list("external_id", flat=True))
    assert len({result.invoice_id for result in results}) == len(results) == 30


@pytest.mark.parametrize("fields", [(), ("pk",)], ids=["all fields", "few fields"])
def test_row_deleted_during_the_run_does_not_stop_the_others(shop, make, fields):
    """Also if the selection defers fields: they are read with the page, before the row can be deleted."""

    class DeletingReader(QuerySetReader):
        def take(self, count):
            taken = super().take(count)
            Invoice.objects.filter(external_id="000005").delete()
            return taken

    invoices = make(9).only(*fields)
    reader = DeletingReader(prepare_selection(invoices), "shop")
    results = cancel_selection(invoices._writer, {"shop": reader}, AuditContext())
    assert count_codes(results) == {"canceled": 8, "not_registered": 1}
    assert shop.cancel_count == 8
    assert count_statuses() == {"canceled": 8}
    assert count_invoices_by_log_rows() == {2: 8}


def test_results_come_in_order_of_the_primary_key_for_one_thread(shop, make):
    make(30)
    results = list(cancel_invoices(Invoice.objects.order_by("-pk"), concurrency=1))
    assert [result.invoice_id for result in results] == sorted(result.invoice_id for result in results)
    assert shop.cancels == [result.external_id for result in results]


def test_one_page_of_a_provider_is_in_memory(shop, make):
    make(30)
    with CaptureQueriesContext(connection) as queries:
        [reader] = make_readers(Invoice.objects.all()).values()
        taken = reader.take(5)
    assert len(taken) == 5
    assert len(queries) == 3  # the alias, that there is no other, one page


def test_listed_invoices_are_read_in_pages_without_deleted_ones(make):
    invoices = make(30)
    keys = list(invoices.order_by("pk").values_list("pk", flat=True))
    invoices.filter(pk__in=keys[:3]).delete()
    reader = KeyListReader(Invoice.objects.all(), keys)
    assert [invoice.pk for invoice in reader.take(100)] == keys[3:]
    assert not reader.has_more


def test_invoices_created_during_the_run_do_not_move_its_position(shop, make):
    """Pages are ordered by key, so later invoices are included, and canceled ones are not read again."""
    results = cancel_invoices(make(300).filter(status="created"))
    next(results)
    make(5)
    assert 1 + len(list(results)) == shop.cancel_count == 305


@pytest.mark.parametrize("name", ["cancelable", "created"])
def test_no_page_sorts_the_remaining_rows(shop, make, name):
    """A sort in each page would cost as much as the whole selection. SQLite has no statistics without ANALYZE."""
    if connection.vendor != "sqlite":
        pytest.skip("reads SQLite's plan")
    make(20)
    invoices = {"cancelable": Invoice.objects.cancelable(), "created": Invoice.objects.filter(status="created")}[name]
    with CaptureQueriesContext(connection) as queries:
        assert len(list(cancel_invoices(invoices))) == 20
    pages = [query["sql"] for query in queries if "LIMIT 7" in query["sql"]]
    assert len(pages) == 3
    for sql in pages:
        with connection.cursor() as cursor:
            cursor.execute("EXPLAIN QUERY PLAN " + sql)
            assert not [row[3] for row in cursor.fetchall() if "ORDER BY" in row[3]]
    assert shop.cancel_count == 20


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(
    "lock", [{}, {"skip_locked": True}, {"nowait": True}, {"of": ("self",)}], ids=["plain", "skip", "nowait", "of"]
)
def test_selection_with_select_for_update_is_canceled_without_the_locks(shop, make, lock):
    """The locks would need a transaction, and no provider is asked inside one."""
    make(3)
    selection = Invoice.objects.select_for_update(**lock)
    report = selection.cancel()
    assert [result.outcome for result in report.results] == ["canceled"] * 3
    assert shop.cancel_count == 3
    assert selection.query.select_for_update is True


@pytest.mark.django_db(transaction=True)
def test_child_class_with_select_for_update_is_canceled_without_the_locks(shop):
    for number in ("1", "2"):
        ShopInvoice.objects.register(provider="shop", external_id=number)
    report = ShopInvoice.objects.select_for_update().cancel()
    assert [result.outcome for result in report.results] == ["canceled"] * 2
    assert shop.cancel_count == 2


@pytest.mark.django_db(transaction=True)
def test_operation_is_started_from_a_selection_with_select_for_update(shop, make):
    make(3)
    operation = operations.start(Invoice.objects.select_for_update())
    assert advance(operation.pk).is_finished
    assert count_statuses() == {"canceled": 3}
    assert shop.cancel_count == 3
