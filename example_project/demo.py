"""``make demo``: cancel invoices at two sandbox providers and show what happened.

Starts the sandbox as a process of its own and ends it, whatever happens. The steps are in ``demo_steps.py``.
"""

import sys

import prelude  # noqa: F401 - stops if this Python cannot run the example; this file has no annotations for it

DEADLINE = "1.5"
"""Seconds for one submit: short, because one provider will not answer. 15 is the default."""


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
                log_level="CRITICAL",  # its tables show what is logged, late money as an error
            )
            from demo_steps import run  # it needs the models

            run(sandbox)
    except KeyboardInterrupt:
        print("\nInterrupted: the sandbox has ended.")
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
