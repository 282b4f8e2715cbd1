"""P9 for one invoice: a provider that rejects the credentials or limits the rate is paused; others are not affected."""

import pytest

from django_invoice_cancel.domain.clock import utc_now
from django_invoice_cancel.exceptions import CancelNotPossible
from django_invoice_cancel.models import ProviderState
from tests.support.clock import travel_forward
from tests.support.logs import CANCELED_LOG, log_entries, status_and_log
from tests.support.results import cancel_error

pytestmark = pytest.mark.django_db
PAUSING_ANSWERS = [
    ("rate_limited", "rate_limited", 9),
    ("bad_credentials", "bad_credentials", 300),
    ("forbidden", "bad_credentials", 300),
]


@pytest.mark.parametrize(("provider", "other"), [("firekassa", "cryptocloud"), ("cryptocloud", "firekassa")])
@pytest.mark.parametrize(("behaviour", "code", "seconds"), PAUSING_ANSWERS, ids=[case[0] for case in PAUSING_ANSWERS])
def test_rejected_request_pauses_its_provider_only(sandbox, register, provider, other, behaviour, code, seconds):
    sandbox.configure(retry_after_seconds=9)
    rejected = register(behaviour, provider=provider)
    cancel_error(rejected.cancel)
    state = ProviderState.objects.get()
    assert state.alias == provider
    assert state.pause_code == code
    assert state.is_paused is True

    waiting = register(provider=provider)
    error = cancel_error(waiting.cancel)
    assert type(error) is CancelNotPossible
    assert error.result.code == "provider_paused"
    assert error.result.status == "created"
    assert seconds - 5 < error.result.retry_after <= seconds
    assert status_and_log(waiting) == ("created", [])
    assert register(provider=other).cancel().ok
    assert sandbox.count("cancel") == 2
    assert sandbox.count("cancel", waiting.external_id) == 0

    with travel_forward(seconds=seconds + 1):
        assert waiting.cancel().ok
    assert status_and_log(waiting) == ("canceled", CANCELED_LOG)
    assert status_and_log(rejected) == ("created", [CANCELED_LOG[0], ("canceling", "created", "not_processed", code)])
    assert sandbox.count("cancel", waiting.external_id) == 1
    assert sandbox.count("cancel", rejected.external_id) == 1


def test_429_without_retry_after_pauses_for_a_minute(register, sandbox):
    answer = b"HTTP/1.1 429 Too Many Requests\r\nContent-Length: 2\r\n\r\n{}"
    invoice = register()
    sandbox.script(invoice.external_id, [answer])
    cancel_error(invoice.cancel)
    assert 55 < (ProviderState.objects.get().paused_until - utc_now()).total_seconds() <= 60
    assert sandbox.count("cancel") == 1
    assert status_and_log(invoice)[0] == "created"
    assert log_entries(invoice)[-1] == ("canceling", "created", "not_processed", "rate_limited")


def test_new_pause_does_not_shorten_an_earlier_one(sandbox, register):
    register()._writer.pause("cryptocloud", "bad_credentials", 300)
    register()._writer.pause("cryptocloud", "rate_limited", 5)
    state = ProviderState.objects.get()
    assert state.pause_code == "bad_credentials"
    assert state.seconds_left > 290


@pytest.mark.parametrize(
    ("behaviour", "status", "outcome", "code"),
    [
        ("error_500_before", "in_doubt", "in_doubt", "provider_error"),
        ("unavailable", "in_doubt", "in_doubt", "provider_error"),
        ("paid", "paid", "refused", "has_payment"),
        ("not_found", "created", "refused", "not_found"),
        ("ordinary", "canceled", "canceled", "canceled"),
    ],
)
def test_other_answers_pause_no_provider(sandbox, register, behaviour, status, outcome, code):
    invoice = register(behaviour)
    invoice.cancel() if behaviour == "ordinary" else cancel_error(invoice.cancel)
    assert not any(state.is_paused for state in ProviderState.objects.all())
    assert register().cancel().ok
    assert status_and_log(invoice) == (status, [CANCELED_LOG[0], ("canceling", status, outcome, code)])
    assert sandbox.count("cancel") == 2
