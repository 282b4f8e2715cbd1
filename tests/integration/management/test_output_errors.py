"""Output that cannot be written: a closed terminal, a full disk, a reader that has exited."""

import errno
import fcntl
import io
import json
import os
import pty
import signal
import termios

import pytest

from django_invoice_cancel import operations
from django_invoice_cancel.management import output
from django_invoice_cancel.models import Invoice
from tests.integration.management.test_processes import start
from tests.support.invoices import count_statuses
from tests.support.logs import count_answers, count_invoices_by_log_rows

__all__ = ["start"]

ALL = ["cancel_invoices", "--all", "--noinput"]
CANCEL = ["cancel_invoices", "--provider", "cryptocloud", "--noinput"]
ERRORS = {"closed terminal": errno.EIO, "full disk": errno.ENOSPC, "reader has exited": errno.EPIPE}
each_error = pytest.mark.parametrize("number", ERRORS.values(), ids=ERRORS)


class Lost(io.StringIO):
    """A stream whose every write fails."""

    def __init__(self, number):
        super().__init__()
        self.error = OSError(number, os.strerror(number))

    def write(self, text):
        raise self.error


class LostAtFlush(Lost):
    """A stream that buffers: a flush fails, not a write."""

    def write(self, text):
        return len(text)

    def flush(self):
        raise self.error


each_kind = pytest.mark.parametrize("kind", [Lost, LostAtFlush])

# -- in one process ----------------------------------------------------------------------------------------------


@pytest.fixture
def eager(monkeypatch):
    """Write progress at each result."""
    monkeypatch.setattr(output, "EVERY_SECONDS", 0.0)


@pytest.mark.django_db
@each_kind
@each_error
def test_lost_progress_does_not_end_the_run(scripted, make, manage, eager, number, kind):
    shop = scripted(concurrency=1)
    make(50)
    ended = manage(*ALL, stderr=kind(number))
    assert ended.code == 5
    assert shop.cancel_count == 50
    assert count_statuses() == {"canceled": 50}
    assert ended.out.startswith("50 invoices: 50 canceled\n")
    assert count_answers() == {"canceled": 50}


@pytest.mark.django_db
@each_kind
@each_error
def test_lost_table_ends_with_5(shop, make, manage, number, kind):
    make(3)
    ended = manage(*ALL, stdout=kind(number))
    assert ended.code == 5
    assert shop.cancel_count == 3
    assert count_statuses() == {"canceled": 3}
    assert ended.err == f"All work is done, but the output could not be written: {os.strerror(number)}."


@pytest.mark.django_db
@each_error
def test_more_severe_exit_code_is_kept_if_output_is_lost(shop, make, manage, number):
    shop.next_cancels("in_doubt")
    make(3)
    ended = manage(*ALL, stdout=Lost(number), stderr=Lost(number))
    assert ended.code == 3
    assert shop.cancel_count == 3
    assert count_statuses() == {"canceled": 2, "in_doubt": 1}


@pytest.mark.django_db
@each_kind
@each_error
def test_lost_results_end_the_run_with_all_answers_recorded(scripted, make, manage, number, kind):
    """A program that reads results cannot continue without them, so few requests are sent and not reported."""
    shop = scripted(concurrency=1)
    make(200)
    ended = manage(*ALL, "--format", "jsonl", stdout=kind(number))
    assert ended.code == 130
    assert 0 < shop.cancel_count < 200
    assert count_statuses() == {"canceled": shop.cancel_count, "created": 200 - shop.cancel_count}
    assert count_answers() == {"canceled": shop.cancel_count}
    assert f"Interrupted, because the results cannot be written ({os.strerror(number)})." in ended.err


@pytest.mark.django_db
@pytest.mark.parametrize(("number", "code"), [(errno.EPIPE, 0), (errno.ENOSPC, 5), (errno.EIO, 5)])
@pytest.mark.parametrize("form", ["table", "jsonl"])
def test_lost_dry_run_is_an_error_unless_the_reader_has_exited(shop, make, manage, number, code, form):
    make(3)
    assert manage(*ALL, "--dry-run", "--format", form, stdout=Lost(number)).code == code
    assert shop.cancel_count == 0
    assert count_statuses() == {"created": 3}


@pytest.mark.django_db
def test_lost_stderr_does_not_change_the_exit_code_of_an_invalid_command(shop, make, manage):
    make(1)
    assert manage("cancel_invoices", "--noinput", stderr=Lost(errno.EIO)).code == 1
    assert shop.cancel_count == 0
    assert count_statuses() == {"created": 1}


# -- as processes ------------------------------------------------------------------------------------------------

process = [pytest.mark.django_db(transaction=True, databases=["default", "other"]), pytest.mark.slow]


def processes(test):
    for mark in process:
        test = mark(test)
    return test


@pytest.fixture
def full():
    """A file on a full disk."""
    with open("/dev/full", "wb", buffering=0) as file:  # noqa: PTH123 - a device
        yield file


UNBUFFERED = pytest.mark.parametrize("unbuffered", ["", "1"], ids=["buffered", "unbuffered"])


@pytest.mark.slow
@processes
@UNBUFFERED
def test_table_on_a_full_disk_ends_with_5(sandbox, at_sandbox, start, full, unbuffered):
    at_sandbox(3)
    child = start(*CANCEL, stdout=full, unbuffered=unbuffered)
    _, err = child.communicate(timeout=30)
    assert child.returncode == 5
    assert sandbox.count("cancel") == 3
    assert count_statuses() == {"canceled": 3}
    assert count_invoices_by_log_rows() == {2: 3}
    assert err == b"CommandError: All work is done, but the output could not be written: No space left on device.\n"


@pytest.mark.slow
@processes
@UNBUFFERED
def test_stdout_and_stderr_on_a_full_disk_end_with_5(sandbox, at_sandbox, start, full, unbuffered):
    at_sandbox(3)
    child = start(*CANCEL, stdout=full, stderr=full, unbuffered=unbuffered)
    assert child.wait(timeout=30) == 5
    assert sandbox.count("cancel") == 3
    assert count_statuses() == {"canceled": 3}
    assert count_invoices_by_log_rows() == {2: 3}


@pytest.mark.slow
@processes
def test_results_on_a_full_disk_end_the_run(sandbox, at_sandbox, start, full):
    at_sandbox(500)
    sandbox.configure(latency=0.02)
    child = start(*CANCEL, "--format", "jsonl", stdout=full)
    _, err = child.communicate(timeout=30)
    sent = sandbox.count("cancel")
    assert child.returncode == 130
    assert 0 < sent < 500
    assert count_statuses() == {"canceled": sent, "created": 500 - sent}
    assert count_answers() == {"canceled": sent}
    assert b"Traceback" not in err


@pytest.mark.slow
@processes
def test_each_result_is_written_when_it_is_known(sandbox, at_sandbox, start):
    """The second request never ends: the first result is there all the same."""
    at_sandbox(1)
    at_sandbox(1, "silent_after")
    child = start(*CANCEL, "--format", "jsonl", deadline=60)
    assert json.loads(child.stdout.readline())["outcome"] == "canceled"
    assert child.poll() is None
    assert count_statuses() == {"canceled": 1, "canceling": 1}
    child.kill()
    child.communicate(timeout=30)
    assert sandbox.count("cancel") == 2


def run_bulk_operations(at_sandbox):
    operations.start(at_sandbox(3))
    return ["run_bulk_operations"], {"canceled": 3}


def start_in_background(at_sandbox):
    at_sandbox(3)
    return [*CANCEL, "--background"], {"created": 3}


def reconcile(at_sandbox):
    at_sandbox(3)
    return ["reconcile_invoices", "--status", "created"], {"created": 3}


def register(at_sandbox, tmp_path):
    path = tmp_path / "invoices.csv"
    path.write_text("INV-00000001\nINV-00000002\nINV-00000003\n")
    return ["register_invoices", "--provider", "cryptocloud", "--from-file", str(path)], {"created": 3}


@pytest.mark.slow
@processes
@UNBUFFERED
@pytest.mark.parametrize(
    "prepare", [run_bulk_operations, start_in_background, reconcile, register], ids=lambda each: each.__name__
)
def test_every_command_does_its_work_on_a_full_disk(sandbox, at_sandbox, start, full, tmp_path, prepare, unbuffered):
    arguments, statuses = prepare(at_sandbox, tmp_path) if prepare is register else prepare(at_sandbox)
    child = start(*arguments, stdout=full, unbuffered=unbuffered)
    _, err = child.communicate(timeout=30)
    assert child.returncode == 5
    assert err == b"CommandError: All work is done, but the output could not be written: No space left on device.\n"
    assert count_statuses() == statuses
    assert sandbox.count("cancel") == statuses.get("canceled", 0)


# -- terminals that are closed -----------------------------------------------------------------------------------


def own_terminal(*, is_nohup):
    """Return what a child does before it begins: make stdin its controlling terminal, ignore its end or not."""

    def prepare():
        os.setsid()
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)
        if is_nohup:
            signal.signal(signal.SIGHUP, signal.SIG_IGN)

    return prepare


@pytest.mark.slow
@processes
@pytest.mark.parametrize("form", ["table", "jsonl"])
def test_closed_terminal_ends_the_run_with_all_answers_recorded(sandbox, at_sandbox, start, form):
    at_sandbox(500)
    sandbox.configure(latency=0.1)
    ours, theirs = pty.openpty()
    prepare = own_terminal(is_nohup=False)
    child = start(*CANCEL, "--format", form, stdin=theirs, stdout=theirs, stderr=theirs, preexec_fn=prepare)
    os.close(theirs)
    sandbox.wait_until(lambda: sandbox.count("cancel") >= 20, timeout=30)
    os.close(ours)
    assert child.wait(timeout=30) == 130
    sent = sandbox.count("cancel")
    assert 20 <= sent < 500
    assert count_statuses() == {"canceled": sent, "created": 500 - sent}
    assert count_answers() == {"canceled": sent}


@pytest.mark.slow
@processes
def test_run_under_nohup_continues_if_the_terminal_is_closed(sandbox, at_sandbox, start):
    at_sandbox(200)
    sandbox.configure(latency=0.05)
    ours, theirs = pty.openpty()
    prepare = own_terminal(is_nohup=True)
    child = start(*CANCEL, stdin=theirs, stdout=theirs, stderr=theirs, preexec_fn=prepare)
    os.close(theirs)
    sandbox.wait_until(lambda: sandbox.count("cancel") >= 20, timeout=30)
    os.close(ours)
    assert child.wait(timeout=60) == 5
    assert sandbox.count("cancel") == 200
    assert count_statuses() == {"canceled": 200}
    assert count_answers() == {"canceled": 200}


@pytest.mark.slow
@processes
def test_ignored_hangup_signal_does_not_end_the_run(sandbox, at_sandbox, start):
    at_sandbox(200)
    sandbox.configure(latency=0.05)
    child = start(*CANCEL, preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN))
    sandbox.wait_until(lambda: sandbox.count("cancel") >= 20, timeout=30)
    child.send_signal(signal.SIGHUP)
    out, _ = child.communicate(timeout=60)
    assert child.returncode == 0
    assert sandbox.count("cancel") == 200
    assert count_statuses() == {"canceled": 200}
    assert out.startswith(b"200 invoices: 200 canceled")
    assert not Invoice.objects.filter(status="canceling").exists()
