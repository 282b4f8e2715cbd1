"""An ambiguous answer is in doubt, and its connection is not reused."""

import pytest

from django_invoice_cancel.domain.outcomes import Code
from django_invoice_cancel.providers.transport import Deadline, Exchange, Kind, Transport

from .conftest import Connect, Serve
from .fault_server import Peer, after_request, answer, hang, keeps_alive, replies, sends

STATUS_LINES = {
    "four digits": b"HTTP/1.1 2000 OK",
    "two digits": b"HTTP/1.1 20 OK",
    "below 100": b"HTTP/1.1 099 OK",
    "zero": b"HTTP/1.1 000 OK",
    "a plus sign": b"HTTP/1.1 +200 OK",
    "an underscore": b"HTTP/1.1 2_00 OK",
    "a decimal point": b"HTTP/1.1 200.0 OK",
    "hexadecimal": b"HTTP/1.1 0xC8 OK",
    "superscripts": b"HTTP/1.1 \xb2\xb9\xb3 OK",
    "two spaces": b"HTTP/1.1  200 OK",
    "a tab": b"HTTP/1.1\t200 OK",
    "a no-break space": b"HTTP/1.1\xa0200 OK",
    "no space after the code": b"HTTP/1.1 200OK",
    "a leading space": b" HTTP/1.1 200 OK",
    "a control character": b"HTTP/1.1 200 O\x00K",
    "a carriage return within": b"HTTP/1.1 200 OK\rX",
    "HTTP/0.9": b"HTTP/0.9 200 OK",
    "HTTP/1.2": b"HTTP/1.2 200 OK",
    "HTTP/1.10": b"HTTP/1.10 200 OK",
    "HTTP/2": b"HTTP/2 200 OK",
    "HTTP/2.0": b"HTTP/2.0 200 OK",
    "HTTP/11": b"HTTP/11 200 OK",
    "lower case": b"http/1.1 200 OK",
    "another protocol": b"ICY 200 OK",
    "no code": b"HTTP/1.1",
}
LENGTHS = {
    "a plus sign": b"Content-Length: +2",
    "a minus sign": b"Content-Length: -2",
    "minus zero": b"Content-Length: -0",
    "hexadecimal": b"Content-Length: 0x2",
    "a trailing space": b"Content-Length: 2 ",
    "a trailing tab": b"Content-Length: 2\t",
    "an underscore": b"Content-Length: 0_2",
    "full-width digits": "Content-Length: \N{FULLWIDTH DIGIT TWO}".encode(),
    "a superscript": b"Content-Length: \xb2",
    "a decimal point": b"Content-Length: 2.0",
    "an exponent": b"Content-Length: 2e0",
    "quotes": b'Content-Length: "2"',
    "nothing": b"Content-Length:",
    "a word": b"Content-Length: two",
    "a list of equal ones": b"Content-Length: 2, 2",
    "a list of different ones": b"Content-Length: 2, 3",
    "5000 digits": b"Content-Length: " + b"0" * 4999 + b"2",
    "two equal ones": b"Content-Length: 2\r\nContent-Length: 2",
    "two different ones": b"Content-Length: 2\r\nContent-Length: 3",
    "two, one of them empty": b"Content-Length: 2\r\nContent-Length:",
    "two in different case": b"Content-Length: 2\r\ncontent-length: 3",
    "a folded line": b"Content-Length: 2\r\n 0",
    "a folded line without digits": b"Content-Length: 2\r\n ",
    "a space before the colon": b"Content-Length : 2",
    "a space before the name": b" Content-Length: 2",
    "a carriage return in another header": b"X-Note: a\rContent-Length: 2",
    "NUL in another header": b"Content-Length: 2\r\nX-Note: a\x00b",
    "a header without a name": b"Content-Length: 2\r\n: b",
    "a line that is no header": b"Content-Length: 2\r\nnonsense",
    "100 headers": b"Content-Length: 2" + b"\r\nX: y" * 99,
}
ENCODINGS = {
    "gzip": b"Transfer-Encoding: gzip",
    "identity": b"Transfer-Encoding: identity",
    "gzip, chunked": b"Transfer-Encoding: gzip, chunked",
    "chunked, chunked": b"Transfer-Encoding: chunked, chunked",
    "chunked with a parameter": b"Transfer-Encoding: chunked;q=1",
    "chunked and a space": b"Transfer-Encoding: chunked ",
    "chunked and a vertical tab": b"Transfer-Encoding: chunked\x0b",
    "chunked in quotes": b'Transfer-Encoding: "chunked"',
    "xchunked": b"Transfer-Encoding: xchunked",
    "empty": b"Transfer-Encoding:",
    "twice": b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
    "once more, as identity": b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity",
    "beside a length": b"Transfer-Encoding: chunked\r\nContent-Length: 12",
    "beside a length before it": b"Content-Length: 12\r\nTransfer-Encoding: chunked",
    "beside a length of 0": b"Content-Length: 0\r\nTransfer-Encoding: chunked",
}
CHUNKS = {
    "a plus sign": b"+2\r\n{}\r\n0\r\n\r\n",
    "a minus sign": b"-2\r\n{}\r\n0\r\n\r\n",
    "hexadecimal prefix": b"0x2\r\n{}\r\n0\r\n\r\n",
    "an underscore": b"0_2\r\n{}\r\n0\r\n\r\n",
    "a leading space": b" 2\r\n{}\r\n0\r\n\r\n",
    "a trailing space": b"2 \r\n{}\r\n0\r\n\r\n",
    "a space before the extension": b"2 ;x\r\n{}\r\n0\r\n\r\n",
    "full-width digits": "\N{FULLWIDTH DIGIT TWO}\r\n{}\r\n0\r\n\r\n".encode(),
    "no digits": b"\r\n{}\r\n0\r\n\r\n",
    "only an extension": b";x\r\n{}\r\n0\r\n\r\n",
    "no carriage return": b"2\n{}\r\n0\r\n\r\n",
    "a control character in the extension": b"2;\x01\r\n{}\r\n0\r\n\r\n",
    "bytes behind the chunk": b"2\r\n{}xx0\r\n\r\n",
    "a last chunk with a sign": b"2\r\n{}\r\n+0\r\n\r\n",
    "a last chunk with a minus sign": b"2\r\n{}\r\n-0\r\n\r\n",
    "a last chunk with a prefix": b"2\r\n{}\r\n0x0\r\n\r\n",
    "a last chunk with an underscore": b"2\r\n{}\r\n0_0\r\n\r\n",
    "a trailer that is no header": b"2\r\n{}\r\n0\r\nnonsense\r\n\r\n",
    "a size of 17 digits": b"0" * 16 + b"2\r\n{}\r\n0\r\n\r\n",
}
CUT = {
    "within a chunk": b"5\r\n{}",
    "behind a chunk": b"2\r\n{}",
    "before the last chunk": b"2\r\n{}\r\n",
    "within the last chunk": b"2\r\n{}\r\n0",
    "behind the last chunk": b"2\r\n{}\r\n0\r\n",
    "within a trailer": b"2\r\n{}\r\n0\r\nX: y\r\n",
}
WITHOUT_BODY = {
    "204 with a length": b"HTTP/1.1 204 No Content\r\nContent-Length: 2\r\n\r\n{}",
    "204 with chunks": b"HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "304 with chunks": b"HTTP/1.1 304 Not Modified\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "HTTP/1.0 with chunks": b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
}


def with_headers(lines: bytes, body: bytes = b"{}") -> bytes:
    return b"HTTP/1.1 200 OK\r\n" + lines + b"\r\n\r\n" + body


def chunked(body: bytes) -> bytes:
    return with_headers(b"Transfer-Encoding: chunked", body)


ODD = {
    **{f"status line: {name}": line + b"\r\nContent-Length: 2\r\n\r\n{}" for name, line in STATUS_LINES.items()},
    **{f"length: {name}": with_headers(lines) for name, lines in LENGTHS.items()},
    **{f"encoding: {name}": with_headers(lines, b"2\r\n{}\r\n0\r\n\r\n") for name, lines in ENCODINGS.items()},
    **{f"chunk: {name}": chunked(body) for name, body in CHUNKS.items()},
    **{f"body: {name}": wire for name, wire in WITHOUT_BODY.items()},
}
PLAIN = {
    "no reason": b"HTTP/1.1 200\r\nContent-Length: 2\r\n\r\n{}",
    "an empty reason": b"HTTP/1.1 200 \r\nContent-Length: 2\r\n\r\n{}",
    "a reason in Latin-1": b"HTTP/1.1 200 D'accord \xe9\r\nContent-Length: 2\r\n\r\n{}",
    "HTTP/1.0": b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\n{}",
    "leading zeros": b"HTTP/1.1 200 OK\r\nContent-Length: 0002\r\n\r\n{}",
    "blanks before a length": b"HTTP/1.1 200 OK\r\nContent-Length: \t 2\r\n\r\n{}",
    "no blank before a length": b"HTTP/1.1 200 OK\r\nContent-Length:2\r\n\r\n{}",
    "upper case": b"HTTP/1.1 200 OK\r\nTRANSFER-ENCODING: CHUNKED\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
    "two chunks": chunked(b"1\r\n{\r\n1\r\n}\r\n0\r\n\r\n"),
    "a chunk's size in hexadecimal": chunked(b"A\r\n{       }\n\r\n0\r\n\r\n"),
    "a chunk's extension": chunked(b"2;name=value\r\n{}\r\n0;last\r\n\r\n"),
    "a trailer": chunked(b"2\r\n{}\r\n0\r\nX-Sum: 7\r\n\r\n"),
    "a folded header": b"HTTP/1.1 200 OK\r\nX-Policy: a\r\n\tb\r\nContent-Length: 2\r\n\r\n{}",
    "line feeds alone in the head": b"HTTP/1.1 200 OK\nContent-Length: 2\n\n{}",
    "99 headers": with_headers(b"Content-Length: 2" + b"\r\nX: y" * 98),
}


def post(transport: Transport, seconds: float = 5) -> Exchange:
    return transport.request("POST", "/cancel", body=b"{}", deadline=Deadline(seconds))


@pytest.mark.parametrize("case", ODD)
def test_response_with_invalid_syntax_is_in_doubt(case: str, serve: Serve, connect: Connect) -> None:
    """The connection stays open, so that nothing but the syntax decides, and no later request uses it."""
    odd = after_request(sends(ODD[case]), hang)
    server = serve(lambda peer: (odd if peer.number == 1 else keeps_alive())(peer))
    transport = connect(server.url)

    first, second = post(transport), post(transport)

    assert first.kind == Kind.IN_DOUBT, first
    assert first.code == Code.UNREADABLE_ANSWER, first
    assert first.is_json is False
    assert first.is_empty is False
    assert first.text == ""
    assert second.kind is Kind.ANSWER
    assert server.connections == 2
    assert server.executed == 2


@pytest.mark.parametrize("cut", CUT)
def test_chunked_response_without_its_last_chunk_is_in_doubt(cut: str, serve: Serve, connect: Connect) -> None:
    server = serve(replies(chunked(CUT[cut])))

    exchange = post(connect(server.url))

    assert exchange.kind == Kind.IN_DOUBT
    assert exchange.code == Code.UNREADABLE_ANSWER
    assert exchange.http_status == 200
    assert server.executed == 1


@pytest.mark.parametrize("case", PLAIN)
def test_response_with_valid_syntax_is_read(case: str, serve: Serve, connect: Connect) -> None:
    server = serve(replies(PLAIN[case]))

    exchange = post(connect(server.url))

    assert exchange.kind == Kind.ANSWER
    assert exchange.http_status == 200
    assert exchange.json == {}
    assert server.executed == 1


@pytest.mark.parametrize("case", ["a trailing space", "two equal ones", "two different ones", "a list of equal ones"])
def test_http_status_is_kept_if_the_length_is_invalid(case: str, serve: Serve, connect: Connect) -> None:
    server = serve(replies(with_headers(LENGTHS[case]).replace(b"200 OK", b"429 Slow")))

    exchange = post(connect(server.url))

    assert exchange.kind == Kind.IN_DOUBT
    assert exchange.http_status == 429
    assert server.executed == 1


@pytest.mark.parametrize(
    "body",
    [
        b'{"status": "error", "status": "success"}',
        b'{"status": "success", "status": "success"}',
        b'{"result": {"a": 1, "a": 1}}',
        b'[[{"a": {"b": 1, "c": 2, "b": 3}}]]',
        b'{"status": 1, "\\u0073tatus": 2}',
        b'{"": 1, "": 2}',
    ],
    ids=["at the top", "with equal values", "within an object", "deep within lists", "escaped", "empty"],
)
@pytest.mark.parametrize("is_framed", [True, False], ids=["framed", "unframed"])
def test_json_with_a_duplicate_key_is_not_read(body: bytes, is_framed: bool, serve: Serve, connect: Connect) -> None:
    wire = answer(body) if is_framed else b"HTTP/1.1 200 OK\r\n\r\n" + body
    server = serve(replies(wire))

    exchange = post(connect(server.url))

    assert exchange.is_json is False
    assert exchange.json is None
    assert exchange.is_empty is False
    assert exchange.kind is (Kind.ANSWER if is_framed else Kind.IN_DOUBT)
    assert server.executed == 1


def test_equal_keys_of_different_objects_are_allowed(serve: Serve, connect: Connect) -> None:
    body = b'{"a": {"a": [{"a": 1}, {"a": 2}]}}'
    server = serve(replies(answer(body)))

    assert post(connect(server.url)).json == {"a": {"a": [{"a": 1}, {"a": 2}]}}
    assert server.executed == 1


def test_connection_is_closed_if_one_of_its_headers_is_close(serve: Serve, connect: Connect) -> None:
    """A server that closes an open connection loses the race with the next request."""

    def behave(peer: Peer) -> None:
        while peer.read_request() is not None:
            peer.send(answer(b"{}", "200 OK", "Connection: keep-alive", "Connection: close"))

    server = serve(behave)
    transport = connect(server.url)

    assert [post(transport).kind for _ in range(2)] == [Kind.ANSWER, Kind.ANSWER]
    assert server.connections == 2
    assert server.executed == 2
