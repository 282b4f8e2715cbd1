"""An invoice that was refused since its selection is not asked again by another operation."""

import pytest

from tests.operations.reading import advance, outcomes, statuses

pytestmark = pytest.mark.django_db(transaction=True)


def test_three_overlapping_operations_ask_each_refused_invoice_once(scripted_provider, invoices, started):
    invoices(5)
    operations = [started() for _ in range(3)]
    scripted_provider.all_cancels("refused")
    for operation in operations:
        assert advance(operation.pk).is_finished
    assert scripted_provider.cancel_count == 5
    assert [set(outcomes(each).values()) for each in operations] == [
        {"refused provider_refused"},
        {"skipped changed"},
        {"skipped changed"},
    ]
    assert set(statuses().values()) == {"created"}
