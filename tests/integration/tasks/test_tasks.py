"""Django's task framework as the dispatcher, on every Django: one slice for each task, and the checks of TASKS."""

import threading

import pytest
from django.apps import apps
from django.core.checks import run_checks

from django_invoice_cancel import checks, operations
from django_invoice_cancel.operations import Advance
from tests.integration.tasks.conftest import cancels

DISPATCH = "django_invoice_cancel.tasks.dispatch"
DUMMY = "django.tasks.backends.dummy.DummyBackend"


@pytest.fixture
def queue(settings, fresh_tasks):
    """Tasks that are only queued; return the ids that they carry."""
    try:
        import django.tasks  # noqa: F401 - Django 6

        settings.TASKS = {"default": {"BACKEND": DUMMY}}
    except ImportError:
        settings.TASKS = {"default": {"BACKEND": "django_tasks.backends.dummy.DummyBackend"}}
    from django_invoice_cancel import tasks

    backend = tasks.advance_bulk_operation.get_backend()
    backend.clear()
    return lambda: [each.args for each in backend.results]


def perform(operation_id):
    from django_invoice_cancel import tasks

    tasks.advance_bulk_operation.call(operation_id)


@pytest.mark.django_db(transaction=True)
def test_task_has_only_the_id_and_processes_a_slice(invoices, dispatch, queue):
    dispatch(DISPATCH)
    operation = operations.start(invoices(5))
    assert queue() == [[str(operation.pk)]]
    perform(*queue()[0])
    operation.refresh_from_db()
    assert operation.progress == "finished"
    assert cancels() == 5
    assert len(queue()) == 1


@pytest.mark.django_db
def test_task_is_enqueued_in_the_thread_of_the_caller(invoices, dispatch, queue, monkeypatch):
    """A backend that stores tasks in the database must use the caller's connection and transaction."""
    from django_invoice_cancel import tasks

    threads = []
    enqueue = type(tasks.advance_bulk_operation).enqueue
    monkeypatch.setattr(
        type(tasks.advance_bulk_operation),
        "enqueue",
        lambda task, *arguments: threads.append(threading.current_thread()) or enqueue(task, *arguments),
    )
    dispatch(DISPATCH)
    operation = operations.start(invoices(1))
    operation.dispatch_again()
    assert threads == [threading.current_thread()]
    assert queue() == [[str(operation.pk)]]


@pytest.mark.parametrize(
    ("left", "enqueued"),
    [
        (Advance(has_more=True), 1),
        (Advance(has_more=True, wait_seconds=0.01), 1),
        (Advance(has_more=True, wait_seconds=300.0), 0),
        (Advance(has_more=False), 0),
    ],
    ids=["more", "others-hold-the-rest", "paused", "done"],
)
def test_task_enqueues_itself_while_there_is_more_to_do_now(queue, monkeypatch, left, enqueued):
    """An operation that waits for a long pause is left to the sweep, so that the worker is free."""
    from django_invoice_cancel import tasks

    monkeypatch.setattr(tasks, "advance", lambda key: left)
    perform("some-id")
    assert queue() == [["some-id"]] * enqueued


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ({"other": {"BACKEND": "{}.immediate.ImmediateBackend"}}, "E010"),
        ({"default": {"BACKEND": "{}.immediate.ImmediateBackend", "QUEUES": ["mail"]}}, "E010"),
        ({"default": {"BACKEND": "no.such.Backend"}}, "E010"),
        ({"default": {"BACKEND": "{}.immediate.ImmediateBackend"}}, "W007"),
        ({"default": {"BACKEND": "{}.dummy.DummyBackend"}}, "W007"),
        ({"default": {"BACKEND": "tests.integration.tasks.test_tasks.own_backend"}}, None),
    ],
    ids=["no-default", "queue-missing", "backend-missing", "immediate", "dummy", "another"],
)
def test_check_reports_problems_with_tasks(settings, fresh_tasks, dispatch, value, expected):
    package = _package()
    settings.TASKS = {
        alias: {**each, "BACKEND": each["BACKEND"].format(f"{package}.backends")} for alias, each in value.items()
    }
    settings.INVOICE_CANCEL = {"PROVIDERS": {}, "DISPATCH": DISPATCH}
    found = run_checks(tags=[checks.TAG])
    assert [each.id for each in found] == ([f"invoice_cancel.{expected}"] if expected else [])


@pytest.mark.parametrize(("is_installed", "expected"), [(False, ["invoice_cancel.E010"]), (True, [])])
def test_check_names_a_backend_whose_app_is_not_installed(
    settings, fresh_tasks, dispatch, monkeypatch, is_installed, expected
):
    """Nothing else reports it before the first task is stored."""
    settings.TASKS = {"default": {"BACKEND": "tests.integration.tasks.test_tasks.database_backend"}}
    settings.INVOICE_CANCEL = {"PROVIDERS": {}, "DISPATCH": DISPATCH}
    monkeypatch.setattr(apps, "is_installed", lambda name: is_installed and name == "django_tasks_db")
    found = run_checks(tags=[checks.TAG])
    assert [each.id for each in found] == expected


@pytest.mark.parametrize("path", ["django_invoice_cancel.tasks", "django_invoice_cancel.tasks.dispach"])
def test_check_reports_a_misspelt_dispatcher_instead_of_the_tasks(settings, fresh_tasks, path):
    settings.TASKS = {"default": {"BACKEND": "tests.integration.tasks.test_tasks.own_backend"}}
    settings.INVOICE_CANCEL = {"PROVIDERS": {}, "DISPATCH": path}
    (found,) = run_checks(tags=[checks.TAG])
    assert found.id == "invoice_cancel.E009"
    assert repr(path) in found.msg


def _package():
    try:
        import django.tasks  # noqa: F401 - Django 6
    except ImportError:
        return "django_tasks"
    return "django.tasks"


def own_backend(*args, **kwargs):
    """Stands for any backend that has workers."""
    return _make_backend("WithWorkers", __name__)(*args, **kwargs)


def database_backend(*args, **kwargs):
    """Stands for the backend of django-tasks-db, which is an app."""
    return _make_backend("DatabaseBackend", "django_tasks_db.backend")(*args, **kwargs)


def _make_backend(name, module):
    from importlib import import_module

    base = import_module(f"{_package()}.backends.dummy").DummyBackend
    return type(name, (base,), {"__module__": module})
