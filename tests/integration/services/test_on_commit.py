"""cancel_on_commit: the request is stored in the caller's transaction and is sent to the provider after its commit."""

import logging
from contextlib import nullcontext

import pytest
from django.db import connections, transaction

from django_invoice_cancel.domain.audit import AuditContext
from django_invoice_cancel.models import Invoice
from tests.support.database import rolled_back
from tests.support.invoices import stored
from tests.support.logs import log_entries, status_and_log

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.urls("tests.integration.services.urls")]
REQUESTED = [
    ("created", "created", "", "requested"),
    ("created", "canceling", "", ""),
    ("canceling", "canceled", "canceled", "canceled"),
]
RELEASED = ("canceling", "created", "not_processed", "given_back")
IN_DOUBT = ("canceling", "in_doubt", "in_doubt", "no_answer")


@pytest.fixture
def atomic_requests(monkeypatch):
    monkeypatch.setitem(connections["default"].settings_dict, "ATOMIC_REQUESTS", True)


def test_view_under_atomic_requests_cancels_after_its_commit(sandbox, register, client, atomic_requests):
    invoice = register()
    assert client.post(f"/on-commit/{invoice.pk}/").json() == {"is_requested": True}
    assert stored(invoice).status == "canceled"
    assert stored(invoice).cancel_requested_at is None
    assert log_entries(invoice) == REQUESTED
    assert set(invoice.transitions.values_list("trigger", "actor_label", "reason")) == {
        ("on_commit", "shop", "changed their mind")
    }
    assert sandbox.count("cancel") == 1


def test_rolled_back_view_stores_and_sends_nothing(sandbox, register, client, atomic_requests):
    invoice = register()
    with pytest.raises(ZeroDivisionError):
        client.post(f"/on-commit/{invoice.pk}/?fail")
    assert stored(invoice).status == "created"
    assert stored(invoice).cancel_requested_at is None
    assert log_entries(invoice) == []
    assert sandbox.requests == []


@pytest.mark.parametrize(
    ("behaviour", "expected", "outcome", "code", "is_kept"),
    [
        ("paid", "paid", "refused", "has_payment", False),
        ("error_500_before", "in_doubt", "in_doubt", "provider_error", True),
        ("bad_credentials", "created", "not_processed", "bad_credentials", True),
    ],
)
def test_failed_cancellation_does_not_change_the_response(
    sandbox, register, client, atomic_requests, behaviour, expected, outcome, code, is_kept
):
    invoice = register(behaviour)
    response = client.post(f"/on-commit/{invoice.pk}/")
    assert response.status_code == 200
    assert response.json() == {"is_requested": True}
    assert stored(invoice).status == expected
    assert (stored(invoice).cancel_requested_at is not None) == is_kept
    assert log_entries(invoice) == [*REQUESTED[:2], ("canceling", expected, outcome, code)]
    assert sandbox.count("cancel") == 1


def test_error_of_the_provider_call_does_not_change_the_response(
    sandbox, register, client, atomic_requests, monkeypatch, caplog
):
    def broken(*args):
        raise ZeroDivisionError

    monkeypatch.setattr("django_invoice_cancel.services.cancel.submit", broken)
    invoice = register()
    assert client.post(f"/on-commit/{invoice.pk}/").status_code == 200
    assert "ZeroDivisionError" in caplog.text
    assert status_and_log(invoice) == ("created", [*REQUESTED[:2], RELEASED])
    assert sandbox.requests == []
    assert list(Invoice.objects.requested()) == [invoice]


class TimeLimit(Exception):
    """Stands for Celery's exception, which the package recognizes by its name."""

    __module__, __qualname__ = "billiard.exceptions", "SoftTimeLimitExceeded"


def commit_with_other_callbacks(invoice):
    """Commit a request between two callbacks of the project. Return the callbacks that ran."""
    called = []
    with transaction.atomic():
        transaction.on_commit(lambda: called.append("before"))
        assert invoice.cancel_on_commit()
        transaction.on_commit(lambda: called.append("after"))
    return called


@pytest.mark.parametrize("kind", [TimeLimit, KeyboardInterrupt])
@pytest.mark.parametrize(
    ("target", "status", "log"),
    [
        ("django_invoice_cancel.models.writes.requests.RequestWriter.claim_requested", "created", REQUESTED[:1]),
        ("requests.adapters.HTTPAdapter.send", "created", [*REQUESTED[:2], RELEASED]),
        ("django_invoice_cancel.services.provider_calls.read_reply", "in_doubt", [*REQUESTED[:2], IN_DOUBT]),
    ],
)
def test_time_limit_in_the_callback_is_raised_and_the_request_stays_stored(
    sandbox, register, monkeypatch, kind, target, status, log
):
    invoice, error = register(), kind()

    def interrupt(*args, **kwargs):
        raise error

    monkeypatch.setattr(target, interrupt)
    with pytest.raises(kind) as raised:
        commit_with_other_callbacks(invoice)
    assert raised.value is error
    assert stored(invoice).status == status
    assert log_entries(invoice) == log
    assert stored(invoice).cancel_requested_at is not None
    if status == "created":
        assert list(Invoice.objects.requested()) == [invoice]
    assert sandbox.count("cancel") == (1 if status == "in_doubt" else 0)


def test_error_in_the_callback_is_logged_and_other_callbacks_run(sandbox, register, monkeypatch, caplog):
    def broken(*args, **kwargs):
        raise ZeroDivisionError

    monkeypatch.setattr("django_invoice_cancel.services.cancel.cancel_requested", broken)
    invoice = register()
    assert commit_with_other_callbacks(invoice) == ["before", "after"]
    assert [(each.name, each.levelname) for each in caplog.records] == [("django_invoice_cancel", "ERROR")]
    assert "ZeroDivisionError" in caplog.text
    assert stored(invoice).status == "created"
    assert log_entries(invoice) == REQUESTED[:1]
    assert list(Invoice.objects.requested()) == [invoice]
    assert sandbox.requests == []


def capture_and_run(capture, invoice):
    with capture(execute=True):
        assert invoice.cancel_on_commit()


@pytest.mark.django_db(transaction=False)
@pytest.mark.parametrize("kind", [TimeLimit, ZeroDivisionError])
def test_captured_callback_raises_a_time_limit_and_logs_an_error(
    sandbox, register, monkeypatch, django_capture_on_commit_callbacks, kind
):
    def broken(*args, **kwargs):
        raise kind

    monkeypatch.setattr("django_invoice_cancel.services.cancel.cancel_requested", broken)
    invoice = register()
    with pytest.raises(kind) if kind is TimeLimit else nullcontext():
        capture_and_run(django_capture_on_commit_callbacks, invoice)
    assert list(Invoice.objects.requested()) == [invoice]
    assert sandbox.requests == []


def test_request_is_sent_at_once_without_a_transaction(sandbox, register):
    invoice = register()
    assert invoice.cancel_on_commit() is True
    assert invoice.status == "canceled"
    assert log_entries(invoice) == REQUESTED
    assert sandbox.count("cancel") == 1


def test_request_in_nested_blocks_is_sent_after_the_outermost(sandbox, register):
    invoice = register()
    with transaction.atomic():
        with transaction.atomic():
            invoice.cancel_on_commit()
        assert sandbox.requests == []
    assert stored(invoice).status == "canceled"
    assert sandbox.count("cancel") == 1


def test_request_in_a_rolled_back_inner_block_is_not_sent(sandbox, register):
    invoice, other = register(), register()
    with transaction.atomic():
        other.cancel_on_commit()
        with rolled_back():
            invoice.cancel_on_commit()
    assert stored(invoice).status == "created"
    assert stored(invoice).cancel_requested_at is None
    assert log_entries(invoice) == []
    assert stored(other).status == "canceled"
    assert sandbox.count("cancel") == 1
    assert sandbox.count("cancel", other.external_id) == 1


def test_two_calls_send_one_request(sandbox, register):
    invoice = register()
    with transaction.atomic():
        assert invoice.cancel_on_commit()
        assert stored(invoice).cancel_on_commit()
    assert stored(invoice).status == "canceled"
    assert sandbox.count("cancel") == 1
    assert log_entries(invoice) == [REQUESTED[0], *REQUESTED]


@pytest.mark.parametrize("status", ["canceled", "expired", "failed", "paid", "partially_paid", "overpaid"])
def test_closed_or_paid_invoice_returns_false(sandbox, register, status):
    invoice = register()
    stored(invoice).observe_status(status)
    log = log_entries(invoice)
    assert invoice.cancel_on_commit() is False
    assert log_entries(invoice) == log
    assert stored(invoice).cancel_requested_at is None
    assert sandbox.requests == []


def test_invoice_that_is_being_canceled_returns_false(sandbox, register):
    invoice = register()
    invoice._writer.claim([stored(invoice)], AuditContext())
    assert invoice.cancel_on_commit() is False
    assert status_and_log(invoice) == ("canceling", [REQUESTED[1]])
    assert sandbox.requests == []


def drop_callbacks():
    """Drop the callbacks, as a crash between the commit and the callback does."""
    connections["default"].run_on_commit = []


@pytest.mark.parametrize(
    ("act", "log", "sent"),
    [
        pytest.param(lambda invoice: invoice.cancel(), REQUESTED[1:], 1, id="claim"),
        pytest.param(
            lambda invoice: invoice.observe_status("paid"), [("created", "paid", "", "observed")], 0, id="payment"
        ),
        pytest.param(
            lambda invoice: invoice.observe_status("expired"), [("created", "expired", "", "observed")], 0, id="expiry"
        ),
    ],
)
def test_stored_request_survives_a_crash_and_is_cleared_by_a_change(sandbox, register, act, log, sent):
    invoice = register()
    with transaction.atomic():
        invoice.cancel_on_commit()
        drop_callbacks()
    assert list(Invoice.objects.requested()) == [invoice]
    assert stored(invoice).status == "created"
    assert sandbox.requests == []
    act(stored(invoice))
    assert stored(invoice).cancel_requested_at is None
    assert not Invoice.objects.requested().exists()
    assert status_and_log(invoice) == (log[-1][1], [REQUESTED[0], *log])
    assert sandbox.count("cancel") == sent


def test_request_at_a_paused_provider_stays_stored(sandbox, register):
    invoice = register()
    invoice._writer.pause("cryptocloud", "rate_limited", 60)
    assert invoice.cancel_on_commit() is True
    assert list(Invoice.objects.requested()) == [invoice]
    assert status_and_log(invoice) == ("created", REQUESTED[:1])
    assert sandbox.requests == []


def test_request_with_autocommit_off_is_left_to_reconcile(sandbox, register, caplog):
    """Django runs no callbacks then."""
    caplog.set_level(logging.INFO, "django_invoice_cancel")
    invoice = register()
    transaction.set_autocommit(False)
    try:
        assert invoice.cancel_on_commit() is True
        transaction.commit()
    finally:
        transaction.set_autocommit(True)
    assert list(Invoice.objects.requested()) == [invoice]
    assert "reconcile_invoices will send a requested cancellation" in caplog.text
    assert log_entries(invoice) == REQUESTED[:1]
    assert sandbox.requests == []


@pytest.mark.django_db
def test_captured_callback_sends_the_request(sandbox, register, django_capture_on_commit_callbacks):
    invoice = register()
    with django_capture_on_commit_callbacks(execute=True), transaction.atomic():
        invoice.cancel_on_commit()
    assert stored(invoice).status == "canceled"
    assert sandbox.count("cancel") == 1
