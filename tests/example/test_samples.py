"""The sample data of ``make serve``: each page of the admin has content, and times are spread over several days."""

import re

import pytest

pytestmark = pytest.mark.slow  # the example runs in a process of its own

OUTCOMES = "SELECT DISTINCT outcome FROM invoice_cancel_bulkoperationitem WHERE operation_id IN ({})"
FINISHED = "SELECT id FROM invoice_cancel_bulkoperation WHERE progress = 'finished'"


def test_sample_operations_are_finished_interrupted_and_paused(shop):
    progress = "SELECT progress, COUNT(*) FROM invoice_cancel_bulkoperation GROUP BY progress"
    paused = "SELECT alias, pause_code FROM invoice_cancel_providerstate WHERE paused_until IS NOT NULL"

    assert dict(shop.rows(progress)) == {"finished": 1, "running": 2}
    assert {row[0] for row in shop.rows(OUTCOMES.format(FINISHED))} == {
        "canceled",
        "already_canceled",
        "refused",
        "in_doubt",
    }
    assert shop.rows(paused) == [("firekassa_old", "bad_credentials")]


@pytest.mark.parametrize(
    "said",
    [
        r"\d+ in doubt \(oldest 1 d\)",
        r"\d+ paid after cancellation",
        r"\d+ operations? interrupted",
        r"firekassa_old \(FireKassa\) is paused until",
        "Invoices in doubt are not checked",
    ],
    ids=["doubt", "late money", "interrupted", "paused", "unattended"],
)
def test_list_shows_what_needs_attention(shop, said):
    page = shop.browser.get(f"{shop.url}/admin/invoice_cancel/invoice/").text

    assert re.search(said, page)


def test_no_log_entry_is_older_than_its_invoice(shop):
    older = (
        "SELECT COUNT(*) FROM invoice_cancel_invoicetransition AS t JOIN invoice_cancel_invoice AS i "
        "ON t.invoice_id = i.id WHERE t.created_at < i.created_at"
    )

    assert shop.rows(older) == [(0,)]
