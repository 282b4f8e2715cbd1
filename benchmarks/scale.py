"""How a bulk run grows: memory from 1,000 to 200,000 invoices, and the time to the first request of a million rows.

    .venv/bin/python benchmarks/scale.py memory
    .venv/bin/python benchmarks/scale.py first_request --database postgres://postgres@127.0.0.1:5432/bench

Memory: a scripted provider, no HTTP; resident size after a run of 1,000 and after a run of 200,000. First request:
1,000,000 rows, half of them paid already, from the call of ``cancel_invoices`` to the first request that is sent.
"""

from __future__ import annotations

import argparse
import resource
import threading
import time
from pathlib import Path

from harness import RUNS, median, project, use

SCRIPTED = "django_invoice_cancel.testing.ScriptedProvider"


def resident_mb() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 1e6


def fill(first: int, count: int, *, paid_every: int = 0) -> None:
    from django_invoice_cancel.models import Invoice

    rows = (
        Invoice(
            provider="scripted",
            external_id=f"{number:09d}",
            status="paid" if paid_every and number % paid_every == 0 else "created",
        )
        for number in range(first, first + count)
    )
    batch = 5000
    while chunk := [row for _, row in zip(range(batch), rows, strict=False)]:
        Invoice.objects.bulk_create(chunk)


def memory() -> None:
    from django_invoice_cancel.bulk import cancel_invoices
    from django_invoice_cancel.models import Invoice

    sizes = []
    fill(0, 201_000)  # before both: what bulk_create leaves behind is none of the run's
    for count in (1000, 200_000):
        started, before, highest = time.perf_counter(), resident_mb(), 0.0
        for number, result in enumerate(cancel_invoices(Invoice.objects.filter(status="created"), limit=count)):
            assert result.ok, result  # noqa: S101 - a figure of a run that failed is none
            if number % 500 == 0:
                highest = max(highest, resident_mb())
        highest = max(highest, resident_mb())
        sizes.append(highest)
        rate = count / (time.perf_counter() - started)
        print(f"{count:>7,} invoices: {before:6.1f} MB before, {highest:6.1f} MB at most, {rate:,.0f}/s", flush=True)
    print(f"growth of the highest resident size: {sizes[1] - sizes[0]:.1f} MB")


def first_request() -> None:
    from django.db import connection

    from django_invoice_cancel import registry
    from django_invoice_cancel.bulk import cancel_invoices
    from django_invoice_cancel.models import Invoice

    fill(0, 1_000_000, paid_every=2)
    with connection.cursor() as cursor:
        cursor.execute(f"ANALYZE {Invoice._meta.db_table}")
    provider = registry.get_provider("scripted")
    seconds = []
    for _ in range(RUNS):
        first = threading.Event()
        ask = type(provider).cancel

        began = time.perf_counter()

        def seen(self, external_id, *, lease, first=first, ask=ask, began=began):  # type: ignore[no-untyped-def]
            if not first.is_set():
                seconds.append(time.perf_counter() - began)
                first.set()
            return ask(self, external_id, lease=lease)

        type(provider).cancel = seen  # type: ignore[method-assign]
        try:
            results = cancel_invoices(Invoice.objects.cancelable())
            next(results)
            results.close()
        finally:
            type(provider).cancel = ask  # type: ignore[method-assign]
    print(f"first request after {median(seconds) * 1000:.0f} ms (median of {RUNS}; {max(seconds) * 1000:.0f} at most)")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("figure", choices=("memory", "first_request"))
    parser.add_argument("--database", default="sqlite")
    options = parser.parse_args()
    with project(options.database):
        use({"scripted": {"BACKEND": SCRIPTED, "OPTIONS": {"record": False}}})
        {"memory": memory, "first_request": first_request}[options.figure]()


if __name__ == "__main__":
    main()
