"""CPU per request: our transport against a bare pooled ``requests.Session.post`` to the same server.

    python benchmarks/transport.py [--requests 2000] [--repeat 5] [--tls]

The server is a process of its own, so that the figures are the client's alone; they are medians of interleaved runs.
"""

import argparse
import asyncio
import multiprocessing
import os
import ssl
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import median
from time import perf_counter, process_time

import requests
from requests.adapters import HTTPAdapter

from django_invoice_cancel.domain.secrets import Secret
from django_invoice_cancel.providers.transport import Deadline, Kind, Transport

BODY = b'{"uuid":"INV-89UX09KA"}'
ANSWER_BODY = b'{"status":"success","result":["ok"]}'
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nServer: cloudflare\r\nContent-Length: %d\r\n\r\n%s" % (
    len(ANSWER_BODY),
    ANSWER_BODY,
)
TOKEN = "bench-token-0123456789"
SIZES = (1, 16)


class Answers(asyncio.Protocol):
    """Answers each request, which arrives as one or two segments: a head and a body of known length."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self.buffer = b""

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        if self.buffer.endswith(BODY):
            self.buffer = b""
            self.transport.write(ANSWER)  # type: ignore[attr-defined]


def serve(port: Connection, certificate: str | None) -> None:
    context = None
    if certificate is not None:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(certificate)

    async def main() -> None:
        server = await asyncio.get_running_loop().create_server(Answers, "127.0.0.1", 0, ssl=context)
        port.send(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    asyncio.run(main())


def make_certificate(folder: Path) -> str:
    """Write a certificate for localhost and have its CA trusted; return the path of the file with its key."""
    import trustme

    ca = trustme.CA()
    ca.cert_pem.write_to_path(str(folder / "ca.pem"))
    os.environ["REQUESTS_CA_BUNDLE"] = str(folder / "ca.pem")
    ca.issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(str(folder / "server.pem"))
    return str(folder / "server.pem")


def ours(base_url: str, size: int, *, reuse_connections: bool = True) -> Callable[[], None]:
    token = Secret(TOKEN)
    transport = Transport(
        base_url=base_url,
        scheme="Token",
        token=token,
        secrets=[token],
        pool_size=size,
        reuse_connections=reuse_connections,
    )
    headers = {"Content-Type": "application/json"}

    def cancel() -> None:
        exchange = transport.request(
            "POST", "/v2/cancel", body=BODY, headers=headers, deadline=Deadline(15), lease=lambda _: True
        )
        assert exchange.kind is Kind.ANSWER  # noqa: S101
        assert exchange.json["status"] == "success"  # noqa: S101

    return cancel


def bare(base_url: str, size: int, *, trust_env: bool = True) -> Callable[[], None]:
    session = requests.Session()
    session.trust_env = trust_env
    session.verify = os.environ.get("REQUESTS_CA_BUNDLE", True)
    session.mount(base_url, HTTPAdapter(pool_maxsize=size))
    headers = {"Content-Type": "application/json", "Authorization": f"Token {TOKEN}"}

    def cancel() -> None:
        response = session.post(f"{base_url}/v2/cancel", data=BODY, headers=headers, timeout=(5, 15))
        assert response.json()["status"] == "success"  # noqa: S101

    return cancel


def measure(cancel: Callable[[], None], size: int, count: int) -> tuple[float, float]:
    """Return the milliseconds of CPU and of time for one request."""
    with ThreadPoolExecutor(size) as pool:
        list(pool.map(lambda _: cancel(), range(size * 4)))  # open the connections
        cpu, time = process_time(), perf_counter()
        list(pool.map(lambda _: several(cancel, count // size), range(size)))
        return (process_time() - cpu) * 1000 / count, (perf_counter() - time) * 1000 / count


def several(cancel: Callable[[], None], count: int) -> None:
    for _ in range(count):
        cancel()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--requests", type=int, default=2000)
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--tls", action="store_true", help="over TLS (needs trustme)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        certificate = make_certificate(Path(folder)) if options.tls else None
        run(certificate, options)


def run(certificate: str | None, options: argparse.Namespace) -> None:
    receiver, sender = multiprocessing.Pipe(duplex=False)
    server = multiprocessing.get_context("spawn").Process(target=serve, args=(sender, certificate), daemon=True)
    server.start()
    base_url = f"{'https' if certificate else 'http'}://localhost:{receiver.recv()}"
    try:
        for size in SIZES:
            report(base_url, size, options.requests, options.repeat)
    finally:
        server.terminate()


def report(base_url: str, size: int, count: int, repeat: int) -> None:
    ways = {
        "Transport.request": ours(base_url, size),
        "Transport.request, no reuse": ours(base_url, size, reuse_connections=False),
        "Session.post": bare(base_url, size),
        "Session.post, trust_env=False": bare(base_url, size, trust_env=False),
    }
    cpu: dict[str, list[float]] = {name: [] for name in ways}
    time: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(repeat):
        for name, cancel in ways.items():
            used, took = measure(cancel, size, count)
            cpu[name].append(used)
            time[name].append(took)
    for name in ways:
        used, took = median(cpu[name]), median(time[name])
        ratio = used / median(cpu["Session.post"])
        print(f"concurrency {size:>2}  {name:<30} {used:.3f} ms CPU  {took:.3f} ms  x{ratio:.2f}")


if __name__ == "__main__":
    main()
