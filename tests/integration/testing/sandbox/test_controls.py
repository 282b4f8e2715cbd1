"""The controls of the sandbox for a test: script, hold, pay, slow down, take down, count."""

import itertools
import select
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import pytest

from django_invoice_cancel.testing.sandbox import ProviderSandbox

from .client import ask, cancel, cancel_bytes, connect, lookup, lookup_bytes, receive

# -- scripts --------------------------------------------------------------------------------------------------


def test_script_uses_one_step_per_request_and_then_the_behaviour_of_the_id(sandbox, dialect):
    external_id = sandbox.new_id(dialect)
    sandbox.script(external_id, ["unavailable", "22", "rate_limited"])
    assert [cancel(sandbox, dialect, external_id).status for _ in range(4)] == [503, 503, 429, 200]
    assert sandbox.executed(external_id) == 1
    assert sandbox.count("cancel", external_id) == 4


def test_script_does_not_use_up_the_behaviour_of_the_id(sandbox, dialect):
    external_id = sandbox.new_id(dialect, "unavailable")
    sandbox.script(external_id, ["rate_limited"])
    assert [cancel(sandbox, dialect, external_id).status for _ in range(3)] == [429, 503, 200]
    assert sandbox.executed(external_id) == 1
    assert sandbox.count("cancel", external_id) == 3


def test_script_of_one_invoice_takes_precedence(sandbox):
    one, other = sandbox.new_id("firekassa"), sandbox.new_id("firekassa")
    sandbox.script("*", ["unavailable"])
    sandbox.script(one, ["rate_limited"])
    assert cancel(sandbox, "firekassa", one).status == 429
    assert cancel(sandbox, "firekassa", other).status == 503
    assert cancel(sandbox, "firekassa", one).status == 200
    assert sandbox.count("cancel", one) == 2
    assert sandbox.count("cancel", other) == 1


def test_endless_script_is_repeated(sandbox):
    sandbox.script("*", itertools.repeat("unavailable"))
    ids = [sandbox.new_id("firekassa") for _ in range(5)]
    assert [cancel(sandbox, "firekassa", external_id).status for external_id in ids] == [503] * 5
    assert sandbox.count("cancel") == 5


def test_script_of_lookups_does_not_change_cancels(sandbox, dialect):
    external_id = sandbox.new_id(dialect)
    sandbox.script(external_id, ["not_found", "paid"], operation="lookup")
    assert cancel(sandbox, dialect, external_id).status == 200
    assert lookup(sandbox, dialect, external_id) is None
    assert lookup(sandbox, dialect, external_id) == sandbox.truth(external_id) == "paid"
    assert sandbox.count("cancel") == 1
    assert sandbox.count("lookup") == 2


@pytest.mark.parametrize(("step", "kind"), [("silent_before", "silence"), ("reset_after", "reset"), ("30", "reply")])
def test_faults_can_be_scripted_for_lookups_too(sandbox, dialect, step, kind):
    external_id = sandbox.new_id(dialect)
    sandbox.script(external_id, [step], operation="lookup")
    received = ask(sandbox, lookup_bytes(dialect, external_id), timeout=0.2 if kind == "silence" else 10.0)
    assert received.kind == kind
    assert sandbox.count("lookup", external_id) == 1
    assert sandbox.executed(external_id) == 0


def test_scripted_state_is_written_before_the_cancel_is_decided(sandbox, dialect):
    external_id = sandbox.new_id(dialect)
    sandbox.script(external_id, ["paid"])
    assert cancel(sandbox, dialect, external_id).status in (400, 422)
    assert sandbox.truth(external_id) == "paid"
    assert sandbox.executed(external_id) == 0


def test_raw_step_sends_its_bytes_and_closes(sandbox, dialect):
    external_id = sandbox.new_id(dialect)
    sandbox.script(external_id, [b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf"])
    received = cancel(sandbox, dialect, external_id)
    assert received.kind == "cut"
    assert received.body == b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf"
    assert sandbox.executed(external_id) == 0
    assert sandbox.count("cancel", external_id) == 1


def test_step_may_be_a_function_of_the_request(sandbox):
    external_id = sandbox.new_id("firekassa")
    seen = []

    def step(request):
        seen.append((request.operation, request.external_id))
        sandbox.carry_out(request.external_id)
        return "silent_before"

    sandbox.script(external_id, [step, lambda request: None])
    assert cancel(sandbox, "firekassa", external_id, timeout=0.1).kind == "silence"
    assert seen == [("cancel", external_id)]
    assert sandbox.executed(external_id) == 1
    assert cancel(sandbox, "firekassa", external_id).status == 422
    assert sandbox.count("cancel", external_id) == 2


@pytest.mark.parametrize(("steps", "error"), [(["lost"], ValueError), ([17], TypeError)])
def test_step_that_does_not_exist_is_an_error_at_once(sandbox, steps, error):
    with pytest.raises(error):
        sandbox.script("*", steps)
    with pytest.raises(ValueError, match="'void' is not an operation"):
        sandbox.script("*", ["paid"], operation="void")
    assert cancel(sandbox, "firekassa", "511727000").status == 200


def test_error_in_a_step_is_raised_at_the_end_of_the_sandbox():
    def step(request):
        raise LookupError("a bug in the test")

    sandbox = ProviderSandbox().start()
    sandbox.script("*", [step])
    assert cancel(sandbox, "firekassa", "511727000").kind == "closed"
    assert sandbox.count("cancel") == 1
    with pytest.raises(LookupError, match="a bug in the test"):
        sandbox.__exit__(None)


# -- holds and hooks ------------------------------------------------------------------------------------------


def in_background(call, *arguments, **options):
    executor = ThreadPoolExecutor(1)
    future = executor.submit(call, *arguments, **options)
    executor.shutdown(wait=False)
    return future


@pytest.mark.parametrize(("when", "executed"), [("before", 0), ("after", 1)])
def test_held_cancel_waits_before_or_after_its_execution(sandbox, dialect, when, executed):
    external_id = sandbox.new_id(dialect)
    held = sandbox.hold(external_id, when=when)
    answer = in_background(cancel, sandbox, dialect, external_id)
    held.wait_arrived()
    assert not answer.done()
    assert sandbox.executed(external_id) == executed
    assert sandbox.count("cancel", external_id) == 1
    held.release()
    assert answer.result(10).status == 200
    assert sandbox.executed(external_id) == 1


def test_payment_during_a_held_cancel_is_kept(sandbox, dialect):
    external_id = sandbox.new_id(dialect)
    with sandbox.hold(external_id) as held:
        answer = in_background(cancel, sandbox, dialect, external_id)
        held.wait_arrived()
        sandbox.pay(external_id)
    assert answer.result(10).status in (400, 422)
    assert sandbox.truth(external_id) == "paid"
    assert sandbox.executed(external_id) == 0
    assert sandbox.count("cancel", external_id) == 1


def test_hold_keeps_every_request_that_it_matches_until_released(sandbox):
    held = sandbox.hold()
    answers = [in_background(cancel, sandbox, "firekassa", sandbox.new_id("firekassa")) for _ in range(3)]
    held.wait_arrived(count=3)
    assert sandbox.summary()["executed"] == {}
    held.release()
    assert [answer.result(10).status for answer in answers] == [200] * 3
    assert cancel(sandbox, "firekassa", sandbox.new_id("firekassa")).status == 200


def test_hold_lets_others_pass(sandbox, dialect):
    external_id, other = sandbox.new_id(dialect), sandbox.new_id(dialect)
    held = sandbox.hold(external_id)
    assert cancel(sandbox, dialect, other).status == 200
    assert lookup(sandbox, dialect, external_id) is not None
    with pytest.raises(TimeoutError, match="0 of 1 requests arrived"):
        held.wait_arrived(timeout=0.01)


def test_hold_of_lookups(sandbox, dialect):
    external_id = sandbox.new_id(dialect)
    with sandbox.hold(external_id, operation="lookup") as held:
        answer = in_background(lookup, sandbox, dialect, external_id)
        held.wait_arrived()
        sandbox.set_status(external_id, "frozen")
    assert answer.result(10) == "frozen"


def test_hold_at_another_time_is_an_error(sandbox):
    with pytest.raises(ValueError, match="must be 'before' or 'after'"):
        sandbox.hold(when="during")


def test_before_answer_is_called_after_the_execution(sandbox, dialect):
    external_id = sandbox.new_id(dialect)
    seen = []
    sandbox.before_answer = lambda request: seen.append((request.executed, sandbox.truth(external_id)))
    assert cancel(sandbox, dialect, external_id).status == 200
    assert seen == [(True, {"firekassa": "cancel", "cryptocloud": "canceled"}[dialect])]


# -- the truth ------------------------------------------------------------------------------------------------


def test_status_can_be_any_string(sandbox, dialect):
    external_id = sandbox.new_id(dialect, "not_found")
    assert sandbox.truth(external_id) is None
    sandbox.set_status(external_id, "frozen")
    assert lookup(sandbox, dialect, external_id) == sandbox.truth(external_id) == "frozen"
    assert sandbox.truths() == {external_id: "frozen"}
    assert cancel(sandbox, dialect, external_id).status in (400, 422)
    assert sandbox.executed(external_id) == 0


def test_payment_after_a_cancel_keeps_the_count_of_executions(sandbox, dialect):
    external_id = sandbox.new_id(dialect)
    cancel(sandbox, dialect, external_id)
    sandbox.pay(external_id)
    assert lookup(sandbox, dialect, external_id) == "paid"
    assert sandbox.executed(external_id) == 1


def test_many_threads_cancel_one_invoice_once(sandbox, dialect):
    external_id = sandbox.new_id(dialect)
    with ThreadPoolExecutor(16) as pool:
        received = list(pool.map(lambda _: cancel(sandbox, dialect, external_id).status, range(64)))
    assert received.count(200) == 1
    assert sandbox.executed(external_id) == 1
    assert sandbox.count("cancel", external_id) == 64
    assert [one.executed for one in sandbox.requests].count(True) == 1


def test_waiting_ends_when_the_state_changes(sandbox, dialect):
    external_id = sandbox.new_id(dialect)
    asked = threading.Event()
    waiting = in_background(sandbox.wait_until, lambda: asked.set() or sandbox.truth(external_id) == "paid", timeout=60)
    assert asked.wait(10)
    sandbox.pay(external_id)
    waiting.result(10)
    with pytest.raises(TimeoutError):
        sandbox.wait_until(lambda: sandbox.truth(external_id) == "expired", timeout=0.01)


# -- configuration ------------------------------------------------------------------------------------------------


def test_latency_can_differ_by_dialect(sandbox):
    sandbox.configure(latency={"firekassa": 60.0})
    assert cancel(sandbox, "cryptocloud", "INV-89UX0900").status == 200
    assert cancel(sandbox, "firekassa", "511727000", timeout=0.1).kind == "silence"
    assert sandbox.count("cancel") == 2


def test_response_is_sent_after_the_latency(sandbox, dialect):
    sandbox.configure(latency=0.2)
    before = time.monotonic()
    assert cancel(sandbox, dialect, sandbox.new_id(dialect)).status == 200
    assert time.monotonic() - before >= 0.2


def test_cancel_is_executed_before_the_latency(sandbox, dialect):
    sandbox.configure(latency=60.0)
    external_id = sandbox.new_id(dialect)
    assert cancel(sandbox, dialect, external_id, timeout=0.1).kind == "silence"
    assert sandbox.executed(external_id) == 1
    assert sandbox.count("cancel", external_id) == 1


def test_rate_is_a_limit_for_each_dialect(sandbox):
    sandbox.configure(rate=3)
    ids = [sandbox.new_id("firekassa") for _ in range(5)]
    received = [cancel(sandbox, "firekassa", external_id) for external_id in ids]
    assert [one.status for one in received] == [200, 200, 200, 429, 429]
    assert received[3].headers["retry-after"] == "1"
    assert [sandbox.executed(external_id) for external_id in ids] == [1, 1, 1, 0, 0]
    assert cancel(sandbox, "cryptocloud", "INV-89UX0900").status == 200
    assert sandbox.count("cancel") == 6


def test_sandbox_is_silent_while_down(sandbox, dialect):
    sandbox.configure(down="silent")
    external_id = sandbox.new_id(dialect)
    assert cancel(sandbox, dialect, external_id, timeout=0.1).kind == "silence"
    assert sandbox.executed(external_id) == 0
    assert sandbox.count("cancel") == 1
    sandbox.configure(down="")
    assert cancel(sandbox, dialect, external_id).status == 200
    assert sandbox.executed(external_id) == 1
    assert sandbox.count("cancel") == 2


def test_sandbox_refuses_connections_while_down(sandbox, dialect):
    external_id = sandbox.new_id(dialect)
    with connect(sandbox.base_url) as connection:
        sandbox.configure(down="refuse")
        sandbox.configure(down="refuse")
        assert receive(connection).kind in ("closed", "reset")
        for _ in range(3):
            with pytest.raises(ConnectionRefusedError):
                connect(sandbox.base_url)
    sandbox.configure(down="")
    assert cancel(sandbox, dialect, external_id).status == 200
    assert sandbox.count("cancel") == 1


def test_no_new_connection_survives_a_refusal(sandbox):
    """The connections are in all states: some in the backlog, some being accepted, some accepted."""
    kinds = set()
    for count in range(1, 60):
        with ExitStack() as stack:
            connections = [stack.enter_context(connect(sandbox.base_url, 2.0)) for _ in range(count % 12 + 1)]
            sandbox.configure(down="refuse")
            kinds.update(receive(connection).kind for connection in connections)
        sandbox.configure(down="")
    assert kinds <= {"closed", "reset"}
    assert sandbox.requests == []


def test_kept_connection_is_closed_before_refuse_returns(sandbox):
    """Else a client that keeps it sends its next request into a connection that is being ended."""
    for _ in range(50):
        with connect(sandbox.base_url) as connection:
            connection.sendall(cancel_bytes("firekassa", sandbox.new_id("firekassa")))
            assert receive(connection).status == 200
            sandbox.configure(down="refuse")
            assert select.select([connection], [], [], 0)[0] == [connection]
        sandbox.configure(down="")
    assert sandbox.count("cancel") == 50


def test_sandbox_can_start_refusing(dialect):
    with ProviderSandbox(down="refuse") as sandbox:
        with pytest.raises(ConnectionRefusedError):
            connect(sandbox.base_url)
        sandbox.configure(down="")
        assert cancel(sandbox, dialect, sandbox.new_id(dialect)).status == 200
        assert sandbox.count("cancel") == 1


def test_configuration_can_be_set_before_the_start_and_after_the_end(dialect):
    sandbox = ProviderSandbox()
    sandbox.configure(down="refuse")
    sandbox.configure(down="", rate=0)
    with sandbox:
        assert cancel(sandbox, dialect, sandbox.new_id(dialect)).status == 429
        assert sandbox.count("cancel") == 1
    sandbox.configure(down="refuse")
    sandbox.reset()
    assert sandbox.config == ProviderSandbox().config


@pytest.mark.parametrize(
    ("changes", "error"),
    [({"down": "yes"}, ValueError), ({"firekassa_token": "x"}, ValueError), ({"speed": 1}, TypeError)],
)
def test_wrong_configuration_is_an_error_and_changes_nothing(sandbox, changes, error):
    before = sandbox.config
    with pytest.raises(error):
        sandbox.configure(**changes)
    assert sandbox.config == before


def test_counts_only_keeps_counts_and_times(sandbox, dialect):
    sandbox.configure(keep_requests=False)
    external_id = sandbox.new_id(dialect)
    cancel(sandbox, dialect, external_id)
    assert sandbox.requests == []
    assert sandbox.count("cancel", external_id) == 1
    assert [(operation, first) for _, operation, first in sandbox.timeline()] == [("cancel", external_id)]


def test_reset_clears_all_state_except_the_credentials(sandbox, dialect):
    external_id = sandbox.new_id(dialect)
    sandbox.configure(latency=60.0, down="refuse")
    sandbox.script("*", ["unavailable"])
    sandbox.before_answer = lambda request: None
    held = sandbox.hold()
    sandbox.pay(external_id)
    sandbox.reset()
    assert cancel(sandbox, dialect, external_id).status == 200
    assert sandbox.count("cancel") == 1
    assert sandbox.executed(external_id) == 1
    assert sandbox.before_answer is None
    with pytest.raises(TimeoutError):
        held.wait_arrived(timeout=0.01)
    assert sandbox.new_id(dialect) != external_id


def test_reset_releases_held_requests(sandbox, dialect):
    held = sandbox.hold()
    answer = in_background(cancel, sandbox, dialect, sandbox.new_id(dialect))
    held.wait_arrived()
    sandbox.reset()
    assert answer.result(5).status == 200
    assert sandbox.count("cancel") == 0


def test_count_of_an_unknown_operation_is_an_error(sandbox):
    with pytest.raises(ValueError, match="'void' is not an operation"):
        sandbox.count("void")


@pytest.mark.parametrize("external_id", ["", "a b", "INV-", "1" * 20])
def test_invalid_id_is_an_error_in_the_controls(sandbox, external_id):
    with pytest.raises(ValueError, match="is not a valid invoice id"):
        sandbox.truth(external_id)


# -- its life -------------------------------------------------------------------------------------------------


def test_stopped_sandbox_has_no_thread_and_no_open_port():
    before = set(threading.enumerate())
    with ProviderSandbox() as sandbox, connect(sandbox.base_url) as connection:
        connection.sendall(cancel_bytes("firekassa", sandbox.new_id("firekassa", "silent_after")))
        sandbox.wait_until(lambda: sandbox.count("cancel") == 1)
        sandbox.close()
        assert receive(connection).kind in ("closed", "reset")
    assert set(threading.enumerate()) == before
    with pytest.raises(ConnectionRefusedError):
        connect(sandbox.base_url)
    with pytest.raises(ConnectionRefusedError):
        connect(sandbox.control_url)


def test_port_in_use_is_an_error_at_the_start(sandbox):
    with pytest.raises(OSError, match="in use"):
        ProviderSandbox(port=int(sandbox.base_url.rsplit(":", 1)[1])).start()


def test_settings_name_the_adapters_and_the_credentials(sandbox):
    settings = sandbox.settings(deadline=2.0)
    assert settings["firekassa"] == {
        "BACKEND": "django_invoice_cancel.providers.firekassa.FireKassa",
        "OPTIONS": {"base_url": sandbox.base_url, "api_token": "sandbox-firekassa-token", "deadline": 2.0},
    }
    assert settings["cryptocloud"] == {
        "BACKEND": "django_invoice_cancel.providers.cryptocloud.CryptoCloud",
        "OPTIONS": {"base_url": sandbox.base_url, "api_key": "sandbox-cryptocloud-key", "deadline": 2.0},
    }
    signed = ProviderSandbox(sign_token="sandbox-sign-token").settings()
    assert signed["firekassa"]["OPTIONS"]["sign_token"] == "sandbox-sign-token"
