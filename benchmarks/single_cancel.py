"""CPU per ``invoice.cancel()`` over a bare pooled ``requests.Session.post`` to the same server, and where it goes.

    python benchmarks/single_cancel.py [--invoices 300] [--repeat 5] [--provider NAME] [--database URL] [--profile]

The server is a process of its own (the sandbox), so that the figures are this process's CPU alone: medians of
interleaved rounds. "HTTP" is the transport by itself, "database" the same four statements in the same two
transactions as Django does them by hand; "ours" is what is left. ``--profile`` prints where the time goes instead.
"""

import argparse
import cProfile
import pstats
from collections.abc import Callable, Iterator
from datetime import timedelta
from itertools import count
from statistics import median
from time import process_time
from uuid import uuid4

import requests
from harness import project

from django_invoice_cancel.testing.sandbox import SandboxProcess, invoice_id

TARGET = 5.0
AIM = 3.0


def main() -> None:
    options = arguments()
    with project(options.database), SandboxProcess(keep_requests=False) as sandbox:
        from django.conf import settings
        from django.test.utils import override_settings

        with override_settings(INVOICE_CANCEL={**settings.INVOICE_CANCEL, "PROVIDERS": sandbox.settings()}):
            rounds = Rounds(sandbox, options.provider)
            if options.profile:
                profile(rounds.cancel(options.invoices))
            else:
                report(measure(rounds, options.invoices, options.repeat), options)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--invoices", type=int, default=300)
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--provider", choices=["firekassa", "cryptocloud"], default="cryptocloud")
    parser.add_argument("--database", default="sqlite", help="sqlite, or postgres://USER@HOST:PORT/NAME")
    parser.add_argument("--profile", action="store_true")
    return parser.parse_args()


class Rounds:
    """Each method prepares a round and returns what is measured: one step for each invoice."""

    def __init__(self, sandbox: SandboxProcess, provider: str) -> None:
        self.sandbox, self.provider = sandbox, provider
        self.numbers = count(1)

    def post(self, size: int) -> Iterator[Callable[[], object]]:
        """A bare Session, used as one would by hand; the answer is read and parsed."""
        session = requests.Session()
        session.headers["Authorization"] = f"{self._scheme()} {self._token()}"
        for _ in range(size):
            url, body = self._request(self._new_id())
            yield lambda url=url, body=body: session.post(url, json=body, timeout=10).json()

    def http(self, size: int) -> Iterator[Callable[[], object]]:
        """The provider by itself: no database, no story."""
        from django_invoice_cancel.registry import get_provider

        provider = get_provider(self.provider)
        for _ in range(size):
            external_id = self._new_id()
            yield lambda external_id=external_id: provider.cancel(external_id, lease=lambda seconds_left: True)

    def database(self, size: int) -> Iterator[Callable[[], object]]:
        """Claim and record as one would write them by hand: two transactions, two UPDATEs, two INSERTs."""
        from django.db import models, transaction

        from django_invoice_cancel.domain.clock import utc_now
        from django_invoice_cancel.models import Invoice, InvoiceTransition

        rows = models.QuerySet(Invoice, using="default")
        for invoice in self._invoices(size):

            def by_hand(pk: int = invoice.pk) -> None:
                attempt, now = uuid4(), utc_now()
                ends = now + timedelta(seconds=300)
                with transaction.atomic(durable=True):
                    claimed = {"status": "canceling", "attempt": attempt, "claim_expires_at": ends}
                    rows.filter(pk=pk, status="created").update(**claimed)
                    step = {"from_status": "created", "to_status": "canceling", "trigger": "api", "attempt": attempt}
                    InvoiceTransition.objects.create(invoice_id=pk, created_at=now, **step)
                with transaction.atomic(durable=True):
                    recorded = {"status": "canceled", "last_outcome": "canceled", "status_confirmed_at": now}
                    rows.filter(pk=pk, status="canceling", attempt=attempt).update(**recorded)
                    step = {"from_status": "canceling", "to_status": "canceled", "trigger": "api", "attempt": attempt}
                    InvoiceTransition.objects.create(invoice_id=pk, created_at=now, outcome="canceled", **step)

            yield by_hand

    def cancel(self, size: int) -> Iterator[Callable[[], object]]:
        """The whole story."""
        for invoice in self._invoices(size):
            yield lambda invoice=invoice: invoice.cancel(actor="benchmark", reason="measured")

    def _invoices(self, size: int) -> list[object]:
        from django_invoice_cancel.models import Invoice

        Invoice.objects.bulk_create(Invoice(provider=self.provider, external_id=self._new_id()) for _ in range(size))
        return list(Invoice.objects.filter(status="created").order_by("-pk")[:size])

    def _new_id(self) -> str:
        return invoice_id(self.provider, next(self.numbers))

    def _scheme(self) -> str:
        return "Token" if self.provider == "cryptocloud" else "Bearer"

    def _token(self) -> str:
        options = self.sandbox.settings()[self.provider]["OPTIONS"]
        return str(options.get("api_key") or options["api_token"])

    def _request(self, external_id: str) -> tuple[str, dict[str, str] | None]:
        if self.provider == "cryptocloud":
            return f"{self.sandbox.base_url}/v2/invoice/merchant/canceled", {"uuid": external_id}
        return f"{self.sandbox.base_url}/api/v2/invoices/{external_id}/cancel", None


def measure(rounds: Rounds, size: int, repeat: int) -> dict[str, float]:
    """Return the median CPU milliseconds a step of each kind, from rounds that take turns."""
    kinds = {"post": rounds.post, "http": rounds.http, "database": rounds.database, "cancel": rounds.cancel}
    seen: dict[str, list[float]] = {name: [] for name in kinds}
    for kind in kinds.values():
        cpu_ms(kind(30))  # warm up
    for _ in range(repeat):
        for name, kind in kinds.items():
            seen[name].append(cpu_ms(kind(size)))
    return {name: median(times) for name, times in seen.items()}


def cpu_ms(steps: Iterator[Callable[[], object]]) -> float:
    """Return the CPU milliseconds of this process for one step; what prepares the steps is not counted."""
    ready = list(steps)
    began = process_time()
    for step in ready:
        step()
    return (process_time() - began) / len(ready) * 1000


def profile(steps: Iterator[Callable[[], object]]) -> None:
    ready = list(steps)
    with cProfile.Profile() as profiler:
        for step in ready:
            step()
    pstats.Stats(profiler).sort_stats("cumulative").print_stats("django_invoice_cancel", 45)


def report(times: dict[str, float], options: argparse.Namespace) -> None:
    post, cancel = times["post"], times["cancel"]
    own = cancel - times["http"] - times["database"]
    print(f"{options.provider}, {options.database}: CPU ms a call, median of {options.repeat} x {options.invoices}")
    rows = {
        "requests.Session.post": post,
        "invoice.cancel()": cancel,
        "  HTTP": times["http"],
        "  database": times["database"],
        "  ours": own,
    }
    for name, value in rows.items():
        print(f"  {name:<24}{value:8.3f} ms {value / post:6.2f} x {value / cancel:6.0%}")
    print(f"invoice.cancel() costs {cancel / post:.2f} times a bare post (target: at most {TARGET}, aim: {AIM})")


if __name__ == "__main__":
    main()
