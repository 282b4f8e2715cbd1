"""An invoice that was refused after its selection gets no second request from another operation."""

import pytest

from django_invoice_cancel.models import Invoice
from django_invoice_cancel.models.writes.claims import ClaimWriter
from tests.support.invoices import statuses_by_id
from tests.support.operations import advance_slice, item_outcomes

pytestmark = pytest.mark.django_db(transaction=True)


def test_overlapping_operations_request_each_refused_invoice_once(scripted_provider, invoices, started):
    invoices(5)
    operations = [started() for _ in range(3)]
    scripted_provider.all_cancels("refused")
    for operation in operations:
        assert advance_slice(operation.pk).is_finished
    assert scripted_provider.cancel_count == 5
    assert [set(item_outcomes(each).values()) for each in operations] == [
        {"refused provider_refused"},
        {"skipped changed"},
        {"skipped changed"},
    ]
    assert set(statuses_by_id().values()) == {"created"}


@pytest.mark.parametrize("is_refused_before", [False, True], ids=["open", "refused before"])
def test_invoice_refused_by_another_worker_after_its_selection_is_not_requested_again(
    scripted_provider, invoices, monkeypatch, is_refused_before
):
    invoices(3)
    scripted_provider.all_cancels("refused")
    if is_refused_before:
        Invoice.objects.all().cancel()
    claim, other_results = ClaimWriter.claim, []

    def cancel_elsewhere_and_claim(self, *args, **kwargs):
        if not other_results:
            other_results.append(None)
            other_results[0] = Invoice.objects.all().cancel()
        return claim(self, *args, **kwargs)

    monkeypatch.setattr(ClaimWriter, "claim", cancel_elsewhere_and_claim)
    before = scripted_provider.cancel_count
    report = Invoice.objects.all().cancel()
    assert scripted_provider.cancel_count - before == 3
    assert [(str(each.outcome), each.code) for each in report.results] == [("skipped", "changed")] * 3
    assert {each.code for each in other_results[0].results} == {"provider_refused"}
    assert set(statuses_by_id().values()) == {"created"}
