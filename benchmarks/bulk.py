"""Bulk cancel: throughput over the limit N x latency / concurrency, CPU per invoice, against the loop people write.

    .venv/bin/python benchmarks/bulk.py --database sqlite
    .venv/bin/python benchmarks/bulk.py --database postgres://postgres@127.0.0.1:5432/bench

The sandbox runs in a process of its own; each figure is the median of five runs, taken in turn.
"""

from __future__ import annotations

import argparse
import sys

import requests
from harness import RUNS, measured, median, project, register, use

SHAPES = ((100, 16), (300, 64), (20, 16))
LOOP = 60
"""Invoices of one run of the loop: it is slow."""


def engine(count: int, concurrency: int) -> tuple[float, float]:
    from django_invoice_cancel.bulk import cancel_invoices

    selection = register(count)

    def run() -> None:
        for result in cancel_invoices(selection, concurrency=concurrency):
            if not result.ok:
                sys.exit(f"not canceled: {result}")

    return measured(run)


def loop(count: int, base_url: str, token: str) -> tuple[float, float]:
    """What people write."""
    selection = register(count)

    def run() -> None:
        from django_invoice_cancel.models import Invoice

        for invoice in selection:
            response = requests.post(
                f"{base_url}/api/v2/invoices/{invoice.external_id}/cancel",
                headers={"Authorization": f"Bearer {token}"},
                timeout=15,
            )
            if response.status_code == 200:
                invoice.reference = "canceled"  # stands for the status: the same row, the same statement
                invoice.save()
        Invoice.objects.count()

    return measured(run)


def bare(count: int, base_url: str, token: str) -> tuple[float, float]:
    """A pooled Session.post and nothing else."""
    with requests.Session() as session:
        url = f"{base_url}/api/v2/invoices/99999900/cancel"
        headers = {"Authorization": f"Bearer {token}"}
        session.post(url, headers=headers, timeout=15)

        def run() -> None:
            for _ in range(count):
                _ = session.post(url, headers=headers, timeout=15).content

        return measured(run)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--database", default="sqlite")
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--runs", type=int, default=RUNS)
    options = parser.parse_args()
    with project(options.database):
        from django_invoice_cancel.testing.sandbox import SandboxProcess

        for latency, concurrency in SHAPES:
            with SandboxProcess(latency=latency / 1000) as sandbox:
                providers = sandbox.settings()
                for provider in providers.values():
                    provider["OPTIONS"]["concurrency"] = concurrency
                use(providers)
                token = providers["firekassa"]["OPTIONS"]["api_token"]
                engine(200, concurrency)  # warm
                ours, loops = [], []
                for _ in range(options.runs):
                    ours.append(engine(options.count, concurrency))
                    loops.append(loop(LOOP, sandbox.base_url, token))
                best = options.count * latency / 1000 / concurrency
                wall, cpu = median([w for w, _ in ours]), median([c for _, c in ours])
                loop_wall, loop_cpu = median([w for w, _ in loops]) / LOOP, median([c for _, c in loops]) / LOOP
                per_invoice = cpu / options.count
                print(
                    f"{latency:>4} ms, concurrency {concurrency:>2}: {options.count / wall:6.1f}/s = "
                    f"{best / wall:.3f} of the limit, {loop_wall * options.count / wall:5.1f} x the loop; "
                    f"CPU per invoice {per_invoice * 1000:.2f} ms = {per_invoice / loop_cpu:.2f} of the loop's "
                    f"{loop_cpu * 1000:.2f} ms",
                    flush=True,
                )
        with SandboxProcess() as sandbox:
            token = sandbox.settings()["firekassa"]["OPTIONS"]["api_token"]
            bares = [bare(500, sandbox.base_url, token)[1] / 500 for _ in range(options.runs)]
        ratio = per_invoice / median(bares)
        print(f"bare pooled Session.post: CPU {median(bares) * 1000:.2f} ms; the last shape's is {ratio:.2f} of it")


if __name__ == "__main__":
    main()
