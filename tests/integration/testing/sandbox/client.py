"""A client on a plain socket. It returns the received bytes, whether they are complete, truncated or missing.

It uses no HTTP library, because a library could repair, repeat or hide the behaviour of the sandbox.
"""

import json
import socket
from dataclasses import dataclass, field
from urllib.parse import urlsplit

TOKENS = {"firekassa": "Bearer sandbox-firekassa-token", "cryptocloud": "Token sandbox-cryptocloud-key"}


@dataclass
class Received:
    """The received response: ``reply``, ``cut`` (ends too early), ``closed`` (no byte), ``reset`` or ``silence``."""

    kind: str
    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""

    @property
    def json(self):
        return json.loads(self.body)


def connect(url, timeout=10.0):
    address = urlsplit(url)
    return socket.create_connection((address.hostname, address.port), timeout)


def receive(connection):
    """Read one answer."""
    data = b""
    try:
        while missing := bytes_missing(data):
            chunk = connection.recv(missing)
            if not chunk:
                return Received("cut" if data else "closed", body=data)
            data += chunk
    except TimeoutError:
        return Received("silence", body=data)
    except ConnectionResetError:
        return Received("reset", body=data)
    return parse(data)


def bytes_missing(data):
    """Return how many bytes can be read without touching the next answer."""
    head, end, body = data.partition(b"\r\n\r\n")
    return int(dict(header_lines(head))["content-length"]) - len(body) if end else 1


def parse(data):
    head, _, body = data.partition(b"\r\n\r\n")
    return Received("reply", int(head.split(b" ", 2)[1]), dict(header_lines(head)), body)


def header_lines(head):
    for line in head.decode("latin-1").split("\r\n")[1:]:
        name, _, value = line.partition(": ")
        yield name.lower(), value


def request_bytes(method, path, body=b"", **headers):
    lines = [f"{method} {path} HTTP/1.1", "Host: 127.0.0.1", f"Content-Length: {len(body)}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


def cancel_bytes(dialect, external_id, **headers):
    headers = {"Authorization": TOKENS[dialect], **headers}
    if dialect == "firekassa":
        return request_bytes("POST", f"/api/v2/invoices/{external_id}/cancel", **headers)
    body = json.dumps({"uuid": external_id}).encode()
    return request_bytes("POST", "/v2/invoice/merchant/canceled", body, **headers)


def lookup_bytes(dialect, external_id, **headers):
    headers = {"Authorization": TOKENS[dialect], **headers}
    if dialect == "firekassa":
        return request_bytes("GET", f"/api/v2/transactions/{external_id}", **headers)
    body = json.dumps({"uuids": [external_id]}).encode()
    return request_bytes("POST", "/v2/invoice/merchant/info", body, **headers)


def post_bytes(dialect, path, fields):
    return request_bytes("POST", path, json.dumps(fields).encode(), Authorization=TOKENS[dialect])


def ask(sandbox, request, timeout=10.0):
    """Send one request on a new connection. Return the received response."""
    with connect(sandbox.base_url, timeout) as connection:
        connection.sendall(request)
        return receive(connection)


def cancel(sandbox, dialect, external_id, timeout=10.0, **headers):
    return ask(sandbox, cancel_bytes(dialect, external_id, **headers), timeout)


def lookup(sandbox, dialect, external_id):
    """Return the status string of the provider, or None if it does not know the invoice."""
    received = ask(sandbox, lookup_bytes(dialect, external_id))
    if dialect == "firekassa":
        return received.json["status"] if received.status == 200 else None
    return received.json["result"][0]["status"] if received.json["result"] else None
