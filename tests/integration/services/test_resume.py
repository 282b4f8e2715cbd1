"""End a pause manually: the next single request is a probe, and its answer decides."""

import logging
import threading

import pytest

from django_invoice_cancel.domain.clock import utc_now
from django_invoice_cancel.domain.outcomes import Code, Outcome, ProviderReply
from django_invoice_cancel.models import Invoice, ProviderState
from django_invoice_cancel.signals import invoice_status_changed
from tests.support.clock import travel_forward
from tests.support.invoices import stored
from tests.support.logs import CANCELED_LOG, count_answers, log_entries, status_and_log
from tests.support.results import cancel_error

pytestmark = pytest.mark.django_db
REJECTED_LOG = [CANCELED_LOG[0], ("canceling", "created", "not_processed", "bad_credentials")]


def writer():
    return Invoice.objects.all()._writer


def make(count, provider="shop"):
    return [Invoice.objects.create(provider=provider, external_id=f"{number:03d}") for number in range(count)]


def test_usable_answer_to_the_next_request_clears_the_pause(scripted):
    shop = scripted()
    first, second = make(2)
    writer().pause("shop", "bad_credentials", 300)
    assert writer().resume("shop").result == "resumed"
    state = ProviderState.objects.get()
    assert not state.is_paused
    assert state.pause_code == "bad_credentials"
    assert first.cancel().ok
    state = ProviderState.objects.get()
    assert state.pause_code == ""
    assert state.paused_until is None
    assert state.probe_until is None
    assert second.cancel().ok
    assert shop.cancel_count == 2
    assert status_and_log(first) == ("canceled", CANCELED_LOG)
    assert status_and_log(second) == ("canceled", CANCELED_LOG)


def test_rejected_probe_pauses_again(scripted):
    shop = scripted()
    first, second = make(2)
    shop.all_cancels("bad_credentials")
    writer().pause("shop", "bad_credentials", 300)
    writer().resume("shop")
    assert cancel_error(first.cancel).result.code == "bad_credentials"
    state = ProviderState.objects.get()
    assert 295 < state.seconds_left <= 300
    assert state.probe_until is None
    assert cancel_error(second.cancel).result.code == "provider_paused"
    assert shop.cancel_count == 1
    assert status_and_log(first) == ("created", REJECTED_LOG)
    assert status_and_log(second) == ("created", [])


def test_lost_answer_to_the_probe_of_five_failures_pauses_again(scripted):
    shop = scripted()
    invoices = make(7)
    shop.all_cancels("in_doubt")
    for invoice in invoices[:5]:
        cancel_error(invoice.cancel)
    assert ProviderState.objects.get().is_paused
    writer().resume("shop")
    cancel_error(invoices[5].cancel)
    state = ProviderState.objects.get()
    assert 295 < state.seconds_left <= 300
    assert cancel_error(invoices[6].cancel).result.code == "provider_paused"
    assert shop.cancel_count == 6
    assert count_answers() == {"no_answer": 6}
    assert status_and_log(invoices[6]) == ("created", [])


def test_lookup_is_the_probe_too(scripted):
    shop = scripted()
    (invoice,) = make(1)
    shop.next_cancels("answer_lost")
    cancel_error(invoice.cancel)
    writer().pause("shop", "rate_limited", 300)
    assert invoice.reconcile().code == "provider_paused"
    writer().resume("shop")
    assert invoice.reconcile().outcome == "already_canceled"
    state = ProviderState.objects.get()
    assert state.pause_code == ""
    assert state.probe_until is None
    assert shop.lookup_count == 1
    assert shop.cancel_count == 1
    assert count_answers() == {"no_answer": 1, "observed": 1}


def test_lookup_is_not_sent_if_another_process_takes_the_probe_first(scripted, monkeypatch):
    shop = scripted()
    (invoice,) = make(1)
    shop.next_cancels("answer_lost")
    cancel_error(invoice.cancel)
    writer().pause("shop", "rate_limited", 300)
    writer().resume("shop")
    monkeypatch.setattr(type(writer()), "take_probe", lambda self, alias, *, options_digest: None)
    assert invoice.reconcile().code == "provider_paused"
    assert shop.lookup_count == 0
    assert shop.cancel_count == 1
    assert stored(invoice).status == "in_doubt"


def test_only_one_probe_is_in_flight(scripted):
    """While the probe waits for its answer, other calls send nothing. Its answer lets them through."""
    shop = scripted()
    probe, *others = make(4)
    writer().pause("shop", "bad_credentials", 300)
    writer().resume("shop")
    during_the_probe = []

    def cancel_others(external_id):
        if external_id == probe.external_id:
            during_the_probe.extend(cancel_error(invoice.cancel).result for invoice in others)

    shop.before_send = cancel_others
    assert probe.cancel().ok
    assert [result.code for result in during_the_probe] == ["provider_paused"] * 3
    assert all(0 < result.retry_after <= 45 for result in during_the_probe)
    assert all(invoice.cancel().ok for invoice in others)
    assert shop.cancel_count == 4
    assert count_answers() == {"canceled": 4}


@pytest.mark.django_db(transaction=True)
def test_concurrent_calls_send_one_probe(scripted, in_thread):
    shop = scripted()
    invoices = make(6)
    writer().pause("shop", "bad_credentials", 300)
    writer().resume("shop")
    shop.all_cancels("bad_credentials")
    all_tried, tried = threading.Event(), []

    def count(invoice):
        code = cancel_error(invoice.cancel).result.code
        tried.append(code)
        if len(tried) == 5:
            all_tried.set()
        return code

    shop.before_send = lambda external_id: all_tried.wait(10)
    codes = [future.result() for future in [in_thread(count, invoice) for invoice in invoices]]
    assert sorted(codes) == ["bad_credentials", *["provider_paused"] * 5]
    assert shop.cancel_count == 1
    assert count_answers() == {"bad_credentials": 1}


def test_probe_of_a_dead_process_ends_by_itself(scripted):
    shop = scripted()
    (invoice,) = make(1)
    writer().pause("shop", "bad_credentials", 300)
    writer().resume("shop")
    assert writer().take_probe("shop", options_digest="").until is not None
    assert cancel_error(invoice.cancel).result.code == "provider_paused"
    with travel_forward(seconds=46):  # the deadline and the margin
        assert invoice.cancel().ok
    assert shop.cancel_count == 1
    assert status_and_log(invoice) == ("canceled", CANCELED_LOG)


@pytest.mark.django_db(transaction=True)
def test_claim_that_sends_nothing_releases_the_probe(scripted):
    """A receiver records a payment, so that the request of the claim is not sent."""
    shop = scripted()
    paid, other = make(2)
    writer().pause("shop", "bad_credentials", 300)
    writer().resume("shop")

    def record_payment(invoice, new_status, **kwargs):
        if invoice.pk == paid.pk and new_status == "canceling":
            Invoice.objects.observe_status("shop", paid.external_id, "paid", trigger="webhook")

    invoice_status_changed.connect(record_payment)
    try:
        cancel_error(paid.cancel)
    finally:
        invoice_status_changed.disconnect(record_payment)
    assert ProviderState.objects.get().probe_until is None
    assert other.cancel().ok
    assert shop.cancel_count == 1
    assert status_and_log(paid)[0] == "paid"
    assert status_and_log(other) == ("canceled", CANCELED_LOG)


def test_invoice_that_cannot_be_claimed_takes_no_probe(scripted):
    shop = scripted()
    paid, other = make(2)
    Invoice.objects.observe_status("shop", paid.external_id, "paid", trigger="webhook")
    writer().pause("shop", "bad_credentials", 300)
    writer().resume("shop")
    assert cancel_error(paid.cancel).result.code == "has_payment"
    assert ProviderState.objects.get().probe_until is None
    assert other.cancel().ok
    assert shop.cancel_count == 1
    assert status_and_log(other) == ("canceled", CANCELED_LOG)


# -- at most once in ten seconds, Retry-After ---------------------------------------------------------------------


def test_pause_is_ended_at_most_once_in_ten_seconds(scripted):
    shop = scripted()
    (invoice,) = make(1)
    shop.all_cancels("bad_credentials")
    writer().pause("shop", "bad_credentials", 300)
    assert writer().resume("shop").result == "resumed"
    cancel_error(invoice.cancel)
    again = writer().resume("shop")
    assert again.result == "too_soon"
    assert 9 < (again.at - utc_now()).total_seconds() <= 10
    assert ProviderState.objects.get().is_paused
    with travel_forward(seconds=11):
        assert writer().resume("shop").result == "resumed"
        cancel_error(invoice.cancel)
    assert shop.cancel_count == 2
    assert log_entries(invoice) == REJECTED_LOG * 2


def test_only_one_of_two_operators_ends_a_pause(scripted):
    """Both read the pause, then the second one writes."""
    shop = scripted()
    writer().pause("shop", "bad_credentials", 300)
    read, results = ProviderState.objects.get(), []
    own = writer()
    first_read = own.provider_state

    def read_before_the_other(alias):
        own.provider_state = first_read
        results.append(writer().resume(alias).result)
        return read

    own.provider_state = read_before_the_other
    results.append(own.resume("shop").result)
    assert results == ["resumed", "too_soon"]
    assert shop.cancel_count == 0
    assert ProviderState.objects.get().pause_code == "bad_credentials"


@pytest.mark.parametrize("state", ["none", "expired"])
def test_provider_that_is_not_paused_cannot_be_resumed(scripted, state):
    shop = scripted()
    if state == "expired":
        writer().pause("shop", "bad_credentials", 0.0)
    assert writer().resume("shop").result == "not_paused"
    assert ProviderState.objects.filter(resumed_at__isnull=False).count() == 0
    assert shop.cancel_count == 0


def test_retry_after_of_the_provider_is_respected_unless_forced(scripted):
    shop = scripted()
    first, second = make(2)
    shop.next_cancels("rate_limited")  # Retry-After: 60
    cancel_error(first.cancel)
    asked = writer().resume("shop")
    assert asked.result == "retry_after"
    assert 55 < (asked.at - utc_now()).total_seconds() <= 60
    assert cancel_error(second.cancel).result.code == "provider_paused"
    assert writer().resume("shop", force=True).result == "resumed"
    assert second.cancel().ok
    assert shop.cancel_count == 2
    assert status_and_log(second) == ("canceled", CANCELED_LOG)
    assert ProviderState.objects.get().retry_after_at is None


def test_429_without_retry_after_needs_no_force(scripted):
    shop = scripted()
    first, second = make(2)
    shop.next_cancels(ProviderReply(Outcome.NOT_PROCESSED, Code.RATE_LIMITED, http_status=429))
    cancel_error(first.cancel)
    assert ProviderState.objects.get().retry_after_at is None
    assert writer().resume("shop").result == "resumed"
    assert second.cancel().ok
    assert shop.cancel_count == 2
    assert status_and_log(second) == ("canceled", CANCELED_LOG)


def test_longer_pause_keeps_the_retry_after(scripted):
    shop = scripted()
    writer().pause("shop", "rate_limited", 60, retry_after=60)
    writer().pause("shop", "no_answer", 300)
    assert writer().resume("shop").result == "retry_after"
    with travel_forward(seconds=61):
        assert writer().resume("shop").result == "resumed"
    assert shop.cancel_count == 0
    assert ProviderState.objects.get().pause_code == "no_answer"


def test_end_of_a_pause_is_logged_with_its_actor(scripted, caplog):
    shop = scripted()
    writer().pause("shop", "bad_credentials", 300)
    caplog.set_level(logging.WARNING)
    caplog.clear()
    writer().resume("shop", actor="Ada")
    (record,) = caplog.records
    assert record.getMessage() == "The pause of shop (bad_credentials) was ended by Ada. The next request is a probe."
    assert record.provider == "shop"
    assert record.actor == "Ada"
    assert shop.cancel_count == 0


# -- changed credentials ------------------------------------------------------------------------------------------


def test_new_token_is_used_at_once(sandbox, configure, register, settings):
    """The sandbox rejects the old token and accepts the new one."""
    right = settings.INVOICE_CANCEL["PROVIDERS"]["firekassa"]["OPTIONS"]["api_token"]
    configured = settings.INVOICE_CANCEL

    def deploy(token):
        options = configured["PROVIDERS"]["firekassa"]["OPTIONS"] | {"api_token": token}
        firekassa = configured["PROVIDERS"]["firekassa"] | {"OPTIONS": options}
        settings.INVOICE_CANCEL = {"PROVIDERS": {"firekassa": firekassa}}

    first, second = register(provider="firekassa"), register(provider="firekassa")
    deploy("revoked")
    assert cancel_error(first.cancel).result.code == "bad_credentials"
    assert cancel_error(second.cancel).result.code == "provider_paused"
    deploy("revoked")  # the same options in another process
    assert cancel_error(second.cancel).result.code == "provider_paused"
    assert sandbox.count("cancel") == 1
    deploy(right)
    assert second.cancel().ok
    assert sandbox.count("cancel") == 2
    state = ProviderState.objects.get()
    assert state.pause_code == ""
    assert state.rejected_options == ""
    assert status_and_log(first) == ("created", REJECTED_LOG)
    assert status_and_log(second) == ("canceled", CANCELED_LOG)


def rejected(scripted, **options):
    """Configure an account whose options were rejected, and return the invoice that is cancelled next."""
    shop = scripted(**options)
    first, second = make(2)
    shop.next_cancels("bad_credentials")
    cancel_error(first.cancel)
    return second


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({"deadline": 9.0, "rate": 5.0}, {"rate": 5.0, "deadline": 9.0}),
        ({"deadline": 9.0}, {"deadline": 9.0}),
        ({}, {}),
    ],
    ids=["reordered", "same", "none"],
)
def test_same_options_stay_paused(scripted, before, after):
    invoice = rejected(scripted, **before)
    shop = scripted(**after)
    assert cancel_error(invoice.cancel).result.code == "provider_paused"
    assert shop.cancel_count == 0
    assert status_and_log(invoice) == ("created", [])
    assert ProviderState.objects.get().is_paused


def test_changed_option_that_is_no_secret_ends_the_pause(scripted):
    invoice = rejected(scripted, deadline=9.0)
    shop = scripted(deadline=8.0)
    assert not ProviderState.objects.get().is_paused
    assert invoice.cancel().ok
    assert shop.cancel_count == 1
    assert status_and_log(invoice) == ("canceled", CANCELED_LOG)


def test_changed_secret_key_ends_the_pause(scripted, settings):
    invoice = rejected(scripted)
    settings.SECRET_KEY = "rotated"
    shop = scripted()
    assert invoice.cancel().ok
    assert shop.cancel_count == 1
    assert status_and_log(invoice) == ("canceled", CANCELED_LOG)


def test_options_that_are_rejected_too_are_paused_as_well(scripted):
    """Processes with the old and with the new options are both paused; neither unblocks the other."""
    invoice = rejected(scripted, deadline=9.0)
    shop = scripted(deadline=8.0)
    shop.all_cancels("bad_credentials")
    assert cancel_error(invoice.cancel).result.code == "bad_credentials"
    assert cancel_error(invoice.cancel).result.code == "provider_paused"
    assert shop.cancel_count == 1
    old = scripted(deadline=9.0)
    assert cancel_error(invoice.cancel).result.code == "provider_paused"
    assert old.cancel_count == 0
    assert len(ProviderState.objects.get().rejected_options.split(",")) == 2
    assert status_and_log(invoice) == ("created", REJECTED_LOG)


@pytest.mark.parametrize("code", ["rate_limited", "no_answer"])
def test_changed_options_do_not_end_another_pause(scripted, code):
    scripted(deadline=9.0)
    (invoice,) = make(1)
    writer().pause("shop", code, 300, options_digest="0123456789abcdef0123456789abcdef")
    shop = scripted(deadline=8.0)
    assert cancel_error(invoice.cancel).result.code == "provider_paused"
    assert shop.cancel_count == 0
    assert status_and_log(invoice) == ("created", [])


def test_changed_options_wait_for_an_explicit_retry_after(scripted):
    scripted(deadline=9.0)
    (invoice,) = make(1)
    digest = "0123456789abcdef0123456789abcdef"
    writer().pause("shop", "bad_credentials", 300, retry_after=100, options_digest=digest)
    shop = scripted(deadline=8.0)
    result = cancel_error(invoice.cancel).result
    assert result.code == "provider_paused"
    assert 95 < result.retry_after <= 100
    assert shop.cancel_count == 0
    with travel_forward(seconds=101):
        assert invoice.cancel().ok
    assert shop.cancel_count == 1
    assert status_and_log(invoice) == ("canceled", CANCELED_LOG)


def test_unreadable_configuration_does_not_end_the_pause(scripted, settings):
    invoice = rejected(scripted)
    settings.INVOICE_CANCEL = {"PROVIDERS": {}}
    assert ProviderState.objects.get().is_paused
    assert cancel_error(invoice.cancel).result.code == "misconfigured"
    assert status_and_log(invoice) == ("created", [])
