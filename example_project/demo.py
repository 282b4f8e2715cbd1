"""``make demo``: cancel invoices at two sandbox providers and show the results.

It starts the sandbox as a separate process and always stops it at the end. The steps are in ``demo_steps.py``.
"""

import sys

import prelude  # noqa: F401 - exits if this Python is too old for the example, so this file has no annotations

DEADLINE = "1.5"
"""Maximum duration of one cancellation in seconds: short, because one provider does not answer. The default is 15."""


def main():
    from launch import database_file, end_on_signals, set_up_django

    from django_invoice_cancel.testing.sandbox import SandboxProcess

    end_on_signals()
    try:
        with SandboxProcess() as sandbox:
            set_up_django(
                sandbox_url=sandbox.base_url,
                database=database_file("demo.sqlite3"),
                deadline=DEADLINE,
                log_level="CRITICAL",  # the tables of the demo show the logged events, late money as an error
            )
            from demo_steps import run  # must be imported after django.setup(): it imports models

            run(sandbox)
    except KeyboardInterrupt:
        print("\nInterrupted. The sandbox was stopped.")
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
