"""Every behaviour of the table, in both dialects: the received bytes and the state at the provider."""

import time

import pytest

from django_invoice_cancel.testing.sandbox import BEHAVIOURS, ProviderSandbox, SandboxConfig, invoice_id

from .client import TOKENS, ask, cancel, lookup, request_bytes

OK = {"firekassa": (200, b"{}"), "cryptocloud": (200, b'{"status":"success","result":["ok"]}')}
REFUSED = {
    "firekassa": (
        422,
        b'{"message":"The given data was invalid","errors":{"id":["Invoice can not be canceled"]}}',
    ),
    "cryptocloud": (400, b'{"status":"error","result":{"validate_error":"Invoice is not created"}}'),
}
UNKNOWN = {"firekassa": (404, b'{"error":"Transaction not exists"}'), "cryptocloud": REFUSED["cryptocloud"]}
UNAUTHORIZED = {
    "firekassa": (401, b'{"message":"Unauthenticated."}'),
    "cryptocloud": (400, b'{"status":"error","result":{"authorization":"Unauthorized request."}}'),
}


def both(status, body=None):
    return {"firekassa": (status, body), "cryptocloud": (status, body)}


NOTHING = both(0, b"")
OPEN, CANCELED = ("process", "created"), ("cancel", "canceled")

# name, kind of the response, its status and body, number of executions, the state afterwards
TABLE = [
    ("ordinary", "reply", OK, 1, CANCELED),
    ("paid", "reply", REFUSED, 0, ("paid", "paid")),
    ("partially_paid", "reply", REFUSED, 0, ("partially-paid", "partial")),
    ("overpaid", "reply", REFUSED, 0, ("overpaid", "overpaid")),
    ("already_canceled", "reply", REFUSED, 0, CANCELED),
    ("expired", "reply", REFUSED, 0, ("expired", "canceled")),
    ("failed", "reply", REFUSED, 0, ("error", "canceled")),
    ("odd_status", "reply", REFUSED, 0, ("on-hold", "on_hold")),
    ("not_found", "reply", UNKNOWN, 0, (None, None)),
    ("silent_after", "silence", NOTHING, 1, CANCELED),
    ("silent_before", "silence", NOTHING, 0, OPEN),
    ("late", "silence", NOTHING, 0, OPEN),
    ("reset_after", "reset", NOTHING, 1, CANCELED),
    ("reset_before", "reset", NOTHING, 0, OPEN),
    ("close_after", "closed", NOTHING, 1, CANCELED),
    ("cut_headers", "cut", both(0, b"HTTP/1.1 200 OK\r\nContent-Ty"), 1, CANCELED),
    ("cut_body", "cut", both(0), 1, CANCELED),
    ("error_500_after", "reply", both(500), 1, CANCELED),
    ("error_500_before", "reply", both(500), 0, OPEN),
    ("unavailable", "reply", both(503), 0, OPEN),
    ("rate_limited", "reply", both(429), 0, OPEN),
    ("bad_credentials", "reply", UNAUTHORIZED, 0, OPEN),
    ("forbidden", "reply", both(403), 0, OPEN),
    ("garbage", "reply", both(200, b'{"status": "succ\x00\xff'), 1, CANCELED),
    ("html", "reply", both(200), 0, OPEN),
    ("redirect", "reply", both(302), 0, OPEN),
    ("drip", "reply", OK, 1, CANCELED),
    ("slow", "reply", OK, 1, CANCELED),
    ("paid_before_answer", "reply", OK, 1, ("paid", "paid")),
    ("echo", "reply", {"firekassa": (422, None), "cryptocloud": (400, None)}, 0, OPEN),
]
FAULTS = [row for row in TABLE if row[4] in (OPEN, CANCELED) and row[0] not in ("ordinary", "already_canceled")]


def test_table_covers_every_behaviour():
    assert [row[0] for row in TABLE] == [behaviour.name for behaviour in BEHAVIOURS]


def test_codes_and_names_are_unique_and_codes_fit_both_alphabets():
    assert len({row.code for row in BEHAVIOURS}) == len({row.name for row in BEHAVIOURS}) == len(BEHAVIOURS)
    assert [row.code for row in BEHAVIOURS if not (len(row.code) == 2 and row.code.isdecimal())] == []


@pytest.mark.parametrize(("name", "kind", "answers", "executed", "truth"), TABLE, ids=[row[0] for row in TABLE])
def test_first_cancel_has_the_behaviour_of_the_id(sandbox, dialect, name, kind, answers, executed, truth):
    external_id = sandbox.new_id(dialect, name)
    received = cancel(sandbox, dialect, external_id, timeout=0.2 if kind == "silence" else 10.0)
    status, body = answers[dialect]
    assert received.kind == kind
    assert received.status == status
    assert body is None or received.body == body
    assert sandbox.executed(external_id) == executed
    assert sandbox.truth(external_id) == truth[dialect == "cryptocloud"]
    assert sandbox.count("cancel", external_id) == sandbox.count("cancel") == 1


@pytest.mark.parametrize("name", [row[0] for row in TABLE])
def test_lookup_returns_the_state_after_any_behaviour(sandbox, dialect, name):
    external_id = sandbox.new_id(dialect, name)
    cancel(sandbox, dialect, external_id, timeout=0.1)
    assert lookup(sandbox, dialect, external_id) == sandbox.truth(external_id)
    assert sandbox.count("lookup", external_id) == 1
    assert sandbox.count("cancel", external_id) == 1


@pytest.mark.parametrize(("name", "executed"), [(row[0], row[3]) for row in FAULTS if row[0] != "late"])
def test_second_cancel_gets_an_ordinary_response(sandbox, dialect, name, executed):
    external_id = sandbox.new_id(dialect, name)
    cancel(sandbox, dialect, external_id, timeout=0.1)
    received = cancel(sandbox, dialect, external_id)
    status, body = (REFUSED if executed else OK)[dialect]
    assert received.status == status
    assert received.body == body
    assert sandbox.executed(external_id) == 1
    assert sandbox.count("cancel", external_id) == 2


def test_late_cancel_is_executed_after_the_client_disconnects(sandbox):
    """Both dialects and a paid invoice in one test, because each late cancel takes a second."""
    ids = {dialect: sandbox.new_id(dialect, "late") for dialect in OK}
    paid_ids = {dialect: sandbox.new_id(dialect, "late") for dialect in OK}
    for dialect in OK:
        assert cancel(sandbox, dialect, paid_ids[dialect], timeout=0.05).kind == "silence"
        sandbox.pay(paid_ids[dialect])
        assert cancel(sandbox, dialect, ids[dialect], timeout=0.05).kind == "silence"
        assert sandbox.executed(ids[dialect]) == 0
    for dialect in OK:
        sandbox.wait_until(lambda dialect=dialect: sandbox.executed(ids[dialect]) == 1)
        assert lookup(sandbox, dialect, ids[dialect]) == CANCELED[dialect == "cryptocloud"]
        assert sandbox.truth(paid_ids[dialect]) == "paid"
        assert sandbox.executed(paid_ids[dialect]) == 0
    assert sandbox.count("cancel") == 4
    assert [one.executed for one in sandbox.requests] == [False, True, False, True, False, False]


def test_slow_answer_takes_as_long_as_set(sandbox, dialect):
    sandbox.configure(slow_seconds=0.3)
    before = time.monotonic()
    assert cancel(sandbox, dialect, sandbox.new_id(dialect, "slow")).status == 200
    assert time.monotonic() - before >= 0.3
    assert sandbox.count("cancel") == 1


def test_drip_waits_before_every_byte(sandbox, dialect):
    sandbox.configure(drip_seconds=0.01)
    before = time.monotonic()
    received = cancel(sandbox, dialect, sandbox.new_id(dialect, "drip"))
    assert received.body == OK[dialect][1]
    assert time.monotonic() - before >= 0.01 * 60
    assert sandbox.count("cancel") == 1


def test_rate_limited_sends_retry_after(sandbox, dialect):
    sandbox.configure(retry_after_seconds=7)
    received = cancel(sandbox, dialect, sandbox.new_id(dialect, "rate_limited"))
    assert received.status == 429
    assert received.headers["retry-after"] == "7"
    assert sandbox.count("cancel") == 1


def test_redirect_points_to_another_port_that_counts_requests(sandbox, dialect):
    received = cancel(sandbox, dialect, sandbox.new_id(dialect, "redirect"))
    host, port_and_path = received.headers["location"].rsplit(":", 1)
    port = port_and_path.split("/")[0]
    assert host == "http://127.0.0.1"
    assert port == sandbox.control_url.rsplit(":", 1)[1].split("/")[0]
    assert sandbox.base_url.rsplit(":", 1)[1] != port
    assert sandbox.count("elsewhere") == 0
    elsewhere = type("Elsewhere", (), {"base_url": f"{host}:{port}"})
    assert ask(elsewhere, request_bytes("POST", "/v2/anything")).status == 200
    assert sandbox.count("cancel") == 1
    assert sandbox.count("elsewhere") == 1


def test_echo_repeats_the_credentials(sandbox, dialect):
    received = cancel(sandbox, dialect, sandbox.new_id(dialect, "echo"))
    assert TOKENS[dialect] in received.body.decode()
    assert sandbox.count("cancel") == 1


def test_forbidden_is_a_page_at_firekassa_and_detail_at_cryptocloud(sandbox):
    page = cancel(sandbox, "firekassa", sandbox.new_id("firekassa", "forbidden"))
    detail = cancel(sandbox, "cryptocloud", sandbox.new_id("cryptocloud", "forbidden"))
    assert page.headers["content-type"] == "text/html; charset=UTF-8"
    assert page.headers["server"] == "cloudflare"
    assert detail.json == {"detail": "You do not have permission to perform this action."}
    assert sandbox.count("cancel") == 2


@pytest.mark.parametrize("external_id", ["511727099", "7", "AB-c_d"])
def test_id_without_a_code_is_ordinary_and_created_by_the_first_request(sandbox, external_id):
    assert cancel(sandbox, "firekassa", external_id).status == 200
    assert sandbox.executed(external_id) == 1
    assert sandbox.count("cancel") == 1


@pytest.mark.parametrize("name", ["ordinary", "paid", "late"])
def test_ids_of_different_numbers_differ_and_keep_their_behaviour(dialect, name):
    ids = {invoice_id(dialect, number, name) for number in range(3000)}
    assert len(ids) == 3000
    code = next(row.code for row in BEHAVIOURS if row.name == name)
    assert {external_id[-2:] for external_id in ids} == {code}


def test_unknown_behaviour_is_named_in_the_error():
    with pytest.raises(ValueError, match=r"'lost' is not a behaviour of the sandbox\. Choose from ordinary, paid"):
        invoice_id("firekassa", 1, "lost")


def test_default_delays_are_shorter_than_the_default_deadline():
    config = SandboxConfig()
    assert 1 <= config.slow_seconds < config.late_seconds < 15
    assert ProviderSandbox().config == config
