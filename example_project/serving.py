"""The example shop, the admin and the sandbox on 127.0.0.1, until Ctrl-C. ``serve.py`` starts it.

Each start creates a new database: the sandbox stores nothing, so an old database would not match it.
``--workers celery`` or ``tasks`` also starts the workers of that recipe (``make serve-celery``, ``make serve-tasks``).
"""

import argparse
import errno
import logging
import os
import socket
import sys
from contextlib import ExitStack, closing

import recipes
from launch import database_file, end_on_signals, set_up_django

from django_invoice_cancel.testing.sandbox import SandboxProcess

USERNAME, CUSTOMER, PASSWORD = "demo", "customer", "demo-password"


def main() -> int:
    options = parse()
    end_on_signals()
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    recipes.check(options.workers)
    for name, port in (("--port", options.port), ("--sandbox-port", options.sandbox_port)):
        check_port(name, port)
    try:
        with closing(start_sandbox(options.sandbox_port)) as sandbox:
            serve(sandbox, options)
    except KeyboardInterrupt:
        return 0
    return 0


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="The example shop, its admin and the sandbox, until Ctrl-C.")
    parser.add_argument(
        "--port", type=port, default=8000, help="port of the shop; 0 selects a free one (default: %(default)s)"
    )
    parser.add_argument("--sandbox-port", type=port, default=8765, help="port of the sandbox (default: %(default)s)")
    parser.add_argument(
        "--deadline",
        type=float,
        default=5.0,
        help="maximum seconds that a page waits for a provider (default: %(default)s; the package's default: 15)",
    )
    parser.add_argument("--workers", choices=recipes.COMMANDS, help="start workers of this type for bulk operations")
    return parser.parse_args()


def port(text: str) -> int:
    """Parse a port number."""
    if not (text.isdecimal() and int(text) <= 65535):
        raise argparse.ArgumentTypeError(f"{text!r} is not a valid port. Use a number from 0 to 65535.")
    return int(text)


def check_port(option: str, number: int) -> None:
    """Exit with a sentence if the port is not available."""
    with socket.socket() as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # the servers use it too
        try:
            listening.bind(("127.0.0.1", number))
        except OSError as error:
            why = "is in use" if error.errno == errno.EADDRINUSE else f"cannot be used ({error.strerror})"
            sys.exit(f'Port {number} of 127.0.0.1 {why}. Choose another port, or a free one with ARGS="{option} 0".')


def start_sandbox(port: int) -> SandboxProcess:
    try:
        return SandboxProcess(port=port).start()
    except RuntimeError as error:
        sys.exit(str(error))


def serve(sandbox: SandboxProcess, options: argparse.Namespace) -> None:
    """Set everything up, then serve until Ctrl-C."""
    database = database_file("example.sqlite3")
    recipe = f"settings_{options.workers}" if options.workers else "settings"
    set_up_django(sandbox_url=sandbox.base_url, database=database, recipe=recipe, deadline=str(options.deadline))
    import samples  # must be imported after django.setup(): it imports models
    from runner import Runserver

    with ExitStack() as stack:
        stack.enter_context(recipes.own_queue(options.workers))
        logging.disable(logging.ERROR)  # what is logged about the sample data is not relevant
        user = samples.make_user(USERNAME, PASSWORD)
        orders = samples.load(user)
        samples.load_customer(samples.make_customer(CUSTOMER, PASSWORD), staff=user)
        logging.disable(logging.NOTSET)
        os.environ["DJANGO_RUNSERVER_HIDE_WARNING"] = "true"
        Runserver.introduction = introduction(sandbox, orders)
        Runserver.start_others = lambda: stack.enter_context(recipes.workers(options.workers))
        Runserver().run_from_argv(["serve.py", "runserver", f"127.0.0.1:{options.port}", "--noreload"])


def introduction(sandbox: SandboxProcess, orders: int) -> str:
    return f"""
  Shop     http://127.0.0.1:{{port}}/         {orders} orders: open one and press "Cancel order"
  Admin    http://127.0.0.1:{{port}}/admin/   the list of invoices, and the dashboard above it
  Sandbox  {sandbox.base_url}          simulates FireKassa and CryptoCloud

  Log in as {USERNAME} with the password {PASSWORD}, or as {CUSTOMER} with the same password, who has
  an order in each state and no access to the admin. Press Ctrl-C to stop.
"""
