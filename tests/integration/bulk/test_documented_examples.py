"""The Python code of docs/howto/bulk.md runs and does what the page describes."""

from datetime import timedelta

import pytest
from django.utils import timezone

from django_invoice_cancel.models import Invoice
from tests.docs.pages import block_with
from tests.support.invoices import count_statuses
from tests.support.logs import count_answers

pytestmark = pytest.mark.django_db


def test_report_lists_the_invoices_that_are_not_canceled(shop, make, capsys):
    make(3, issued_at=timezone.now() - timedelta(days=8))
    make(1)
    shop.all_cancels("paid", "000001")
    block_with("docs/howto/bulk.md", "unpaid_since").run({"Invoice": Invoice})
    assert capsys.readouterr().out.splitlines()[1:] == ["000001 refused A payment was received for it."]
    assert shop.cancel_count == 3
    assert count_statuses() == {"canceled": 2, "created": 1, "paid": 1}


def test_generator_yields_the_invoices_in_doubt(shop, make, capsys):
    make(2)
    shop.all_cancels("in_doubt", "000001")
    block_with("docs/howto/bulk.md", "closing").run({"Invoice": Invoice})
    assert capsys.readouterr().out == "000001\n"
    assert shop.cancel_count == 2
    assert count_statuses() == {"canceled": 1, "in_doubt": 1}
    assert count_answers() == {"canceled": 1, "no_answer": 1}
