"""``make demo``: cancel invoices at two sandbox providers and show what happened.

Starts the sandbox as a process of its own and ends it, whatever happens. The steps are in ``demo_steps.py``.
"""

import signal
import sys

from launch import database_file, set_up_django

from django_invoice_cancel.testing.sandbox import SandboxProcess

DEADLINE = "1.5"
"""Seconds for one submit: short, because one provider will not answer. 15 is the default."""


def main() -> int:
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job is started without it
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        with SandboxProcess() as sandbox:
            set_up_django(
                sandbox_url=sandbox.base_url,
                database=database_file("demo.sqlite3"),
                deadline=DEADLINE,
                log_level="ERROR",  # the table tells it
            )
            from demo_steps import run  # it needs the models

            run(sandbox)
    except KeyboardInterrupt:
        print("\nInterrupted: the sandbox has ended.")
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
