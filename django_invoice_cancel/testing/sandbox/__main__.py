"""``python -m django_invoice_cancel.testing.sandbox``: run the sandbox until Ctrl-C or SIGTERM.

Prints its addresses, its test credentials and the table of behaviours.
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

TABLE_HEAD = "The last two characters of an invoice's id select the behaviour of its first cancel request:"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the sandbox until a signal stops it."""
    options = parser().parse_args(arguments)
    if options.behaviours:
        print_now(f"{TABLE_HEAD}\n{plain_table()}")
        return 0
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    sandbox = ProviderSandbox(port=options.port, **read_config(options))
    if options.exit_with_parent:
        threading.Thread(target=_stop_at_end_of_stdin, args=(stop,), daemon=True).start()
    try:
        sandbox.start()
    except OSError as error:
        sys.exit(
            f"Cannot listen on port {options.port} of 127.0.0.1 ({error.strerror}). Choose another port with --port."
        )
    try:
        print_now(describe(sandbox, as_json=options.json))
        stop.wait()
    finally:
        sandbox.close()
    return 0


def parser() -> argparse.ArgumentParser:
    """Return the parser for the options of the command."""
    command = argparse.ArgumentParser(
        prog="python -m django_invoice_cancel.testing.sandbox",
        description="A sandbox for FireKassa and CryptoCloud on 127.0.0.1, with test invoices.",
        epilog=f"{TABLE_HEAD}\n{plain_table()}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.add_argument("--port", type=port, default=8765, help="port; 0 selects a free one (default: %(default)s)")
    command.add_argument("--latency", type=float, metavar="SECONDS", help="delay of every answer")
    command.add_argument("--rate", type=float, metavar="N", help="maximum requests per second; others get a 429")
    command.add_argument("--counts-only", action="store_true", help="store only times and counts of requests")
    command.add_argument("--config", metavar="JSON", help="configuration as JSON; - reads one line of stdin")
    command.add_argument("--json", action="store_true", help="print the addresses as one line of JSON")
    command.add_argument("--exit-with-parent", action="store_true", help="exit when stdin is closed")
    command.add_argument("--behaviours", action="store_true", help="print the table of behaviours and exit")
    return command


def port(text: str) -> int:
    """Parse a port number."""
    if not (text.isdecimal() and int(text) <= 65535):
        raise argparse.ArgumentTypeError(f"{text!r} is not a valid port. Use a number from 0 to 65535.")
    return int(text)


def read_config(options: argparse.Namespace) -> dict[str, Any]:
    """Return the configuration from the options of the command."""
    text = sys.stdin.readline() if options.config == "-" else options.config
    chosen: dict[str, Any] = json.loads(text) if text else {}
    if options.latency is not None:
        chosen["latency"] = options.latency
    if options.rate is not None:
        chosen["rate"] = options.rate
    if options.counts_only:
        chosen["keep_requests"] = False
    return chosen


def describe(sandbox: ProviderSandbox, *, as_json: bool) -> str:
    """Return the addresses, credentials and behaviours as text."""
    if as_json:
        return json.dumps({"base_url": sandbox.base_url, "control_url": sandbox.control_url})
    lines = [
        f"FireKassa and CryptoCloud sandbox: {sandbox.base_url}",
        f"FireKassa:   Authorization: Bearer {sandbox.config.firekassa_token}",
        f"CryptoCloud: Authorization: Token {sandbox.config.cryptocloud_key}",
        f"Control:     {sandbox.control_url}/requests, count, truth, timeline, config, control, reset",
        f"\n{TABLE_HEAD}\n{plain_table()}\n\nPress Ctrl-C to stop.",
    ]
    return "\n".join(lines)


def print_now(text: str) -> None:
    """Print and flush, so that a pipe receives the text at once."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def _stop_at_end_of_stdin(stop: threading.Event) -> None:
    sys.stdin.read()
    stop.set()


if __name__ == "__main__":
    sys.exit(main())
