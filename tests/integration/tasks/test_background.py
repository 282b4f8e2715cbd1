"""``cancel_invoices --background``: the selection becomes a stored operation. The command sends no requests."""

from io import StringIO

import pytest
from django.core.management import CommandError, call_command

from django_invoice_cancel.models import BulkOperation, Invoice
from tests.integration.tasks.conftest import cancels

pytestmark = pytest.mark.django_db(transaction=True)

NOTE = "tests.integration.tasks.conftest.note"


def background(*arguments):
    out = StringIO()
    call_command("cancel_invoices", *arguments, "--noinput", "--background", stdout=out, stderr=StringIO())
    return BulkOperation.objects.get(pk=out.getvalue().strip())


def selected(operation):
    return set(operation.items.values_list("invoice__external_id", flat=True))


def test_background_option_prints_only_the_id_and_dispatches(invoices, dispatch, dispatched):
    invoices(5)
    dispatch(NOTE)
    operation = background("--all", "--reason", "season over", "--actor", "night shift")
    assert dispatched == [str(operation.pk)]
    assert operation.total == 5
    assert operation.progress == "running"
    assert operation.reason == "season over"
    assert operation.actor_label == "night shift"
    assert operation.trigger == "command"
    assert cancels() == 0


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--all"], {"100", "101", "102", "103"}),
        (["--all", "--limit", "3"], {"100", "101", "102"}),
        (["--all", "--limit", "99"], {"100", "101", "102", "103"}),
        (["103", "101", "--provider", "firekassa"], {"101", "103"}),
        (["103", "101", "--provider", "firekassa", "--limit", "1"], {"101"}),
        (["--provider", "cryptocloud"], {"100"}),
    ],
    ids=["all", "limit", "limit-too-high", "ids", "ids-and-limit", "provider"],
)
def test_stored_operation_contains_the_invoices_of_the_command(invoices, arguments, expected):
    invoices(3)
    invoices(1, provider="cryptocloud")
    Invoice.objects.create(provider="firekassa", external_id="103")
    if "cryptocloud" not in arguments:
        Invoice.objects.filter(provider="cryptocloud").delete()
    assert selected(background(*arguments)) == expected


def test_limit_counts_over_all_providers(invoices):
    invoices(3)
    invoices(3, provider="cryptocloud")
    assert background("--all", "--limit", "4").total == 4


@pytest.mark.slow
def test_many_listed_ids_are_stored(invoices, tmp_path):
    invoices(2500)
    ids = tmp_path / "ids.txt"
    ids.write_text("\n".join(str(number + 100) for number in range(2500)))
    operation = background("--provider", "firekassa", "--from-file", str(ids))
    assert operation.total == 2500
    assert operation.items.count() == 2500


def test_options_for_a_run_in_this_process_are_rejected(invoices):
    invoices(1)
    with pytest.raises(CommandError, match="in the provider's OPTIONS"):
        background("--all", "--rate", "5")
    assert BulkOperation.objects.count() == 0


def test_stored_operation_is_processed_by_the_sweep(invoices):
    invoices(5)
    operation = background("--all")
    call_command("run_bulk_operations", stdout=StringIO(), stderr=StringIO())
    operation.refresh_from_db()
    assert operation.progress == "finished"
    assert cancels() == 5
