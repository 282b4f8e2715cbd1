"""``make demo`` and ``make serve`` as a user runs them: their output, and that no process or file is left.

A script's stderr is a pipe that its sandbox inherits: ``communicate`` returns only when both have exited.
"""

import signal
import subprocess

import pytest

from .conftest import read_addresses, start

FINAL = {
    # invoice: here, there, requests to cancel it
    "INV-00000100": ("paid", "paid", "1"),
    "700000200": ("canceled", "cancel", "1"),
    "INV-00000301": ("paid", "paid", "1"),
    "700000402": ("partially_paid", "partially-paid", "1"),
    "INV-00000504": ("canceled", "canceled", "1"),
    "700000609": ("created", "unknown", "1"),
    "INV-00000710": ("canceled", "canceled", "1"),
    "700000800": ("created", "process", "1"),
}
OUTCOMES = {
    "INV-00000100": "canceled",
    "700000200": "canceled",
    "INV-00000301": "refused",
    "700000402": "refused",
    "INV-00000504": "already_canceled",
    "700000609": "refused",
    "INV-00000710": "in_doubt",
    "700000800": "not_processed",
}
PIPES = {"stderr": subprocess.PIPE}


def step(output: str, number: int) -> list[list[str]]:
    """Return the rows of a step of the demo, as words."""
    text = output.split(f"\n{number}. ")[1].split(f"\n{number + 1}. ")[0]
    return [line.split() for line in text.splitlines()[2:]]


@pytest.mark.slow
def test_demo_ends_with_the_states_of_the_provider_and_can_be_repeated(tmp_path):
    for _ in range(2):
        demo = start("demo.py", var=tmp_path, **PIPES)
        output, errors = demo.communicate(timeout=60)

        assert demo.returncode == 0
        assert errors == ""
        assert {words[0]: words[2] for words in step(output, 2) if words and words[0] in OUTCOMES} == OUTCOMES
        assert [words[2] for words in step(output, 3) if words[1:2] in (["before"], ["after"])] == [
            "in_doubt",
            "canceled",
        ]
        assert {
            words[0]: (words[2], words[3], words[4]) for words in step(output, 5) if words[:1] and words[0] in FINAL
        } == FINAL
        assert "500 invoices: 457 canceled · 28 refused · 8 already canceled · 7 in doubt" in output
        assert "7 invoices: 7 already canceled" in output
        assert max(map(len, output.splitlines())) <= 100
        assert "\033" not in output


@pytest.mark.slow
@pytest.mark.parametrize(("end", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=["Ctrl-C", "SIGTERM"])
def test_interrupted_demo_leaves_nothing_running(tmp_path, end, code):
    demo = start("demo.py", var=tmp_path, **PIPES)
    for line in demo.stdout:
        if line.startswith("2. "):
            break

    demo.send_signal(end)
    _, errors = demo.communicate(timeout=20)

    assert demo.returncode == code
    assert errors == ""


@pytest.mark.slow
def test_interrupted_serve_ends_the_sandbox_too(tmp_path):
    serving = start("serve.py", "--port", "0", "--sandbox-port", "0", "--deadline", "0.5", var=tmp_path, **PIPES)
    read_addresses(serving)

    serving.send_signal(signal.SIGINT)
    serving.communicate(timeout=20)

    assert serving.returncode == 0
