"""The base of the conformance tests: the attributes that an author sets, and the calls of the adapter.

The adapter runs against a socket on 127.0.0.1 that sends valid answers, faults or nothing, and counts the requests.
"""
# ruff: noqa: S101 - part of tests, shipped

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar

import pytest

from ..domain.outcomes import LookupReply, ProviderReply
from ..providers.base import Provider
from .stub_server import Fault, Handler, StubRequest, StubServer, answer

Response = tuple[int, str]
"""An HTTP status code and a body."""


def may_send(seconds_left: float) -> bool:
    """A lease that always permits sending."""
    return True


class ConformanceBase:
    """One adapter, and the stub server that answers its requests."""

    # -- to fill in -----------------------------------------------------------------------------------------

    external_id: ClassVar[str]
    """A valid id, in normalised form."""
    other_id: ClassVar[str]
    """Another valid id."""
    secrets: ClassVar[Sequence[str]]
    """The secret values that ``make_provider`` configures: invented values of at least ten characters."""
    successes: ClassVar[Sequence[Response]]
    """The documented answers to a successful cancel request."""
    refusals: ClassVar[Sequence[Response]] = ()
    """Answers with which the provider refuses a cancellation."""
    rejected_credentials: ClassVar[Sequence[Response]] = ((401, "{}"), (403, "{}"))
    """Answers to a cancel request or a lookup with an invalid token."""

    def make_provider(self, base_url: str, **options: Any) -> Provider:
        """Return your provider, configured for a server.

        Args:
            base_url: The address of the stub server, without a path. It uses HTTP and a loopback address.
            **options: Options to pass to the provider, such as ``deadline``.
        """
        raise NotImplementedError("Implement make_provider(base_url, **options).")

    def lookup_answer(self, words: Mapping[str, str]) -> Response:
        """Return the provider's answer to a lookup. Required if the adapter declares ``supports_lookup``.

        Args:
            words: The provider's status string of each known invoice, by id.

        Returns:
            The HTTP status code and the body.
        """
        raise NotImplementedError("Implement lookup_answer(words), because the adapter declares supports_lookup.")

    # -- calls ------------------------------------------------------------------------------------------------

    @pytest.fixture(autouse=True)
    def _no_proxies(self, monkeypatch: pytest.MonkeyPatch) -> None:
        for name in list(os.environ):
            if name.lower().endswith("_proxy"):
                monkeypatch.delenv(name)

    @contextmanager
    def provider_at(self, handler: Handler, **options: Any) -> Iterator[tuple[Provider, StubServer]]:
        """Start a server with a handler, and create the provider for it."""
        with StubServer(handler) as server:
            provider = self.make_provider(server.url, **options)
            try:
                yield provider, server
            finally:
                getattr(provider, "close", lambda: None)()

    def cancel_with(self, response: bytes | Fault, **options: Any) -> tuple[ProviderReply, list[StubRequest]]:
        """Cancel at a server that sends this answer. Return the reply and the received requests."""
        with self.provider_at(self._answer_cancel_only(response), **options) as (provider, server):
            reply = provider.cancel(self.external_id, lease=may_send)
            assert isinstance(reply, ProviderReply), f"cancel() returned a {type(reply).__name__}"
            self._assert_sent_once(server.requests)
            return reply, server.requests

    def look_up_with(self, response: bytes | Fault, *external_ids: str, **options: Any) -> Mapping[str, LookupReply]:
        """Look up at a server that sends this answer. Return the replies by id."""
        with self.provider_at(lambda request: response, **options) as (provider, _):
            if not provider.supports_lookup:
                pytest.skip("the adapter declares no lookup")
            replies = provider.lookup(external_ids or [self.external_id])
        assert set(replies) == set(external_ids or [self.external_id]), (
            "lookup() must return one reply for each id, and no others"
        )
        assert all(isinstance(reply, LookupReply) for reply in replies.values())
        return replies

    def _answer_cancel_only(self, response: bytes | Fault) -> Handler:
        """Return a handler that answers the cancel request with ``response``, and lookups with "unknown invoice"."""
        cancels: list[StubRequest] = []

        def handler(request: StubRequest) -> bytes | Fault:
            cancels.append(request)
            return response if request.identity == cancels[0].identity else answer(*self.lookup_answer({}))

        return handler

    @staticmethod
    def _assert_sent_once(requests: Sequence[StubRequest]) -> None:
        sent = [request.identity for request in requests]
        assert sent, "the cancel request did not reach the provider"
        assert sent.count(sent[0]) == 1, f"the cancel request was sent {sent.count(sent[0])} times"
