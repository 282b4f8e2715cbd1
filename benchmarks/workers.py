"""Stored operations: what they cost over the plain engine, and what four worker processes do that one does not.

    .venv/bin/python benchmarks/workers.py cost  --database sqlite
    .venv/bin/python benchmarks/workers.py speed --database postgres://postgres@127.0.0.1:5432/bench

``cost``: CPU per invoice of a stored operation worked off by ``advance`` (items, leases, slices, progress) over that of
the plain engine, which runs in turn with it. ``speed``: invoices a second of one and of several processes that only
call ``advance``, each with the same concurrency. The sandbox runs in a process of its own.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from harness import RUNS, measured, median, project, register, use

CONCURRENCY = 16


def plain(selection: Any) -> None:
    from django_invoice_cancel.bulk import cancel_invoices

    for result in cancel_invoices(selection):
        if not result.ok:
            sys.exit(f"not canceled: {result}")


def stored(selection: Any) -> None:
    from django_invoice_cancel.operations import start

    work_on(start(selection))


def work_on(operation: Any) -> None:
    """What a worker does."""
    from django_invoice_cancel.operations import advance

    left = advance(operation.pk)
    while left.has_more:
        time.sleep(left.wait_seconds)
        left = advance(operation.pk)


@contextmanager
def provider(latency: float, **options: Any) -> Iterator[Any]:
    from django_invoice_cancel.testing.sandbox import SandboxProcess

    with SandboxProcess(latency=latency, keep_requests=False) as sandbox:
        use(sandbox.settings(concurrency=CONCURRENCY, **options))
        yield sandbox


def cost(options: argparse.Namespace) -> None:
    """Compare the CPU of the two, taken in turn."""
    figures: dict[str, list[float]] = {"plain": [], "stored": []}
    with provider(options.latency / 1000) as sandbox:
        plain(register(200))  # warm
        stored(register(200))
        for _ in range(options.runs):
            for name, run in (("plain", plain), ("stored", stored)):
                selection = register(options.count)
                figures[name].append(measured(lambda run=run, chosen=selection: run(chosen))[1] / options.count * 1000)
        sent = sandbox.count("cancel")
    expected = 400 + 2 * options.runs * options.count
    if sent != expected:
        sys.exit(f"{sent} requests for {expected} invoices")
    ours, theirs = median(figures["stored"]), median(figures["plain"])
    print(f"CPU per invoice: plain {theirs:.2f} ms, stored {ours:.2f} ms: {ours / theirs:.2f} times")


def speed(options: argparse.Namespace) -> None:
    """Compare so many processes with one, taken in turn."""
    figures: dict[int, list[tuple[float, float]]] = {1: [], options.processes: []}
    with provider(options.latency / 1000) as sandbox:
        for _ in range(options.runs):
            for processes, rates in figures.items():
                rates.append(run_processes(processes, options.count * processes, sandbox))
    (one, cpu_one), (many, cpu_many) = (
        (median([rate for rate, _ in rates]), median([cpu for _, cpu in rates])) for rates in figures.values()
    )
    ideal = CONCURRENCY / (options.latency / 1000)
    print(
        f"{options.latency} ms, concurrency {CONCURRENCY} each: one process {one:.0f}/s "
        f"({one / ideal:.2f} of the limit, {cpu_one:.2f} ms of CPU each), {options.processes} processes {many:.0f}/s "
        f"({many / ideal / options.processes:.2f}, {cpu_many:.2f} ms): {many / one:.2f} times; "
        f"{os.cpu_count()} cores, of which the providers and the database take their part"
    )


def run_processes(processes: int, count: int, sandbox: Any) -> tuple[float, float]:
    """Work on one operation with so many processes; return invoices a second, and CPU milliseconds for each."""
    from django.db import connections

    from django_invoice_cancel.operations import start

    operation = start(register(count))
    before = sandbox.count("cancel")
    connections.close_all()
    children = [child(operation.pk) for _ in range(processes)]
    for each in children:
        each.stdout.readline()  # it is set up
    begun = time.perf_counter()
    for each in children:
        each.stdin.close()
    seconds = sum(float(each.stdout.read()) for each in children)
    codes = [each.wait() for each in children]
    wall = time.perf_counter() - begun
    operation.refresh_from_db()
    sent = sandbox.count("cancel") - before
    if any(codes) or operation.progress != "finished" or sent != count:
        sys.exit(f"{codes}, {operation.progress}, {sent} requests for {count} invoices")
    return count / wall, seconds / count * 1000


def child(key: Any) -> subprocess.Popen[str]:

    from django.conf import settings
    from django.db import connection

    database = json.dumps({**connection.settings_dict, "NAME": str(connection.settings_dict["NAME"])}, default=str)
    env = {**os.environ, "BENCH_DATABASE": database, "BENCH_PROVIDERS": json.dumps(settings.INVOICE_CANCEL)}
    command = [sys.executable, __file__, "child", "--operation", str(key)]
    return subprocess.Popen(command, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def be_child(options: argparse.Namespace) -> None:

    import django
    from django.conf import settings

    settings.configure(
        DATABASES={"default": json.loads(os.environ["BENCH_DATABASE"])},
        INSTALLED_APPS=["django.contrib.auth", "django.contrib.contenttypes", "django_invoice_cancel"],
        USE_TZ=True,
        SECRET_KEY="invented-for-benchmarks",
        INVOICE_CANCEL=json.loads(os.environ["BENCH_PROVIDERS"]),
        LOGGING_CONFIG=None,
    )
    django.setup()
    from django_invoice_cancel.models import BulkOperation

    operation = BulkOperation.objects.get(pk=options.operation)
    print("ready", flush=True)
    sys.stdin.read()
    begun = time.process_time()
    work_on(operation)
    print(time.process_time() - begun)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("cost", "speed", "child"))
    parser.add_argument("--database", default="sqlite")
    parser.add_argument("--count", type=int, default=2000, help="invoices; for speed: of each process")
    parser.add_argument("--latency", type=float, default=200, help="of the provider, in milliseconds")
    parser.add_argument("--processes", type=int, default=4)
    parser.add_argument("--runs", type=int, default=RUNS)
    parser.add_argument("--operation", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.what == "child":
        be_child(options)
        return
    with project(options.database):
        {"cost": cost, "speed": speed}[options.what](options)


if __name__ == "__main__":
    main()
