"""One cancellation takes two transactions with few statements."""

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from tests.support.invoices import stored
from tests.support.logs import log_entries
from tests.support.results import cancel_error

pytestmark = pytest.mark.django_db(transaction=True)


def count_statements(call, **kwargs):
    """Return the numbers of BEGIN and COMMIT in a call, and its other statements."""
    with CaptureQueriesContext(connection) as captured:
        call(**kwargs)
    texts = [query["sql"] for query in captured]
    own = [text for text in texts if text.split(None, 1)[0].rstrip(";") not in ("BEGIN", "COMMIT", "SET")]
    return sum(text.startswith("BEGIN") for text in texts), sum(text.startswith("COMMIT") for text in texts), own


@pytest.mark.parametrize("provider", ["firekassa", "cryptocloud"])
def test_cancel_takes_two_transactions_and_four_statements(sandbox, register, provider):
    invoice = register(provider=provider)
    begun, committed, own = count_statements(invoice.cancel, actor="till 3", reason="changed their mind")
    assert begun == 2
    assert committed == 2
    assert [text.split(None, 1)[0] for text in own] == ["UPDATE", "INSERT", "UPDATE", "INSERT"]
    assert sandbox.count("cancel") == 1


@pytest.mark.parametrize(
    ("behaviour", "status", "outcome", "code"),
    [
        ("paid", "paid", "refused", "has_payment"),
        ("error_500_before", "in_doubt", "in_doubt", "provider_error"),
        ("not_found", "created", "refused", "not_found"),
        ("expired", "canceled", "already_canceled", "already_canceled"),
        ("already_canceled", "canceled", "already_canceled", "already_canceled"),
    ],
)
def test_no_outcome_takes_more_than_six_statements(sandbox, register, behaviour, status, outcome, code):
    """The first report of a payment also reads the log, to find a cancellation before it."""
    invoice = register(behaviour)
    cancel = invoice.cancel if behaviour in ("expired", "already_canceled") else (lambda: cancel_error(invoice.cancel))
    begun, committed, own = count_statements(cancel)
    assert begun == 2
    assert committed == 2
    assert len(own) <= 6, own
    assert sandbox.count("cancel") == 1
    assert stored(invoice).status == status
    assert log_entries(invoice)[-1] == ("canceling", status, outcome, code)
