"""The sandbox in its own process: the command, its controls over HTTP, and its end."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from django_invoice_cancel.testing.sandbox import BEHAVIOURS, SandboxProcess, invoice_id

from .client import ask, cancel, cancel_bytes, connect, lookup, receive, request_bytes

MODULE = "django_invoice_cancel.testing.sandbox"


@pytest.fixture(scope="module")
def running():
    with SandboxProcess(late_seconds=0.05) as process:
        yield process


@pytest.fixture
def process(running):
    running.reset()
    return running


def is_running(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def test_other_process_answers_and_counts(process, dialect):
    external_id = invoice_id(dialect, 1)
    assert cancel(process, dialect, external_id).status == 200
    assert cancel(process, dialect, external_id).status in (400, 422)
    lookup(process, dialect, external_id)
    assert process.count("cancel") == 2
    assert process.count("cancel", external_id) == 2
    assert process.count("lookup") == 1
    assert process.executed(external_id) == 1
    assert process.truths() == {external_id: process.truth(external_id)}
    assert process.summary() == {
        "totals": {"cancel": 2, "lookup": 1},
        "counts": {"cancel": {external_id: 2}, "lookup": {external_id: 1}},
        "executed": {external_id: 1},
    }
    assert [row[1:] for row in process.timeline()] == [
        ("cancel", external_id),
        ("cancel", external_id),
        ("lookup", external_id),
    ]


def test_other_process_accepts_scripts_payments_and_statuses(process, dialect):
    external_id, other = invoice_id(dialect, 1), invoice_id(dialect, 2)
    process.script(external_id, ["unavailable", b"HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n"])
    assert [cancel(process, dialect, external_id).status for _ in range(3)] == [503, 204, 200]
    process.pay(external_id)
    assert process.truth(external_id) == "paid"
    process.set_status(other, "frozen")
    assert lookup(process, dialect, other) == "frozen"
    process.script("*", ["unavailable"], forever=True)
    assert [cancel(process, dialect, invoice_id(dialect, number)).status for number in range(3, 7)] == [503] * 4
    process.reset()
    assert cancel(process, dialect, invoice_id(dialect, 3)).status == 200
    assert process.count("cancel") == 1


def test_other_process_can_be_waited_for(process, dialect):
    external_id = invoice_id(dialect, 1, "late")
    cancel(process, dialect, external_id, timeout=0.01)
    process.wait_until(lambda: process.executed(external_id) == 1)
    with pytest.raises(TimeoutError):
        process.wait_until(lambda: process.executed(external_id) == 2, timeout=0.05)


def test_controls_work_while_the_providers_refuse(process):
    process.configure(down="refuse")
    with pytest.raises(ConnectionRefusedError):
        connect(process.base_url)
    assert process.summary()["totals"] == {}
    process.configure(down="")
    assert cancel(process, "firekassa", "511727000").status == 200
    assert process.count("cancel") == 1


def test_providers_can_be_refused_and_controlled_on_their_own_port(process):
    assert ask(process, request_bytes("GET", "/_sandbox/count?operation=cancel")).json == {"count": 0, "executed": None}
    received = ask(process, request_bytes("POST", "/_sandbox/control", b'{"configure":{"down":"refuse"}}'))
    assert received.status == 200
    assert received.json == {}
    with pytest.raises(ConnectionRefusedError):
        connect(process.base_url)
    assert process.summary()["totals"] == {}


@pytest.mark.parametrize(
    ("method", "name", "body", "status", "error"),
    [
        ("GET", "nothing", b"", 404, "Supported: GET /_sandbox/requests"),
        ("POST", "control", b'{"void": 1}', 400, "unknown: void"),
        ("POST", "control", b'{"configure": {"down": "yes"}}', 400, "down must be"),
        ("POST", "control", b'{"configure": {"speed": 1}}', 400, "speed"),
        ("POST", "control", b'{"script": [{"id": "*", "steps": ["lost"]}]}', 400, "'lost' is not a behaviour"),
        ("POST", "control", b"[]", 400, "AttributeError"),
        ("POST", "control", b"{", 400, "JSONDecodeError"),
        ("GET", "truth?id=a%20b", b"", 400, "'a b' is not a valid invoice id"),
    ],
)
def test_wrong_control_request_is_explained(process, method, name, body, status, error):
    received = ask(process, request_bytes(method, f"/_sandbox/{name}", body))
    assert received.status == status
    assert error in received.json["error"]
    assert process.summary()["totals"] == {}


def test_configuration_and_totals_can_be_read(process):
    cancel(process, "firekassa", "511727000")
    assert ask(process, request_bytes("GET", "/_sandbox/requests?totals=1")).json == {"cancel": 1}
    assert ask(process, request_bytes("GET", "/_sandbox/config")).json["late_seconds"] == 0.05


def test_wrong_control_call_raises_in_the_caller(process):
    with pytest.raises(ValueError, match="not a behaviour"):
        process.script("*", ["lost"])


def test_each_of_many_requests_on_one_connection_is_counted(process, dialect):
    ids = [invoice_id(dialect, number) for number in range(300)]
    with connect(process.base_url) as connection:
        for external_id in ids:
            connection.sendall(cancel_bytes(dialect, external_id))
            assert receive(connection).status == 200
    assert process.summary()["counts"]["cancel"] == dict.fromkeys(ids, 1)
    assert process.summary()["executed"] == dict.fromkeys(ids, 1)


# -- its life -------------------------------------------------------------------------------------------------


def test_end_of_the_block_ends_the_process(dialect):
    with SandboxProcess() as process:
        pid = process.pid
        assert is_running(pid)
        cancel(process, dialect, invoice_id(dialect, 1, "silent_after"), timeout=0.05)
        process.wait_until(lambda: process.count("cancel") == 1)
        settings = process.settings()
        assert settings[dialect]["OPTIONS"]["base_url"] == process.base_url
    assert not is_running(pid)
    with pytest.raises(RuntimeError, match="not running"):
        process.pid  # noqa: B018 - the property raises


def test_ctrl_c_in_the_terminal_does_not_reach_the_process(running):
    assert os.getpgid(running.pid) != os.getpgid(0)


def test_credentials_of_the_process_can_be_chosen():
    with SandboxProcess(firekassa_token="another-token", sign_token=None) as process:
        assert process.settings()["firekassa"]["OPTIONS"]["api_token"] == "another-token"
        assert cancel(process, "firekassa", "511727000").status == 401
        assert cancel(process, "firekassa", "511727000", Authorization="Bearer another-token").status == 200
        assert process.count("cancel") == 2
        assert process.executed("511727000") == 1
        assert "another-token" not in Path(f"/proc/{process.pid}/cmdline").read_text()


def test_process_that_cannot_start_is_an_error(running, capfd):
    with pytest.raises(RuntimeError, match="did not start"):
        SandboxProcess(port=int(running.base_url.rsplit(":", 1)[1])).start()
    assert "in use" in capfd.readouterr().err


@pytest.mark.slow
def test_sandbox_ends_with_a_parent_that_is_killed():
    source = (
        f"import sys\nfrom {MODULE} import SandboxProcess\n"
        "with SandboxProcess() as process:\n"
        "    print(process.pid, process.base_url, flush=True)\n"
        "    sys.stdin.read()\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", source], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    with parent:
        pid, base_url = parent.stdout.readline().split()
        parent.kill()
    deadline = time.monotonic() + 10
    while is_running(int(pid)) and time.monotonic() < deadline:
        os.sched_yield()
    assert not is_running(int(pid))
    with pytest.raises(ConnectionRefusedError):
        connect(base_url)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["SIGINT", "SIGTERM"])
@pytest.mark.parametrize("options", [[], ["--exit-with-parent"]], ids=["alone", "with parent"])
def test_command_ends_with_success_after_a_signal(number, options):
    command = [sys.executable, "-m", MODULE, "--port", "0", *options]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, text=True, **pipes) as child:
        assert child.stdout.readline().startswith("FireKassa and CryptoCloud sandbox: http://127.0.0.1:")
        child.send_signal(number)
        _, errors = child.communicate(timeout=10)
    assert child.returncode == 0
    assert errors == ""


def test_command_prints_its_addresses_credentials_and_behaviours():
    command = [sys.executable, "-m", MODULE, "--port", "0", "--exit-with-parent", "--latency", "0", "--rate", "9"]
    done = subprocess.run([*command, "--counts-only"], input="", capture_output=True, text=True, timeout=20, check=True)
    assert "Bearer sandbox-firekassa-token" in done.stdout
    assert "Token sandbox-cryptocloud-key" in done.stdout
    assert "/_sandbox/requests" in done.stdout
    assert [row.code for row in BEHAVIOURS if f"  {row.code}  {row.name} " not in done.stdout] == []


@pytest.mark.slow
@pytest.mark.parametrize("option", ["--behaviours", "--help"])
def test_command_prints_the_table_and_ends(option):
    done = subprocess.run(
        [sys.executable, "-m", MODULE, option], capture_output=True, text=True, timeout=20, check=True
    )
    assert [row.description for row in BEHAVIOURS if row.description not in done.stdout] == []


def test_sandbox_needs_no_django():
    source = f"import json, sys, {MODULE}.__main__; print(json.dumps([m for m in sys.modules if 'django.' in m]))"
    environment = {name: value for name, value in os.environ.items() if name != "DJANGO_SETTINGS_MODULE"}
    done = subprocess.run(
        [sys.executable, "-c", source], capture_output=True, text=True, timeout=20, check=True, env=environment
    )
    assert json.loads(done.stdout) == []
