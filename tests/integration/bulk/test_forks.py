"""P3 and forks: a child process that inherits a run closes, writes and sends nothing."""

import ctypes
import gc
import os
import signal
import sys
import threading
from contextlib import closing

import pytest

from django_invoice_cancel import operations
from django_invoice_cancel.bulk import cancel_invoices
from django_invoice_cancel.operations import advance
from tests.support.invoices import count_statuses
from tests.support.logs import count_invoices_by_log_rows, count_log_rows, invoices_with_broken_log
from tests.support.results import count_codes

pytestmark = pytest.mark.django_db(transaction=True)

FORKS = [
    pytest.param(os.fork, id="os.fork"),
    pytest.param(ctypes.PyDLL(None).fork, id="a fork in C"),  # no hook of Python runs
]


@pytest.fixture(autouse=True)
def threads_wait_for_their_turn():
    """No thread requests the interpreter lock from another one while a child is forked.

    A child forked in C inherits such a request, and then waits forever for the thread that made it.
    """
    interval = sys.getswitchinterval()
    sys.setswitchinterval(60)
    yield
    sys.setswitchinterval(interval)


@pytest.fixture
def gate(scripted):
    """The account ``shop``, whose requests but the first wait until the gate is opened."""
    shop = scripted(concurrency=4)
    opened = threading.Event()
    shop.before_send = lambda external_id: external_id == "000000" or opened.wait(20)
    yield shop, opened
    opened.set()


def in_child(fork, act):
    """Call a function in a forked child, and return its exit code once it has ended."""
    pid = fork()
    if pid == 0:
        signal.alarm(10)
        code = 1
        try:
            act()
            code = 0
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def unwind(results):
    with closing(results):
        raise SystemExit


def leave(results):
    try:
        unwind(results)
    except SystemExit:
        return


def forget(results):
    results.close()
    gc.collect()


def continue_run(results):
    with pytest.raises(RuntimeError, match="forked child"):
        list(results)


@pytest.mark.slow
@pytest.mark.parametrize("fork", FORKS)
@pytest.mark.parametrize("act", [leave, forget, continue_run], ids=["unwinds", "closes", "continues"])
def test_forked_child_of_a_bulk_run_changes_nothing(gate, make, fork, act):
    shop, opened = gate
    results = cancel_invoices(make(40))
    first = next(results)
    assert in_child(fork, lambda: act(results)) == 0
    assert count_log_rows("given_back") == 0
    opened.set()
    rest = list(results)
    assert count_codes([first, *rest]) == {"canceled": 40}
    assert shop.cancel_count == 40
    assert len(set(shop.cancels)) == 40
    assert count_statuses() == {"canceled": 40}
    assert count_invoices_by_log_rows() == {2: 40}
    assert invoices_with_broken_log() == []


@pytest.mark.parametrize("fork", FORKS)
def test_forked_child_of_a_slice_releases_no_lease(gate, make, fork):
    shop, opened = gate
    operation = operations.start(make(40), actor="Ada")
    parent, leased = os.getpid(), []

    class Stop:
        def is_set(self):
            if shop.cancels and not leased:
                leased.append(0)
                pid = fork()
                if pid == 0:
                    signal.alarm(10)
                    raise SystemExit
                assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
                leased.append(operation.items.left().filter(token__isnull=False).count())
                opened.set()
            return False

    try:
        assert advance(operation.pk, deadline=60.0, stop=Stop()).is_finished
    except SystemExit:
        if os.getpid() != parent:
            os._exit(0)
        raise
    assert leased[1] >= 39
    assert shop.cancel_count == 40
    assert len(set(shop.cancels)) == 40
    assert count_statuses() == {"canceled": 40}
    assert count_invoices_by_log_rows() == {2: 40}
