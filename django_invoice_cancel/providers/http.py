"""The base class of adapters over HTTP: the address, the transport, and the answers with a common meaning.

Each request is sent once and never repeated. Invariant: NOT_PROCESSED only for requests that were never sent and for
complete answers 401, 403 and 429. What neither this module nor the adapter can read is ``IN_DOUBT``.
"""

import ipaddress
import json
import re
from collections.abc import Hashable, Iterable, Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any, ClassVar, Final
from urllib.parse import urlsplit

from ..domain.numbers import REQUEST_SECONDS
from ..domain.outcomes import Code, LookupReply, Outcome, ProviderReply
from ..domain.secrets import Secret
from ..domain.statuses import CLOSED_STATUSES, PAID_STATUSES, Status
from .base import Lease, Provider
from .transport import Deadline, Exchange, Kind, Transport

_ADDRESS = re.compile(
    r"(?P<scheme>https?)://(?P<host>[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(?::(?P<port>[0-9]{1,5}))?"
    r"(?P<path>(?:/[A-Za-z0-9._~-]+)*)/?"
)
MIN_POOL_SIZE = 64
"""Idle connections to keep: a bulk run may use a higher ``concurrency`` than the option."""
_VERSION_AT_END = re.compile(r"(/api)?/v[0-9]+$", re.IGNORECASE)
_NOT_PROCESSED: Final = {401: Code.BAD_CREDENTIALS, 403: Code.BAD_CREDENTIALS, 429: Code.RATE_LIMITED}
_ADDRESS_CODES: Final = frozenset({Code.UNREACHABLE, Code.REDIRECTED, Code.WRONG_ADDRESS})
_BLOCKED = "Cloudflare blocked the request before the provider saw it (often the sender's IP address):"


class HTTPProvider(Provider):
    """One account at a provider with an HTTP API and a token in the Authorization header."""

    scheme: ClassVar[str] = "Bearer"
    """The word before the token in the Authorization header."""
    token_option: ClassVar[str] = ""
    """The name of the option that holds the token; one of ``secret_options``."""
    address_hint: str = ""
    """Hint for an unreachable, redirecting or wrong ``base_url``. May be set on the instance."""

    def __init__(
        self,
        alias: str,
        token: Secret,
        *more_secrets: Secret | None,
        base_url: str,
        connect_timeout: float = 5.0,
        reuse_connections: bool = True,
        **common: Any,
    ) -> None:
        """Secrets are positional: only keyword arguments are options in the settings."""
        super().__init__(alias, **common)
        self._token = token
        self.secrets = [secret for secret in (token, *more_secrets) if secret]
        try:
            self.base_url = clean_base_url(base_url)
        except ValueError as error:
            raise self.misconfigured("base_url", str(error)) from error
        if not isinstance(reuse_connections, bool):
            raise self.misconfigured("reuse_connections", "must be True or False.")
        try:
            self._transport = Transport(
                base_url=self.base_url,
                scheme=self.scheme,
                token=token,
                secrets=self.secrets,
                connect_timeout=self._number("connect_timeout", connect_timeout, REQUEST_SECONDS),
                pool_size=max(self.concurrency, MIN_POOL_SIZE),
                reuse_connections=reuse_connections,
            )
        except ValueError as error:  # the address is known to be good
            raise self.misconfigured(self.token_option, f"is not usable: {error}") from error

    @property
    def account(self) -> Hashable:
        """The normalised address and the token; other secrets and options do not make another account."""
        return _comparable(self.base_url), self._token

    @property
    def is_plain_http(self) -> bool:
        """Whether the token travels unencrypted (to a loopback address: no other is accepted)."""
        return self.base_url.startswith("http://")

    def close(self) -> None:
        """Close idle connections."""
        self._transport.close()

    # -- requests ---------------------------------------------------------------------------------------------

    def send(
        self,
        method: str,
        path: str,
        *,
        deadline: Deadline,
        document: object = None,
        headers: Mapping[str, str] | None = None,
        lease: Lease | None = None,
    ) -> Exchange:
        """Send one request, with ``document`` as its JSON body. Never raises for provider or network errors."""
        all_headers = dict(headers or {})
        body = None
        if document is not None:
            all_headers["Content-Type"] = "application/json"
            body = json.dumps(document, separators=(",", ":")).encode()
        return self._transport.request(method, path, body=body, headers=all_headers, deadline=deadline, lease=lease)

    # -- answers ----------------------------------------------------------------------------------------------

    def read_common(self, exchange: Exchange) -> ProviderReply | None:
        """Return the reply to a cancel request if the answer has a common meaning, else None."""
        read = _read_common(exchange)
        return None if read is None else self.reply(exchange, *read)

    def read_common_lookup(self, exchange: Exchange) -> LookupReply | None:
        """Return the reply to a lookup if the answer has a common meaning, else None. It never names a status."""
        read = _read_common(exchange)
        return None if read is None else self.no_answer(exchange, read[1])

    def reply(self, exchange: Exchange, outcome: Outcome, code: str) -> ProviderReply:
        """Return the reply to a cancel request, with the details of the exchange."""
        return ProviderReply(
            outcome,
            code,
            http_status=exchange.http_status,
            provider_message=self._message(exchange, code),
            retry_after=exchange.retry_after,
        )

    def not_found(self, exchange: Exchange) -> LookupReply:
        """Return the reply to a lookup of an unknown invoice."""
        return replace(self.no_answer(exchange, Code.NOT_FOUND), is_answer=True)

    def no_answer(self, exchange: Exchange, code: str) -> LookupReply:
        """Return the reply to a lookup without a usable answer."""
        return LookupReply(
            status=None,
            code=code,
            is_answer=False,
            http_status=exchange.http_status,
            provider_message=self._message(exchange, code),
            retry_after=exchange.retry_after,
        )

    def explain_refusal(self, refusal: ProviderReply, found: LookupReply) -> ProviderReply | None:
        """Return the refusal with the status that a lookup found, or None if that explains nothing."""
        if found.status is Status.CANCELED:
            return replace(refusal, outcome=Outcome.ALREADY_CANCELED, code=Code.ALREADY_CANCELED, status=found.status)
        if found.status in PAID_STATUSES:
            return replace(refusal, code=Code.HAS_PAYMENT, status=found.status)
        if found.status in CLOSED_STATUSES:
            return replace(refusal, code=Code.CLOSED, status=found.status)
        return None

    def doubt_refusal(self, refusal: ProviderReply, found: LookupReply) -> ProviderReply:
        """Return IN_DOUBT for a refusal that a lookup did not explain; an open invoice contradicts it."""
        unexplained = Code.UNKNOWN_STATUS if found.is_answer else Code.NO_ANSWER
        code = Code.CONTRADICTORY_ANSWER if found.status is Status.CREATED else unexplained
        learned = " ".join(filter(None, (found.code, found.provider_status, found.provider_message)))
        return replace(
            refusal,
            outcome=Outcome.IN_DOUBT,
            code=code,
            provider_message=self.sanitize(f"{refusal.provider_message} (asked for its status: {learned})"),
            retry_after=found.retry_after,
        )

    def _message(self, exchange: Exchange, code: str) -> str:
        hint = self.address_hint if code in _ADDRESS_CODES else ""
        if exchange.http_status == 403 and not exchange.is_json and exchange.server.lower() == "cloudflare":
            hint = _BLOCKED
        return self.sanitize(" ".join(filter(None, (hint, exchange.text or exchange.detail))))

    def _invalid_declarations(self) -> Iterable[str]:
        yield from super()._invalid_declarations()
        if self.token_option not in self.secret_options:
            yield "token_option must name one of secret_options."


def _read_common(exchange: Exchange) -> tuple[Outcome, str] | None:
    if exchange.kind is Kind.NOT_SENT:
        return Outcome.NOT_PROCESSED, exchange.code
    if exchange.kind is not Kind.ANSWER:
        # Also where its status line says 401 or 429: an answer that broke off, came encoded or broke its framing
        # may be another request's. A doubt costs one lookup, a wrong "nothing happened" a second cancel.
        return Outcome.IN_DOUBT, exchange.code
    status = exchange.http_status or 0
    if status in _NOT_PROCESSED:
        return Outcome.NOT_PROCESSED, _NOT_PROCESSED[status]
    if 300 <= status < 400:
        return Outcome.IN_DOUBT, Code.REDIRECTED
    if status in (404, 405):
        return Outcome.IN_DOUBT, Code.WRONG_ADDRESS
    if status >= 500:
        return Outcome.IN_DOUBT, Code.PROVIDER_ERROR
    return None


def clean_base_url(value: object) -> str:
    """Return the address without a trailing slash, or raise ``ValueError`` with the problem."""
    address = _ADDRESS.fullmatch(value) if isinstance(value, str) else None
    if address is None or not 0 < int(address["port"] or 1) < 65536:
        raise ValueError(
            "must be an address such as 'https://api.example.com': scheme, host, port and path where needed, "
            "and no user, password, query or fragment."
        )
    if address["scheme"] == "http" and not is_loopback(address["host"]):
        raise ValueError("must begin with https://, or the token can be read on the way.")
    if version := _VERSION_AT_END.search(address["path"]):
        raise ValueError(f"must not end in {version[0]!r}: the app adds that itself.")
    return address[0].removesuffix("/")


def _comparable(base_url: str) -> tuple[str, str, int, str]:
    """Return the parts of an address for comparison."""
    parts = urlsplit(base_url)
    host = (parts.hostname or "").removesuffix(".")
    with suppress(ValueError):
        host = str(ipaddress.ip_address(host))
    return parts.scheme, host, parts.port or {"http": 80, "https": 443}[parts.scheme], parts.path


def is_loopback(host: str) -> bool:
    """Return whether a host name or address is a loopback one."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host.lower() == "localhost"
