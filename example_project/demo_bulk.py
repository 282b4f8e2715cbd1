"""The last steps of the demo: the commands cancel 500 invoices, some of them with problems, and reconcile them."""

import random
import sys
from datetime import timedelta

from demo_print import heading, note
from django.core.management import CommandError, call_command
from django.utils import timezone

from django_invoice_cancel.models import Invoice
from django_invoice_cancel.testing.sandbox import SandboxProcess, invoice_id

LATENCY_SECONDS = 0.03
MIX = (
    # behaviour of the sandbox, number at CryptoCloud, number at FireKassa
    ("ordinary", 230, 225),
    ("paid", 10, 8),
    ("already_canceled", 8, 0),
    ("not_found", 4, 6),
    ("rate_limited", 1, 1),
    ("silent_after", 2, 0),
    ("error_500_after", 2, 0),
    ("late", 3, 0),
)
ACCOUNTS = ("cryptocloud", "firekassa")
FIRST_NUMBER = 1001
LONG_AGO = timezone.now() - timedelta(days=30)


def cancel_many(sandbox: SandboxProcess) -> None:
    heading("Cancel 500 more invoices: manage.py cancel_invoices --older-than 7d --noinput")
    register_many()
    sandbox.configure(latency=LATENCY_SECONDS, late_seconds=2)
    run("cancel_invoices", "--older-than", "7d", "--noinput")
    heading("Look up the invoices in doubt: manage.py reconcile_invoices --now")
    run("reconcile_invoices", "--now")
    most = max(sandbox.summary()["executed"].values())
    note(f"No invoice was canceled more than {most} x at its provider, despite the faults.")


def register_many() -> None:
    kinds = [
        (provider, behaviour)
        for behaviour, *counts in MIX
        for provider, count in zip(ACCOUNTS, counts, strict=True)
        for _ in range(count)
    ]
    random.Random(17).shuffle(kinds)  # noqa: S311 - each run has the same problems at the same places
    Invoice.objects.register_many(
        {"provider": provider, "external_id": invoice_id(provider, number, behaviour), "issued_at": LONG_AGO}
        for number, (provider, behaviour) in enumerate(kinds, start=FIRST_NUMBER)
    )


def run(*arguments: str) -> None:
    """Run a command. On a terminal its progress is shown on stderr."""
    progress = sys.stderr if sys.stderr.isatty() else sys.stdout
    try:
        call_command(*arguments, stderr=progress)
    except CommandError as error:  # exit code 3: some invoices are in doubt, as this demo expects
        print(f"\n  exit code {error.returncode}: {error}")
