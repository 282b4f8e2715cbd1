"""The environment may change proxies and CAs, but neither credentials nor the host."""

import base64
import socket
from pathlib import Path
from typing import Any

import pytest
import requests
from requests import PreparedRequest

from django_invoice_cancel.domain.outcomes import Code
from django_invoice_cancel.providers.transport import Deadline, Exchange, Kind, Transport
from django_invoice_cancel.providers.transport.connections import HostAdapter

from .conftest import TOKEN, Connect, Serve
from .fault_server import HOST, Certificates, answer, hang, keeps_alive, replies, tunnels


def post(transport: Transport, **kwargs: Any) -> Exchange:
    return transport.request("POST", "/cancel", body=b"{}", deadline=Deadline(5), **kwargs)


@pytest.mark.parametrize("entry", ["machine localhost", "default"])
@pytest.mark.parametrize("where", ["NETRC", "HOME"])
def test_netrc_does_not_replace_the_token(
    entry: str, where: str, serve: Serve, connect: Connect, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = tmp_path / ".netrc"
    file.write_text(f"{entry} login somebody password else\n")
    file.chmod(0o600)
    monkeypatch.setenv(where, str(file if where == "NETRC" else tmp_path))
    server = serve(keeps_alive())

    post(connect(server.url), headers={"Authorization": "Basic not-this"})

    assert [request.headers["authorization"] for request in server.requests] == [f"Bearer {TOKEN}"]


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("location", ["http://localhost:{port}/stolen", "/stolen", "http://[::1/x", "\xff\xfe"])
def test_redirect_is_an_answer_and_is_not_followed(status: int, location: str, serve: Serve, connect: Connect) -> None:
    elsewhere = serve(keeps_alive())
    head = f"Location: {location.format(port=elsewhere.port)}"
    wire = f"HTTP/1.1 {status} Moved\r\n{head}\r\nContent-Length: 0\r\n\r\n".encode("latin-1")
    server = serve(keeps_alive(lambda _: wire))

    exchange = post(connect(server.url))

    assert exchange.kind == Kind.ANSWER
    assert exchange.http_status == status
    assert elsewhere.connections == 0
    assert [request.path for request in server.requests] == ["/cancel"]


@pytest.mark.parametrize("variable", ["http_proxy", "HTTP_PROXY", "all_proxy"])
def test_proxy_of_the_environment_is_used(
    variable: str, serve: Serve, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    proxy = serve(keeps_alive())
    monkeypatch.setenv(variable, f"http://user:pass@localhost:{proxy.port}")

    exchange = post(connect("http://provider.test/api"))

    assert exchange.kind is Kind.ANSWER
    assert [request.line for request in proxy.requests] == ["POST http://provider.test/api/cancel HTTP/1.1"]
    assert proxy.requests[0].headers["proxy-authorization"] == "Basic " + base64.b64encode(b"user:pass").decode()
    assert proxy.requests[0].headers["authorization"] == f"Bearer {TOKEN}"


def test_https_goes_through_a_tunnel(
    serve: Serve, connect: Connect, monkeypatch: pytest.MonkeyPatch, certificates: Certificates
) -> None:
    """The tunnel is kept alive; its end must show the provider's certificate."""
    proxy = serve(tunnels(keeps_alive(), certificates.ours))
    monkeypatch.setenv("https_proxy", f"http://localhost:{proxy.port}")
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", certificates.bundle)
    transport = connect("https://provider.test")

    kinds = [post(transport).kind for _ in range(2)]
    stranger = post(connect("https://stranger.test"))

    assert kinds == [Kind.ANSWER, Kind.ANSWER]
    assert stranger.kind is Kind.NOT_SENT
    assert [request.line for request in proxy.requests] == ["POST /cancel HTTP/1.1"] * 2
    assert proxy.connections == 2


@pytest.mark.parametrize("no_proxy", ["provider.test", "*", ".other.test,.test"])
def test_no_proxy_is_respected(no_proxy: str, serve: Serve, connect: Connect, monkeypatch: pytest.MonkeyPatch) -> None:
    proxy, server = serve(keeps_alive()), serve(keeps_alive())
    monkeypatch.setenv("http_proxy", proxy.url)
    monkeypatch.setenv("no_proxy", no_proxy)
    address = (socket.AF_INET, socket.SOCK_STREAM, 6, "", (HOST, server.port))
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_: [address])

    exchange = post(connect("http://provider.test"))

    assert exchange.kind is Kind.ANSWER
    assert proxy.connections == 0
    assert server.executed == 1


@pytest.mark.parametrize("proxy", ["http://", "http://:0", "nonsense://localhost:1"])
def test_unusable_proxy_sends_nothing(proxy: str, connect: Connect, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", proxy)

    assert post(connect("http://provider.test")).kind is Kind.NOT_SENT


@pytest.mark.parametrize("variable", ["REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE"])
def test_ca_of_the_environment_is_trusted(
    variable: str, serve: Serve, connect: Connect, certificates: Certificates, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = serve(keeps_alive(), tls=certificates.ours)
    monkeypatch.setenv(variable, certificates.bundle)

    assert post(connect(server.url)).kind is Kind.ANSWER
    assert server.executed == 1


@pytest.mark.parametrize("bundle", ["", "/nowhere/ca.pem", "a directory"])
def test_without_its_ca_nothing_is_sent(
    bundle: str,
    serve: Serve,
    connect: Connect,
    certificates: Certificates,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    server = serve(keeps_alive(), tls=certificates.ours)
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path) if bundle == "a directory" else bundle)

    assert post(connect(server.url)).kind is Kind.NOT_SENT
    assert server.executed == 0


def test_verification_cannot_be_switched_off(serve: Serve, certificates: Certificates) -> None:
    server = serve(keeps_alive(), tls=certificates.other_ca)
    request = PreparedRequest()
    request.prepare("POST", f"{server.url}/cancel")
    adapter = HostAdapter(server.url, 1)

    with pytest.raises(requests.exceptions.SSLError):
        adapter.send(request, verify=False, timeout=5)
    adapter.close()

    assert server.executed == 0


BASE_URLS = {
    "no scheme": "provider.test",
    "other scheme": "ftp://provider.test",
    "no host": "https://",
    "user info": "https://user:hunter2@provider.test",
    "query": "https://provider.test?key=hunter2",
    "fragment": "https://provider.test#hunter2",
    "bad port": "https://provider.test:hunter2",
    "port 0": "https://provider.test:0",
    "bracket": "https://[::1",
    "space": "https://provider.test/hunter2 x",
    "newline": "https://provider.test/\nhunter2",
    "not ASCII": "https://prövider.test",
    "empty": "",
}


@pytest.mark.parametrize("base_url", BASE_URLS.values(), ids=BASE_URLS)
def test_invalid_base_url_is_refused(base_url: str, connect: Connect) -> None:
    with pytest.raises(ValueError, match="base_url") as caught:
        connect(base_url)

    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("path", ["", "cancel", "http://other.test/", "/a b", "/a\r\nX: y", "/\u0436"])
def test_invalid_path_is_refused(path: str, serve: Serve, connect: Connect) -> None:
    server = serve(keeps_alive())

    with pytest.raises(ValueError, match="path"):
        connect(server.url).request("POST", path, deadline=Deadline(5))

    assert server.connections == 0


def test_request_has_the_user_agent_and_accept_headers(serve: Serve, connect: Connect) -> None:
    from django_invoice_cancel import __version__

    server = serve(keeps_alive())
    transport = connect(f"{server.url}/base/")

    transport.request("POST", "/a%2Fb?c=d", headers={"Signature": "abc"}, deadline=Deadline(5))
    transport.request("GET", "/c", deadline=Deadline(5))
    transport.request("POST", "/d", body=b'{"e": 1}', deadline=Deadline(5))

    common = {
        "host": f"localhost:{server.port}",
        "user-agent": f"django-invoice-cancel/{__version__}",
        "accept": "application/json",
        "accept-encoding": "identity",
        "authorization": f"Bearer {TOKEN}",
    }
    assert [(request.line, request.headers, request.body) for request in server.requests] == [
        ("POST /base/a%2Fb?c=d HTTP/1.1", {**common, "signature": "abc", "content-length": "0"}, b""),
        ("GET /base/c HTTP/1.1", common, b""),
        ("POST /base/d HTTP/1.1", {**common, "content-length": "8"}, b'{"e": 1}'),
    ]


@pytest.mark.parametrize("header", ["Signature", "Bad\r\nName"])
def test_header_that_would_split_the_request_sends_nothing(header: str, serve: Serve, connect: Connect) -> None:
    server = serve(keeps_alive())

    exchange = post(connect(server.url), headers={header: "a\r\nX: y"})

    assert exchange.kind is Kind.NOT_SENT
    assert server.executed == 0


def test_hanging_provider_does_not_block_another(serve: Serve, connect: Connect) -> None:
    stuck, well = serve(hang), serve(replies(answer()))

    exchange = connect(stuck.url).request("POST", "/cancel", deadline=Deadline(0.3))

    assert exchange.kind is Kind.IN_DOUBT
    assert post(connect(well.url)).kind is Kind.ANSWER
    assert stuck.executed == 0
    assert well.executed == 1


THIS_MACHINE = ["localhost", "LOCALHOST", "localhost.", "shop.localhost", "127.0.0.1", "127.9.9.9", "127.1", "[::1]",
                "[::ffff:127.0.0.1]", "2130706433", "0.0.0.0", "[::]"]  # fmt: skip  # noqa: S104


@pytest.mark.parametrize("host", THIS_MACHINE)
@pytest.mark.parametrize("scheme", ["http", "https"])
def test_proxy_of_the_environment_is_not_used_for_this_machine(
    host: str, scheme: str, serve: Serve, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The proxy would read the token of a plain request, and reach its own machine instead of this one."""
    proxy, server = serve(keeps_alive()), serve(keeps_alive())
    for name in ("http_proxy", "https_proxy", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, proxy.url)

    connect(f"{scheme}://{host}:{server.port}").request("POST", "/cancel", body=b"{}", deadline=Deadline(0.3))

    assert proxy.connections == 0
    assert proxy.requests == []


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "127.1"])
def test_request_to_a_loopback_address_ignores_the_proxy(
    host: str, serve: Serve, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    proxy, server = serve(keeps_alive()), serve(keeps_alive())
    monkeypatch.setenv("ALL_PROXY", proxy.url)

    exchange = post(connect(f"http://{host}:{server.port}"))

    assert exchange.kind == Kind.ANSWER
    assert server.executed == 1
    assert proxy.connections == 0


@pytest.mark.parametrize("proxy", ["socks5h", "socks5", "socks4a", "SOCKS5H"])
@pytest.mark.parametrize("variable", ["ALL_PROXY", "all_proxy", "https_proxy"])
def test_socks_proxy_without_its_library_is_named(
    proxy: str, variable: str, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(*_: Any, **__: Any) -> Any:
        raise requests.exceptions.InvalidSchema("Missing dependencies for SOCKS support.")

    monkeypatch.setattr(requests.adapters, "SOCKSProxyManager", missing)
    monkeypatch.setenv(variable, f"{proxy}://user:hunter2@localhost:1")

    exchange = post(connect("https://provider.test"))

    assert exchange.kind == Kind.NOT_SENT
    assert exchange.code == Code.UNREACHABLE
    assert exchange.detail == (
        "The environment names a SOCKS proxy (such as ALL_PROXY): install requests[socks], or unset it."
    )
