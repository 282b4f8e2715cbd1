"""Celery's eager mode runs a task in the caller's thread: the documented recipe runs in a loop, without nesting."""

import inspect
import re
import time

import pytest

from django_invoice_cancel import operations
from django_invoice_cancel.models import Invoice
from django_invoice_cancel.operations import Advance
from tests.docs.pages import text_of
from tests.integration.tasks.conftest import cancels

celery = pytest.importorskip("celery", reason="only with the dependency group celery")
pytestmark = pytest.mark.django_db(transaction=True)

run = None


def dispatch_to_recipe(operation_id):
    run(operation_id)


dispatch_to_recipe.uses_database = True


@pytest.fixture
def recipe(monkeypatch):
    """Return a function that defines the task of docs/howto/workers.md in an eager app, with another ``advance``."""
    block = re.search(r"^```text\n(@shared_task.*?)^```", text_of("docs/howto/workers.md"), re.MULTILINE | re.DOTALL)[1]

    def define(advance):
        app = celery.Celery("eager", set_as_current=False)
        app.conf.task_always_eager = app.conf.task_eager_propagates = True
        namespace = {"shared_task": app.task, "advance": advance, "time": time, "__name__": __name__}
        exec(block, namespace)  # noqa: S102 - our own page
        monkeypatch.setattr(f"{__name__}.run", namespace["advance_bulk"].delay)

    return define


@pytest.mark.slow
def test_slices_of_a_large_operation_are_not_nested(recipe, dispatch, invoices):
    depths = []

    def advance(operation_id):
        depths.append(len(inspect.stack(0)))
        return operations.advance(operation_id, limit=1)

    recipe(advance)
    dispatch(f"{__name__}.dispatch_to_recipe")
    operation = operations.start(invoices(60))
    operation.refresh_from_db()
    assert operation.progress == "finished"
    assert cancels() == 60
    assert len(depths) >= 60
    assert max(depths) - min(depths) <= 1
    assert set(Invoice.objects.values_list("status", flat=True)) == {"canceled"}


def test_task_leaves_a_long_wait_to_the_sweep(recipe, dispatch, invoices):
    slices = []

    def advance(operation_id):
        slices.append(operation_id)
        return Advance(has_more=True, wait_seconds=300.0)

    recipe(advance)
    dispatch(f"{__name__}.dispatch_to_recipe")
    operation = operations.start(invoices(2))
    operation.refresh_from_db()
    assert operation.progress == "running"
    assert len(slices) == 1
    assert cancels() == 0
