"""The commands as processes: signals, exit codes in a shell, and the output on a terminal."""

import fcntl
import json
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from pathlib import Path

import pytest

from django_invoice_cancel import operations
from django_invoice_cancel.models import BulkOperation, Invoice
from tests.support.invoices import count_statuses
from tests.support.logs import count_answers, count_invoices_by_log_rows

pytestmark = [pytest.mark.django_db(transaction=True, databases=["default", "other"]), pytest.mark.slow]

CANCEL = ["cancel_invoices", "--provider", "cryptocloud", "--noinput"]


@pytest.fixture
def start(sandbox, child_env):
    """Return a function that starts a command against the sandbox; as in a shell, what it writes is buffered."""

    def start(*arguments, deadline=5, unbuffered="", before=(), **options):
        given = json.dumps({"deadline": deadline})
        env = child_env(INVOICE_CANCEL_TEST_OPTIONS=given, COLUMNS="100", TERM="xterm", PYTHONUNBUFFERED=unbuffered)
        command = [*before, sys.executable, "-m", "tests.integration.bulk.child", sandbox.base_url, *arguments]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "stdin": subprocess.DEVNULL}
        return subprocess.Popen(command, env=env, **{**pipes, **options})

    return start


@pytest.mark.parametrize(
    "number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP], ids=["Ctrl-C", "SIGTERM", "closed terminal"]
)
def test_signal_records_requests_in_flight_and_leaves_other_invoices_unchanged(sandbox, at_sandbox, start, number):
    at_sandbox(500)
    sandbox.configure(latency=0.1)
    child = start(*CANCEL, "--format", "jsonl")
    sandbox.wait_until(lambda: sandbox.count("cancel") >= 20, timeout=30)
    child.send_signal(number)
    out, err = child.communicate(timeout=30)
    sent = sandbox.count("cancel")
    assert child.returncode == 130
    assert 20 <= sent < 500
    assert count_statuses() == {"canceled": sent, "created": 500 - sent}
    assert len(out.splitlines()) == sent
    assert b"Interrupted. Requests in flight are recorded; all other invoices are unchanged." in err
    assert Invoice.objects.filter(status="created", last_outcome="").count() == 500 - sent
    assert count_answers() == {"canceled": sent}


def test_signal_to_the_whole_pipeline_ends_the_run_with_all_answers_recorded(sandbox, at_sandbox, start):
    """Ctrl-C at ``2>&1 | less`` ends both, so the message that the run stops cannot be written."""
    at_sandbox(500)
    sandbox.configure(latency=0.1)
    child = start(*CANCEL, stderr=subprocess.STDOUT)
    sandbox.wait_until(lambda: sandbox.count("cancel") >= 20, timeout=30)
    child.stdout.close()
    child.send_signal(signal.SIGINT)
    child.wait(timeout=30)
    sent = sandbox.count("cancel")
    assert child.returncode == 130
    assert sent < 500
    assert count_statuses() == {"canceled": sent, "created": 500 - sent}
    assert count_answers() == {"canceled": sent}


UNREAD = (
    b"\nCommandError: Interrupted, because the results cannot be written (Broken pipe). "
    b"Requests in flight are recorded; all other invoices are unchanged.\n"
)
BUFFERED = pytest.mark.parametrize("unbuffered", ["", "1"], ids=["buffered", "unbuffered"])


@BUFFERED
@pytest.mark.parametrize("joined", [False, True], ids=["stdout", "stdout and stderr"])
def test_reader_that_exits_early_ends_the_run_with_all_answers_recorded(sandbox, at_sandbox, start, joined, unbuffered):
    """``| head -1``: requests in flight are recorded, other invoices are unchanged, and there is no traceback."""
    at_sandbox(1000)
    sandbox.configure(latency=0.02)
    options = {"stderr": subprocess.STDOUT} if joined else {}
    with start(*CANCEL, "--format", "jsonl", unbuffered=unbuffered, **options) as child:
        assert json.loads(child.stdout.readline())["outcome"] == "canceled"
        child.stdout.close()
        err = b"" if joined else child.stderr.read()
    sent = sandbox.count("cancel")
    assert child.returncode == 130
    assert sent < 1000
    assert count_statuses() == {"canceled": sent, "created": 1000 - sent}
    assert count_answers() == {"canceled": sent}
    summary = f"{sent} invoices: {sent} canceled\n".encode()
    assert joined or (err.startswith(summary) and err.endswith(UNREAD))


def test_dry_run_ends_if_its_reader_has_exited(sandbox, at_sandbox, start):
    at_sandbox(2000)
    with start(*CANCEL, "--format", "jsonl", "--dry-run") as child:
        assert json.loads(child.stdout.readline())["code"] == "dry_run"
        child.stdout.close()
        err = child.stderr.read().decode()
    shown = re.match(r"([\d,]+) invoices: \1 skipped\n", err)
    assert child.returncode == 0
    assert shown is not None
    assert sandbox.count("cancel") == 0
    assert 0 < int(shown[1].replace(",", "")) < 2000
    assert count_statuses() == {"created": 2000}
    assert count_invoices_by_log_rows() == {}


@BUFFERED
def test_summary_whose_reader_has_exited_ends_with_5(sandbox, at_sandbox, start, unbuffered):
    at_sandbox(3)
    ours, theirs = os.pipe()
    os.close(ours)
    with start(*CANCEL, unbuffered=unbuffered, stdout=theirs) as child:
        os.close(theirs)
        assert (
            child.stderr.read()
            == b"CommandError: All work is done, but the output could not be written: Broken pipe.\n"
        )
    assert child.returncode == 5
    assert sandbox.count("cancel") == 3
    assert count_statuses() == {"canceled": 3}
    assert count_invoices_by_log_rows() == {2: 3}


@pytest.mark.parametrize("form", ["table", "jsonl"])
def test_stdout_that_is_closed_at_the_start_is_ignored(sandbox, at_sandbox, start, form):
    """``>&-``: Python has no stdout then."""
    at_sandbox(3)
    child = start(*CANCEL, "--format", form, stdout=None, preexec_fn=lambda: os.close(1))
    _, err = child.communicate(timeout=30)
    assert b"Traceback" not in err
    assert child.returncode == 0
    assert sandbox.count("cancel") == 3
    assert count_statuses() == {"canceled": 3}
    assert count_invoices_by_log_rows() == {2: 3}


def test_second_signal_ends_the_run_at_once_and_leaves_abandoned_claims(sandbox, at_sandbox, start):
    at_sandbox(20, "silent_after")
    child = start(*CANCEL, deadline=60)
    sandbox.wait_until(lambda: sandbox.count("cancel") >= 8, timeout=30)
    child.send_signal(signal.SIGINT)
    assert b"A second signal stops" in read_until(child.stderr, b"immediately.")
    child.send_signal(signal.SIGINT)
    began = time.monotonic()
    child.communicate(timeout=30)
    assert child.returncode == -signal.SIGINT
    assert time.monotonic() - began < 10
    assert count_statuses()["canceling"] >= 8
    assert count_invoices_by_log_rows() == {1: count_statuses()["canceling"]}
    assert sandbox.count("cancel") == 8


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP], ids=lambda number: number.name)
def test_second_signal_ends_process_1_of_a_container(sandbox, at_sandbox, start, number):
    """The kernel gives process 1 no default action: without a handler the second signal does nothing."""
    if subprocess.run(["unshare", "--pid", "--fork", "true"], check=False, stderr=subprocess.DEVNULL).returncode:  # noqa: S607
        pytest.skip("only with the right to make a namespace of processes")
    at_sandbox(20, "silent_after")
    child = start(*CANCEL, deadline=60, before=["unshare", "--pid", "--fork", "--kill-child"])
    sandbox.wait_until(lambda: sandbox.count("cancel") >= 8, timeout=30)
    (first,) = Path(f"/proc/{child.pid}/task/{child.pid}/children").read_text().split()
    os.kill(int(first), number)
    assert b"A second signal stops" in read_until(child.stderr, b"immediately.")
    os.kill(int(first), number)
    began = time.monotonic()
    child.communicate(timeout=30)
    assert child.returncode == 128 + number
    assert time.monotonic() - began < 10
    assert sandbox.count("cancel") == 8
    assert count_invoices_by_log_rows() == {1: count_statuses()["canceling"]}


def read_until(stream, wanted):
    seen = b""
    while wanted not in seen and (more := os.read(stream.fileno(), 4096)):
        seen += more
    return seen


def test_usage_error_ends_a_shell_command_with_2(sandbox, at_sandbox, start):
    at_sandbox(1)
    child = start("cancel_invoices", "--older-than", "soon")
    _, err = child.communicate(timeout=30)
    assert child.returncode == 2
    assert sandbox.count("cancel") == 0
    assert count_invoices_by_log_rows() == {}
    assert b"'soon' is not a valid age" in err


def test_terminal_shows_a_bar_and_the_outcomes(sandbox, at_sandbox, start):
    at_sandbox(40)
    at_sandbox(3, "paid")
    sandbox.configure(latency=0.05)
    screen, code = in_terminal(start, *CANCEL)
    assert code == 0
    assert re.search(r"Canceling ━+ 43/43", screen)
    assert "40 canceled · 3 refused" in screen
    assert "43 invoices: 40 canceled · 3 refused" in screen
    assert sandbox.count("cancel") == 43


def in_terminal(start, *arguments):
    """Run a command in a terminal of 100 columns; return what it showed and its exit code."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 100, 0, 0))
    child = start(*arguments, stdout=theirs, stderr=theirs, stdin=theirs)
    os.close(theirs)
    shown = b""
    while select.select([ours], [], [], 30)[0]:
        try:
            shown += os.read(ours, 65536)
        except OSError:  # the other end is closed
            break
    os.close(ours)
    return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", shown.decode()), child.wait(timeout=30)


@BUFFERED
@pytest.mark.parametrize(
    ("is_closed", "code", "complaint"),
    [
        pytest.param(
            False,
            5,
            b"CommandError: All work is done, but the output could not be written: Broken pipe.\n",
            id="head -0",
        ),
        pytest.param(True, 0, b"", id=">&-"),
    ],
)
def test_operations_are_completed_without_a_reader(sandbox, at_sandbox, start, is_closed, code, complaint, unbuffered):
    for _ in range(2):
        operations.start(at_sandbox(3).filter(status="created").exclude(pk__in=in_operations()))
    ours, theirs = os.pipe()
    os.close(ours)
    close = {"preexec_fn": lambda: os.close(1)} if is_closed else {}
    with start("run_bulk_operations", unbuffered=unbuffered, stdout=theirs, **close) as child:
        os.close(theirs)
        assert child.stderr.read() == complaint
    assert child.returncode == code
    assert sandbox.count("cancel") == 6
    assert count_statuses() == {"canceled": 6}
    assert count_invoices_by_log_rows() == {2: 6}
    assert set(BulkOperation.objects.values_list("progress", flat=True)) == {"finished"}


def test_operation_starts_if_its_id_cannot_be_printed(sandbox, at_sandbox, start):
    at_sandbox(3)
    child = start(*CANCEL, "--background", stdout=None, preexec_fn=lambda: os.close(1))
    _, err = child.communicate(timeout=30)
    assert child.returncode == 0
    assert err == b""
    assert BulkOperation.objects.values_list("progress", "total").get() == ("running", 3)
    assert sandbox.count("cancel") == 0


def in_operations():
    return BulkOperation.objects.filter(items__isnull=False).values("items__invoice")
