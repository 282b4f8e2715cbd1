"""Retry-After: for any value of the header, the wait is limited and no exception is raised."""

from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from django_invoice_cancel.providers.transport import Deadline
from django_invoice_cancel.providers.transport.answer import retry_after_seconds

from .conftest import Connect, Serve
from .fault_server import answer, replies

NOW = datetime(2026, 11, 22, 1, 0, 0, tzinfo=UTC)

TABLE = {
    "1": 1.0,
    "0": 0.0,
    " 7 ": 7.0,
    "0000000000009": 9.0,
    "3600": 3600.0,
    "3601": 3600.0,
    "99999999": 3600.0,
    "1" + "0" * 400: 3600.0,
    "1" + "0" * 5000: 3600.0,
    "-5": None,
    "1.5": None,
    "1e3": None,
    "abc": None,
    "": None,
    "3, 9": None,
    "²": None,
    "\u0661": None,
    "2026-11-22T01:00:05Z": None,
    "Sun, 22 Nov 2026 01:00:05 GMT": 5.0,
    "Sun, 22 Nov 2026 00:00:00 GMT": 0.0,
    "Fri, 31 Dec 9999 23:59:59 GMT": 3600.0,
    "Fri, 31 Dec 10000 23:59:59 GMT": None,
    "Sun, 22 Nov 2026 01:00:05": None,
    "Sun, 99 Nov 2026 01:00:05 GMT": None,
    "Sun, 22 Nov 2026 99:00:05 GMT": None,
    "GMT": None,
}


@pytest.mark.parametrize("value", TABLE, ids=lambda value: value[:30] or "empty")
def test_value_is_read_limited_or_ignored(value: str) -> None:
    assert retry_after_seconds(value, NOW) == TABLE[value]


def test_missing_header_has_no_wait() -> None:
    assert retry_after_seconds(None) is None


@settings(max_examples=60, deadline=None)
@given(
    st.one_of(
        st.binary().map(lambda value: value.decode("latin-1")),  # as http.client decodes a header
        st.text("0123456789 :,GMT-+JanNovSu"),
        st.datetimes().map(lambda at: f"{at:%a, %d %b %Y %X} GMT"),
    )
)
def test_any_value_is_limited_and_raises_nothing(value: str) -> None:
    seconds = retry_after_seconds(value)
    assert seconds is None or 0 <= seconds <= 3600


@pytest.mark.parametrize(
    ("headers", "seconds"), [(["Retry-After: 3", "Retry-After: 9"], None), (["retry-after: 12"], 12.0)]
)
def test_header_of_an_answer_is_read(serve: Serve, connect: Connect, headers: list[str], seconds: float | None) -> None:
    server = serve(replies(answer(b"{}", "429 Too Many Requests", *headers)))

    exchange = connect(server.url).request("POST", "/cancel", deadline=Deadline(5))

    assert exchange.http_status == 429
    assert exchange.retry_after == seconds
    assert server.executed == 1
