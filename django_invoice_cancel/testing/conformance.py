"""Conformance tests for adapters over HTTP, as a base class. They need pytest, but no Django settings.

The invariant: CANCELED only for the documented success, NOT_PROCESSED only if it is certain that nothing was done,
IN_DOUBT for everything else.
"""
# ruff: noqa: S101 - tests, shipped; testing/__init__.py has pytest rewrite their asserts

import json
import logging
import math
import pickle
import socket
import time
from base64 import b64encode
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast
from urllib.parse import urlsplit

import pytest

from ..domain.outcomes import Code, LookupReply, Outcome
from ..domain.statuses import INTERNAL_STATUSES, Status
from ..exceptions import InvalidExternalId, ProviderMisconfigured
from .conformance_base import ConformanceBase, may_send
from .stub_server import HOST, Fault, StubRequest, StubServer, answer

if TYPE_CHECKING:
    from ..domain.ports import InvoicePort

BAD_IDS = ("", " ", "../1", "1/2", "1\\2", "1?a=1", "1#a", "1%2f2", "1;2", "1&2", "1\n", "1\r\nHost: x", "1\t", "1\0",
           "1 2", ".", "..", "\N{FULLWIDTH DIGIT ONE}", "\N{ARABIC-INDIC DIGIT ONE}", "1" * 101)  # fmt: skip
NOT_TEXT = (None, 17, 1.5, b"17", ["17"])
JUNK = ("", " ", "null", "true", "17", '"ok"', "[1]", "{", '{"status"', "<html>ok</html>", "{}{}", '{"unexpected": 1}',
        '{"status": "success"}', '{"status": "unexpected"}', '{"error": "unexpected"}', "\x00\xff")  # fmt: skip
NOT_SUCCESS = (201, 202, 203, 206, 300, 302, 400, 401, 402, 403, 404, 405, 409, 410, 418, 422, 429, 500, 502, 503, 599)
INTERIM = b"HTTP/1.1 103 Early Hints\r\nLink: </style.css>; rel=preload\r\n\r\n"
REDIRECTS = (301, 302, 303, 307, 308)
TOLERANCE_SECONDS = 1.0
"""Time after its deadline in which an adapter must return, in seconds."""


@dataclass(frozen=True)
class _Invoice:
    """An invoice for ``dashboard_url``."""

    external_id: str
    reference: str = "order/17 <&"
    provider: str = "stub"


class ProviderConformance(ConformanceBase):
    """Conformance tests for one adapter.

    Subclass it as ``TestMyProvider`` in a test module, and set the attributes and methods of ``ConformanceBase``.
    pytest collects the inherited tests.
    """

    # -- declarations ---------------------------------------------------------------------------------------------

    def test_declarations_are_complete(self) -> None:
        provider = self.make_provider(f"http://{HOST}:9")
        assert provider.verbose_name
        assert provider.id_form
        assert provider.secret_options, "secret_options is empty; add the option with the token"
        assert all(len(secret) >= 10 for secret in self.secrets), "use test secrets of at least ten characters"
        assert not INTERNAL_STATUSES & set(provider.status_words.values())
        assert provider.lookup_group_size >= 1
        if provider.supports_lookup:
            said = set(provider.status_words.values())
            assert {Status.CREATED, Status.PAID, Status.CANCELED} <= said, (
                "status_words must contain strings for created, paid and canceled"
            )

    def test_dashboard_address_is_a_web_address(self) -> None:
        """It may be missing. It sends no request and contains no secret, and an id cannot change its path."""
        ids = (self.external_id, '../a b?c#d/"<&', "")

        def refuse(request: StubRequest) -> bytes:
            raise AssertionError("dashboard_url() sent a request")

        with self.provider_at(refuse) as (provider, server):
            found = [provider.dashboard_url(cast("InvoicePort", _Invoice(each))) for each in ids]
        assert not server.requests, "dashboard_url() sent a request"
        for address in filter(None, found):
            parts = urlsplit(address)
            assert parts.scheme in ("http", "https"), f"{address!r} is not an http(s) address"
            assert parts.hostname
            assert not any(secret in address for secret in self.secrets), "dashboard_url() returned a secret"
            assert not set(' "<') & set(address), f"encode the id in {address!r}"

    def test_unencrypted_address_is_rejected(self) -> None:
        with pytest.raises(ProviderMisconfigured):
            self.make_provider("http://provider.example")

    # -- ids ------------------------------------------------------------------------------------------------------

    def test_id_has_one_normalized_form(self) -> None:
        provider = self.make_provider(f"http://{HOST}:9")
        assert provider.clean_id(self.external_id) == self.external_id
        assert provider.clean_id(f" {self.external_id} ") == self.external_id
        assert provider.clean_id(self.other_id) == self.other_id != self.external_id

    @pytest.mark.parametrize("bad", [*BAD_IDS, *NOT_TEXT], ids=ascii)
    def test_id_that_could_change_the_request_is_rejected(self, bad: object) -> None:
        provider = self.make_provider(f"http://{HOST}:9")
        with pytest.raises(InvalidExternalId):
            provider.clean_id(bad)

    @pytest.mark.parametrize("end", ["/", "/..", "?a=1", "#a", "%2f", "\n", "\r\n", "\0", " 1", "1" * 101], ids=ascii)
    def test_id_with_trailing_characters_is_rejected(self, end: str) -> None:
        provider = self.make_provider(f"http://{HOST}:9")
        with pytest.raises(InvalidExternalId):
            provider.clean_id(self.external_id + end)

    # -- cancel: answers of the provider ---------------------------------------------------------------------------

    def test_documented_success_is_canceled_with_one_request(self) -> None:
        assert self.successes, "set successes"
        for status, body in self.successes:
            reply, requests = self.cancel_with(answer(status, body))
            assert reply.outcome == Outcome.CANCELED
            assert reply.http_status == status
            assert len(requests) == 1

    @pytest.mark.parametrize("count", [1, 3])
    def test_success_after_interim_responses_is_canceled_with_one_request(self, count: int) -> None:
        for status, body in self.successes:
            reply, requests = self.cancel_with(INTERIM * count + answer(status, body))
            assert reply.outcome == Outcome.CANCELED
            assert reply.http_status == status
            assert len(requests) == 1

    def test_success_with_a_duplicate_key_is_in_doubt(self) -> None:
        for status, body in self.successes:
            if body.startswith("{"):
                rest = body[1:] if body == "{}" else f", {body[1:]}"
                reply, _ = self.cancel_with(answer(status, f'{{"extra": 1, "extra": 1{rest}'))
                assert reply.outcome is Outcome.IN_DOUBT

    @pytest.mark.parametrize("status", NOT_SUCCESS)
    def test_success_body_with_another_http_status_is_not_canceled(self, status: int) -> None:
        for documented, body in self.successes:
            if status not in {each for each, _ in self.successes}:
                reply, _ = self.cancel_with(answer(status, body))
                assert not reply.confirms_cancel, f"{body} is a success only with {documented}"

    @pytest.mark.parametrize("body", JUNK, ids=ascii)
    def test_other_body_with_the_http_status_of_success_is_in_doubt(self, body: str) -> None:
        for status in {status for status, _ in self.successes}:
            if (status, body) not in self.successes:
                reply, _ = self.cancel_with(answer(status, body))
                assert reply.outcome is Outcome.IN_DOUBT

    def test_documented_refusal_is_refused(self) -> None:
        for status, body in self.refusals:
            reply, _ = self.cancel_with(answer(status, body))
            assert reply.outcome is Outcome.REFUSED
            assert reply.status not in {Status.CREATED, *INTERNAL_STATUSES}

    def test_rejected_credentials_are_not_processed(self) -> None:
        for status, body in self.rejected_credentials:
            reply, requests = self.cancel_with(answer(status, body))
            assert reply.outcome == Outcome.NOT_PROCESSED
            assert reply.code == Code.BAD_CREDENTIALS
            assert len(requests) == 1

    @pytest.mark.parametrize(
        ("sent", "expected"),
        [
            ("7", 7),
            ("0", 0),
            *((bad, None) for bad in ("-1", "1.5", "soon", "9" * 30, "Fri, 31 Dec 9999 23:59:59 GMT")),
        ],
    )
    def test_rate_limit_is_not_processed(self, sent: str, expected: float | None) -> None:
        """An invalid Retry-After is limited or left out; it never raises an exception."""
        reply, requests = self.cancel_with(answer(429, "{}", Retry_After=sent))
        assert reply.outcome == Outcome.NOT_PROCESSED
        assert reply.code == Code.RATE_LIMITED
        assert len(requests) == 1
        if expected is not None:
            assert reply.retry_after == pytest.approx(expected, abs=1)
        else:
            assert reply.retry_after is None or (reply.retry_after >= 0 and math.isfinite(reply.retry_after))

    @pytest.mark.parametrize("status", [500, 502, 503, 504, 520, 599])
    @pytest.mark.parametrize("body", ["", "{}", "<html>Bad gateway</html>"], ids=["empty", "json", "html"])
    def test_server_error_is_in_doubt(self, status: int, body: str) -> None:
        """This includes answers with the body of a success: the request may have been executed before the failure."""
        for said in {body, *(success for _, success in self.successes)}:
            reply, requests = self.cancel_with(answer(status, said))
            assert reply.outcome is Outcome.IN_DOUBT
            assert len(requests) == 1

    @pytest.mark.parametrize("status", REDIRECTS)
    def test_redirect_is_in_doubt_and_not_followed(self, status: int) -> None:
        with StubServer(lambda request: answer(*self.successes[0])) as elsewhere:
            reply, requests = self.cancel_with(answer(status, "", Location=f"{elsewhere.url}/elsewhere"))
        assert reply.outcome is Outcome.IN_DOUBT
        assert len(requests) == 1
        assert len(elsewhere.requests) == 0

    # -- cancel: network faults ----------------------------------------------------------------------------

    @pytest.mark.parametrize("fault", [Fault.CLOSES, Fault.RESETS, Fault.CUTS_HEAD, Fault.CUTS_BODY])
    def test_truncated_response_is_in_doubt(self, fault: Fault) -> None:
        reply, requests = self.cancel_with(fault)
        assert reply.outcome is Outcome.IN_DOUBT
        assert len(requests) == 1

    @pytest.mark.parametrize("fault", [Fault.HANGS, Fault.DRIPS])
    def test_missing_response_at_the_deadline_is_in_doubt(self, fault: Fault) -> None:
        began = time.monotonic()
        reply, requests = self.cancel_with(fault, deadline=0.5)
        assert reply.outcome is Outcome.IN_DOUBT
        assert time.monotonic() - began < 0.5 + TOLERANCE_SECONDS, "cancel() exceeded its deadline"
        assert len(requests) == 1

    def test_refused_connection_is_not_processed(self) -> None:
        with socket.create_server((HOST, 0)) as listener:
            port = listener.getsockname()[1]
        reply = self.make_provider(f"http://{HOST}:{port}").cancel(self.external_id, lease=may_send)
        assert reply.outcome == Outcome.NOT_PROCESSED
        assert reply.code == Code.UNREACHABLE

    def test_lease_is_checked_once_with_the_remaining_seconds(self) -> None:
        asked: list[float] = []

        def lease(seconds_left: float) -> bool:
            asked.append(seconds_left)
            return True

        with self.provider_at(lambda request: answer(*self.successes[0]), deadline=10) as (provider, _):
            provider.cancel(self.external_id, lease=lease)
        assert len(asked) == 1
        assert 0 < asked[0] <= 10

    def test_expired_lease_sends_nothing(self) -> None:
        with self.provider_at(lambda request: answer(*self.successes[0])) as (provider, server):
            reply = provider.cancel(self.external_id, lease=lambda seconds_left: False)
        assert reply.outcome == Outcome.NOT_PROCESSED
        assert reply.code == Code.LEASE_EXPIRED
        assert server.requests == []

    # -- secrets --------------------------------------------------------------------------------------------------

    @pytest.mark.parametrize("status", [200, 400, 401, 404, 409, 422, 429, 500])
    def test_echoed_secret_is_masked(self, status: int, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level(logging.DEBUG)
        for said in self._echoes():
            reply, _ = self.cancel_with(answer(status, said, X_Echo="".join(self.secrets)))
            self._assert_no_secret(repr(reply), pickle.dumps(reply), caplog.text)

    def test_secret_is_not_in_the_repr(self) -> None:
        provider = self.make_provider(f"http://{HOST}:9")
        self._assert_no_secret(repr(provider), str(provider), repr(vars(provider)))

    def _echoes(self) -> Iterator[str]:
        yield from map(" ".join, zip(*map(_encodings, self.secrets), strict=True))
        text = " ".join(self.secrets)
        yield json.dumps({"error": text, "message": text, "detail": [text]})
        yield json.dumps({"status": "error", "result": {"validate_error": text}})
        yield f"<html>{text}</html>"

    def _assert_no_secret(self, *texts: str | bytes) -> None:
        shown = [text if isinstance(text, bytes) else text.encode() for text in texts]
        for secret in self.secrets:
            for form in (secret, *_encodings(secret)):
                assert not any(form.encode() in text for text in shown), "a secret, or an encoding of it, is visible"

    # -- lookup ---------------------------------------------------------------------------------------------------

    def _words(self) -> Mapping[str, Status]:
        provider = self.make_provider(f"http://{HOST}:9")
        if not provider.supports_lookup:
            pytest.skip("the adapter declares no lookup")
        return provider.status_words

    def test_lookup_reads_each_status_string(self) -> None:
        for word, status in self._words().items():
            reply = self._look_up({self.external_id: word})[self.external_id]
            assert (reply.status, reply.is_answer) == (status, True), f"the provider's status string is {word!r}"

    def test_lookup_with_an_unknown_status_string_has_no_status(self) -> None:
        self._words()
        reply = self._look_up({self.external_id: "unheard-of"})[self.external_id]
        assert reply.status is None
        assert reply.code == Code.UNKNOWN_STATUS
        assert reply.is_answer is True

    def test_lookup_of_an_unknown_invoice_is_not_found(self) -> None:
        self._words()
        reply = self._look_up({})[self.external_id]
        assert reply.status is None
        assert reply.code == Code.NOT_FOUND
        assert reply.is_answer is True

    def test_lookup_that_answers_for_another_invoice_has_no_status(self) -> None:
        paid = next(word for word, status in self._words().items() if status is Status.PAID)
        assert self._look_up({self.other_id: paid})[self.external_id].status is None

    def test_lookup_of_a_group_has_a_reply_for_each_id(self) -> None:
        if self.make_provider(f"http://{HOST}:9").lookup_group_size < 2:
            pytest.skip("the adapter declares lookup_group_size 1")
        paid = next(word for word, status in self._words().items() if status is Status.PAID)
        replies = self._look_up({self.other_id: paid}, self.external_id, self.other_id)
        assert [replies[each].status for each in (self.external_id, self.other_id)] == [None, Status.PAID]

    @pytest.mark.parametrize(
        "said",
        [
            *(pytest.param(fault, id=fault.name) for fault in Fault),
            *(pytest.param(answer(200, body), id=f"200-{body!a}") for body in JUNK if not body.startswith('{"')),
            *(pytest.param(answer(status, "{}"), id=str(status)) for status in (*REDIRECTS, 401, 403, 429, 500, 503)),
        ],
    )
    def test_lookup_without_a_usable_response_is_no_answer(self, said: bytes | Fault) -> None:
        (reply,) = self.look_up_with(said, deadline=0.5).values()
        assert reply.status is None
        assert reply.is_answer is False

    @pytest.mark.parametrize("body", [body for body in JUNK if body.startswith('{"')])
    def test_lookup_with_another_body_has_no_status(self, body: str) -> None:
        (reply,) = self.look_up_with(answer(200, body)).values()
        assert reply.status is None

    def test_lookup_with_rejected_credentials_is_no_answer(self) -> None:
        for said in self.rejected_credentials:
            (reply,) = self.look_up_with(answer(*said)).values()
            assert reply.status is None
            assert reply.code == Code.BAD_CREDENTIALS
            assert reply.is_answer is False

    def _look_up(self, words: Mapping[str, str], *external_ids: str) -> Mapping[str, LookupReply]:
        return self.look_up_with(answer(*self.lookup_answer(words)), *external_ids)


def _encodings(secret: str) -> tuple[str, ...]:
    """Return a secret in forms in which a provider may echo it: in Base64, in a URL and in HTML."""
    data = secret.encode()
    return b64encode(data).decode(), "".join(f"%{byte:02X}" for byte in data), "".join(f"&#{byte};" for byte in data)
