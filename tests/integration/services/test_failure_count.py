"""P9: five requests in a row without a usable answer pause the provider, in single calls as in bulk runs."""

import pytest

from django_invoice_cancel.bulk import cancel_invoices
from django_invoice_cancel.exceptions import CancelInDoubt
from django_invoice_cancel.models import Invoice, ProviderState
from django_invoice_cancel.models.writes.provider_state import MOST_COUNTED
from django_invoice_cancel.testing import make_invoice
from tests.support.clock import travel_forward
from tests.support.logs import status_and_log
from tests.support.results import cancel_error

pytestmark = pytest.mark.django_db(transaction=True)


def cancel_new(number):
    """Cancel ``number`` new invoices one by one, and return the codes of the results."""
    codes = []
    for _number in range(number):
        try:
            codes.append(make_invoice().cancel().code)
        except Exception as error:  # noqa: BLE001 - a CancelError carries its result
            codes.append(error.result.code)
    return codes


def failures_and_pause():
    state = ProviderState.objects.get()
    return state.failures, state.is_paused


@pytest.mark.parametrize(
    ("provider", "behaviour"),
    [
        ("firekassa", "error_500_before"),
        ("cryptocloud", "unavailable"),
        ("firekassa", "reset_before"),
        ("cryptocloud", "html"),
        ("firekassa", "cut_body"),
        pytest.param("cryptocloud", "error_500_before", marks=pytest.mark.slow),
        pytest.param("firekassa", "unavailable", marks=pytest.mark.slow),
        pytest.param("cryptocloud", "reset_before", marks=pytest.mark.slow),
        pytest.param("firekassa", "html", marks=pytest.mark.slow),
        pytest.param("cryptocloud", "cut_body", marks=pytest.mark.slow),
    ],
)
def test_eight_cancellations_without_a_usable_answer_send_five_requests(sandbox, register, provider, behaviour):
    results = [cancel_error(register(behaviour, provider=provider).cancel).result for _number in range(8)]
    assert [result.code == "provider_paused" for result in results] == [False] * 5 + [True] * 3
    assert sandbox.count("cancel") == 5
    assert failures_and_pause() == (5, True)
    assert sorted(Invoice.objects.values_list("status", flat=True)) == ["created"] * 3 + ["in_doubt"] * 5
    assert 290 < results[-1].retry_after <= 300
    assert ProviderState.objects.get().pause_code == results[0].code


def test_unreachable_provider_is_paused_after_five_tries(sandbox, register):
    sandbox.configure(down="refuse")
    codes = [cancel_error(register().cancel).result.code for _number in range(8)]
    assert codes == ["unreachable"] * 5 + ["provider_paused"] * 3
    assert sandbox.count("cancel") == 0
    assert failures_and_pause() == (5, True)
    assert set(Invoice.objects.values_list("status", flat=True)) == {"created"}


@pytest.mark.parametrize("answer", ["canceled", "refused", "not_found", "paid", "already_canceled"])
def test_usable_answer_resets_the_count(shop, answer):
    shop.next_cancels(*["in_doubt"] * 4, answer, *["in_doubt"] * 4)
    codes = cancel_new(9)
    assert codes.count("provider_paused") == 0
    assert shop.cancel_count == 9
    assert failures_and_pause() == (4, False)
    assert ProviderState.objects.get().last_success_at is not None


def test_usable_answer_to_a_requested_cancellation_resets_the_count(shop):
    shop.next_cancels(*["in_doubt"] * 4)
    cancel_new(4)
    assert make_invoice().cancel_on_commit()
    assert shop.cancel_count == 5
    assert failures_and_pause() == (0, False)


def test_usable_answer_to_a_lookup_resets_the_count(shop):
    shop.next_cancels(*["in_doubt"] * 4)
    cancel_new(4)
    assert Invoice.objects.first().reconcile().status == "in_doubt"
    assert shop.lookup_count == 1
    assert failures_and_pause() == (0, False)


def test_lookups_without_an_answer_are_counted(shop):
    invoice = make_invoice("in_doubt")
    shop.all_lookups("no_answer")
    codes = [invoice.reconcile().code for _number in range(8)]
    assert codes == ["no_answer"] * 5 + ["provider_paused"] * 3
    assert shop.lookup_count == 5
    assert failures_and_pause() == (5, True)


def test_failed_request_after_the_pause_pauses_again_and_a_usable_answer_resets(shop):
    shop.next_cancels(*["in_doubt"] * 6)
    cancel_new(5)
    with travel_forward(seconds=301):
        assert cancel_new(2) == ["no_answer", "provider_paused"]
    assert shop.cancel_count == 6
    assert failures_and_pause() == (6, True)
    with travel_forward(seconds=602):
        assert cancel_new(1) == ["canceled"]
        assert failures_and_pause() == (0, False)
        assert ProviderState.objects.get().pause_code == ""
    assert shop.cancel_count == 7


def test_bulk_run_after_four_failures_pauses_at_its_first(scripted):
    shop = scripted(concurrency=1)
    shop.all_cancels("in_doubt")
    cancel_new(4)
    for _number in range(3):
        make_invoice()
    codes = [result.code for result in cancel_invoices(Invoice.objects.cancelable())]
    assert codes == ["no_answer", "provider_paused", "provider_paused"]
    assert shop.cancel_count == 5
    assert failures_and_pause() == (5, True)


def test_failures_of_a_bulk_run_count_for_single_calls(scripted):
    shop = scripted(concurrency=1)
    shop.all_cancels("in_doubt")
    for _number in range(4):
        make_invoice()
    list(cancel_invoices(Invoice.objects.all()))
    assert cancel_new(2) == ["no_answer", "provider_paused"]
    assert shop.cancel_count == 5
    assert failures_and_pause() == (5, True)


def test_failures_of_concurrent_processes_are_all_counted(shop, in_thread):
    """Four concurrent requests and a fifth one later."""
    shop.all_cancels("in_doubt")
    invoices = [make_invoice() for _number in range(4)]
    raised = [in_thread(cancel_error, invoice.cancel) for invoice in invoices]
    assert {type(future.result()) for future in raised} == {CancelInDoubt}
    assert failures_and_pause() == (4, False)
    assert cancel_new(2) == ["no_answer", "provider_paused"]
    assert shop.cancel_count == 5
    assert failures_and_pause() == (5, True)


def test_other_account_is_not_affected(sandbox, register):
    for _number in range(5):
        cancel_error(register("error_500_before", provider="firekassa").cancel)
    assert register(provider="cryptocloud").cancel().ok
    assert cancel_error(register(provider="firekassa").cancel).result.code == "provider_paused"
    assert sandbox.count("cancel") == 6


def test_expired_lease_is_not_counted(scripted):
    """A claim of one second is too short for a request of 15: a wrong setting, no failure of the provider."""
    shop = scripted(CLAIM_TTL=1)
    codes = cancel_new(8)
    assert codes == ["lease_expired"] * 8
    assert shop.cancel_count == 0
    assert not ProviderState.objects.exists()


def test_count_does_not_exceed_its_maximum(shop):
    ProviderState.objects.create(alias="shop", failures=MOST_COUNTED)
    shop.all_cancels("in_doubt")
    assert cancel_new(2) == ["no_answer", "provider_paused"]
    assert failures_and_pause() == (MOST_COUNTED, True)
    assert shop.cancel_count == 1


def test_healthy_provider_has_no_row(shop):
    invoice = make_invoice()
    invoice.cancel()
    assert status_and_log(invoice)[0] == "canceled"
    assert ProviderState.objects.exists() is False
    assert shop.cancel_count == 1
