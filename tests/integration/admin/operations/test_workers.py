"""The progress page of an operation that DISPATCH hands to workers: handed over, failed, active, and interrupted."""

from datetime import timedelta

import pytest

from django_invoice_cancel import registry
from django_invoice_cancel.models import BulkOperation, Invoice
from django_invoice_cancel.models.dispatch import describe_dispatch_error
from django_invoice_cancel.operations import advance
from django_invoice_cancel.testing import ScriptedProvider
from tests.support.invoices import count_statuses
from tests.support.logs import count_invoices_by_log_rows
from tests.support.operation_pages import operation_url, poll_progress

pytestmark = pytest.mark.django_db(transaction=True)

UNTRIED = "2 invoices were not tried and are unchanged."
dispatched: list[str] = []


def dispatch(operation_id: str) -> None:
    dispatched.append(operation_id)


def fail(operation_id: str) -> None:
    raise ConnectionError("Cannot reach amqp://shop:hunter2@broker:5672//, password=hunter2 refused.\nsecond line")


@pytest.fixture(autouse=True)
def no_dispatched_message():
    dispatched.clear()


@pytest.fixture
def set_dispatcher(settings):
    def set_to(function):
        settings.INVOICE_CANCEL = settings.INVOICE_CANCEL | {"DISPATCH": f"{__name__}.{function.__name__}"}

    return set_to


@pytest.fixture
def confirmed(scripted_provider, operator_client, invoices, choose, set_dispatcher):
    """Return a function that confirms the cancellation of two invoices with a dispatcher."""

    def start(function=dispatch):
        set_dispatcher(function)
        draft = choose(operator_client, invoices(2))
        operator_client.post(operation_url(draft, "confirm"), {"reason": "too old"})
        return draft

    return start


def test_try_now_dispatches_an_operation_that_waits(confirmed, operator_client):
    """Its workers ended when the pause began."""
    operation = confirmed()
    Invoice.objects.all()._writer.pause("firekassa", "bad_credentials", 300)
    assert dispatched == [str(operation.pk)]
    url = f"{operation_url(operation, 'resume')}?provider=firekassa"
    operator_client.post(url)
    assert dispatched == [str(operation.pk)] * 2
    operator_client.post(url)  # within ten seconds
    assert dispatched == [str(operation.pk)] * 2
    assert ScriptedProvider.of("firekassa").cancel_count == 0
    assert advance(operation.pk).is_finished
    assert ScriptedProvider.of("firekassa").cancel_count == 2
    assert count_statuses() == {"canceled": 2}


def shift(operation, **ago):
    """Move all times of an operation into the past."""
    operation.refresh_from_db()
    times = ("started_at", "worked_at", "dispatched_at")
    moved = {name: value - timedelta(**ago) for name in times if (value := getattr(operation, name)) is not None}
    BulkOperation.objects.filter(pk=operation.pk).update(**moved)


def cancel_count():
    """Return the number of cancel requests since INVOICE_CANCEL was last set: the account is then another instance."""
    return ScriptedProvider.of("firekassa").cancel_count


def assert_nothing_was_sent():
    assert cancel_count() == 0
    assert count_statuses() == {"created": 2}
    assert count_invoices_by_log_rows() == {}


@pytest.mark.parametrize(
    ("ago", "sentence", "state"),
    [
        ({"seconds": 3}, "Handed to the workers just now; none has started.", "running watch stop"),
        ({"seconds": 45}, "Handed to the workers 40 s ago; none has started.", "running watch stop"),
        ({"minutes": 3}, f"Handed to the workers 3 min ago; none has started. {UNTRIED}", "running watch continue,end"),
    ],
    ids=["now", "seconds", "minutes"],
)
def test_page_shows_that_no_worker_has_started(operator_client, confirmed, ago, sentence, state):
    operation = confirmed()
    shift(operation, **ago)
    shown = poll_progress(operator_client, operation)
    assert shown["sentence"] == sentence
    assert shown["state"] == state
    assert dispatched == [str(operation.pk)]
    assert_nothing_was_sent()


def test_page_shows_the_error_of_the_broker(operator_client, confirmed):
    operation = confirmed(fail)
    shift(operation, seconds=45)
    shown = poll_progress(operator_client, operation)
    assert shown["sentence"] == (
        "Handing it to the workers failed 40 s ago: "
        f"ConnectionError: Cannot reach amqp://***@broker:5672//, password=*** refused. {UNTRIED}"
    )
    assert shown["state"] == "running watch continue,end"
    assert "hunter2" not in operator_client.get(operation_url(operation)).content.decode()
    assert_nothing_was_sent()


def test_continue_hands_over_again_after_a_failure(operator_client, confirmed, set_dispatcher):
    operation = confirmed(fail)
    assert list(BulkOperation.objects.interrupted()) == [operation]
    set_dispatcher(dispatch)
    operator_client.post(operation_url(operation, "continue"))
    shown = poll_progress(operator_client, operation)
    assert shown["sentence"] == "Handed to the workers just now; none has started."
    assert shown["state"] == "running watch stop"
    assert dispatched == [str(operation.pk)]
    assert not BulkOperation.objects.interrupted().exists()
    assert_nothing_was_sent()


def test_page_shows_the_last_activity_of_a_worker(operator_client, confirmed):
    operation = confirmed()
    advance(operation.pk, limit=1)
    shown = poll_progress(operator_client, operation)
    assert shown["sentence"] == "A worker does the work; it was active just now. You can close this page."
    shift(operation, seconds=35)
    shown = poll_progress(operator_client, operation)
    assert shown["sentence"] == "A worker does the work; it was active 30 s ago. You can close this page."
    assert cancel_count() == 1
    assert count_statuses() == {"canceled": 1, "created": 1}


def test_worker_after_a_failed_dispatch_hides_its_error(operator_client, confirmed):
    """For example run_bulk_operations without --dispatch."""
    operation = confirmed(fail)
    advance(operation.pk, limit=1, is_message=False)
    assert poll_progress(operator_client, operation)["sentence"].startswith("A worker does the work;")
    assert not BulkOperation.objects.interrupted().exists()
    assert cancel_count() == 1
    assert count_statuses() == {"canceled": 1, "created": 1}


def test_page_shows_that_the_workers_are_gone(operator_client, confirmed):
    operation = confirmed()
    advance(operation.pk, limit=1)
    shift(operation, minutes=5)
    shown = poll_progress(operator_client, operation)
    assert shown["sentence"] == (
        "No worker is processing this operation; the last one was active 5 min ago. "
        "1 invoice was not tried and is unchanged."
    )
    assert shown["state"] == "running watch continue,end"
    operator_client.post(operation_url(operation, "continue"))
    assert dispatched == [str(operation.pk)] * 2
    assert poll_progress(operator_client, operation)["sentence"].startswith("Handed to the workers just now;")
    assert cancel_count() == 1
    assert count_statuses() == {"canceled": 1, "created": 1}


def test_dispatch_by_a_sweep_is_no_activity_of_a_worker(operator_client, confirmed):
    operation = confirmed()
    shift(operation, minutes=5)
    operation.refresh_from_db()
    operation.dispatch_again(is_sweep=True)
    assert poll_progress(operator_client, operation)["sentence"] == "Handed to the workers just now; none has started."
    assert_nothing_was_sent()


@pytest.mark.parametrize(
    ("error", "stored"),
    [
        (TimeoutError(), "TimeoutError"),
        (OSError("no route"), "OSError: no route"),
        (ValueError("redis://:a/b@c@host:1 refused"), "ValueError: redis://***@host:1 refused"),
        (ValueError("{'password': 'x y', 'db': 0}"), "ValueError: {'password': '*** y', 'db': 0}"),
        (ValueError("api_key = abc; token:def"), "ValueError: api_key = ***; token:***"),
        (ValueError("a" * 500), "ValueError: " + "a" * 188),
        (ValueError("a\0b\ud800"), "ValueError: ab?"),
        (ValueError("fk-api-token-1 was rejected"), "ValueError: *** was rejected"),
    ],
    ids=["no text", "text", "address", "repr", "names", "long", "unstorable", "own secret"],
)
def test_error_is_stored_short_and_without_credentials(settings, error, stored):
    settings.INVOICE_CANCEL = {
        "PROVIDERS": {
            "firekassa": {
                "BACKEND": "django_invoice_cancel.providers.firekassa.FireKassa",
                "OPTIONS": {"base_url": "https://shop.example", "api_token": "fk-api-token-1"},
            }
        }
    }
    registry.get_provider("firekassa")
    assert describe_dispatch_error(error) == stored
