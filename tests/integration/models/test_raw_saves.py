"""Raw saves: a fixture or an old version of an invoice never overwrites logged changes. Full dumps can be loaded."""

import pytest
from django.core import serializers
from django.core.management import call_command
from django.db import IntegrityError, connection, models, transaction
from django.test.utils import CaptureQueriesContext

from django_invoice_cancel.models import Invoice, InvoiceTransition
from django_invoice_cancel.models.writes.transactions import WRITER_FIELDS
from tests.support.invoices import invoice_in_status, set_columns_and_refresh, stored
from tests.support.logs import log_changes
from tests.support.writes import NOON, observe_elsewhere, open_claim, record_answer

pytestmark = pytest.mark.django_db


class InvoiceProxy(Invoice):
    """A host's proxy of an invoice."""

    class Meta:
        proxy = True
        app_label = "invoice_cancel"


def version_of(invoice, format_="json"):
    """Return the invoice serialized as django-reversion stores it."""
    return serializers.serialize(format_, [invoice])


def revert(version, format_="json"):
    """Do what django-reversion does for "Revert", and ``loaddata`` for one object."""
    (saved,) = serializers.deserialize(format_, version)
    saved.save(using="default")


def as_child_of(model):
    def save(version):
        (saved,) = serializers.deserialize("json", version)
        saved.object.__class__ = model
        models.Model.save_base(saved.object, using="default", raw=True)

    return save


RAW_SAVES = {
    "revert": revert,
    "own save_base": lambda version: next(serializers.deserialize("json", version)).object.save_base(raw=True),
    "proxy": as_child_of(InvoiceProxy),
    "inside a transaction": transaction.atomic(lambda version: revert(version)),
}
raw_saves = pytest.mark.parametrize("save", RAW_SAVES.values(), ids=RAW_SAVES)


def canceling(invoice):
    open_claim(invoice)


def in_doubt(invoice):
    record_answer(open_claim(invoice), invoice, "in_doubt")


def canceled(invoice):
    record_answer(open_claim(invoice), invoice, "canceled")


def paid(invoice):
    observe_elsewhere(invoice, "paid")


@raw_saves
@pytest.mark.parametrize("happen", [canceling, in_doubt, canceled, paid], ids=lambda step: step.__name__)
def test_raw_save_of_another_status_is_rejected(save, happen):
    invoice = invoice_in_status()
    version = version_of(invoice)
    happen(invoice)
    before = {name: getattr(stored(invoice), name) for name in WRITER_FIELDS}
    with pytest.raises(IntegrityError, match=f"{invoice}.* is {before['status']}.*raw save"), transaction.atomic():
        save(version)
    assert {name: getattr(stored(invoice), name) for name in WRITER_FIELDS} == before
    assert log_changes(invoice)[-1][1] == before["status"]


@raw_saves
def test_raw_save_of_the_same_status_keeps_the_bookkeeping(save):
    """The version is older than the flag: restoring a reference must not take the flag away."""
    invoice = invoice_in_status(reference="order-17")
    observe_elsewhere(invoice, "paid")
    version = version_of(stored(invoice))
    bookkeeping = {"paid_after_cancel_at": NOON, "check_count": 3, "next_check_at": NOON, "last_outcome": "canceled"}
    set_columns_and_refresh(invoice, reference="order-18", **bookkeeping)
    save(version)
    row = stored(invoice)
    assert row.reference == "order-17"
    assert {name: getattr(row, name) for name in bookkeeping} == bookkeeping


def test_raw_save_of_an_invoice_without_a_log_is_accepted():
    invoice = invoice_in_status(reference="order-17")
    version = version_of(invoice)
    set_columns_and_refresh(invoice, status="paid", reference="order-18")
    revert(version)
    assert stored(invoice).status == "created"
    assert stored(invoice).reference == "order-17"


@pytest.fixture
def dump(tmp_path):
    """Return a function that writes all invoices and their log to a file, as ``dumpdata`` does."""

    def write(name="dump.json", *options):
        path = tmp_path / name
        call_command("dumpdata", "invoice_cancel", *options, output=str(path), verbosity=0)
        return str(path)

    return write


def everything():
    """Return what is stored but for its times: JSON keeps milliseconds."""
    invoices = Invoice.objects.order_by("pk").values_list("pk", "reference", "status", "attempt", "last_outcome")
    rows = InvoiceTransition.objects.order_by("pk").values_list("pk", "invoice_id", "from_status", "to_status", "code")
    return list(invoices), list(rows)


def empty():
    InvoiceTransition.objects.all()._raw_delete("default")
    Invoice.objects.all()._raw_delete("default")


@pytest.mark.parametrize("name", ["dump.json", "dump.xml", "dump.jsonl"])
def test_whole_dump_is_loaded_into_an_empty_database(dump, name):
    for step in (canceling, in_doubt, canceled, paid):
        step(invoice_in_status())
    before = everything()
    path = dump(name, "--format", name.split(".")[1])
    empty()
    call_command("loaddata", path, verbosity=0)
    assert everything() == before


def test_whole_dump_is_loaded_into_its_own_database(dump):
    for step in (canceling, in_doubt, canceled, paid):
        step(invoice_in_status())
    before = everything()
    call_command("loaddata", dump(), verbosity=0)
    assert everything() == before


def test_dump_older_than_the_log_is_rejected_completely(dump):
    untouched, invoice = invoice_in_status(reference="order-1"), invoice_in_status(reference="order-2")
    path = dump()
    set_columns_and_refresh(untouched, reference="order-3")
    observe_elsewhere(invoice, "paid")
    before = everything()
    with pytest.raises(IntegrityError, match=f"Could not load .*{invoice}.* is paid"):
        call_command("loaddata", path, verbosity=0)
    assert everything() == before


def test_raw_save_in_a_transaction_locks_the_row_before_it_reads_the_status():
    """Otherwise a claim of the same moment could come between the two, and be overwritten."""
    invoice = invoice_in_status()
    version = version_of(invoice)
    observe_elsewhere(invoice, "paid")
    with CaptureQueriesContext(connection) as queries, pytest.raises(IntegrityError), transaction.atomic():
        revert(version)
    statements = [each["sql"].split()[0] for each in queries if "SAVEPOINT" not in each["sql"]]
    assert statements[:2] == ["UPDATE", "SELECT"]
