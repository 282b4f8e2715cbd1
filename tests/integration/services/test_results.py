"""The result or exception for each outcome. Both work in programs, texts, logs and pickles."""

import json
import pickle

import pytest
from django.contrib.auth.models import AnonymousUser, User
from django.utils import translation

from django_invoice_cancel.domain.audit import AuditContext
from django_invoice_cancel.domain.outcomes import Code, Outcome
from django_invoice_cancel.exceptions import (
    CancelError,
    CancelInDoubt,
    CancelNotPossible,
    CancelNotProcessed,
    CancelRefused,
    OutcomeNotRecorded,
)
from django_invoice_cancel.models import Invoice
from django_invoice_cancel.services.results import EXCEPTIONS, make_result, raise_unless_ok
from tests.support.invoices import stored
from tests.support.logs import log_entries, status_and_log
from tests.support.results import cancel_error

pytestmark = pytest.mark.django_db


def unchanged(invoice):
    pass


def misconfigured(invoice):
    Invoice.objects.filter(pk=invoice.pk).update(provider="unconfigured")
    invoice.refresh_from_db()


def stored_in_lower_case(invoice):
    Invoice.objects.filter(pk=invoice.pk).update(external_id=invoice.external_id.lower())
    invoice.refresh_from_db()


def paused(invoice):
    invoice._writer.pause(invoice.provider, "rate_limited", 60)


def deleted(invoice):
    Invoice.objects.filter(pk=invoice.pk).delete()


def observed(status):
    def observe(invoice):
        stored(invoice).observe_status(status)

    observe.__name__ = status
    return observe


def claimed(invoice):
    invoice._writer.claim([stored(invoice)], AuditContext())


NOT_POSSIBLE = [
    (
        misconfigured,
        "misconfigured",
        "created",
        "No request can be sent for it: Provider 'unconfigured' is not configured",
    ),
    (stored_in_lower_case, "misconfigured", "created", "No request can be sent for it: its id is stored as 'inv-"),
    (paused, "provider_paused", "created", "CryptoCloud is paused after failed requests; nothing was sent."),
    (deleted, "not_registered", "created", "It is no longer registered."),
    (claimed, "in_progress", "canceling", "It is being canceled now."),
    (observed("paid"), "has_payment", "paid", "A payment was received for it."),
    (observed("partially_paid"), "has_payment", "partially_paid", "A payment was received for it."),
    (observed("overpaid"), "has_payment", "overpaid", "A payment was received for it."),
    (observed("expired"), "closed", "expired", "It is already closed: it expired, or its payment failed."),
    (observed("failed"), "closed", "failed", "It is already closed: it expired, or its payment failed."),
]


@pytest.mark.parametrize(
    ("prepare", "code", "status", "message"), NOT_POSSIBLE, ids=[case[0].__name__ for case in NOT_POSSIBLE]
)
def test_skipped_cancellation_raises_cancel_not_possible(sandbox, register, prepare, code, status, message):
    invoice = register()
    prepare(invoice)
    log = log_entries(invoice)
    error = cancel_error(invoice.cancel)
    assert type(error) is CancelNotPossible
    assert error.result.outcome == "skipped"
    assert error.result.code == code
    assert error.result.status == status
    assert str(error.result.message).startswith(message)
    assert str(error).startswith(f"{invoice.provider} invoice {invoice.external_id}: {message}")
    assert error.result.attempt is None
    assert error.result.duration_ms is None
    assert error.result.is_recorded is True
    assert log_entries(invoice) == log
    assert list(Invoice.objects.values_list("status", flat=True)) == [status] * (prepare is not deleted)
    assert sandbox.requests == []


ANSWERED = [
    ("cryptocloud", "not_found", CancelRefused, "refused", "not_found", "created", 400, "CryptoCloud did not find"),
    ("firekassa", "not_found", CancelRefused, "refused", "not_found", "created", 404, "FireKassa did not find"),
    ("firekassa", "paid", CancelRefused, "refused", "provider_refused", "created", 422, "FireKassa refused to cancel"),
    ("cryptocloud", "paid", CancelRefused, "refused", "has_payment", "paid", 400, "A payment was received for it."),
    ("cryptocloud", "rate_limited", CancelNotProcessed, "not_processed", "rate_limited", "created", 429, "CryptoCl"),
    ("firekassa", "bad_credentials", CancelNotProcessed, "not_processed", "bad_credentials", "created", 401, "FireKa"),
    ("cryptocloud", "bad_credentials", CancelNotProcessed, "not_processed", "bad_credentials", "created", 400, "Crypt"),
    ("firekassa", "forbidden", CancelNotProcessed, "not_processed", "bad_credentials", "created", 403, "FireKassa rej"),
    ("cryptocloud", "unavailable", CancelInDoubt, "in_doubt", "provider_error", "in_doubt", 503, "CryptoCloud failed"),
    (
        "cryptocloud",
        "odd_status",
        CancelInDoubt,
        "in_doubt",
        "unknown_status",
        "in_doubt",
        400,
        "CryptoCloud reported an unknown status",
    ),
]


@pytest.mark.parametrize(
    ("provider", "behaviour", "kind", "outcome", "code", "status", "http_status", "message"),
    ANSWERED,
    ids=[f"{case[0]} {case[1]}" for case in ANSWERED],
)
def test_answer_raises_the_exception_of_its_outcome(
    sandbox, register, provider, behaviour, kind, outcome, code, status, http_status, message
):
    invoice = register(behaviour, provider=provider)
    error = cancel_error(invoice.cancel)
    assert type(error) is kind
    assert isinstance(error, CancelError)
    result = error.result
    assert result.outcome == outcome
    assert result.code == code
    assert result.status == status
    assert result.http_status == http_status
    assert str(result.message).startswith(message)
    assert result.attempt == str(stored(invoice).attempt)
    assert stored(invoice).status == status
    assert stored(invoice).last_outcome == ("not_found" if code == "not_found" else outcome)
    assert log_entries(invoice)[-1] == ("canceling", status, outcome, code)
    assert sandbox.count("cancel") == 1


@pytest.mark.parametrize("provider", ["firekassa", "cryptocloud"])
def test_unreachable_provider_raises_cancel_not_processed(sandbox, register, provider):
    sandbox.configure(down="refuse")
    invoice = register(provider=provider)
    error = cancel_error(invoice.cancel)
    assert type(error) is CancelNotProcessed
    assert error.result.code == "unreachable"
    assert error.result.status == "created"
    assert stored(invoice).status == "created"
    assert log_entries(invoice)[-1] == ("canceling", "created", "not_processed", "unreachable")
    assert sandbox.requests == []


@pytest.mark.parametrize("provider", ["firekassa", "cryptocloud"])
def test_canceled_returns_the_result(sandbox, register, provider):
    invoice = register(provider=provider)
    result = invoice.cancel()
    assert result.ok is True
    assert result.outcome == "canceled"
    assert result.code == "canceled"
    assert result.status == "canceled"
    assert result.http_status == 200
    assert result.provider == provider
    assert result.external_id == invoice.external_id
    assert result.reference == "order-17"
    assert result.invoice_id == invoice.pk
    assert result.retry_after is None
    assert result.is_recorded is True
    assert result.attempt == str(stored(invoice).attempt)
    assert result.duration_ms >= 0
    assert sandbox.count("cancel") == 1


@pytest.mark.parametrize("canceled_by", ["locally", "at the provider"])
def test_canceled_invoice_returns_already_canceled(sandbox, register, canceled_by):
    invoice = register("already_canceled" if canceled_by == "at the provider" else "ordinary")
    if canceled_by == "locally":
        invoice.cancel()
    result = stored(invoice).cancel()
    assert result.ok is True
    assert result.outcome == "already_canceled"
    assert result.code == "already_canceled"
    assert result.status == "canceled"
    assert str(result.message) == "It was already canceled."
    assert sandbox.count("cancel") == 1


@pytest.mark.parametrize(("behaviour", "provider", "seconds"), [("rate_limited", "firekassa", 7.0)])
def test_retry_after_is_returned(sandbox, register, behaviour, provider, seconds):
    sandbox.configure(retry_after_seconds=7)
    invoice = register(behaviour, provider=provider)
    error = cancel_error(invoice.cancel)
    assert error.result.retry_after == seconds
    claimed, answered = ("created", "canceling", "", ""), ("canceling", "created", "not_processed", "rate_limited")
    assert status_and_log(invoice) == ("created", [claimed, answered])
    assert sandbox.count("cancel") == 1


def test_every_unsuccessful_outcome_has_an_exception():
    assert {outcome: EXCEPTIONS.get(outcome) for outcome in Outcome} == {
        Outcome.CANCELED: None,
        Outcome.ALREADY_CANCELED: None,
        Outcome.REFUSED: CancelRefused,
        Outcome.NOT_PROCESSED: CancelNotProcessed,
        Outcome.IN_DOUBT: CancelInDoubt,
        Outcome.SKIPPED: CancelNotPossible,
    }


def result_of(outcome, code, **more):
    invoice = Invoice(pk=7, provider="firekassa", external_id="511727028", status="created", reference="order-17")
    return make_result(invoice, outcome, code, **more)


@pytest.mark.parametrize("outcome", list(Outcome))
def test_every_result_can_be_serialized(outcome):
    """Also with a code of a third-party adapter."""
    for code in (*Code, "card_network_down"):
        result = result_of(outcome, code, http_status=200, retry_after=1.5, duration_ms=12)
        copy = pickle.loads(pickle.dumps(result))  # noqa: S301 - our own
        assert copy == result
        assert json.loads(json.dumps(result.as_dict())) == result.as_dict()
        assert result.as_dict()["code"] == str(code)
        assert result.as_dict()["outcome"] == str(outcome)
        assert "{" not in str(result.message)
        assert len(str(copy.message)) > 5


@pytest.mark.parametrize("kind", [*EXCEPTIONS.values(), OutcomeNotRecorded])
def test_every_exception_is_pickled_with_its_result(kind):
    error = kind(result_of(Outcome.IN_DOUBT, Code.NO_ANSWER))
    copy = pickle.loads(pickle.dumps(error))  # noqa: S301 - our own
    assert type(copy) is kind
    assert copy.result == error.result
    assert str(copy) == str(error)


def test_unrecorded_outcome_raises_even_if_canceled():
    with pytest.raises(OutcomeNotRecorded):
        raise_unless_ok(result_of(Outcome.CANCELED, Code.CANCELED, is_recorded=False))


def test_message_is_translated_when_it_is_rendered():
    result = result_of(Outcome.IN_DOUBT, Code.NO_ANSWER)
    with translation.override("en"):
        assert str(result.message) == "No answer from FireKassa: it may or may not be canceled."


def test_unsaved_invoice_is_a_value_error(sandbox):
    invoice = Invoice(provider="firekassa", external_id="511727028")
    for call in (invoice.cancel, invoice.cancel_on_commit, invoice.reconcile):
        with pytest.raises(ValueError, match=r"Save the invoice first"):
            call()
    assert sandbox.requests == []


@pytest.mark.parametrize("field", ["external_id", "provider"])
def test_unsaved_edit_cancels_no_other_invoice(sandbox, register, field):
    """Neither the id in memory nor the stored id is requested."""
    invoice, other = register(), register(provider="cryptocloud" if field == "external_id" else "firekassa")
    setattr(invoice, field, getattr(other, field))
    error = cancel_error(invoice.cancel)
    assert type(error) is CancelNotPossible
    assert error.result.code == "misconfigured"
    assert stored(invoice).status == "created"
    assert stored(other).status == "created"
    assert sandbox.requests == []


@pytest.mark.parametrize("reason", ["", "  "])
def test_empty_reason_is_refused_if_a_reason_is_required(sandbox, register, configure, reason):
    configure(REQUIRE_REASON=True)
    invoice = register()
    for call in (invoice.cancel, invoice.cancel_on_commit):
        with pytest.raises(ValueError, match=r"REQUIRE_REASON"):
            call(reason=reason)
    assert log_entries(invoice) == []
    assert sandbox.requests == []
    assert invoice.cancel(reason="changed their mind").ok
    assert sandbox.count("cancel") == 1


def test_invalid_actor_is_a_type_error_before_the_request(sandbox, register):
    invoice = register()
    with pytest.raises(TypeError, match="actor must be a user"):
        invoice.cancel(actor=object())
    assert stored(invoice).status == "created"
    assert invoice.status == "created"
    assert log_entries(invoice) == []
    assert sandbox.requests == []


def test_actor_is_stored_as_key_and_as_text(sandbox, register):
    user = User.objects.create(username="ada")
    cases = [(user, user.pk, "ada"), (AnonymousUser(), None, "anonymous"), ("till 3", None, "till 3"), (None, None, "")]
    for actor, key, label in cases:
        invoice = register()
        invoice.cancel(actor=actor)
        assert set(invoice.transitions.values_list("actor_id", "actor_label")) == {(key, label)}
    assert sandbox.count("cancel") == 4
