"""``make serve``: the example shop and the admin on 127.0.0.1, the sandbox beside them, until Ctrl-C.

Begins anew each time: the sandbox remembers nothing, so an old database would not agree with it.
``--workers celery`` or ``tasks`` starts that recipe's workers too (``make serve-celery``, ``make serve-tasks``).
"""

import argparse
import logging
import os
import signal
import sys
from contextlib import ExitStack, closing

import recipes
from launch import database_file, set_up_django

from django_invoice_cancel.testing.sandbox import SandboxProcess

USERNAME, PASSWORD = "demo", "demo-password"


def main() -> int:
    options = parse()
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job is started without it
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    try:
        with closing(start_sandbox(options.sandbox_port)) as sandbox:
            serve(sandbox, options)
    except KeyboardInterrupt:
        return 0
    return 0


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="The example shop, its admin and the sandbox, until Ctrl-C.")
    parser.add_argument("--port", type=int, default=8000, help="of the shop; 0: any free one (default: %(default)s)")
    parser.add_argument("--sandbox-port", type=int, default=8765, help="of the providers (default: %(default)s)")
    parser.add_argument(
        "--deadline",
        type=float,
        default=5.0,
        help="seconds that a page waits for a silent provider (default: %(default)s; the app's own is 15)",
    )
    parser.add_argument("--workers", choices=recipes.COMMANDS, help="bulk operations run in workers of this kind")
    return parser.parse_args()


def start_sandbox(port: int) -> SandboxProcess:
    try:
        return SandboxProcess(port=port).start()
    except RuntimeError as error:
        sys.exit(f'{error} Is another one running? ARGS="--sandbox-port 0" takes any free port.')


def serve(sandbox: SandboxProcess, options: argparse.Namespace) -> None:
    """Set everything up, then answer until Ctrl-C."""
    database = database_file("example.sqlite3")
    recipe = f"settings_{options.workers}" if options.workers else "settings"
    set_up_django(sandbox_url=sandbox.base_url, database=database, recipe=recipe, deadline=str(options.deadline))
    import samples  # it needs the models
    from runner import Runserver

    logging.disable(logging.WARNING)  # what the samples lived through is no news
    orders = samples.load(samples.make_user(USERNAME, PASSWORD))
    logging.disable(logging.NOTSET)
    os.environ["DJANGO_RUNSERVER_HIDE_WARNING"] = "true"
    Runserver.introduction = introduction(sandbox, orders)
    with ExitStack() as stack:
        Runserver.start_others = lambda: stack.enter_context(recipes.workers(options.workers))
        Runserver().run_from_argv(["serve.py", "runserver", f"127.0.0.1:{options.port}", "--noreload"])


def introduction(sandbox: SandboxProcess, orders: int) -> str:
    return f"""
  Shop     http://127.0.0.1:{{port}}/         {orders} orders: open one and press "Cancel order"
  Admin    http://127.0.0.1:{{port}}/admin/   what needs attention stands above the list of invoices
  Sandbox  {sandbox.base_url}          FireKassa and CryptoCloud, with invoices of every kind

  Log in as {USERNAME} with the password {PASSWORD}. Ctrl-C ends all of it.
"""


if __name__ == "__main__":
    sys.exit(main())
