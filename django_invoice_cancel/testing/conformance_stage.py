"""The stage of the conformance suite: what an adapter's author fills in, and how the adapter is asked.

The adapter runs against a socket on 127.0.0.1 that answers well, badly or not at all, and counts what reached it.
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

Says = tuple[int, str]
"""An HTTP status and a body."""


def may_send(seconds_left: float) -> bool:
    """A lease that holds."""
    return True


class Stage:
    """One adapter, and the server that it is asked at."""

    # -- what you fill in -----------------------------------------------------------------------------------------

    external_id: ClassVar[str]
    """An id, in its one form."""
    other_id: ClassVar[str]
    """Another one."""
    secrets: ClassVar[Sequence[str]]
    """The secret values that ``make_provider`` configures: invented ones, of ten characters or more."""
    successes: ClassVar[Sequence[Says]]
    """The documented answers to a cancel that was carried out."""
    refusals: ClassVar[Sequence[Says]] = ()
    """Answers to a cancel by which the provider says no."""
    rejected_credentials: ClassVar[Sequence[Says]] = ((401, "{}"), (403, "{}"))
    """Answers to a cancel, and to a lookup, with a token that the provider does not accept."""

    def make_provider(self, base_url: str, **options: Any) -> Provider:
        """Return your provider, configured for an address; pass ``options`` (``deadline``) on."""
        raise NotImplementedError("Implement make_provider(base_url, **options).")

    def lookup_answer(self, words: Mapping[str, str]) -> Says:
        """Return the provider's answer to a lookup: its word for each id that it knows. Only if there is a lookup."""
        raise NotImplementedError("Implement lookup_answer(words), since the adapter declares supports_lookup.")

    # -- the stage ------------------------------------------------------------------------------------------------

    @pytest.fixture(autouse=True)
    def _no_proxies(self, monkeypatch: pytest.MonkeyPatch) -> None:
        for name in list(os.environ):
            if name.lower().endswith("_proxy"):
                monkeypatch.delenv(name)

    @contextmanager
    def provider_at(self, handler: Handler, **options: Any) -> Iterator[tuple[Provider, StubServer]]:
        """Start a server with a handler, and make the provider for it."""
        with StubServer(handler) as server:
            provider = self.make_provider(server.url, **options)
            try:
                yield provider, server
            finally:
                getattr(provider, "close", lambda: None)()

    def ask_to_cancel(self, said: bytes | Fault, **options: Any) -> tuple[ProviderReply, list[StubRequest]]:
        """Cancel at a server that says this to the cancel; return the reply and what reached the server."""
        with self.provider_at(self._first_then_unknown(said), **options) as (provider, server):
            reply = provider.cancel(self.external_id, lease=may_send)
            assert isinstance(reply, ProviderReply), f"cancel() returned a {type(reply).__name__}"
            self._assert_sent_once(server.requests)
            return reply, server.requests

    def ask_to_look_up(self, said: bytes | Fault, *external_ids: str, **options: Any) -> Mapping[str, LookupReply]:
        """Look up at a server that says this; return the replies, of which there is one for each id."""
        with self.provider_at(lambda request: said, **options) as (provider, _):
            if not provider.supports_lookup:
                pytest.skip("the adapter declares no lookup")
            replies = provider.lookup(external_ids or [self.external_id])
        assert set(replies) == set(external_ids or [self.external_id]), "a reply for each id, and for no other"
        assert all(isinstance(reply, LookupReply) for reply in replies.values())
        return replies

    def _first_then_unknown(self, said: bytes | Fault) -> Handler:
        """Answer the cancel so, and a lookup that follows within it with "there is no such invoice"."""
        cancels: list[StubRequest] = []

        def handler(request: StubRequest) -> bytes | Fault:
            cancels.append(request)
            return said if request.identity == cancels[0].identity else answer(*self.lookup_answer({}))

        return handler

    @staticmethod
    def _assert_sent_once(requests: Sequence[StubRequest]) -> None:
        sent = [request.identity for request in requests]
        assert sent, "the cancel did not reach the provider"
        assert sent.count(sent[0]) == 1, f"the cancel was sent {sent.count(sent[0])} times"
