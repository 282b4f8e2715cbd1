"""``python -m django_invoice_cancel.testing.sandbox``: the sandbox by itself, until Ctrl-C or SIGTERM.

Prints its addresses, its invented credentials and the table of behaviours, then only answers.
"""

import argparse
import json
import signal
import sys
import threading
from collections.abc import Sequence
from typing import Any

from .behaviours import plain_table
from .sandbox import ProviderSandbox

TABLE_HEAD = "The last two characters of an invoice's id pick what its first cancel meets:"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the sandbox until it is told to stop."""
    options = parser().parse_args(arguments)
    if options.behaviours:
        say(f"{TABLE_HEAD}\n{plain_table()}")
        return 0
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    sandbox = ProviderSandbox(port=options.port, **knobs(options))
    if options.exit_with_parent:
        threading.Thread(target=_stop_at_end_of_stdin, args=(stop,), daemon=True).start()
    try:
        sandbox.start()
    except OSError as error:
        sys.exit(
            f"Port {options.port} of 127.0.0.1 cannot be listened on ({error.strerror}): name another with --port."
        )
    try:
        say(introduction(sandbox, as_json=options.json))
        stop.wait()
    finally:
        sandbox.close()
    return 0


def parser() -> argparse.ArgumentParser:
    """Return the command's options."""
    command = argparse.ArgumentParser(
        prog="python -m django_invoice_cancel.testing.sandbox",
        description="A stand-in for FireKassa and CryptoCloud on 127.0.0.1. Holds no money and knows no customer.",
        epilog=f"{TABLE_HEAD}\n{plain_table()}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.add_argument("--port", type=port, default=8765, help="0: any free one (default: %(default)s)")
    command.add_argument("--latency", type=float, metavar="SECONDS", help="how long every answer takes")
    command.add_argument("--rate", type=float, metavar="N", help="requests a second before 429")
    command.add_argument("--counts-only", action="store_true", help="keep no requests, only times and counts")
    command.add_argument("--knobs", metavar="JSON", help="everything else that can be set; -: a line of stdin")
    command.add_argument("--json", action="store_true", help="print the addresses as one line of JSON instead")
    command.add_argument("--exit-with-parent", action="store_true", help="end when stdin is closed")
    command.add_argument("--behaviours", action="store_true", help="print the table of behaviours and end")
    return command


def port(text: str) -> int:
    """Read the number of a port."""
    if not (text.isdecimal() and int(text) <= 65535):
        raise argparse.ArgumentTypeError(f"{text!r} is not a port: write a number from 0 to 65535.")
    return int(text)


def knobs(options: argparse.Namespace) -> dict[str, Any]:
    """Return what the options set on the sandbox."""
    text = sys.stdin.readline() if options.knobs == "-" else options.knobs
    chosen: dict[str, Any] = json.loads(text) if text else {}
    if options.latency is not None:
        chosen["latency"] = options.latency
    if options.rate is not None:
        chosen["rate"] = options.rate
    if options.counts_only:
        chosen["keep_requests"] = False
    return chosen


def introduction(sandbox: ProviderSandbox, *, as_json: bool) -> str:
    """Return where the sandbox is and what it takes."""
    if as_json:
        return json.dumps({"base_url": sandbox.base_url, "control_url": sandbox.control_url})
    lines = [
        f"FireKassa and CryptoCloud sandbox: {sandbox.base_url}",
        f"FireKassa:   Authorization: Bearer {sandbox.knobs.firekassa_token}",
        f"CryptoCloud: Authorization: Token {sandbox.knobs.cryptocloud_key}",
        f"Control:     {sandbox.control_url}/requests, count, truth, timeline, knobs, control, reset",
        f"\n{TABLE_HEAD}\n{plain_table()}\n\nCtrl-C ends it.",
    ]
    return "\n".join(lines)


def say(text: str) -> None:
    """Print at once, also into a pipe."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def _stop_at_end_of_stdin(stop: threading.Event) -> None:
    sys.stdin.read()
    stop.set()


if __name__ == "__main__":
    sys.exit(main())
